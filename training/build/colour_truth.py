"""Whether a photo shows the colours that the mesh has at its pose: for views without depth.

Both are compared as coarse images in CIELAB without their means, so that exposure and white balance
do not matter. This finds most wrong poses, not all: two views of one room may look alike. Does not
know depth sensors or files.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from sdvlm_core.frame import CameraIntrinsics
from training.build.reasons import Reason
from training.build.scene import Mesh, SceneError, Vector

#: A point has the colour of a vertex within this distance, metres.
_REACH_M = 0.1
#: Less points, or less contrast of the mesh (standard deviation in CIELAB), show nothing.
_MIN_POINTS, _MIN_CONTRAST = 500, 4.0
#: Least correlation. Views at the right pose of a simulated room have 0.98; four of five pairs of
#: its other views have less than this.
_MIN_CORRELATION = 0.25


class MeshColours:
    """The colours of the vertices of a mesh, found by place."""

    def __init__(self, mesh: Mesh) -> None:
        self._lab = None if mesh.colours is None else _lab(mesh.colours)
        self._vertices = None if self._lab is None else KDTree(mesh.vertices)

    def check(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: Vector,
        k: CameraIntrinsics,
        camera_to_world: Vector,
        stride: int,
        name: str,
    ) -> None:
        """Compare a photo (H, W, 3) with the mesh at the depth of every stride-th pixel.

        Args:
            depth: (rows, columns) metres, rendered from the mesh; NaN = no surface.
            name: of the view, for the error.

        Raises:
            SceneError: `colour disagrees with the mesh`. There is no error if the mesh has no
                colours, hardly any contrast, or too few vertices there.
        """
        if self._lab is None or self._vertices is None:
            return
        rows, columns = np.nonzero(np.isfinite(depth))
        first = stride // 2
        points = k.back_project(
            columns * stride + first, rows * stride + first, depth[rows, columns]
        )
        world = points @ camera_to_world[:3, :3].T + camera_to_world[:3, 3]
        distance, nearest = self._vertices.query(world)
        known = distance < _REACH_M
        if known.sum() < _MIN_POINTS:
            return
        coarse = cv2.resize(rgb, depth.shape[::-1], interpolation=cv2.INTER_AREA)
        seen = _lab(coarse[rows, columns][known])
        stored = self._lab[nearest[known]]
        seen, stored = seen - seen.mean(axis=0), stored - stored.mean(axis=0)
        contrast = float(np.sqrt((stored**2).sum(axis=1).mean()))
        if contrast < _MIN_CONTRAST:
            return
        scale = float(np.sqrt((seen**2).sum() * (stored**2).sum()))
        correlation = float((seen * stored).sum()) / scale if scale else 0.0
        if correlation < _MIN_CORRELATION:
            raise SceneError(
                Reason.COLOUR_DISAGREES,
                f"{name}: the photo correlates by {correlation:.2f} with the colours of the mesh, "
                f"at least {_MIN_CORRELATION} is expected",
            )


def _lab(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, 3) uint8, red first, as CIELAB."""
    scaled = np.ascontiguousarray(rgb[None, :, :3]).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB)[0])
