"""Support of one region: which of the frame's planes lies under it, refined near the region.

Uses planes and the surroundings of a region; does not know which pixels are the object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import Cloud, DepthImage
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
    found = _plane_around(cloud, crop, planes)
    if found is not None:
        return (_raised_level(crop, *found),)
    plane = _visible_outside(cloud, crop, planes)
    if plane is None:
        return ()
    return (Support(plane, plane, plane.height_image(cloud, crop.rows, crop.columns)),)


def _plane_around(
    cloud: Cloud, crop: Crop, planes: tuple[Plane, ...]
) -> tuple[Plane, DepthImage] | None:
    """The plane with the most readings around a region, refined there, and the crop's heights."""
    middle = (crop.own_box[1] + crop.own_box[3]) // 2
    around = (~crop.inside) & crop.valid
    around[:middle] = False
    if np.count_nonzero(around) < MIN_PIECE_PX:
        return None
    inside = crop.inside & crop.valid
    z, own_z = crop.depth[around], crop.depth[inside]
    best, best_fraction, best_plane = None, 0.0, planes[0]
    for plane in planes:
        heights = plane.height_image(cloud, crop.rows, crop.columns)
        near = heights[around]
        on = np.abs(near) < np.float32(max(3 * plane.spread, _ON_PLANE_FRACTION)) * z
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
    return plane.raised(middle, max(spread, 1e-6))


def _raised_level(crop: Crop, plane: Plane, height: DepthImage) -> Support:
    """The plane as the support, or the parallel surface above it (a box's lid).

    The object stands on that surface, which continues below the region: most readings right under
    the box have one height, and the object rises above it.
    """
    x1, y1, x2, y2 = crop.own_box
    strip, inset = max(3, (y2 - y1) // 8), (x2 - x1) // 5
    under = (slice(y2, y2 + strip), slice(x1 + inset, x2 - inset))
    valid = crop.valid[under]
    on_plane = Support(plane, plane, height)
    if np.count_nonzero(valid) < max(MIN_PIECE_PX, 0.5 * valid.size):
        return on_plane
    below = height[under][valid]
    level = median(below)
    rise = min_rise_fraction(plane) * median(crop.depth[under][valid])
    flat = np.abs(below - level) < rise
    if level < 2 * rise or np.count_nonzero(flat) < 0.7 * flat.size:
        return on_plane
    inside = height[crop.inside & crop.valid]
    # Behind the edge of a nearer surface, the object is visible below that surface's level.
    between = np.count_nonzero((inside > rise) & (inside < level - 2 * rise))
    above = np.count_nonzero(inside > level + 2 * rise)
    if not len(inside) or above < 0.25 * len(inside) or between > 0.1 * len(inside):
        return on_plane
    level = median(below[flat])
    return Support(plane.raised(level), plane, height - np.float32(level))


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
