"""Scene, View: what every reader yields. Nothing downstream knows where a scan came from.

World frame of a scene: z up against gravity, metres. Camera frame: the optical frame (REP-103, X
right, Y down, Z forward). Views are streamed: a scene holds its mesh, never its pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics

Vector = npt.NDArray[np.float64]


class SceneError(ValueError):
    """A scene, or one view of it, that cannot be used; `reason` is what it is counted under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True, eq=False)
class UprightBox:
    """A box with vertical sides: centre (3,), length >= width horizontally, height, metres.

    yaw: of the length's direction, radians about z.
    """

    centre: Vector
    length: float
    width: float
    height: float
    yaw: float


@dataclass(frozen=True, eq=False)
class Instance:
    """One object of a scene: `number` is 1, 2, ..., `label` as annotated, in lower case."""

    number: int
    label: str
    box: UprightBox


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices (V, 3) float64, faces (F, 3) int, owner (F,) int: instance number, 0 = none."""

    vertices: Vector
    faces: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class View:
    """One picture of a scene.

    Attributes:
        name: of the picture within its scene.
        rgb: (H, W, 3) uint8, undistorted.
        depth_mm: (H, W) uint16 millimetres, 0 = no reading; None = the mesh is to be asked.
        intrinsics: of both.
        camera_to_world: (4, 4).
        mask: (H, W) instance numbers, 0 = none, where the source has its own; None = the mesh's.
        objects: the scene graph's entries where the source knows them exactly (simulation);
            None = they are computed (`graph.describe`).
    """

    name: str
    rgb: npt.NDArray[np.uint8]
    depth_mm: npt.NDArray[np.uint16] | None
    intrinsics: CameraIntrinsics
    camera_to_world: Vector
    mask: npt.NDArray[np.int32] | None = None
    objects: list[dict[str, Any]] | None = None


#: Says which pictures of a sequence are wanted, from where they were taken; asked before decoding.
Wanted = Callable[[Vector], bool]


@dataclass(frozen=True, eq=False)
class Scene:
    """A scan with its objects.

    Attributes:
        name: unique within its source.
        source: scannet, scannetpp or simulated.
        instances: every annotated object.
        mesh: None where views bring their own objects.
        views: call it with what is wanted to stream the pictures in order; a view that cannot be
            read is counted in `skipped` under its reason and left out.
        skipped: reasons -> views left out so far, by the reader.
    """

    name: str
    source: str
    instances: tuple[Instance, ...]
    mesh: Mesh | None
    views: Callable[[Wanted], Iterator[View]]
    skipped: Counter[str]
