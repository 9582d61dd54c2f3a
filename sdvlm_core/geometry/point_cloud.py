"""A frame's depth image as points, back-projected once and shared by all who measure in it.

Holds directions and depths, and hands out points on demand: a region needs a small part of them.
Knows neither planes nor objects. Affine-invariant depth has no metres and is refused here.
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

_SLICES = 5  # of depth, in which the scatter is taken
_LEAST_READINGS = 200


@dataclass(frozen=True, eq=False)
class Cloud:
    """The depth of one frame with the viewing rays of its pixels.

    Attributes:
        depth: (H, W) float32 metres along +Z, 0 = no reading.
        ray_x: (W,) float64, X per metre of depth of each column.
        ray_y: (H,) float64, Y per metre of depth of each row.
        pitch: angle between the rays of neighbouring pixels, radians.
        noise_floor, noise_square: scatter of one reading at depth z as it is in this frame,
            noise_floor + noise_square z^2 metres; for telling things apart, not for std_dev:
            noise that neighbours share does not show in it.
    """

    depth: DepthImage
    ray_x: Points
    ray_y: Points
    pitch: float
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
    def view(self) -> tuple[int, int, int]:
        """First and last column and last row that the depth camera saw, pixels.

        Registered depth often covers less than the colour image. A row or column counts that has
        half the usual readings: few stray ones are not its view's.
        """
        read = (self.depth > 0).view(np.uint8)
        found = []
        for axis in (0, 1):
            counts = cv2.reduce(read, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
            seen = np.flatnonzero(counts >= max(1.0, median(counts) / 2))
            found.append((int(seen[0]), int(seen[-1])) if len(seen) else (0, len(counts) - 1))
        (left, right), (_, bottom) = found
        return left, right, bottom

    def points(self, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> Points:
        """Points (N, 3) of the pixels (rows, columns), metres in the optical frame, float64."""
        z = self.depth[rows, columns].astype(np.float64)
        return np.stack([self.ray_x[columns] * z, self.ray_y[rows] * z, z], axis=-1)

    def scatter(self, z: DepthImage) -> DepthImage:
        """Standard deviation of readings at depths z that pixels do not share, metres."""
        return np.float32(self.noise_floor) + np.float32(self.noise_square) * z * z

    def pixels(self, points: Points) -> tuple[Points, Points]:
        """Columns and rows, not rounded, where points (N, 3) in front of the camera appear."""
        step_x, step_y = self.ray_x[1] - self.ray_x[0], self.ray_y[1] - self.ray_y[0]
        u = (points[:, 0] / points[:, 2] - self.ray_x[0]) / step_x
        v = (points[:, 1] / points[:, 2] - self.ray_y[0]) / step_y
        return u, v


def make_cloud(frame: RgbdFrame) -> Cloud:
    """The cloud of a frame; NaN, infinite and non-positive readings are no readings.

    Raises:
        DepthError: there is no depth, or it is affine-invariant (`estimated_relative`).
        IntrinsicsError: there are no intrinsics.
    """
    if frame.depth is None:
        raise DepthError("measuring needs a depth image; this frame has none")
    if frame.depth_source == "estimated_relative":
        raise DepthError(
            "depth_source is estimated_relative: it has no metres, so nothing can be measured; "
            "use a sensor's depth or a metric estimator"
        )
    if frame.intrinsics is None:
        raise IntrinsicsError("measuring needs the camera's intrinsics; this frame has none")
    k = frame.intrinsics
    ray_x, ray_y = k.ray_slopes()
    with np.errstate(invalid="ignore"):
        readable = (frame.depth > 0) & (frame.depth < np.inf)
    depth = np.where(readable, frame.depth, np.float32(0))
    floor, square = _scatter_parameters(depth)
    return Cloud(
        depth=depth,
        ray_x=ray_x,
        ray_y=ray_y,
        pitch=1.0 / float(np.sqrt(k.fx * k.fy)),
        noise_floor=floor,
        noise_square=square,
    )


def _scatter_parameters(depth: DepthImage) -> tuple[float, float]:
    """floor, square of the scatter, from second differences along some of the rows.

    A surface has none, whatever its slope; independent noise s gives sqrt(6) s. Medians within
    slices of depth ignore edges.
    """
    rows = depth[:: max(1, depth.shape[0] // 24)]
    if rows.shape[1] < 3:
        return 0.0, 0.0
    left, middle, right = rows[:, :-2], rows[:, 1:-1], rows[:, 2:]
    read = (left > 0) & (middle > 0) & (right > 0)
    z = middle[read]
    if len(z) < _LEAST_READINGS:
        return 0.0, 0.0
    bend = np.abs(left[read] - 2 * z + right[read])
    order = np.argsort(z)
    slices = np.array_split(order, _SLICES)
    squares = np.array([median(z[part]) ** 2 for part in slices])
    scatter = np.array([MAD / np.sqrt(6) * median(bend[part]) for part in slices])
    if np.ptp(squares) < 1e-3 * squares.max():
        return float(scatter.mean()), 0.0
    slope = float(np.polyfit(squares, scatter, 1)[0])
    if slope <= 0:
        return float(np.median(scatter)), 0.0
    floor = float(np.median(scatter - slope * squares))
    return (floor, slope) if floor >= 0 else (0.0, float(np.median(scatter / squares)))
