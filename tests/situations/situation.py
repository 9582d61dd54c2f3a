"""Situation: one row of the table as data, and the messages that it stands for.

Does not know how messages are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame
from sdvlm_core.geometry.measure import measure
from tests.situations.outcome import Must
from tests.situations.scene import CAMERA, RECTIFIED_TOPICS, Camera, Shot, good_shot


def _nothing(shot: Shot) -> None:
    """The camera is correct."""


@dataclass(frozen=True, eq=False)
class Situation:
    """What a camera sends, and what must come of it.

    Attributes:
        name: the situation in words.
        must: the accepted outcomes.
        change: changes the messages of a correct camera.
        camera, scale: see `scene.good_shot`.
        topics: names on which the messages are sent.
        options: of `sdvlm measure` and `sdvlm replay`.
        parameters: of the node.
        why_no_node: why it cannot be tried with the node; "" = it can.
        bounded: whether the command's memory is measured.
        same: whether the node and the command line must agree in codes.
    """

    name: str
    must: tuple[Must, ...]
    change: Callable[[Shot], None] = _nothing
    camera: Camera = CAMERA
    scale: float = 1.0
    topics: Mapping[str, str] = field(default_factory=lambda: RECTIFIED_TOPICS)
    options: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    why_no_node: str = ""
    same: bool = True
    bounded: bool = False

    def shot(self, stamp_ns: int) -> Shot:
        """The messages at a stamp; the truth of a distorted image is the undistorted one's."""
        shot = good_shot(stamp_ns, self.camera, self.scale)
        shot.topics = dict(self.topics)
        if self.camera.d:
            shot.truth = undistorted(self.camera)
        self.change(shot)
        return shot


def undistorted(camera: Camera) -> dict[str, tuple[float, float, float]]:
    """The lengths that the program measures with the same camera without distortion."""
    pinhole = replace(camera, d=(), model="plumb_bob")
    shot = good_shot(1, pinhole)
    k = pinhole.k
    depth = np.where(shot.metres > 0, shot.metres, np.nan).astype(np.float32)
    height, width = depth.shape
    intrinsics = CameraIntrinsics(k[0, 0], k[1, 1], k[0, 2], k[1, 2], width, height)
    regions = [
        Region(label, box=(float(x1), float(y1), float(x2), float(y2)))
        for label, (x1, y1, x2, y2) in shot.regions.items()
    ]
    found, _ = measure(RgbdFrame(shot.rgb, depth, intrinsics), regions)
    return {one.label: (one.length_m, one.width_m, one.height_m) for one in found}
