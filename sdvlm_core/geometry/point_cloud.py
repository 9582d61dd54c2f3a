"""Depth image of a frame as a point cloud: rays and depths, points on demand.

Points are computed on demand because a region needs a small part of them. Does not know planes or
objects. Affine-invariant depth has no scale in metres and is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.errors import DepthError, IntrinsicsError
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.robust import MAD, median

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
DepthImage = npt.NDArray[np.float32]

#: Number of depth ranges in which the scatter is estimated.
_SCATTER_SLICES = 5
#: Smallest number of readings for an estimate of the scatter.
_MIN_READINGS = 200
# Limits that no depth camera reaches; between them, no step of measuring overflows.
_NEAREST_M, _FARTHEST_M = 0.001, 10_000.0
_FOCAL_LENGTHS_PX, _MAX_SLOPE = (0.01, 1e7), 1000.0


@dataclass(frozen=True, eq=False)
class Cloud:
    """The depth of one frame with the viewing rays of its pixels.

    Attributes:
        depth: (H, W) float32 metres along +Z, 0 = no reading.
        ray_x: (W,) float64, X per metre of depth of each column.
        ray_y: (H,) float64, Y per metre of depth of each row.
        pixel_angle: angle between the rays of neighbouring pixels, radians.
        noise_floor, noise_square: scatter of one reading at depth z, measured in this frame:
            noise_floor + noise_square z^2, metres. For segmentation, not for std_dev: it does not
            contain noise that is correlated between neighbours.
    """

    depth: DepthImage
    ray_x: Points
    ray_y: Points
    pixel_angle: float
    noise_floor: float = 0.0
    noise_square: float = 0.0

    @property
    def height(self) -> int:
        """Rows, pixels."""
        return int(self.depth.shape[0])

    @property
    def width(self) -> int:
        """Columns, pixels."""
        return int(self.depth.shape[1])

    @cached_property
    def depth_view(self) -> tuple[int, int, int]:
        """First column, last column and last row of the depth camera's view, pixels.

        Registered depth often covers less than the colour image. A row or column belongs to the
        view if it has half of the median count of readings: a few stray ones do not count.
        """
        valid = (self.depth > 0).view(np.uint8)
        limits = []
        for axis in (0, 1):
            counts = cv2.reduce(valid, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
            lines = np.flatnonzero(counts >= max(1.0, median(counts) / 2))
            limits.append((int(lines[0]), int(lines[-1])) if len(lines) else (0, len(counts) - 1))
        (left, right), (_, bottom) = limits
        return left, right, bottom

    def points(self, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> Points:
        """Points (N, 3) of the pixels (rows, columns), metres in the optical frame, float64."""
        z = self.depth[rows, columns].astype(np.float64)
        return np.stack([self.ray_x[columns] * z, self.ray_y[rows] * z, z], axis=-1)

    def scatter(self, z: DepthImage) -> DepthImage:
        """Standard deviation of readings at depths z, uncorrelated between pixels, metres."""
        return np.float32(self.noise_floor) + np.float32(self.noise_square) * z * z

    def pixels(self, points: Points) -> tuple[Points, Points]:
        """Columns and rows (N,), not rounded, of points (N, 3) in front of the camera."""
        step_x, step_y = (
            rays[1] - rays[0] if len(rays) > 1 else self.pixel_angle
            for rays in (self.ray_x, self.ray_y)
        )
        u = (points[:, 0] / points[:, 2] - self.ray_x[0]) / step_x
        v = (points[:, 1] / points[:, 2] - self.ray_y[0]) / step_y
        return u, v


def make_cloud(frame: RgbdFrame) -> Cloud:
    """The cloud of a frame; NaN, and depths below a millimetre or above 10 km, are no reading.

    Raises:
        DepthError: the frame has no depth, or affine-invariant depth (`estimated_relative`).
        IntrinsicsError: the frame has no intrinsics, or those of no camera.
    """
    if frame.depth is None:
        raise DepthError("measuring needs a depth image; this frame has none")
    if frame.depth_source == "estimated_relative":
        raise DepthError(
            "depth_source is estimated_relative: it has no metres, so nothing can be measured; "
            "use a depth sensor or a metric depth estimator"
        )
    if frame.intrinsics is None:
        raise IntrinsicsError("measuring needs the camera's intrinsics; this frame has none")
    k = frame.intrinsics
    with np.errstate(over="ignore"):
        ray_x, ray_y = k.ray_slopes()
    low, high = _FOCAL_LENGTHS_PX
    largest = max(np.abs(rays[[0, -1]]).max() for rays in (ray_x, ray_y))
    if not (low < min(k.fx, k.fy) and max(k.fx, k.fy) < high and largest < _MAX_SLOPE):
        raise IntrinsicsError(
            f"no camera has the intrinsics fx, fy, cx, cy = {k.fx:g}, {k.fy:g}, {k.cx:g}, "
            f"{k.cy:g} for a {k.width}x{k.height} image; all four are in pixels"
        )
    with np.errstate(invalid="ignore"):
        valid = (frame.depth > _NEAREST_M) & (frame.depth < _FARTHEST_M)
    depth = np.ascontiguousarray(np.where(valid, frame.depth, np.float32(0)))
    floor, square = _scatter_parameters(depth)
    return Cloud(
        depth=depth,
        ray_x=ray_x,
        ray_y=ray_y,
        pixel_angle=1.0 / float(np.sqrt(k.fx * k.fy)),
        noise_floor=floor,
        noise_square=square,
    )


def _scatter_parameters(depth: DepthImage) -> tuple[float, float]:
    """`noise_floor` and `noise_square` of a depth image, from second differences along rows.

    The second difference of a plane is 0 for any slope; independent noise of standard deviation s
    gives sqrt(6) s. Medians within slices of depth ignore edges.
    """
    rows = depth[:: max(1, depth.shape[0] // 24)]
    if rows.shape[1] < 3:
        return 0.0, 0.0
    left, middle, right = rows[:, :-2], rows[:, 1:-1], rows[:, 2:]
    valid = (left > 0) & (middle > 0) & (right > 0)
    z = middle[valid]
    if len(z) < _MIN_READINGS:
        return 0.0, 0.0
    differences = np.abs(left[valid] - 2 * z + right[valid])
    order = np.argsort(z)
    slices = np.array_split(order, _SCATTER_SLICES)
    squares = np.array([median(z[part]) ** 2 for part in slices])
    scatter = np.array([MAD / np.sqrt(6) * median(differences[part]) for part in slices])
    if np.ptp(squares) < 1e-3 * squares.max():
        return float(scatter.mean()), 0.0
    slope = float(np.polyfit(squares, scatter, 1)[0])
    if slope <= 0:
        return float(np.median(scatter)), 0.0
    floor = float(np.median(scatter - slope * squares))
    return (floor, slope) if floor >= 0 else (0.0, float(np.median(scatter / squares)))
