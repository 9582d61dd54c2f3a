"""Support of one region: which of the frame's planes lies under it, refined near the region.

Uses planes and the surroundings of a region; does not know which pixels are the object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdvlm_core.geometry.contact import Touch, surface_below
from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Mask
from sdvlm_core.geometry.robust import MAD, median
from sdvlm_core.geometry.support_plane import Plane

# Values without another source: tuned on the development frames of benchmarks/real_frames.py and
# on training.simulate.
#: A reading is not part of the support if its height above the support exceeds this fraction of the
#: distance and this many robust standard deviations (`Plane.spread`).
MIN_RISE_FRACTION, MIN_RISE_SPREADS = 0.004, 3.0
#: Smallest number of pixels of a segment; smaller segments are noise.
MIN_PIECE_PX = 12
#: Readings on a plane are this near to it, as a fraction of the distance (or 3 spreads).
_ON_PLANE_FRACTION = 0.01
#: Fraction of the readings around a region that must lie on its support.
_MIN_RING_FRACTION = 0.075
#: Fraction of the image that a plane must cover outside a region to be its support.
_MIN_OUTSIDE_FRACTION = 0.02
#: Readings lower than twice this fraction of the distance are below a plane.
_BELOW_FRACTION = 0.005
#: Smallest robust standard deviation of a plane's readings, per metre of distance.
_MIN_SPREAD = 1e-6
#: Where contact is doubtful, an object does not continue this many times further down, hidden, than
#: its region is high, unless the plane has this fraction of the readings: a shelf board is under
#: it, and the floor far below.
_MAX_HIDDEN_SIZE, _MAX_SMALL_SHARE = 2.0, 0.25
#: Fewer readings around a region do not refine the plane below the one that surrounds it.
_MIN_REFINED_FRACTION = 0.25
#: A plane is the top of a thing if another plane is lower by at most this fraction of the distance
#: and has so many more readings.
_MAX_THING_FRACTION, _MAX_THING_SHARE = 0.2, 1 / 3
#: Reach of the search for the support of a point, as a fraction of the image's width.
_POINT_REACH_FRACTION = 0.15


def min_rise_fraction(plane: Plane) -> float:
    """Largest height of a plane's own readings above the plane, as a fraction of their depth."""
    return max(MIN_RISE_SPREADS * plane.spread, MIN_RISE_FRACTION)


@dataclass(frozen=True, eq=False)
class Support:
    """What a region's object may rest on.

    Attributes:
        plane: the surface right under the object, refined near the region.
        base: the frame's plane that carries it: the same plane, or one below it.
        height: heights of the crop's pixels above `plane`, metres; valid where depth > 0.
    """

    plane: Plane
    base: Plane
    height: DepthImage


def supports_under(cloud: Cloud, crop: Crop, planes: tuple[Plane, ...]) -> tuple[Support, ...]:
    """What the region's object may rest on, most plausible first; empty without a plane.

    Each support is a plane of the frame, or a parallel surface above it (a box's lid). Searched
    around the lower half of the region, where an object touches its support.
    """
    if not planes:
        return ()
    around = _readings_around(crop)
    found = None if around is None else _plane_around(cloud, crop, planes, around)
    if around is None or found is None:
        plane = _visible_outside(cloud, crop, planes)
        if plane is None:
            return ()
        height = plane.height_image(cloud, crop.rows, crop.columns)
        return _standing(cloud, crop, plane, height) or (Support(plane, plane, height),)
    plane, height = found
    base = _base(plane, planes, crop)
    if base is None:
        return _standing(cloud, crop, plane, height) or (Support(plane, plane, height),)
    # The plane is the top of a thing on another plane: does the object stand on it?
    over_base = base.height_image(cloud, crop.rows, crop.columns)
    near, z = over_base[around], crop.depth[around]
    on = _on_plane(base, near, z)
    if np.count_nonzero(on) > _MIN_REFINED_FRACTION * on.size:
        refined = _refined_near(base, near[on], z[on])
        over_base += np.float32(refined.offset - base.offset)
        base = refined
    return _standing(cloud, crop, base, over_base) or (Support(plane, base, height),)


def _standing(cloud: Cloud, crop: Crop, plane: Plane, height: DepthImage) -> tuple[Support, ...]:
    """The supports above a plane, or the plane if what is right below the region hides the foot.

    Empty if nothing is between the plane and the region.
    """
    z = _depth_below(crop)
    if z == 0:
        return ()
    rise = min_rise_fraction(plane) * z
    _, y1, _, y2 = crop.own_box
    far = _MAX_HIDDEN_SIZE * (y2 - y1) * z * cloud.pixel_angle * crop.step
    below = surface_below(crop, height, rise, _row_height(cloud, crop, plane, z), far)
    if below is None:
        return ()
    on_plane = Support(plane, plane, height)
    if below.touch is Touch.HIDDEN:
        return (on_plane,)
    spread = plane.spread if below.spread is None else max(below.spread / z, _MIN_SPREAD)
    surface = plane.raised(below.height, spread)
    raised = Support(surface, plane, height - np.float32(below.height))
    small = plane.share < _MAX_SMALL_SHARE
    if below.touch is Touch.SEEN or (below.height > far and small):
        return (raised,)
    return (raised, on_plane) if below.touch is Touch.LIKELY else (on_plane, raised)


def _depth_below(crop: Crop) -> float:
    """Median depth of the lower half of a region, metres; 0 without a reading."""
    x1, y1, x2, y2 = crop.own_box
    depth = crop.depth[(y1 + y2) // 2 : y2, x1:x2]
    depth = depth[depth > 0]
    return median(depth) if len(depth) else 0.0


def _row_height(cloud: Cloud, crop: Crop, plane: Plane, z: float) -> float:
    """Height of a pixel on a vertical face at the lower edge of a region, metres."""
    x1, _, x2, y2 = crop.box
    row, column = min(y2, cloud.height - 1), min((x1 + x2) // 2, cloud.width - 1)
    ray = np.array([cloud.ray_x[column], cloud.ray_y[row], 1.0])
    sine = float(ray @ np.array(plane.normal)) / float(np.linalg.norm(ray))
    return z * cloud.pixel_angle * crop.step * float(np.sqrt(max(0.0, 1 - sine**2)))


def _base(plane: Plane, planes: tuple[Plane, ...], crop: Crop) -> Plane | None:
    """The plane of the frame below another one that is only the top of a thing; None if it is not.

    A table above the floor is no such thing: it is higher, or as large in the image.
    """
    z = _depth_below(crop)
    lower = [
        other
        for other in planes
        if 0 < other.offset - plane.offset < _MAX_THING_FRACTION * z
        and plane.share < _MAX_THING_SHARE * other.share
    ]
    return max(lower, key=lambda other: other.share) if lower else None


def _readings_around(crop: Crop) -> Mask | None:
    """The readings beside and below the lower half of a region; None if there are few."""
    around = (~crop.inside) & crop.valid
    around[: (crop.own_box[1] + crop.own_box[3]) // 2] = False
    return around if np.count_nonzero(around) >= MIN_PIECE_PX else None


def _plane_around(
    cloud: Cloud, crop: Crop, planes: tuple[Plane, ...], around: Mask
) -> tuple[Plane, DepthImage] | None:
    """The plane with the most readings around a region, refined there, and the crop's heights."""
    inside = crop.inside & crop.valid
    z, own_z = crop.depth[around], crop.depth[inside]
    best, best_fraction, best_plane = None, 0.0, planes[0]
    for plane in planes:
        heights = plane.height_image(cloud, crop.rows, crop.columns)
        near = heights[around]
        on = _on_plane(plane, near, z)
        fraction = np.count_nonzero(on) / on.size
        # A surface above most of the region is in front of the object, not under it.
        if fraction > best_fraction and _mostly_above(heights[inside], own_z):
            best, best_fraction, best_plane = (heights, near[on], z[on]), fraction, plane
    if best is None or best_fraction < _MIN_RING_FRACTION:
        return None
    heights, near, z = best
    refined = _refined_near(best_plane, near, z)
    heights += np.float32(refined.offset - best_plane.offset)
    return refined, heights


def _on_plane(plane: Plane, heights: DepthImage, z: DepthImage) -> Mask:
    """Mask (N,) of heights above a plane that belong to it."""
    on: Mask = np.abs(heights) < np.float32(max(3 * plane.spread, _ON_PLANE_FRACTION)) * z
    return on


def _mostly_above(heights: DepthImage, z: DepthImage) -> bool:
    below = np.count_nonzero(heights < np.float32(-2 * _BELOW_FRACTION) * z)
    return bool(below <= 0.5 * len(heights))


def _visible_outside(cloud: Cloud, crop: Crop, planes: tuple[Plane, ...]) -> Plane | None:
    """The first plane with enough readings outside the region.

    A plane inside the region alone is a face of the object, not its support.
    """
    step = max(1, cloud.width // 80)
    everywhere = slice(None, None, step)
    z = cloud.depth[everywhere, everywhere]
    x1, y1, x2, y2 = (value // step for value in crop.box)
    outside = z > 0
    outside[y1 : y2 + 1, x1 : x2 + 1] = False
    for plane in planes:
        height = plane.height_image(cloud, everywhere, everywhere)
        on = outside & (np.abs(height) < np.maximum(3 * plane.spread, _ON_PLANE_FRACTION) * z)
        if np.count_nonzero(on) > _MIN_OUTSIDE_FRACTION * z.size:
            return plane
    return None


def _refined_near(plane: Plane, heights: DepthImage, z: DepthImage) -> Plane:
    """The plane moved to the readings (N,) near a region: depth cameras bend planes."""
    if len(heights) < MIN_PIECE_PX:
        return plane
    middle = median(heights)
    spread = MAD * median(np.abs(heights - np.float32(middle)) / z)
    return plane.raised(middle, max(spread, _MIN_SPREAD))


def support_of_point(
    cloud: Cloud, planes: tuple[Plane, ...], row: int, column: int
) -> Plane | None:
    """The plane with the most readings beside and below a point."""
    if len(planes) < 2:
        return planes[0] if planes else None
    reach = max(1, round(_POINT_REACH_FRACTION * cloud.width))
    around = (
        slice(max(0, row - reach // 4), min(cloud.height, row + reach)),
        slice(max(0, column - reach), min(cloud.width, column + reach)),
    )
    z = cloud.depth[around]
    fractions = [
        np.mean((z > 0) & (np.abs(p.height_image(cloud, *around)) < _ON_PLANE_FRACTION * z))
        for p in planes
    ]
    best = int(np.argmax(fractions))
    return planes[best] if fractions[best] > _MIN_RING_FRACTION else planes[0]
