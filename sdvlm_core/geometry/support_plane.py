"""The horizontal surface that things stand on: the scene's, and the one under a region.

Finds which way is up from the depth alone, by RANSAC over local triples of points (Fischler and
Bolles, 1981) and a trimmed least-squares refinement. All thresholds are parts of the distance or
of the residuals that were measured, so that a scene twice as large gives twice the lengths.
Does not know objects. The only prior is the camera's: its image's top is not towards the ground.
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

_SAMPLE_COLUMNS = 64  # the plane is sought on a grid of about 64 x 48 points
_HYPOTHESES = 300
_REACH = 0.15  # of the grid's width: how far apart the three points of a hypothesis may be
_BAND = 0.008  # of the distance: what counts as on the plane while searching
_LEAST_SHARE = 0.03  # of the readings that must lie on it
_LEAST_POINTS = 50  # readings on the grid; fewer carry no plane
_MOST_PLANES = 4
_TILT = np.radians(12.0)  # seats and shelves are not quite level
# From upright (0) to what a camera that looks straight down sees (90 degrees): a wall seen from
# the front looks the same, so steeper planes must be larger to win, and ceilings never do.
_SURE, _NEVER = np.cos(np.radians(70.0)), np.cos(np.radians(105.0))
_LEAST_WEIGHT = 0.02


@dataclass(frozen=True)
class Plane:
    """Points p with normal . p + offset = 0; the camera is on the positive side.

    Attributes:
        normal: unit vector, up.
        offset: the camera's height above the plane, metres.
        spread: robust standard deviation of its readings along the normal, per metre of distance.
        seen: False for the stand-in that has only the image's up axis.
    """

    normal: tuple[float, float, float]
    offset: float
    spread: float
    seen: bool = True

    def heights(self, points: Points) -> Points:
        """Heights (N,) above the plane of points (N, 3), metres."""
        return points @ np.array(self.normal) + self.offset

    def height_image(self, cloud: Cloud, rows: slice, columns: slice) -> DepthImage:
        """Heights above the plane of a part of the image, metres; pointless without a reading."""
        nx, ny, nz = self.normal
        across = (nx * cloud.ray_x[columns]).astype(np.float32)
        down = (ny * cloud.ray_y[rows] + nz).astype(np.float32)
        heights = across + down[:, None]  # per metre of depth
        heights *= cloud.depth[rows, columns]
        heights += np.float32(self.offset)
        return heights

    def raised(self, height: float, spread: float | None = None) -> Plane:
        """The parallel plane `height` metres further up."""
        return Plane(
            self.normal, self.offset - height, self.spread if spread is None else spread, self.seen
        )


def no_plane() -> Plane:
    """The stand-in where no support was seen: the image's up axis, height counted from 0."""
    return Plane(IMAGE_UP, 0.0, 0.0, seen=False)


def find_support_planes(cloud: Cloud) -> tuple[Plane, ...]:
    """The horizontal surfaces of the frame (floor, table, seat), the dominant one first.

    The others are at most `_TILT` from parallel to it, each the largest in what is left.
    Empty where none is to be seen.
    """
    stride = max(1, round(cloud.width / _SAMPLE_COLUMNS))
    rows = np.arange(stride // 2, cloud.height, stride)
    columns = np.arange(stride // 2, cloud.width, stride)
    grid = cloud.points(*np.meshgrid(rows, columns, indexing="ij"))
    usable = grid[..., 2] > 0
    if usable.sum() < _LEAST_POINTS:
        return ()
    candidates = _hypotheses(grid, usable)
    points = grid[usable]
    # To tell which hypothesis has more readings, every other one will do.
    voters = points[::2].astype(np.float32)
    heights = candidates[:, :3].astype(np.float32) @ voters.T
    heights += candidates[:, 3:].astype(np.float32)
    np.abs(heights, out=heights)
    on = (heights < np.float32(_BAND) * voters[:, 2]).astype(np.float32)  # (K, N / 2)
    weight = _upright(candidates[:, :3])
    planes: list[Plane] = []
    left = np.ones(len(points), bool)
    for _ in range(_MOST_PLANES):
        if not len(candidates):
            break
        count = on @ left[::2].astype(np.float32)
        best = int(np.argmax(weight * count))
        if weight[best] * count[best] == 0 or count[best] < _LEAST_SHARE * len(voters):
            break
        plane = _refined(points[left], candidates[best])
        near = np.abs(plane.heights(points)) < 2 * _BAND * points[:, 2]
        left &= ~near
        planes.append(plane)
        # Horizontal is what the dominant surface says; the first one only has the camera's prior.
        weight = (candidates[:, :3] @ np.array(planes[0].normal) > np.cos(_TILT)).astype(float)
        if left.sum() < _LEAST_POINTS or not weight.any():
            break
    return tuple(planes)


def _upright(normals: Points) -> Points:
    """How believable (K,) unit normals (K, 3) are as the way up, in (0, 1]."""
    rise = normals @ np.array(IMAGE_UP)
    return np.clip((rise - _NEVER) / (_SURE - _NEVER), 0.0, 1.0) ** 2


def _hypotheses(grid: Points, usable: Mask) -> Points:
    """Planes (K, 4) through triples of neighbours on the grid (h, w, 3), facing the camera."""
    rng = np.random.default_rng(0)  # the same frame, the same answer
    height, width = usable.shape
    reach = max(3, round(_REACH * width))
    rows, columns = np.nonzero(usable)
    first = rng.integers(len(rows), size=_HYPOTHESES)
    corners = []
    for _ in range(2):
        row = np.clip(rows[first] + rng.integers(-reach, reach + 1, _HYPOTHESES), 0, height - 1)
        column = np.clip(
            columns[first] + rng.integers(-reach, reach + 1, _HYPOTHESES), 0, width - 1
        )
        corners.append((row, column))
    keep = usable[corners[0]] & usable[corners[1]]
    a = grid[rows[first], columns[first]][keep]
    b, c = (grid[corner][keep] for corner in corners)
    normal = np.cross(b - a, c - a)
    size = np.linalg.norm(normal, axis=1)
    wide = size > 1e-4 * a[:, 2] ** 2
    normal, a = normal[wide] / size[wide, None], a[wide]
    offset = -np.einsum("ij,ij->i", normal, a)
    side = np.where(offset < 0, -1.0, 1.0)
    planes = np.concatenate([normal, offset[:, None]], axis=1) * side[:, None]
    return planes[_upright(planes[:, :3]) > _LEAST_WEIGHT]


def _refined(points: Points, start: Points) -> Plane:
    """Trimmed least squares from a hypothesis (4,), residuals weighed by distance.

    Depth noise grows with the square of the distance; a band that does so keeps far readings
    from outvoting near ones.
    """
    normal, offset = start[:3], float(start[3])
    band = _BAND
    before = np.zeros(len(points), bool)
    for _ in range(5):
        part = (points @ normal + offset) / points[:, 2]
        on = np.abs(part) < band
        if np.count_nonzero(on) < 10 or np.array_equal(on, before):
            break
        before = on
        chosen = points[on]
        weight = 1.0 / chosen[:, 2] ** 2
        centre = (weight[:, None] * chosen).sum(axis=0) / weight.sum()
        apart = (chosen - centre) * np.sqrt(weight)[:, None]
        turned = np.linalg.eigh(apart.T @ apart)[1][:, 0]
        normal = turned if turned @ normal > 0 else -turned
        offset = -float(normal @ centre)
        left = (chosen @ normal + offset) / chosen[:, 2]
        spread = MAD * median(np.abs(left - median(left)))
        band = float(np.clip(3 * spread, 0.25 * _BAND, _BAND))
    part = (points @ normal + offset) / points[:, 2]
    left = part[np.abs(part) < _BAND]
    spread = MAD * median(np.abs(left)) if left.size else _BAND
    return Plane((float(normal[0]), float(normal[1]), float(normal[2])), offset, spread)


def plane_outline(cloud: Cloud, plane: Plane) -> list[npt.NDArray[np.int32]]:
    """Pixel polygons (M, 2) around the parts of the image that show the plane, large ones only."""
    everything = slice(None)
    height = plane.height_image(cloud, everything, everything)
    near = np.abs(height) < np.maximum(_BAND, 3 * plane.spread) * cloud.depth
    shown = cv2.morphologyEx(
        (near & (cloud.depth > 0)).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)
    )
    contours, _ = cv2.findContours(shown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    least = 0.01 * cloud.depth.size
    return [contour[:, 0] for contour in contours if cv2.contourArea(contour) >= least]


def points_on(cloud: Cloud, plane: Plane, outline: npt.NDArray[np.int32]) -> Points:
    """Where the rays of pixels (M, 2) that show a plane meet it, (M, 3) metres."""
    columns, rows = outline.T
    rays = np.stack([cloud.ray_x[columns], cloud.ray_y[rows], np.ones(len(outline))], axis=1)
    return rays * (-plane.offset / (rays @ np.array(plane.normal)))[:, None]
