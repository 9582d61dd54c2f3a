"""Points of one object over a plane -> its upright box: centre, length, width, height.

Only the side that faces the camera was seen. The silhouette's two ends show where the middle of a
centrally symmetric thing lies, and the far side is the near one turned about it; what of that would
have to stand where the camera saw the bare support is dropped again. Works in float64 and in
coordinates of the plane: moving the scene changes nothing. Knows no pixels, regions or sensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from sdvlm_core.geometry.point_cloud import Mask, Points
from sdvlm_core.geometry.robust import ends, extent, median
from sdvlm_core.geometry.support_plane import Plane

_COLUMNS = 64  # of the silhouette; its ends need this share of the usual readings in a column
_SOLID = 0.1
_ROUND = (0.4, 1.3)  # half depth of a round thing in half widths
_CIRCLE = 0.25  # axes that differ by less are taken for a circle's: most round things are
_FLATTEST = 0.35  # sine of the view's elevation; below it tops are hardly seen
_BINS = 20  # across the silhouette, in which the near outline is taken
_CORNERS = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]) / 2.0
_STRAY = 0.1  # of the length: readings that far outside the box are of something else
_SIDE = 0.06  # of the silhouette's width: what belongs to its end


@dataclass(frozen=True, eq=False)
class UprightBox:
    """The box around an object that stands on a plane; metres, optical frame.

    Attributes:
        centre: (3,) middle of the box.
        axes: (3, 3) unit rows along length, width and height.
        size: (3,) length >= width, both horizontal, and height.
        bottom: height of its lower face over the plane.
        surface: (M, 3) the points that were seen and the far side that was inferred from them,
            without the few far outside the box: mixed readings reach to what is behind.
        seen_depth: extent along the horizontal view that was seen.
        inferred_depth: how much of it was added for the far side.
        seen_width: extent across the view.
    """

    centre: Points
    axes: Points
    size: Points
    bottom: float
    surface: Points
    seen_depth: float
    inferred_depth: float
    seen_width: float

    @property
    def corners(self) -> Points:
        """(8, 3) metres; bit 0, 1, 2 of the index is the far end of length, width, height."""
        return self.centre + (_CORNERS * self.size) @ self.axes

    @property
    def nearest_corner(self) -> int:
        """The lower corner nearest to the camera, where the three sizes are shown."""
        return int(np.argmin(np.linalg.norm(self.corners[:4], axis=1)))

    @property
    def orientation(self) -> tuple[float, float, float, float]:
        """Quaternion (x, y, z, w) that turns the optical frame's axes into the box's."""
        x, y, z, w = Rotation.from_matrix(self.axes.T).as_quat()
        return float(x), float(y), float(z), float(w)


def upright_box(
    points: Points,
    plane: Plane,
    rim: float = 0.0,
    hidden: Callable[[Points], Mask] | None = None,
    standing: bool = True,
) -> UprightBox:
    """The upright box of points (N, 3), N >= 3, metres.

    Args:
        points: on the object's surface.
        plane: gives the way up and, with `standing`, where the object ends below.
        rim: how far a silhouette lies beyond the outermost points, metres: half a pixel.
        hidden: function (M, 3) points -> (M,) bool, could they exist and not have been seen.
        standing: the object rests on the plane; without it, it ends at its lowest point.
    """
    up = np.array(plane.normal)
    heights = plane.heights(points)
    lowest, top = ends(heights)
    bottom = 0.0 if standing else lowest
    middle = points.mean(axis=0)
    view = middle - (middle @ up) * up
    norm = float(np.linalg.norm(view))
    # Straight from above there is no horizontal view; any direction will do.
    if norm < 1e-9:
        view = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    view = view / np.linalg.norm(view)
    side = np.cross(up, view)
    frame = np.stack([side, view, up])
    upright = points @ frame.T  # across, deep, up
    flat = upright[_inliers(upright), :2]
    # A silhouette ends beyond the outermost pixels' centres.
    wide = float(np.ptp(flat[:, 0]))
    if wide > 0:
        across = (flat[:, 0].max() + flat[:, 0].min()) / 2
        flat[:, 0] = across + (flat[:, 0] - across) * (1 + 2 * rim / wide)
    # So does its far end, where the pixels are as long as the view is flat.
    front, deep = float(flat[:, 1].min()), float(np.ptp(flat[:, 1]))
    if deep > 0:
        steep = abs(float(middle @ up)) / float(np.linalg.norm(middle))
        flat[:, 1] = front + (flat[:, 1] - front) * (1 + rim / max(steep, _FLATTEST) / deep)
    shape = _near_shape(flat)
    seen = extent(flat[:, 1])
    far, mirrored = _far_side(upright, flat, shape, frame, hidden)
    if shape is not None and shape.half_depth is not None:
        front = ends(flat[:, 1])[0]
        deep = max(seen, 2 * shape.half_depth)
        length, width, angle = 2 * shape.half_width, deep, 0.0
        if width > length:
            length, width, angle = width, length, np.pi / 2
        centre = np.array([shape.middle[0], front + deep / 2])
        added = deep - seen
    else:
        outline = np.concatenate([flat, mirrored]) if len(mirrored) else flat
        length, width, angle, centre = _rectangle(outline)
        added = max(0.0, extent(outline[:, 1]) - seen)
    along = np.cos(angle) * side + np.sin(angle) * view
    height = max(top - bottom, 0.0)
    base = -plane.offset * up
    position = centre[0] * side + centre[1] * view + base + (bottom + height / 2) * up
    axes, size = np.stack([along, np.cross(up, along), up]), np.array([length, width, height])
    surface = np.concatenate([points, far])
    return UprightBox(
        centre=position,
        axes=axes,
        size=size,
        bottom=bottom,
        surface=surface[_inside(surface - position, axes, size / 2 + _STRAY * length)],
        seen_depth=seen,
        inferred_depth=added,
        seen_width=wide,
    )


def _inliers(flat: Points) -> Mask:
    """Without the few that lie outside the ends of a footprint (N, 2).

    Along the view a single mixed reading is far off. Across it an end is sharp to the pixel, but
    it is the thing's only where some of its height is seen: a lone row of readings is a sensor's.
    """
    low, high = ends(flat[:, 1])
    kept = (flat[:, 1] >= low) & (flat[:, 1] <= high)
    left, right = flat[kept, 0].min(), flat[kept, 0].max()
    if right > left:
        column = np.minimum(((flat[:, 0] - left) / (right - left) * _COLUMNS), _COLUMNS - 1)
        column = np.maximum(column, 0).astype(int)
        counts = np.bincount(column[kept], minlength=_COLUMNS)
        solid = np.flatnonzero(counts >= _SOLID * median(counts[counts > 0]))
        kept &= (column >= solid[0]) & (column <= solid[-1])
    return kept if kept.sum() >= 3 else np.ones(len(flat), bool)


def _inside(points: Points, axes: Points, half: Points) -> Mask:
    """Which of (N, 3), from a box's centre, lie within its half sizes (3,) along its axes."""
    inside = np.ones(len(points), bool)
    for axis, most in zip(axes, half, strict=True):
        inside &= np.abs(points @ axis) <= most
    return inside if inside.any() else ~inside


@dataclass(frozen=True, eq=False)
class _Shape:
    """A footprint as its near outline tells: centre (across, deep), half sizes; round or not."""

    middle: Points
    half_width: float
    half_depth: float | None  # None: not round


def _far_side(
    upright: Points,
    flat: Points,
    shape: _Shape | None,
    frame: Points,
    hidden: Callable[[Points], Mask] | None,
) -> tuple[Points, Points]:
    """The near side (N, 3), in the frame's axes, turned about the footprint's vertical middle.

    Returns:
        (M, 3) points, and the same (M, 2) in the coordinates of the footprint.
    """
    if shape is None:
        return np.empty((0, 3)), np.empty((0, 2))
    across, deep = (2 * shape.middle[axis] - upright[:, axis] for axis in (0, 1))
    left, right, deepest = flat[:, 0].min(), flat[:, 0].max(), flat[:, 1].max()
    new = (deep > deepest) & (across > left) & (across < right)
    turned = np.stack([across[new], deep[new], upright[new, 2]], axis=1)
    far = turned @ frame
    if hidden is not None and len(far):
        possible = hidden(far)
        far, turned = far[possible], turned[possible]
    return far, turned[:, :2]


def _near_shape(flat: Points) -> _Shape | None:
    """What the near outline of a footprint (N, 2), across and deep, says of the whole.

    The near outline is fitted twice: as half an ellipse with the silhouette as one axis (round
    things), and as two straight lines (a corner, a face). The ellipse has a centre. For the rest,
    the two ends of the silhouette of a centrally symmetric convex outline are each other's mirror
    images about its centre; where an end is a whole face, its middle counts.
    """
    left, right = flat[:, 0].min(), flat[:, 0].max()
    if right <= left:
        return None
    tau = (2 * flat[:, 0] - left - right) / (right - left)
    bins = np.clip(((tau + 1) / 2 * _BINS).astype(int), 0, _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    starts = np.cumsum(counts) - counts
    filled = np.flatnonzero(counts >= 3)
    if len(filled) < 6:
        return None
    # Sorted by bin, then by depth: a bin's own range of one key, because one sort is the fastest.
    front, deep = float(flat[:, 1].min()), float(np.ptp(flat[:, 1])) * 1.001 or 1.0
    keys = np.sort(bins + (flat[:, 1] - front) / deep)
    near = front + deep * (keys[starts[filled] + counts[filled] // 20] - filled)
    at = (filled + 0.5) / _BINS * 2 - 1
    # The nearest reading of a bin of a round thing is at the bin's inner end.
    at = np.sign(at) * (np.abs(at) - 1 / _BINS)
    half = (right - left) / 2
    depth, bulge, residual = _half_ellipse(at, near)
    if _ROUND[0] * half < bulge < _ROUND[1] * half and residual < 0.8 * _two_lines(at, near):
        if abs(bulge - half) < _CIRCLE * half:
            depth, bulge = depth + half - bulge, half
        return _Shape(np.array([(left + right) / 2, depth]), half, bulge)
    middles = []
    for end in (tau < -1 + 2 * _SIDE, tau > 1 - 2 * _SIDE):
        if not end.any():
            return None
        low, high = ends(flat[end, 1], 0.05)
        middles.append((low + high) / 2)
    return _Shape(np.array([(left + right) / 2, sum(middles) / 2]), half, None)


def _half_ellipse(at: Points, near: Points) -> tuple[float, float, float]:
    """Half ellipse through (K,) depths at (K,) in [-1, 1]: its centre's depth, half depth; rms."""
    arc = np.sqrt(1 - at**2)
    bent, apart = arc - arc.mean(), near - near.mean()
    half = -float(bent @ apart) / float(bent @ bent)
    residual = apart + half * bent
    centre = float(near.mean()) + half * float(arc.mean())
    return centre, half, float(np.sqrt(residual @ residual / len(near)))


def _two_lines(at: Points, near: Points) -> float:
    """Residual of the best pair of lines that meet in the point nearest to the viewer."""
    corner = np.linspace(-1, 1, 9)[:, None]
    beyond = at - corner
    system = np.stack(
        [np.ones_like(beyond), np.maximum(beyond, 0), np.maximum(-beyond, 0)], axis=-1
    )
    found = np.linalg.pinv(system) @ near  # one fit per corner (9, 3)
    left = (system @ found[:, :, None])[..., 0] - near
    return float(np.sqrt(np.mean(left**2, axis=1)).min())


def _rectangle(flat: Points) -> tuple[float, float, float, Points]:
    """Minimum-area rectangle of (N, 2): length, width, angle of the length, centre."""
    middle = flat[0]
    centred = flat - middle
    # OpenCV's hull is float32; only its choice of points is used.
    size = float(np.abs(centred).max()) or 1.0
    index = cv2.convexHull((centred / size).astype(np.float32), returnPoints=False)[:, 0]
    hull = centred[index]
    edges = np.roll(hull, -1, axis=0) - hull
    long_enough = np.linalg.norm(edges, axis=1) > 0
    angles = (
        np.arctan2(edges[long_enough, 1], edges[long_enough, 0]) if long_enough.any() else [0.0]
    )
    angles = np.mod(np.asarray(angles, np.float64), np.pi / 2)
    direction = np.stack([np.cos(angles), np.sin(angles)])  # (2, K)
    normal = np.stack([-np.sin(angles), np.cos(angles)])
    a, b = hull @ direction, hull @ normal
    best = int(np.argmin(np.ptp(a, axis=0) * np.ptp(b, axis=0)))
    u, v = centred @ direction[:, best], centred @ normal[:, best]
    (u0, u1), (v0, v1) = ends(u), ends(v)
    centre = middle + direction[:, best] * (u0 + u1) / 2 + normal[:, best] * (v0 + v1) / 2
    angle = float(angles[best])
    if u1 - u0 >= v1 - v0:
        return float(u1 - u0), float(v1 - v0), angle, centre
    return float(v1 - v0), float(u1 - u0), angle + np.pi / 2, centre
