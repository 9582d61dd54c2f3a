"""Region -> hypotheses of its object's pixels, the best first.

A detector's box is loose and overlaps neighbouring objects; `hypotheses` finds the object in it. A
mask is believed. A point selects the segment that contains it, by depth and colour, and the
segment's outline is searched like a box. Does not know what the object is, and does not measure it.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import Region
from sdvlm_core.geometry.crops import Crop, crop_around, crop_region, subsampling_step
from sdvlm_core.geometry.flat_extent import (
    MAX_LYING_FRACTION,
    box_by_colour,
    flat_object,
    flat_points,
)
from sdvlm_core.geometry.hypotheses import Hypothesis, hypotheses_in_box
from sdvlm_core.geometry.object_pixels import Flat, ObjectPixels, described
from sdvlm_core.geometry.point_cloud import Cloud, Mask
from sdvlm_core.geometry.region_support import (
    Support,
    min_rise_fraction,
    support_of_point,
    supports_under,
)
from sdvlm_core.geometry.robust import ends, median
from sdvlm_core.geometry.scene import Upright
from sdvlm_core.geometry.segmentation import BORDERS, MIN_STEP_FRACTION, Borders, split
from sdvlm_core.geometry.support_plane import Plane

# Fractions without another source: tuned on the development frames of benchmarks/real_frames.py.
#: A segment at a point that is larger than this fraction of the image is also split by colour.
_LARGE_PIECE_FRACTION = 0.1
#: Largest distance from the colour at the point, in 8-bit CIELAB with half the lightness.
_MAX_COLOUR_DISTANCE = 25
#: Smallest fraction of the readings around a point that belong to its segment.
_MIN_POINT_FRACTION = 0.2
#: A part with a larger fraction of the pixels is the whole object.
_WHOLE_FRACTION = 0.95
#: Smallest extent of what rises above the support, as a fraction of the region's: the rest is flat.
_MIN_RAISED_EXTENT = 0.8
#: Reach of the search for a flat object at a point, as a fraction of the image's width.
_FLAT_REACH_FRACTION = 0.15
#: A depth camera shows the edge of a nearer thing at most this far over the object behind it,
#: radians; smallest fraction of a mask that is left without these readings.
_MAX_EDGE_RAD, _MIN_LEFT_FRACTION = 0.007, 0.5


def find_objects(scene: Upright, region: Region) -> tuple[ObjectPixels, ...]:
    """The hypotheses of a region's object in the upright image, at least one, the best first.

    Args:
        region: inside the image; a mask has a pixel.
    """
    if region.point is not None:
        return _objects_at_point(scene, region.point)
    crop = crop_region(scene.cloud, region)
    supports = supports_under(scene.cloud, crop, scene.planes)
    if region.mask is not None:
        return tuple(_object_of_mask(scene, crop, one) for one in supports or (None,))
    return _objects_in_box(scene, crop, supports)


def _objects_in_box(
    scene: Upright, crop: Crop, supports: tuple[Support, ...]
) -> tuple[ObjectPixels, ...]:
    """The hypotheses on the most plausible support, then the best one on each of the others."""
    found: list[ObjectPixels] = []
    for number, support in enumerate(supports or (None,)):
        hypotheses = hypotheses_in_box(scene.cloud, crop, _raised(crop, support), support)
        if number == 0 and support is not None:
            flat = _flat_object(scene, crop, support, hypotheses)
            if flat is not None:
                return (flat,)
        found += [
            replace(described(scene, crop, support, one.mask, one.extents), bounded=one.bounded)
            for one in (hypotheses[:1] if number else hypotheses)
        ]
    if found:
        return tuple(found)
    return (described(scene, crop, next(iter(supports), None), np.zeros_like(crop.inside)),)


def _flat_object(
    scene: Upright, crop: Crop, support: Support, hypotheses: tuple[Hypothesis, ...]
) -> ObjectPixels | None:
    """The object as colour shows it, if depth shows nothing or a part of the box only."""
    if hypotheses and min(hypotheses[0].extents) > _MIN_RAISED_EXTENT:
        return None
    seen = hypotheses[0].mask if hypotheses else np.zeros_like(crop.inside)
    found = flat_object(scene.rgb, scene.cloud, crop, support.plane, support.height, seen)
    if found is None:
        return None
    points = flat_points(scene.cloud, crop, support.plane, found)
    return replace(described(scene, crop, support, found.mask), flat=Flat(points, found))


def _object_of_mask(scene: Upright, crop: Crop, support: Support | None) -> ObjectPixels:
    """The mask's pixels without those of the support; all of them if the object is flat.

    Without those of nearer things, too: a mask is exact in colour, but not in depth.
    """
    above = _raised(crop, support)
    raised = crop.inside & above
    raised &= split(scene.cloud, crop, raised) > 0
    whole, part = (cv2.boundingRect(mask.view(np.uint8)) for mask in (crop.inside, raised))
    flat = any(part[side] < _MIN_RAISED_EXTENT * whole[side] for side in (2, 3))
    own = crop.inside & crop.valid if flat else raised
    return described(scene, crop, support, own & ~_beside_nearer(scene.cloud, crop, own, above))


def _beside_nearer(cloud: Cloud, crop: Crop, own: Mask, raised: Mask) -> Mask:
    """Pixels of a mask so near to a nearer thing that their readings may be the nearer thing's."""
    # A lens of extreme focal length sees an edge wider than the crop.
    radius = max(1, round(min(_MAX_EDGE_RAD / (cloud.pixel_angle * crop.step), max(own.shape) / 4)))
    kernel, wide = (
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        for reach in (radius, 2 * radius)
    )
    inner = cv2.erode(own.view(np.uint8), kernel, borderValue=1) > 0
    far = np.finfo(np.float32).max
    nearest = cv2.erode(np.where(inner, crop.depth, far), wide)
    # A surface that recedes at 45 degrees is no nearer thing.
    recession = 2 * radius * cloud.pixel_angle * crop.step
    step = np.float32(MIN_STEP_FRACTION + recession) * crop.depth + cloud.scatter(crop.depth)
    nearer = raised & ~crop.inside & (nearest < far) & (crop.depth < nearest - step)
    beside: Mask = own & cv2.dilate(nearer.view(np.uint8), kernel).view(np.bool_)
    if np.count_nonzero(beside) > (1 - _MIN_LEFT_FRACTION) * np.count_nonzero(own):
        beside[:] = False
    return beside


def _on_plane(cloud: Cloud, crop: Crop, plane: Plane | None) -> Support | None:
    """A plane of the frame as the support, not refined."""
    if plane is None:
        return None
    return Support(plane, plane, plane.height_image(cloud, crop.rows, crop.columns))


def _raised(crop: Crop, support: Support | None) -> Mask:
    """Pixels above the support; without a support, every pixel with a reading."""
    if support is None:
        return crop.valid
    least = np.float32(min_rise_fraction(support.plane))
    return crop.valid & (support.height > least * crop.depth)


def _objects_at_point(scene: Upright, point: tuple[float, float]) -> tuple[ObjectPixels, ...]:
    """The object at a point: the segment between depth steps, and its part between creases."""
    cloud = scene.cloud
    column, row = (
        min(max(round(value), 0), size - 1)
        for value, size in zip(point, (cloud.width, cloud.height), strict=True)
    )
    plane = support_of_point(cloud, scene.planes, row, column)
    half = max(3, round(0.01 * cloud.width))
    around = (
        max(0, column - half),
        max(0, row - half),
        min(cloud.width, column + half + 1),
        min(cloud.height, row + half + 1),
    )
    step = subsampling_step(cloud.depth.size // 4)
    depth = cloud.depth[::step, ::step]
    image = (0, 0, cloud.width, cloud.height)
    everywhere = Crop(0, 0, step, depth, np.ones(depth.shape, bool), image)
    mask = _piece_at_point(scene, plane, everywhere, (row, column), around, BORDERS[0])
    if mask is not None and mask.any():
        whole = _object_of_piece(scene, plane, mask, step)
        part = _part_at_point(scene, plane, whole, (row, column), around)
        return _continued_by_colour(scene, plane, (row, column), whole) or (whole, *part)
    small = crop_around(cloud, around)
    empty = np.zeros(small.depth.shape, bool)
    bare = described(scene, small, _on_plane(cloud, small, plane), empty)
    if bare.transparent:
        return (bare,)
    return _continued_by_colour(scene, plane, (row, column), bare) or (bare,)


def _part_at_point(
    scene: Upright,
    plane: Plane | None,
    whole: ObjectPixels,
    at: tuple[int, int],
    around: tuple[int, int, int, int],
) -> tuple[ObjectPixels, ...]:
    """The part of an object around a point between creases; empty if it is the whole.

    The object may be a stack or two things that touch. Searched at the resolution of the object.
    """
    cloud = scene.cloud
    x1, y1, x2, y2 = (
        int(end)
        for end in (
            whole.columns.min(),
            whole.rows.min(),
            whole.columns.max() + 1,
            whole.rows.max() + 1,
        )
    )
    crop = crop_around(cloud, (x1, y1, x2, y2))
    mask = _piece_at_point(scene, plane, crop, at, around, BORDERS[1])
    readings = len(whole.rows) * (whole.step / crop.step) ** 2
    if mask is None or np.count_nonzero(mask) > _WHOLE_FRACTION * readings:
        return ()
    image = np.zeros(cloud.depth[:: crop.step, :: crop.step].shape, bool)
    top, left = crop.top // crop.step, crop.left // crop.step
    image[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return (_object_of_piece(scene, plane, image, crop.step),)


def _continued_by_colour(
    scene: Upright, plane: Plane | None, at: tuple[int, int], seen: ObjectPixels
) -> tuple[ObjectPixels, ...]:
    """The flat object at a point of which depth shows nothing or a low part; empty if none.

    Args:
        at: row and column of the point.
        seen: what depth shows there.
    """
    cloud = scene.cloud
    if plane is None:
        return ()
    reach = max(1, round(_FLAT_REACH_FRACTION * cloud.width))
    low = (seen.columns.min(), seen.rows.min())
    high = (seen.columns.max() + 1, seen.rows.max() + 1)
    longest = max(end - start for start, end in zip(low, high, strict=True))
    if not seen.on_support:
        heights = plane.heights(cloud.points(seen.rows, seen.columns))
        z = median(cloud.depth[seen.rows, seen.columns])
        if ends(heights)[1] > MAX_LYING_FRACTION * z:
            return ()
        reach = max(reach, longest)
    window = (
        max(0, at[1] - reach),
        max(0, at[0] - reach),
        min(cloud.width, at[1] + reach + 1),
        min(cloud.height, at[0] + reach + 1),
    )
    crop = crop_around(cloud, window)
    height = plane.height_image(cloud, crop.rows, crop.columns)
    box = box_by_colour(scene.rgb, crop, plane, height, at)
    if box is None:
        return ()
    if not seen.on_support and max(box[2] - box[0], box[3] - box[1]) < longest / _MIN_RAISED_EXTENT:
        return ()
    near = crop_around(cloud, box)
    found = _objects_in_box(scene, near, supports_under(cloud, near, scene.planes))
    return () if found[0].on_support else found


def _object_of_piece(scene: Upright, plane: Plane | None, mask: Mask, step: int) -> ObjectPixels:
    """The object of a segment of the subsampled image, searched in the segment's outline.

    As for a detector's box: refines the support near it, and joins parts of the object that a hole
    or a fold separates.
    """
    cloud = scene.cloud
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    right, bottom = min(cloud.width, (x + w) * step), min(cloud.height, (y + h) * step)
    crop = crop_around(cloud, (x * step, y * step, right, bottom))
    support = next(iter(supports_under(cloud, crop, scene.planes)), None)
    rows, columns = (
        np.minimum(np.arange(part.start, part.stop, part.step) // step, size - 1)
        for part, size in zip((crop.rows, crop.columns), mask.shape, strict=True)
    )
    seed = mask[np.ix_(rows, columns)] & crop.valid
    for one in hypotheses_in_box(cloud, crop, _raised(crop, support), support):
        if np.count_nonzero(one.mask & seed) > 0.5 * np.count_nonzero(seed):
            return described(scene, crop, support, one.mask)
    return described(scene, crop, _on_plane(cloud, crop, plane), seed)


def _piece_at_point(
    scene: Upright,
    plane: Plane | None,
    crop: Crop,
    at: tuple[int, int],
    around: tuple[int, int, int, int],
    borders: Borders,
) -> Mask | None:
    """The segment (h, w) of a crop at a point; None if the point is on the support.

    Args:
        at: row and column of the point in the image.
        around: (x1, y1, x2, y2) window around the point in which the segment is searched, pixels.
    """
    cloud, step = scene.cloud, crop.step
    raised = _raised(crop, _on_plane(cloud, crop, plane))
    labels = split(cloud, crop, raised, borders)
    x1, x2 = (max(0, (x - crop.left) // step) for x in (around[0], around[2]))
    y1, y2 = (max(0, (y - crop.top) // step) for y in (around[1], around[3]))
    window = (slice(y1, y2 + 1), slice(x1, x2 + 1))
    found = labels[window]
    found = found[found > 0]
    if len(found) < max(1, _MIN_POINT_FRACTION * np.count_nonzero(crop.valid[window])):
        return None
    mask: Mask = labels == int(np.bincount(found).argmax())
    _, _, w, h = cv2.boundingRect(mask.view(np.uint8))
    if w * h * step * step > _LARGE_PIECE_FRACTION * cloud.depth.size:
        row, column = (
            min(max((place - start) // step, 0), size - 1)
            for place, start, size in zip(at, (crop.top, crop.left), mask.shape, strict=True)
        )
        rgb = scene.rgb[crop.rows, crop.columns]
        return _of_one_colour(rgb, mask, row, column)
    return mask


def _of_one_colour(rgb: npt.NDArray[np.uint8], mask: Mask, row: int, column: int) -> Mask:
    """The part of a large segment that is connected to a pixel and has a similar colour."""
    lab = cv2.cvtColor(
        cv2.GaussianBlur(np.ascontiguousarray(rgb), (5, 5), 0), cv2.COLOR_RGB2LAB
    ).astype(np.float32)
    seed = lab[row, column]
    distance = np.linalg.norm((lab - seed) * (0.5, 1, 1), axis=2)
    similar = mask & (distance < _MAX_COLOUR_DISTANCE)
    if not similar[row, column]:
        return mask
    _, labels = cv2.connectedComponents(similar.astype(np.uint8), connectivity=8)
    same: Mask = labels == labels[row, column]
    return same
