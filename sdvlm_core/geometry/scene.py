"""Scene: the point cloud and support planes of one frame, computed once and shared.

Decides which way is up, and turns the frame upright by quarter turns for everything that measures:
`RgbdFrame.up` if it is known, else the frame's dominant plane if it is clear, else the top of the
image with the caution UP_UNCERTAIN.

Measuring, verification, drawing and the node's visualization open the same frame; the first call
computes, the others reuse. The cache is keyed by the identity of the frame and holds it weakly: an
entry is removed when its frame is deleted. A frame is immutable, so do not change its arrays in
place. Does not know regions or objects.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.rectification import hidden_border
from sdvlm_core.cautions import Caution
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.plane_search import (
    contradicts,
    find_support_planes,
    orientation,
    sample_planes,
    seems_range,
)
from sdvlm_core.geometry.point_cloud import Cloud, Mask, make_cloud
from sdvlm_core.geometry.quarter_turn import QuarterTurn, turns_to_upright
from sdvlm_core.geometry.support_plane import IMAGE_UP, Plane

#: Width of the seam around pixels that a raw image does not show: an object that reaches it ends
#: there. Readings of subsampled objects are up to 4 pixels apart.
_BORDER_PX = 9
#: What to do about a frame without an up vector.
_SET_UP = "state it (--up x,y,z; the node's parameter gravity_frame)"
_BENT = (
    "surfaces are plane only if depth is the range along each ray: publish the distance along the "
    "optical axis (Z)"
)


@dataclass(frozen=True, eq=False)
class Upright:
    """The parts of a scene in the upright image and its optical frame, for measuring.

    Attributes:
        turn: from the camera's image to this one.
        rgb: (H, W, 3) uint8, red first; a view.
        cloud: the back-projected depth.
        planes: the horizontal surfaces, the dominant one first.
        up: unit vector for objects without a support plane.
        ambiguity: why another direction may be up, and what to do; "" = this one is certain.
        border: (H, W) pixels of a rectified frame that the raw image does not show, and those
            beside them; None = it shows every pixel.
        bent: depth seems to be the range along each ray instead of Z, which bends planes.
    """

    turn: QuarterTurn
    rgb: npt.NDArray[np.uint8]
    cloud: Cloud
    planes: tuple[Plane, ...]
    up: tuple[float, float, float]
    ambiguity: str
    border: Mask | None = None
    bent: bool = False


@dataclass(frozen=True, eq=False)
class Scene:
    """A frame with its point cloud and support planes, which all regions share.

    Attributes:
        frame: the RGB-D frame.
        upright: what measuring uses.
        cautions: the frame's, UP_UNCERTAIN if neither the frame nor a plane shows what is up, and
            IMPLAUSIBLE_DEPTH if depth seems to be range.
        reasons: the frame's, and those of the other cautions.
    """

    frame: RgbdFrame
    upright: Upright
    cautions: tuple[Caution, ...]
    reasons: tuple[str, ...]

    @cached_property
    def cloud(self) -> Cloud:
        """The back-projected depth in the camera's own image."""
        return self.upright.cloud if self.upright.turn.turns == 0 else make_cloud(self.frame)


@dataclass(eq=False)
class _Entry:
    """The computed parts of one frame. A reference to the frame would keep it in memory forever."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    upright: Upright | None = None


_entries: weakref.WeakKeyDictionary[RgbdFrame, _Entry] = weakref.WeakKeyDictionary()
_entries_lock = threading.Lock()


def open_scene(frame: RgbdFrame) -> Scene:
    """Back-project a frame and find its horizontal surfaces, once per frame; thread-safe.

    Raises:
        DepthError: no depth, or affine-invariant depth.
        IntrinsicsError: no intrinsics.
    """
    with _entries_lock:
        entry = _entries.setdefault(frame, _Entry())
    with entry.lock:  # one per frame: threads with other frames do not wait
        if entry.upright is None:
            found = _upright(frame) if frame.up is None else _known_up(frame, frame.up)
            entry.upright = replace(found, border=_border(frame, found.turn))
        upright = entry.upright
    cautions, reasons = frame.cautions, frame.reasons
    if upright.ambiguity and Caution.UP_UNCERTAIN not in cautions:
        cautions = (*cautions, Caution.UP_UNCERTAIN)
        reasons = (*reasons, f"which way is up is not certain: {upright.ambiguity}")
    if upright.bent:
        cautions = tuple(dict.fromkeys((*cautions, Caution.IMPLAUSIBLE_DEPTH)))
        reasons = (*reasons, _BENT)
    return Scene(frame, upright, cautions, reasons)


def _border(frame: RgbdFrame, turn: QuarterTurn) -> Mask | None:
    """`Upright.border` of a frame."""
    hidden = hidden_border(frame)
    if hidden is None:
        return None
    wide = cv2.dilate(turn.image(hidden).astype(np.uint8), np.ones((_BORDER_PX, _BORDER_PX)))
    return wide.view(np.bool_)


def _known_up(frame: RgbdFrame, up: tuple[float, float, float]) -> Upright:
    """The frame turned by its up vector, with the planes that are level by it."""
    turn = QuarterTurn(turns_to_upright(up), frame.width, frame.height)
    upward = turn.vector(up)
    turned = turn.frame(frame)
    cloud = make_cloud(turned)
    sample = sample_planes(cloud)
    if sample is None:
        return Upright(turn, turned.rgb, cloud, (), upward, ambiguity="")
    bent = seems_range(sample)
    # A vector that contradicts a large plane is not used: it may be of another camera.
    if contradicts(sample, upward):
        given = ", ".join(f"{value:.2f}" for value in up)
        ambiguity = (
            f"with up = ({given}) the largest plane is neither upright nor level below the camera; "
            "correct up: it points against gravity, so an upright camera has a negative y"
        )
        planes = find_support_planes(sample)
        return Upright(turn, turned.rgb, cloud, planes, upward, ambiguity, bent=bent)
    planes = find_support_planes(sample, upward)
    return Upright(turn, turned.rgb, cloud, planes, upward, ambiguity="", bent=bent)


def _upright(frame: RgbdFrame) -> Upright:
    """The frame as its dominant plane shows it; unturned if that is not clear."""
    turn, turned = QuarterTurn(0, frame.width, frame.height), frame
    cloud = make_cloud(frame)
    sample = sample_planes(cloud)
    if sample is None:
        ambiguity = f"depth has too few readings for a plane; {_SET_UP}"
        return Upright(turn, frame.rgb, cloud, (), IMAGE_UP, ambiguity)
    found, bent = orientation(sample), seems_range(sample)
    if found.turns:
        turn = replace(turn, turns=found.turns)
        turned = turn.frame(frame)
        cloud = make_cloud(turned)
        sample = sample_planes(cloud)
    planes = () if sample is None else find_support_planes(sample)
    ambiguity = f"{found.ambiguity}; {_SET_UP}" if found.ambiguity else ""
    return Upright(turn, turned.rgb, cloud, planes, IMAGE_UP, ambiguity, bent=bent)
