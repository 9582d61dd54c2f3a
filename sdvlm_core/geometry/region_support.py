"""The surface under one region: which of the frame's planes, moved to what is seen near it.

Knows planes and what lies around a region; does not know which of its pixels are the object.
"""

from __future__ import annotations

import numpy as np

from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import Cloud, DepthImage
from sdvlm_core.geometry.robust import MAD, median
from sdvlm_core.geometry.support_plane import Plane

RISE = 0.004  # of the distance: the least height over the support that is not the support
NEAR_RISE = 3.0  # the same in spreads of the support's readings
SPECK = 12  # pixels; smaller pieces are noise
_RING_SHARE = 0.15  # of the readings around a box that make a level a surface to stand on
_ELSEWHERE = 0.02  # of the image that a plane must show outside a region to be its support
_BELOW = 0.005  # of the distance: what is lower than twice this is under a plane
_AROUND_POINT = 0.15  # of the image's width: where a point's support is looked for


def support_under(
    cloud: Cloud, crop: Crop, planes: tuple[Plane, ...]
) -> tuple[Plane | None, DepthImage | None]:
    """The surface that a region's object stands on, of those the frame has and levels above.

    Seen around the lower half of the region, where a thing touches what carries it.

    Returns:
        The plane, and the heights over it of all of the crop; None, None where there is none.
    """
    plane = _plane_under(cloud, crop, planes) if planes else None
    if plane is None:
        return None, None
    return plane, plane.height_image(cloud, crop.rows, crop.columns)


def _plane_under(cloud: Cloud, crop: Crop, planes: tuple[Plane, ...]) -> Plane | None:
    middle = (crop.own_box[1] + crop.own_box[3]) // 2
    around = (~crop.inside) & crop.read
    around[:middle] = False
    if np.count_nonzero(around) < SPECK:
        return _seen_elsewhere(cloud, crop, planes)
    inside = crop.inside & crop.read
    z, own_z = crop.depth[around], crop.depth[inside]
    best, best_share, best_plane = None, 0.0, planes[0]
    for plane in planes:
        heights = plane.height_image(cloud, crop.rows, crop.columns)
        near = heights[around]
        on = np.abs(near) < np.float32(max(3 * plane.spread, 0.01)) * z
        share = np.count_nonzero(on) / on.size
        # A surface that most of the region lies below stands before the object, not under it.
        if share > best_share and _mostly_above(heights[inside], own_z):
            best, best_share, best_plane = (heights, near[on], z[on]), share, plane
    if best is None or best_share < 0.5 * _RING_SHARE:
        return _seen_elsewhere(cloud, crop, planes)
    heights, near, z = best
    refined = _refined_near(best_plane, near, z)
    heights += np.float32(refined.offset - best_plane.offset)
    return _raised_level(crop, heights, refined)


def _mostly_above(heights: DepthImage, z: DepthImage) -> bool:
    return bool(np.count_nonzero(heights < np.float32(-2 * _BELOW) * z) <= 0.5 * len(heights))


def _seen_elsewhere(cloud: Cloud, crop: Crop, planes: tuple[Plane, ...]) -> Plane | None:
    """The first of the planes that shows outside the region; its own faces are no support."""
    every = max(1, cloud.width // 80)
    everywhere = slice(None, None, every)
    z = cloud.depth[everywhere, everywhere]
    x1, y1, x2, y2 = (value // every for value in crop.box)
    outside = z > 0
    outside[y1 : y2 + 1, x1 : x2 + 1] = False
    for plane in planes:
        height = plane.height_image(cloud, everywhere, everywhere)
        on = outside & (np.abs(height) < np.maximum(3 * plane.spread, 0.01) * z)
        if np.count_nonzero(on) > _ELSEWHERE * z.size:
            return plane
    return None


def _refined_near(plane: Plane, heights: DepthImage, z: DepthImage) -> Plane:
    """The plane moved to the readings near a region: depth cameras bend planes."""
    if len(heights) < SPECK:
        return plane
    middle = median(heights)
    spread = MAD * median(np.abs(heights - np.float32(middle)) / z)
    return plane.raised(middle, max(spread, 1e-6))


def _raised_level(crop: Crop, height: DepthImage, plane: Plane) -> Plane:
    """The plane, or the parallel surface above it that the object stands on (a box's lid).

    That surface goes on below the region: most readings right under the box lie at one height,
    and the object goes on above it.
    """
    x1, y1, x2, y2 = crop.own_box
    deep, inset = max(3, (y2 - y1) // 8), (x2 - x1) // 5
    under = (slice(y2, y2 + deep), slice(x1 + inset, x2 - inset))
    read = crop.read[under]
    if np.count_nonzero(read) < max(SPECK, 0.5 * read.size):
        return plane
    below = height[under][read]
    level = median(below)
    rise = max(NEAR_RISE * plane.spread, RISE) * median(crop.depth[under][read])
    flat = np.abs(below - level) < rise
    if level < 2 * rise or np.count_nonzero(flat) < 0.7 * flat.size:
        return plane
    inside = height[crop.inside & crop.read]
    # Over the edge of a nearer surface the object shows below that surface's level.
    between = np.count_nonzero((inside > rise) & (inside < level - 2 * rise))
    above = np.count_nonzero(inside > level + 2 * rise)
    if not len(inside) or above < 0.25 * len(inside) or between > 0.1 * len(inside):
        return plane
    return plane.raised(median(below[flat]))


def support_of_point(
    cloud: Cloud, planes: tuple[Plane, ...], row: int, column: int
) -> Plane | None:
    """The plane that most of the readings beside and below a point lie on."""
    if len(planes) < 2:
        return planes[0] if planes else None
    reach = round(_AROUND_POINT * cloud.width)
    around = (
        slice(max(0, row - reach // 4), min(cloud.height, row + reach)),
        slice(max(0, column - reach), min(cloud.width, column + reach)),
    )
    z = cloud.depth[around]
    shares = [
        np.mean((z > 0) & (np.abs(p.height_image(cloud, *around)) < 0.01 * z)) for p in planes
    ]
    best = int(np.argmax(shares))
    return planes[best] if shares[best] > 0.5 * _RING_SHARE else planes[0]
