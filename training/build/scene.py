"""Scene and View: the output of every reader, independent of the source of the scan.

World frame of a scene: z up against gravity, metres. Camera frame: the optical frame (REP-103, X
right, Y down, Z forward). Views are streamed: a scene holds its mesh, never its images.
Does not know files or questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics
from training.build.reasons import Reason

Vector = npt.NDArray[np.float64]
#: One object of a scene graph, as JSON; the keys are those of `training.build.graph`.
Entry = dict[str, Any]


class SceneError(ValueError):
    """A scene, view or object that cannot be used; it is counted under the text of its reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason.value


@dataclass(frozen=True, eq=False)
class UprightBox:
    """A box with vertical sides: centre (3,), length >= width horizontally, height, metres.

    yaw: direction of the length, radians about z.
    """

    centre: Vector
    length: float
    width: float
    height: float
    yaw: float


@dataclass(frozen=True, eq=False)
class Instance:
    """One object of a scene: `number` is 1, 2, ..., `label` as annotated, in lower case.

    A label of "" marks a surface that is known to be annotated, but not as what: anything that is
    asked about may be there.
    """

    number: int
    label: str
    box: UprightBox


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices (V, 3) float64, faces (F, 3) int, owner (F,) int: instance number, 0 = none.

    colours: (V, 3) uint8 of the vertices, red first; None = the mesh has none.
    """

    vertices: Vector
    faces: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]
    colours: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class View:
    """One image of a scene.

    Attributes:
        name: unique within its scene.
        rgb: (H, W, 3) uint8, undistorted.
        depth_mm: (H, W) uint16 millimetres, 0 = no reading; None = rendered from the mesh.
        intrinsics: pinhole parameters of both images.
        camera_to_world: (4, 4).
        mask: (H, W) instance numbers of the source, 0 = none; None = rendered from the mesh.
        objects: exact scene-graph entries of the source (simulation); None = computed from the
            mesh (`graph.describe`).
    """

    name: str
    rgb: npt.NDArray[np.uint8]
    depth_mm: npt.NDArray[np.uint16] | None
    intrinsics: CameraIntrinsics
    camera_to_world: Vector
    mask: npt.NDArray[np.int32] | None = None
    objects: list[Entry] | None = None


#: camera_to_world (4, 4) -> whether the image is wanted; called before the image is decoded.
Wanted = Callable[[Vector], bool]


@dataclass(frozen=True, eq=False)
class Scene:
    """A scan with its objects.

    Attributes:
        name: unique within its source.
        source: scannet, scannetpp or simulated.
        instances: every annotated object.
        mesh: None if the views have their own objects.
        views: streams the wanted images in order; a view that cannot be read is left out and
            counted in `skipped`.
        skipped: `view: REASON` and `object: REASON` -> what the reader has left out so far.
        unplaced: labels of annotated objects whose place is not known. They may be in any view, so
            that none of them may be called absent; "" = an object of unknown label, so that nothing
            may be called absent.
    """

    name: str
    source: str
    instances: tuple[Instance, ...]
    mesh: Mesh | None
    views: Callable[[Wanted], Iterator[View]]
    skipped: Counter[str]
    unplaced: frozenset[str] = frozenset()
