"""Points of one object above a plane -> its upright box: centre, length, width, height.

Only the side that faces the camera is visible. The two ends of the silhouette show the centre of a
centrally symmetric object, and the far side is the near side turned about it; inferred points are
removed if the camera measured a surface behind them. Works in float64 and in coordinates of the
plane, so moving the scene changes nothing. Does not know pixels, regions or sensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from sdvlm_core.geometry.point_cloud import Mask, Points
from sdvlm_core.geometry.quarter_turn import QuarterTurn
from sdvlm_core.geometry.robust import ends, extent, median
from sdvlm_core.geometry.support_plane import Plane

# Values without another source: tuned on the development frames of benchmarks/real_frames.py and
# on training.simulate.
#: Columns of the silhouette. Its ends are columns with this fraction of the median count of
#: readings.
_SILHOUETTE_COLUMNS, _MIN_COLUMN_FRACTION = 64, 0.1
#: Range of the half depth of a round object, as a fraction of its half width.
_ROUND_FRACTION = (0.4, 1.3)
#: An ellipse becomes a circle if its half axes differ by less than this fraction, because most
#: round objects are circular.
_CIRCLE_FRACTION = 0.35
#: An ellipse is chosen if its residual is less than this fraction of two lines' residual.
_ROUND_RESIDUAL_FRACTION = 0.8
#: Sine of the view's elevation, below which tops are hardly visible.
_MIN_ELEVATION_SINE = 0.35
#: Number of bins across the silhouette for the near outline, and how many must have readings.
_OUTLINE_BINS, _MIN_OUTLINE_BINS = 20, 6
#: Readings farther outside the box than this fraction of its length are not part of the object.
_STRAY_FRACTION = 0.1
#: Width of each end of the silhouette, as a fraction of its width.
_END_FRACTION = 0.06
#: Readings this near to the highest one show the uppermost surface, in standard deviations.
_TOP_BAND_SIGMAS = 10.0
_CORNERS = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]) / 2.0


@dataclass(frozen=True, eq=False)
class UprightBox:
    """The box around an object that stands on a plane; metres, optical frame.

    Attributes:
        centre: (3,) middle of the box.
        axes: (3, 3) unit rows along length, width and height.
        size: (3,) length >= width, both horizontal, and height.
        bottom: height of the lower face above the plane.
        surface: (M, 3) the visible points and the inferred rear side, without the few far outside
            the box: mixed readings between the object and its background.
        visible_depth: visible extent along the horizontal view.
        inferred_depth: extent added for the far side.
        visible_width: extent across the view.
    """

    centre: Points
    axes: Points
    size: Points
    bottom: float
    surface: Points
    visible_depth: float
    inferred_depth: float
    visible_width: float

    @property
    def corners(self) -> Points:
        """(8, 3) metres; bit 0, 1, 2 of the index is the far end of length, width, height."""
        return self.centre + (_CORNERS * self.size) @ self.axes

    @property
    def nearest_corner(self) -> int:
        """Index of the lower corner nearest to the camera, where the three sizes are drawn."""
        return int(np.argmin(np.linalg.norm(self.corners[:4], axis=1)))

    @property
    def orientation(self) -> tuple[float, float, float, float]:
        """Quaternion (x, y, z, w) that rotates the optical frame's axes into the box's."""
        x, y, z, w = Rotation.from_matrix(self.axes.T).as_quat()
        return float(x), float(y), float(z), float(w)


def turned_box(box: UprightBox, turn: QuarterTurn) -> UprightBox:
    """The same box in the turned image's optical frame."""
    centre, axes, surface = (turn.points(part) for part in (box.centre, box.axes, box.surface))
    return replace(box, centre=centre, axes=axes, surface=surface)


def upright_box(
    points: Points,
    plane: Plane,
    rim: float = 0.0,
    hidden: Callable[[Points], Mask] | None = None,
    standing: bool = True,
    whole: bool = False,
    scatter: float = 0.0,
) -> UprightBox:
    """The upright box of points (N, 3), N >= 3, metres.

    Args:
        points: on the object's surface.
        plane: defines the up axis and, with `standing`, the object's lower end.
        rim: distance from the outermost points to the silhouette, metres: half a pixel.
        hidden: function points (M, 3) -> (M,) bool: whether a point may exist although no reading
            shows it.
        standing: the object rests on the plane; otherwise it ends at its lowest point.
        whole: the points show the whole footprint (a flat object): no far side is inferred.
        scatter: standard deviation of the points' heights, metres.
    """
    up = np.array(plane.normal)
    heights = plane.heights(points)
    lowest, top = ends(heights)
    top -= _excess(heights, top, scatter)
    bottom = 0.0 if standing else lowest
    middle = points.mean(axis=0)
    axes = _view_axes(middle, up)
    side, view = axes[:2]
    upright = points @ axes.T  # across, along the view, up
    flat = upright[_inliers(upright), :2]
    visible_width = _extend_to_silhouette(flat, middle, up, rim)
    shape = None if whole else _near_shape(flat)
    mirrored = _far_side(upright, flat, shape, axes, hidden)
    rectangle, inferred_depth = _footprint(flat, mirrored, shape)
    along = np.cos(rectangle.angle) * side + np.sin(rectangle.angle) * view
    height = max(top - bottom, 0.0)
    base = -plane.offset * up
    across, deep = rectangle.centre
    position = across * side + deep * view + base + (bottom + height / 2) * up
    box_axes = np.stack([along, np.cross(up, along), up])
    size = np.array([rectangle.length, rectangle.width, height])
    rear = points[:0] if whole else _rear(upright, rectangle.centre, axes, hidden)
    surface = np.concatenate([points, rear])
    limit = size / 2 + _STRAY_FRACTION * rectangle.length
    return UprightBox(
        centre=position,
        axes=box_axes,
        size=size,
        bottom=bottom,
        surface=surface[_inside(surface - position, box_axes, limit)],
        visible_depth=extent(flat[:, 1]),
        inferred_depth=inferred_depth,
        visible_width=visible_width,
    )


def _excess(heights: Points, top: float, scatter: float) -> float:
    """How far the highest of scattered heights (N,) lies above the surface that they show, metres.

    `top` is the k-th highest of the n readings of the uppermost surface, so it lies above this
    surface by the quantile of k/n: by much for a lid with many readings, by little for a tip.
    """
    if scatter <= 0:
        return 0.0
    readings = np.count_nonzero(heights > top - _TOP_BAND_SIGMAS * scatter)
    beyond = np.count_nonzero(heights > top) + 0.5
    return scatter * max(0.0, -NormalDist().inv_cdf(min(0.5, beyond / max(readings, 1))))


def _view_axes(middle: Points, up: Points) -> Points:
    """Unit rows (3, 3): across the view, along its horizontal part, up."""
    view = middle - (middle @ up) * up
    # A view straight from above has no horizontal part, so any direction is used.
    if float(np.linalg.norm(view)) < 1e-9:
        view = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    view = view / np.linalg.norm(view)
    return np.stack([np.cross(up, view), view, up])


def _extend_to_silhouette(flat: Points, middle: Points, up: Points, rim: float) -> float:
    """Move a footprint's points (N, 2) apart, in place, so that they reach the silhouette.

    A silhouette ends half a pixel beyond the centres of the outermost pixels. Along the view, a
    pixel covers more metres the flatter the view is.

    Returns:
        The width of the footprint before the move, metres.
    """
    width = float(np.ptp(flat[:, 0]))
    if width > 0:
        across = (flat[:, 0].max() + flat[:, 0].min()) / 2
        flat[:, 0] = across + (flat[:, 0] - across) * (1 + 2 * rim / width)
    front, depth = float(flat[:, 1].min()), float(np.ptp(flat[:, 1]))
    if depth > 0:
        steep = abs(float(middle @ up)) / float(np.linalg.norm(middle))
        stretch = 1 + rim / max(steep, _MIN_ELEVATION_SINE) / depth
        flat[:, 1] = front + (flat[:, 1] - front) * stretch
    return width


@dataclass(frozen=True, eq=False)
class _Rectangle:
    """A rectangle in the footprint's coordinates (across, along the view), metres, radians."""

    length: float
    width: float
    angle: float  # from the across axis to the length
    centre: Points  # (2,)


def _footprint(flat: Points, mirrored: Points, shape: _Shape | None) -> tuple[_Rectangle, float]:
    """The rectangle of the whole footprint, and how much of its depth was inferred, metres.

    Args:
        flat: (N, 2) visible points.
        mirrored: (M, 2) inferred points of the far side.
        shape: the footprint inferred from the near outline.
    """
    visible = extent(flat[:, 1])
    if shape is not None and shape.half_depth is not None:
        front = ends(flat[:, 1])[0]
        deep = max(visible, 2 * shape.half_depth)
        length, width, angle = 2 * shape.half_width, deep, 0.0
        if width > length:
            length, width, angle = width, length, np.pi / 2
        centre = np.array([shape.middle[0], front + deep / 2])
        return _Rectangle(length, width, angle, centre), deep - visible
    outline = np.concatenate([flat, mirrored]) if len(mirrored) else flat
    return _min_area_rectangle(outline), max(0.0, extent(outline[:, 1]) - visible)


def _inliers(flat: Points) -> Mask:
    """Mask (N,) of a footprint's points (N, 2) without the few outside its ends.

    Along the view a single mixed reading can be far off. Across the view an end is sharp to the
    pixel, but it belongs to the object only if a column of it is visible: a single row of readings
    is a sensor artefact.
    """
    low, high = ends(flat[:, 1])
    kept = (flat[:, 1] >= low) & (flat[:, 1] <= high)
    left, right = flat[kept, 0].min(), flat[kept, 0].max()
    if right > left:
        last = _SILHOUETTE_COLUMNS - 1
        column = np.minimum(((flat[:, 0] - left) / (right - left) * _SILHOUETTE_COLUMNS), last)
        column = np.maximum(column, 0).astype(int)
        counts = np.bincount(column[kept], minlength=_SILHOUETTE_COLUMNS)
        solid = np.flatnonzero(counts >= _MIN_COLUMN_FRACTION * median(counts[counts > 0]))
        kept &= (column >= solid[0]) & (column <= solid[-1])
    return kept if kept.sum() >= 3 else np.ones(len(flat), bool)


def _inside(points: Points, axes: Points, half: Points) -> Mask:
    """Mask (N,) of points (N, 3), relative to a box's centre, within its half sizes (3,).

    All points if none is inside.
    """
    inside = np.ones(len(points), bool)
    for axis, limit in zip(axes, half, strict=True):
        inside &= np.abs(points @ axis) <= limit
    return inside if inside.any() else ~inside


@dataclass(frozen=True, eq=False)
class _Shape:
    """A footprint inferred from its near outline: centre (across, along the view), half sizes."""

    middle: Points
    half_width: float
    half_depth: float | None  # None: not round


def _far_side(
    upright: Points,
    flat: Points,
    shape: _Shape | None,
    axes: Points,
    hidden: Callable[[Points], Mask] | None,
) -> Points:
    """The near side (N, 3), in the view's axes, turned about the footprint's vertical middle.

    Returns:
        (M, 2) the points farther away than every reading, in the footprint's coordinates.
    """
    if shape is None:
        return np.empty((0, 2))
    turned = _turned(upright, shape.middle)
    left, right, deepest = flat[:, 0].min(), flat[:, 0].max(), flat[:, 1].max()
    turned = turned[(turned[:, 1] > deepest) & (turned[:, 0] > left) & (turned[:, 0] < right)]
    if hidden is not None and len(turned):
        turned = turned[hidden(turned @ axes)]
    return turned[:, :2]


def _rear(
    upright: Points,
    middle: Points,
    axes: Points,
    hidden: Callable[[Points], Mask] | None,
) -> Points:
    """The near side (N, 3) turned about the box's vertical middle (2,): points (M, 3).

    The rear face, in the optical frame, also below a rear edge that is seen.
    """
    turned = _turned(upright, middle)
    rear = turned[turned[:, 1] > middle[1]] @ axes
    return rear[hidden(rear)] if hidden is not None and len(rear) else rear


def _turned(upright: Points, middle: Points) -> Points:
    """Points (N, 3) in the view's axes, turned by 180 degrees about a vertical line at (2,)."""
    across, deep = (2 * middle[axis] - upright[:, axis] for axis in (0, 1))
    return np.stack([across, deep, upright[:, 2]], axis=1)


def _near_shape(flat: Points) -> _Shape | None:
    """The whole footprint, inferred from the near outline of the visible one (N, 2).

    None if the outline has too few readings.

    Two models are fitted to the near outline: half an ellipse with the silhouette as one axis
    (round objects), and two straight lines (a corner, a face). The ellipse gives the centre. For
    the lines, the two ends of the silhouette of a centrally symmetric convex outline mirror each
    other about the centre; where an end is a whole face, the middle of the face counts.
    """
    left, right = flat[:, 0].min(), flat[:, 0].max()
    if right <= left:
        return None
    tau = (2 * flat[:, 0] - left - right) / (right - left)  # -1 to 1
    bins = np.clip(((tau + 1) / 2 * _OUTLINE_BINS).astype(int), 0, _OUTLINE_BINS - 1)
    counts = np.bincount(bins, minlength=_OUTLINE_BINS)
    starts = np.cumsum(counts) - counts
    filled = np.flatnonzero(counts >= 3)
    if len(filled) < _MIN_OUTLINE_BINS:
        return None
    # Sort by bin, then by depth, with one key: one sort is the fastest. Take the 5 % quantile.
    front, deep = float(flat[:, 1].min()), float(np.ptp(flat[:, 1])) * 1.001 or 1.0
    keys = np.sort(bins + (flat[:, 1] - front) / deep)
    near = front + deep * (keys[starts[filled] + counts[filled] // 20] - filled)
    at = (filled + 0.5) / _OUTLINE_BINS * 2 - 1
    # The nearest reading of a round object's bin is at the bin's inner end.
    at = np.sign(at) * (np.abs(at) - 1 / _OUTLINE_BINS)
    half = (right - left) / 2
    depth, half_depth, residual = _half_ellipse(at, near)
    low, high = (fraction * half for fraction in _ROUND_FRACTION)
    if low < half_depth < high and residual < _ROUND_RESIDUAL_FRACTION * _two_lines(at, near):
        if abs(half_depth - half) < _CIRCLE_FRACTION * half:
            depth, half_depth = depth + half - half_depth, half
        return _Shape(np.array([(left + right) / 2, depth]), half, half_depth)
    middles = []
    for end in (tau < -1 + 2 * _END_FRACTION, tau > 1 - 2 * _END_FRACTION):
        if not end.any():
            return None
        low, high = ends(flat[end, 1], 0.05)
        middles.append((low + high) / 2)
    return _Shape(np.array([(left + right) / 2, sum(middles) / 2]), half, None)


def _half_ellipse(at: Points, near: Points) -> tuple[float, float, float]:
    """Least-squares half ellipse through depths (K,) at positions (K,) in [-1, 1].

    Returns:
        Depth of its centre, half depth, and RMS residual, metres.
    """
    arc = np.sqrt(1 - at**2)
    centred_arc, centred_near = arc - arc.mean(), near - near.mean()
    half = -float(centred_arc @ centred_near) / float(centred_arc @ centred_arc)
    residuals = centred_near + half * centred_arc
    centre = float(near.mean()) + half * float(arc.mean())
    return centre, half, float(np.sqrt(residuals @ residuals / len(near)))


def _two_lines(at: Points, near: Points) -> float:
    """RMS residual of the best pair of lines that meet at one of nine positions, metres."""
    corner = np.linspace(-1, 1, 9)[:, None]
    beyond = at - corner
    system = np.stack(
        [np.ones_like(beyond), np.maximum(beyond, 0), np.maximum(-beyond, 0)], axis=-1
    )
    fits = np.linalg.pinv(system) @ near  # one per corner (9, 3)
    residuals = (system @ fits[:, :, None])[..., 0] - near
    return float(np.sqrt(np.mean(residuals**2, axis=1)).min())


def _min_area_rectangle(flat: Points) -> _Rectangle:
    """Minimum-area rectangle of points (N, 2)."""
    middle = flat[0]
    centred = flat - middle
    # OpenCV computes the hull in float32; only the indices of its points are used.
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
        return _Rectangle(float(u1 - u0), float(v1 - v0), angle, centre)
    return _Rectangle(float(v1 - v0), float(u1 - u0), angle + np.pi / 2, centre)
