"""Support planes: the horizontal surfaces of a frame that objects stand on.

Finds them from depth alone, by RANSAC over local triples of points (Fischler and Bolles, 1981) and
a trimmed least-squares refinement. All thresholds are fractions of the distance or of the measured
residuals, so a scene twice as large gives twice the lengths. The only prior: the top of the image
does not point to the ground. Does not know regions or objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Mask, Points
from sdvlm_core.geometry.robust import MAD, median

#: The image's up axis, for frames without a support plane (REP-103: Y is down).
IMAGE_UP = (0.0, -1.0, 0.0)

# Values without another source: tuned on the development frames of benchmarks/real_frames.py and
# on training.simulate.
#: Columns of the grid of points that the search uses: 64 x 48 points of a 4:3 image.
_GRID_COLUMNS = 64
_HYPOTHESES = 300
#: Largest distance between the three points of a hypothesis, as a fraction of the grid's width.
_REACH_FRACTION = 0.15
#: Inliers of a hypothesis are this near to the plane, as a fraction of the distance.
_BAND_FRACTION = 0.008
#: Fraction of the readings that must be inliers.
_MIN_INLIER_FRACTION = 0.03
#: Smallest number of readings on the grid for a plane.
_MIN_POINTS = 50
_MAX_PLANES = 4
#: Largest angle between two support planes of one frame: seats and shelves are not quite level.
_MAX_TILT_RAD = np.radians(12.0)
# Cosines of the angle between a plane's normal and the image's up axis. The angle is 90 degrees for
# the floor below a camera that looks straight down, and for a wall in front of a level camera. The
# weight of a plane decreases from 1 at 70 degrees to 0 at 105 degrees, so a ceiling is never
# selected.
_FULL_WEIGHT_COS, _NO_WEIGHT_COS = np.cos(np.radians(70.0)), np.cos(np.radians(105.0))
_MIN_WEIGHT = 0.02


@dataclass(frozen=True)
class Plane:
    """The points p with normal . p + offset = 0. The camera is on the positive side.

    Attributes:
        normal: unit vector, up.
        offset: the camera's height above the plane, metres.
        spread: robust standard deviation of its readings along the normal, per metre of distance.
        detected: False for the replacement plane that has only the image's up axis.
    """

    normal: tuple[float, float, float]
    offset: float
    spread: float
    detected: bool = True

    def heights(self, points: Points) -> Points:
        """Heights (N,) above the plane of points (N, 3), metres."""
        return points @ np.array(self.normal) + self.offset

    def height_image(self, cloud: Cloud, rows: slice, columns: slice) -> DepthImage:
        """Heights above the plane of a part of the image, metres; valid where depth > 0."""
        nx, ny, nz = self.normal
        across = (nx * cloud.ray_x[columns]).astype(np.float32)
        down = (ny * cloud.ray_y[rows] + nz).astype(np.float32)
        heights = across + down[:, None]  # per metre of depth
        heights *= cloud.depth[rows, columns]
        heights += np.float32(self.offset)
        return heights

    def raised(self, height: float, spread: float | None = None) -> Plane:
        """The parallel plane that is `height` metres higher."""
        return Plane(
            self.normal,
            self.offset - height,
            self.spread if spread is None else spread,
            self.detected,
        )


def no_plane() -> Plane:
    """The replacement without a detected support: the image's up axis through the camera."""
    return Plane(IMAGE_UP, 0.0, 0.0, detected=False)


def find_support_planes(cloud: Cloud) -> tuple[Plane, ...]:
    """The horizontal surfaces of the frame (floor, table, seat), the dominant one first.

    Each of the others is the largest among the remaining readings and parallel to the first within
    `_MAX_TILT_RAD`. Empty if there is none.
    """
    stride = max(1, round(cloud.width / _GRID_COLUMNS))
    rows = np.arange(stride // 2, cloud.height, stride)
    columns = np.arange(stride // 2, cloud.width, stride)
    grid = cloud.points(*np.meshgrid(rows, columns, indexing="ij"))
    valid = grid[..., 2] > 0
    if valid.sum() < _MIN_POINTS:
        return ()
    candidates = _hypotheses(grid, valid)
    points = grid[valid]
    # Every other reading is enough to rank the hypotheses.
    voters = points[::2].astype(np.float32)
    heights = candidates[:, :3].astype(np.float32) @ voters.T
    heights += candidates[:, 3:].astype(np.float32)
    np.abs(heights, out=heights)
    # (K, N / 2)
    inliers = (heights < np.float32(_BAND_FRACTION) * voters[:, 2]).astype(np.float32)
    weight = _up_weights(candidates[:, :3])
    planes: list[Plane] = []
    remaining = np.ones(len(points), bool)
    for _ in range(_MAX_PLANES):
        if not len(candidates):
            break
        count = inliers @ remaining[::2].astype(np.float32)
        best = int(np.argmax(weight * count))
        if weight[best] * count[best] == 0 or count[best] < _MIN_INLIER_FRACTION * len(voters):
            break
        plane = _refined(points[remaining], candidates[best])
        near = np.abs(plane.heights(points)) < 2 * _BAND_FRACTION * points[:, 2]
        remaining &= ~near
        planes.append(plane)
        # The dominant plane defines "horizontal"; only the search for it needs the prior.
        cosines = candidates[:, :3] @ np.array(planes[0].normal)
        weight = (cosines > np.cos(_MAX_TILT_RAD)).astype(float)
        if remaining.sum() < _MIN_POINTS or not weight.any():
            break
    return tuple(planes)


def _up_weights(normals: Points) -> Points:
    """Prior weights (K,) in [0, 1] of unit normals (K, 3) to point up."""
    cosines = normals @ np.array(IMAGE_UP)
    return np.clip((cosines - _NO_WEIGHT_COS) / (_FULL_WEIGHT_COS - _NO_WEIGHT_COS), 0.0, 1.0) ** 2


def _hypotheses(grid: Points, valid: Mask) -> Points:
    """Planes (K, 4) through triples of neighbours on the grid (h, w, 3), facing the camera."""
    rng = np.random.default_rng(0)  # deterministic: the same frame gives the same planes
    height, width = valid.shape
    reach = max(3, round(_REACH_FRACTION * width))
    rows, columns = np.nonzero(valid)
    first = rng.integers(len(rows), size=_HYPOTHESES)
    corners = []
    for _ in range(2):
        row = np.clip(rows[first] + rng.integers(-reach, reach + 1, _HYPOTHESES), 0, height - 1)
        column = np.clip(
            columns[first] + rng.integers(-reach, reach + 1, _HYPOTHESES), 0, width - 1
        )
        corners.append((row, column))
    keep = valid[corners[0]] & valid[corners[1]]
    a = grid[rows[first], columns[first]][keep]
    b, c = (grid[corner][keep] for corner in corners)
    normal = np.cross(b - a, c - a)
    size = np.linalg.norm(normal, axis=1)
    not_collinear = size > 1e-4 * a[:, 2] ** 2
    normal, a = normal[not_collinear] / size[not_collinear, None], a[not_collinear]
    offset = -np.einsum("ij,ij->i", normal, a)
    side = np.where(offset < 0, -1.0, 1.0)
    planes = np.concatenate([normal, offset[:, None]], axis=1) * side[:, None]
    return planes[_up_weights(planes[:, :3]) > _MIN_WEIGHT]


def _refined(points: Points, start: Points) -> Plane:
    """Trimmed least squares from a hypothesis (4,), with residuals relative to the distance.

    Depth noise grows with the square of the distance. Relative residuals limit the weight of far
    readings.
    """
    normal, offset = start[:3], float(start[3])
    band = _BAND_FRACTION
    previous = np.zeros(len(points), bool)
    for _ in range(5):
        residuals = (points @ normal + offset) / points[:, 2]
        inliers = np.abs(residuals) < band
        if np.count_nonzero(inliers) < 10 or np.array_equal(inliers, previous):
            break
        previous = inliers
        chosen = points[inliers]
        weight = 1.0 / chosen[:, 2] ** 2
        centre = (weight[:, None] * chosen).sum(axis=0) / weight.sum()
        centred = (chosen - centre) * np.sqrt(weight)[:, None]
        fitted = np.linalg.eigh(centred.T @ centred)[1][:, 0]
        normal = fitted if fitted @ normal > 0 else -fitted
        offset = -float(normal @ centre)
        residuals = (chosen @ normal + offset) / chosen[:, 2]
        spread = MAD * median(np.abs(residuals - median(residuals)))
        band = float(np.clip(3 * spread, 0.25 * _BAND_FRACTION, _BAND_FRACTION))
    residuals = (points @ normal + offset) / points[:, 2]
    residuals = residuals[np.abs(residuals) < _BAND_FRACTION]
    spread = MAD * median(np.abs(residuals)) if residuals.size else _BAND_FRACTION
    return Plane((float(normal[0]), float(normal[1]), float(normal[2])), offset, spread)


def plane_outline(cloud: Cloud, plane: Plane) -> list[npt.NDArray[np.int32]]:
    """Pixel polygons (M, 2) around the parts of the image that show the plane.

    Parts smaller than 1 % of the image are left out.
    """
    everywhere = slice(None)
    height = plane.height_image(cloud, everywhere, everywhere)
    near = np.abs(height) < np.maximum(_BAND_FRACTION, 3 * plane.spread) * cloud.depth
    closed = cv2.morphologyEx(
        (near & (cloud.depth > 0)).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)
    )
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    min_area = 0.01 * cloud.depth.size
    return [contour[:, 0] for contour in contours if cv2.contourArea(contour) >= min_area]


def points_on(cloud: Cloud, plane: Plane, outline: npt.NDArray[np.int32]) -> Points:
    """Intersections (M, 3) of the rays of pixels (M, 2) with a plane, metres."""
    columns, rows = outline.T
    rays = np.stack([cloud.ray_x[columns], cloud.ray_y[rows], np.ones(len(outline))], axis=1)
    return rays * (-plane.offset / (rays @ np.array(plane.normal)))[:, None]
