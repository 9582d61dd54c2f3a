"""Pixels of a flat or thin object that depth cannot tell from its support, found by colour.

A pen, a card or a blade is lower than the noise of the depth camera, or has no readings. The
support shows its own colours around the region; pixels of another colour that lie on the support
and fill the region from edge to edge are the object. Their rays are cut with the support, because
their readings are noise, holes or the support itself.

The object is searched without the pixels that a shadow explains, and with them if it does not reach
the region's edges otherwise. Does not know what the object is. Gives no result for an object of the
support's colour, or if the region's edges are not reached: the object may then be smaller, or
another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Mask, Points
from sdvlm_core.geometry.region_support import MIN_PIECE_PX, min_rise_fraction
from sdvlm_core.geometry.robust import median
from sdvlm_core.geometry.support_colours import SupportColours, crop_colours
from sdvlm_core.geometry.support_plane import Plane

#: Largest height of the part of a lying object that depth shows, as a fraction of the distance: a
#: depth camera has trouble with things of a few times its noise only.
MAX_LYING_FRACTION = 0.03

# Fractions of the region or of the distance; tuned on rendered tables and on the development frames
# of benchmarks/real_frames.py.
#: The support must have this fraction of the pixels around the region.
_MIN_AROUND_FRACTION = 0.25
#: A component belongs to the object if this fraction of it is inside the region.
_MIN_INSIDE_FRACTION = 0.7
#: A smaller part of the object has this fraction of the largest part's pixels, and is this near to
#: it, as a fraction of the region's diagonal.
_MIN_PART_FRACTION, _MAX_PART_GAP_FRACTION = 0.02, 0.2
#: A detector's box is loose by up to this fraction of a side and of its longer side, and by pixels.
_LOOSE_SIDE_FRACTION, _LOOSE_LENGTH_FRACTION, _LOOSE_PX = 0.12, 0.03, 1
#: Largest density of other colours outside the region, as a fraction of that inside.
_MAX_OUTSIDE_DENSITY = 0.3
#: Gaps of this fraction of the region's longer side are closed: letters, reflections.
_CLOSED_FRACTION = 0.015
#: Depth is mixed or lost this near to a silhouette, radians (`DepthNoise.edge_rad` of stereo).
_SILHOUETTE_RAD = 0.007
#: A lying object has this fraction of its readings within this factor times the support's noise.
_MIN_LYING_FRACTION, _LYING_BANDS = 0.7, 2.0
#: The support reaches this factor beyond the distances where it is seen around the region.
_RANGE_FACTOR = 1.1
#: Largest filled area of an opaque object's outline over its own area: the handles of scissors, a
#: roll of tape. Of glass, only outlines and highlights differ from the support.
_MAX_HOLLOW_RATIO = 2.0


@dataclass(frozen=True, eq=False)
class FlatObject:
    """An object on its support, found by colour.

    Attributes:
        mask: (h, w) its pixels in the crop, with those that depth found.
        by_depth: (h, w) the part of `mask` that depth found.
        by_colour: (h, w) the part of `mask` that depth did not find, away from the silhouette of
            what it found.
        unread_fraction: fraction of `by_colour` without readings. Where it is high, nothing shows
            that the object lies flat: a dark or shiny object that stands looks the same.
        sureness: 0 to 1: how well the pixels match the region's edges, times how rare their colours
            are on the support outside the region.
        spread: ratio of the extents with and without the pixels that a shadow explains, >= 1.
        height_m: height of the readings over the pixels; half the noise if they do not exceed it.
        height_std_dev_m: 1 sigma of `height_m`.
    """

    mask: Mask
    by_depth: Mask
    by_colour: Mask
    unread_fraction: float
    sureness: float
    spread: float
    height_m: float
    height_std_dev_m: float


def flat_object(
    rgb: npt.NDArray[np.uint8],
    cloud: Cloud,
    crop: Crop,
    plane: Plane,
    height: DepthImage,
    depth_mask: Mask,
) -> FlatObject | None:
    """The object of a box that does not rise from its support, or only partly.

    Args:
        rgb: (H, W, 3) uint8, red first, the image of `cloud`.
        crop: around the box.
        plane: the support, refined near the box.
        height: (h, w) heights of the crop's pixels above the plane, metres.
        depth_mask: (h, w) the part of the object that depth found; may be empty.

    Returns:
        None if colour does not separate an object that reaches the box's edges, or adds nothing to
        what depth found.
    """
    on_support, elsewhere = _support_pixels(crop, plane, height, depth_mask)
    around = on_support & ~_inside_loosely(crop)
    outside = np.count_nonzero(~crop.inside)
    if np.count_nonzero(around) < max(MIN_PIECE_PX, _MIN_AROUND_FRACTION * outside):
        return None
    lab = crop_colours(rgb, crop)
    unlike, shadow = SupportColours.of(lab[around]).compared(lab, around)
    other = unlike & ~elsewhere
    masks = [
        found
        for wanted in (other & ~shadow, other)
        if (found := _object_parts(crop, wanted, depth_mask, around)) is not None
    ]
    if not masks:
        return None
    best = masks[0]  # without the shadow, if that reaches the edges of the box
    by_colour = best.mask & ~_with_silhouette(cloud, crop, depth_mask)
    pixels = np.count_nonzero(by_colour)
    if pixels < MIN_PIECE_PX or _is_hollow(best.mask):
        return None
    if not _lies_on(cloud, crop, plane, height, by_colour, around):
        return None
    sizes = [_image_extent(found.mask) for found in masks]
    rise, rise_std_dev = _rise(crop, plane, height, by_colour)
    return FlatObject(
        mask=best.mask,
        by_depth=best.mask & depth_mask,
        by_colour=by_colour,
        unread_fraction=np.count_nonzero(by_colour & ~crop.valid) / pixels,
        sureness=_edge_match(crop, best.mask) * (1 - best.outside_density),
        spread=max(sizes) / min(sizes),
        height_m=rise,
        height_std_dev_m=rise_std_dev,
    )


def flat_points(cloud: Cloud, crop: Crop, plane: Plane, flat: FlatObject) -> Points:
    """The object's points (N, 3), metres: those of `by_colour` on the support, at `height_m`.

    A silhouette on the plane is longer along the view than the object by height / tan(elevation):
    its far end is the upper edge, its near end the lower one.
    """
    rows, columns = np.nonzero(flat.by_colour)
    rows, columns = rows * crop.step + crop.top, columns * crop.step + crop.left
    up = np.array(plane.normal)
    rays = np.stack([cloud.ray_x[columns], cloud.ray_y[rows], np.ones(len(rows))], axis=1)
    points: Points = rays * (-plane.offset / (rays @ up))[:, None]
    middle = points.mean(axis=0)
    view = middle - (middle @ up) * up
    level = float(np.linalg.norm(view))
    if level > 0:
        along = points @ (view / level)
        deep = float(np.ptp(along))
        if deep > 0:
            excess = min(flat.height_m * level / plane.offset, deep / 2)
            shift = (along - along.min()) * (excess / deep)
            points -= shift[:, None] * (view / level)
    points += flat.height_m * up
    rows, columns = np.nonzero(flat.by_depth & crop.valid)
    seen = cloud.points(rows * crop.step + crop.top, columns * crop.step + crop.left)
    return np.concatenate([seen, points])


def box_by_colour(
    rgb: npt.NDArray[np.uint8],
    crop: Crop,
    plane: Plane,
    height: DepthImage,
    at: tuple[int, int],
) -> tuple[int, int, int, int] | None:
    """The box of what lies at a pixel and differs in colour from its support; for point regions.

    Args:
        rgb: (H, W, 3) uint8, red first.
        crop: a window around the pixel.
        plane: the support.
        height: heights of the crop's pixels above it.
        at: row and column of the pixel in the image.

    Returns:
        (x1, y1, x2, y2) pixels of the image; None if the pixel has a colour of the support, or what
        has another colour continues outside the window.
    """
    nothing = np.zeros(crop.depth.shape, bool)
    on_support, elsewhere = _support_pixels(crop, plane, height, nothing)
    if np.count_nonzero(on_support) < _MIN_AROUND_FRACTION * on_support.size:
        return None
    lab = crop_colours(rgb, crop)
    unlike, shadow = SupportColours.of(lab[on_support]).compared(lab, on_support)
    for wanted in (unlike & ~shadow & ~elsewhere, unlike & ~elsewhere):
        closed = cv2.morphologyEx(wanted.view(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
        label = labels[(at[0] - crop.top) // crop.step, (at[1] - crop.left) // crop.step]
        x, y, w, h, pixels = stats[label]
        rows, columns = labels.shape
        if label == 0 or pixels < MIN_PIECE_PX:
            continue
        if min(x, y) > 0 and x + w < columns and y + h < rows:
            left, top = crop.left + x * crop.step, crop.top + y * crop.step
            return left, top, left + w * crop.step, top + h * crop.step
    return None


def _inside_loosely(crop: Crop) -> Mask:
    """The region and what a box that is too tight leaves out."""
    x1, y1, x2, y2 = crop.own_box
    margin_x, margin_y = (_looseness(x2 - x1, y2 - y1) // 2, _looseness(y2 - y1, x2 - x1) // 2)
    mask = crop.inside.copy()
    mask[max(0, y1 - margin_y) : y2 + margin_y, max(0, x1 - margin_x) : x2 + margin_x] = True
    return mask


def _looseness(side: int, other: int) -> int:
    """Largest distance of a box's edges from its object's, pixels, across a side."""
    loose = _LOOSE_SIDE_FRACTION * side + _LOOSE_LENGTH_FRACTION * max(side, other)
    return int(np.ceil(loose)) + _LOOSE_PX


def _support_pixels(
    crop: Crop, plane: Plane, height: DepthImage, depth_mask: Mask
) -> tuple[Mask, Mask]:
    """Pixels with readings on the support, and pixels of other things: beside, in front, behind.

    A surface that is higher or lower than the support is another thing if most of it is outside
    the region.
    """
    band = np.float32(min_rise_fraction(plane)) * crop.depth
    near = np.abs(height) < band
    off = (crop.valid & ~near & ~depth_mask).astype(np.uint8)
    _, labels = cv2.connectedComponents(off, connectivity=4)
    total = np.bincount(labels.ravel())
    within = np.bincount(labels[crop.inside], minlength=len(total))
    foreign = (within < 0.5 * total) & (total >= MIN_PIECE_PX)
    foreign[0] = False
    return crop.valid & near & ~depth_mask, foreign[labels]


@dataclass(frozen=True, eq=False)
class _Parts:
    """An object's pixels, and the density of such colours outside the region over that inside."""

    mask: Mask
    outside_density: float


def _object_parts(crop: Crop, wanted: Mask, depth_mask: Mask, around: Mask) -> _Parts | None:
    """The components of a mask inside the region that reach its four edges together.

    The part that depth found is one of them.
    """
    x1, y1, x2, y2 = crop.own_box
    longer = max(x2 - x1, y2 - y1)
    radius = max(1, round(_CLOSED_FRACTION * longer))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    clean = cv2.morphologyEx(wanted.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    density = np.count_nonzero(clean.view(np.bool_) & around) / np.count_nonzero(around)
    clean |= depth_mask
    closed = cv2.morphologyEx(clean, cv2.MORPH_CLOSE, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    if count < 2:
        return None
    total = stats[:, cv2.CC_STAT_AREA]
    within = np.bincount(labels[crop.inside], minlength=count)
    own = (within >= _MIN_INSIDE_FRACTION * total) & (within >= MIN_PIECE_PX)
    own[0] = False
    if not own.any():
        return None
    main = int(np.argmax(within * own))
    own &= within >= _MIN_PART_FRACTION * within[main]
    mask = _near_parts(labels, own, main, _MAX_PART_GAP_FRACTION * np.hypot(x2 - x1, y2 - y1))
    mask &= _inside_loosely(crop)
    inside = np.count_nonzero(mask) / np.count_nonzero(crop.inside)
    outside_density = density / max(inside, 1e-9)
    if outside_density > _MAX_OUTSIDE_DENSITY or not _reaches_edges(crop, mask):
        return None
    return _Parts(mask, outside_density)


def _near_parts(labels: npt.NDArray[np.int32], own: Mask, main: int, reach: float) -> Mask:
    """The components `own` (K,) that are within `reach` pixels of the main one, directly or not."""
    mask: Mask = labels == main
    rest = [label for label in np.flatnonzero(own) if label != main]
    while rest:
        away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
        near = [label for label in rest if away[labels == label].min() <= reach]
        if not near:
            break
        mask |= np.isin(labels, near)
        rest = [label for label in rest if label not in near]
    return mask


def _reaches_edges(crop: Crop, mask: Mask) -> bool:
    """Whether a mask is as near to each edge of the box as a detector's box allows."""
    x1, y1, x2, y2 = crop.own_box
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    loose_x, loose_y = _looseness(x2 - x1, y2 - y1), _looseness(y2 - y1, x2 - x1)
    across = max(x - x1, x2 - x - w) <= loose_x
    return across and max(y - y1, y2 - y - h) <= loose_y


def _edge_match(crop: Crop, mask: Mask) -> float:
    """IoU of a mask's bounding box with the region's box."""
    x1, y1, x2, y2 = crop.own_box
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    across, down = min(x + w, x2) - max(x, x1), min(y + h, y2) - max(y, y1)
    both = max(0, across) * max(0, down)
    return both / (w * h + (x2 - x1) * (y2 - y1) - both)


def _lies_on(
    cloud: Cloud, crop: Crop, plane: Plane, height: DepthImage, mask: Mask, around: Mask
) -> bool:
    """Whether a mask's readings, and where its rays meet the support, allow it to lie there.

    The rays meet the support in the range of distances where it is seen around the region.
    """
    seen = mask & crop.valid
    band = np.float32(_LYING_BANDS * min_rise_fraction(plane)) * crop.depth
    low = np.count_nonzero(np.abs(height[seen]) < band[seen])
    if low < _MIN_LYING_FRACTION * np.count_nonzero(seen):
        return False
    rows, columns = np.nonzero(mask)
    x, y, z = plane.normal
    ray_y, ray_x = (
        cloud.ray_y[rows * crop.step + crop.top],
        cloud.ray_x[columns * crop.step + crop.left],
    )
    closeness = -(x * ray_x + y * ray_y + z) / plane.offset  # 1 / depth
    low, high = 1 / crop.depth[around].max(), 1 / crop.depth[around].min()
    return bool(closeness.min() > low / _RANGE_FACTOR and closeness.max() < high * _RANGE_FACTOR)


def _image_extent(mask: Mask) -> float:
    """Longer side of the minimum-area rectangle of a mask, pixels."""
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return max(1.0, *cv2.minAreaRect(cv2.convexHull(np.concatenate(contours)))[1])


def _with_silhouette(cloud: Cloud, crop: Crop, depth_mask: Mask) -> Mask:
    """What depth found and the pixels beside it, where readings are mixed or lost."""
    width = _SILHOUETTE_RAD / (cloud.pixel_angle * crop.step)
    radius = max(1, round(min(width, max(depth_mask.shape))))
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return cv2.dilate(depth_mask.astype(np.uint8), kernel).view(np.bool_)


def _is_hollow(mask: Mask) -> bool:
    """Whether a mask is little more than an outline."""
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, -1, 1, cv2.FILLED)
    return bool(np.count_nonzero(filled) > _MAX_HOLLOW_RATIO * np.count_nonzero(mask))


def _rise(crop: Crop, plane: Plane, height: DepthImage, mask: Mask) -> tuple[float, float]:
    """Height of a mask's readings above the support and its 1 sigma, metres.

    Readings within the noise say that the object is at most as high as the noise.
    """
    seen = mask & crop.valid
    z = median(crop.depth[seen if seen.any() else crop.valid])
    noise = min_rise_fraction(plane) * z
    if np.count_nonzero(seen) < MIN_PIECE_PX:
        return noise / 2, noise
    rise = median(height[seen])
    return (rise, noise / 2) if rise > noise else (noise / 2, noise / 2)
