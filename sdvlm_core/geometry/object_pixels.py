"""The pixels of the object in a region, without its support, background and neighbours.

A detector's box is loose and overlaps neighbouring objects. Therefore the pixels of the support
plane are removed, the rest is split into segments at depth discontinuities, and the object's
segment is selected (`segmentation`). A point selects the segment that contains it, by depth and
colour. Also describes the object's surroundings: occluders, borders, missing readings. Does not
know what the object is, and does not measure it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import Region
from sdvlm_core.geometry.crops import Crop, crop_around, crop_region, subsampling_step
from sdvlm_core.geometry.point_cloud import Cloud, Mask
from sdvlm_core.geometry.quarter_turn import QuarterTurn
from sdvlm_core.geometry.region_support import (
    MIN_RISE_FRACTION,
    MIN_RISE_SPREADS,
    Support,
    min_rise_fraction,
    support_of_point,
    supports_under,
)
from sdvlm_core.geometry.scene import Upright
from sdvlm_core.geometry.segmentation import MIN_STEP_FRACTION, object_in_box, split
from sdvlm_core.geometry.support_plane import Plane, no_plane

#: Depth outside a mask, for OpenCV's erosion, which also pads with the largest float.
_NO_DEPTH = np.finfo(np.float32).max
# Fractions without another source: tuned on the development frames of benchmarks/real_frames.py.
#: Largest deviation of the border of a registered depth view from a straight line, as a fraction of
#: the image width.
_PARALLAX_FRACTION = 0.02
#: A truncated object has more than this fraction of its rows or columns end at the view's border.
_MIN_CUT_FRACTION = 0.25
#: A segment at a point that is larger than this fraction of the image is also split by colour.
_LARGE_PIECE_FRACTION = 0.1
#: Largest distance from the colour at the point, in 8-bit CIELAB with half the lightness.
_MAX_COLOUR_DISTANCE = 25
#: Smallest fraction of the readings around a point that belong to its segment.
_MIN_POINT_FRACTION = 0.2
#: An occluded object has more than this fraction of its outline next to an occluder.
_MIN_OCCLUDED_FRACTION = 0.1


@dataclass(frozen=True, eq=False)
class ObjectPixels:
    """The pixels of one object, and its surroundings. Fractions are in [0, 1].

    Attributes:
        rows, columns: (N,) pixels of the colour image.
        plane: the object's support, refined near the object; `detected` is False if there is none.
        base: the frame's plane that carries the support; equals `plane` for an object on it.
        box: (x1, y1, x2, y2) of the searched region, whole pixels.
        valid_fraction: fraction of the region's pixels that have a depth reading.
        missing_fraction: fraction of the pixels in the region's middle that have no reading.
        below_support_fraction: fraction of the region with readings below the support, in areas
            that the region encloses.
        occluded_fraction: fraction of the object's outline where a nearer surface covers it.
        truncated: the object touches the border of the image or of the depth camera's view.
        on_support: no object rises above the support; the pixels belong to the support.
        step: sampling interval in rows and columns, pixels.
    """

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    plane: Plane
    base: Plane
    box: tuple[int, int, int, int]
    valid_fraction: float
    missing_fraction: float
    below_support_fraction: float
    occluded_fraction: float
    truncated: bool
    on_support: bool
    step: int

    @property
    def is_occluded(self) -> bool:
        """Whether nearer surfaces cover more of the outline than noise explains."""
        return self.occluded_fraction > _MIN_OCCLUDED_FRACTION


def turned_pixels(pixels: ObjectPixels, turn: QuarterTurn) -> ObjectPixels:
    """The same object in the turned image and its optical frame."""
    rows, columns = turn.pixels(pixels.rows, pixels.columns)
    x1, y1, x2, y2 = (int(value) for value in turn.box(pixels.box))
    plane, base = (
        replace(part, normal=turn.vector(part.normal)) for part in (pixels.plane, pixels.base)
    )
    return replace(pixels, rows=rows, columns=columns, plane=plane, base=base, box=(x1, y1, x2, y2))


def find_object(scene: Upright, region: Region) -> ObjectPixels:
    """Find the object of a region of the upright image.

    Args:
        region: inside the image; a mask has a pixel.
    """
    if region.point is not None:
        return _object_at_point(scene, region.point)
    cloud, planes = scene.cloud, scene.planes
    crop = crop_region(cloud, region)
    support = _most_plausible(cloud, crop, planes)
    raised = _raised(crop, support)
    if region.mask is not None:
        mask = crop.inside & (raised if (raised & crop.inside).any() else crop.valid)
        mask &= split(cloud, crop, raised) > 0
    else:
        mask = _object_in_box(cloud, crop, raised, support)
    return _described(scene, crop, support, mask)


def _most_plausible(cloud: Cloud, crop: Crop, planes: tuple[Plane, ...]) -> Support | None:
    return next(iter(supports_under(cloud, crop, planes)), None)


def _on_plane(cloud: Cloud, crop: Crop, plane: Plane | None) -> Support | None:
    """A plane of the frame as the support, not refined."""
    if plane is None:
        return None
    return Support(plane, plane, plane.height_image(cloud, crop.rows, crop.columns))


def _object_in_box(cloud: Cloud, crop: Crop, raised: Mask, support: Support | None) -> Mask:
    if support is None:
        return object_in_box(cloud, crop, raised, None, None)
    return object_in_box(cloud, crop, raised, support.plane, support.height)


def _raised(crop: Crop, support: Support | None) -> Mask:
    """Pixels above the support; without a support, every pixel with a reading."""
    if support is None:
        return crop.valid
    least = np.float32(min_rise_fraction(support.plane))
    return crop.valid & (support.height > least * crop.depth)


def _object_at_point(scene: Upright, point: tuple[float, float]) -> ObjectPixels:
    """The object at a point. The segment's bounding box is searched like a detector's box."""
    cloud, planes = scene.cloud, scene.planes
    column, row = (
        min(max(round(value), 0), size - 1)
        for value, size in zip(point, (cloud.width, cloud.height), strict=True)
    )
    plane = support_of_point(cloud, planes, row, column)
    half = max(3, round(0.01 * cloud.width))
    around = (
        max(0, column - half),
        max(0, row - half),
        min(cloud.width, column + half + 1),
        min(cloud.height, row + half + 1),
    )
    step = subsampling_step(cloud.depth.size // 4)
    mask = _piece_at_point(scene, plane, (row, column), around, step)
    if mask is None:
        small = crop_around(cloud, around)
        empty = np.zeros(small.depth.shape, bool)
        return _described(scene, small, _on_plane(cloud, small, plane), empty)
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    box = (
        x * step,
        y * step,
        min(cloud.width, (x + w) * step),
        min(cloud.height, (y + h) * step),
    )
    # As for a detector's box: refine the support near it, and join parts of the object that a hole
    # or a fold separates.
    crop = crop_around(cloud, box)
    support = _most_plausible(cloud, crop, planes)
    object_mask = _object_in_box(cloud, crop, _raised(crop, support), support)
    rows, columns = (
        np.minimum(np.arange(part.start, part.stop, part.step) // step, size - 1)
        for part, size in zip((crop.rows, crop.columns), mask.shape, strict=True)
    )
    seed = mask[np.ix_(rows, columns)] & crop.valid
    if np.count_nonzero(object_mask & seed) > 0.5 * np.count_nonzero(seed):
        return _described(scene, crop, support, object_mask)
    return _described(scene, crop, _on_plane(cloud, crop, plane), seed)


def _piece_at_point(
    scene: Upright,
    plane: Plane | None,
    at: tuple[int, int],
    around: tuple[int, int, int, int],
    step: int,
) -> Mask | None:
    """The segment of the subsampled image at a point; None if the point is on the support.

    Args:
        at: row and column of the point.
        around: (x1, y1, x2, y2) window around the point in which the segment is searched, pixels.
        step: sampling interval; the mask has the shape of `depth[::step, ::step]`.
    """
    cloud = scene.cloud
    depth = cloud.depth[::step, ::step]
    image = (0, 0, cloud.width, cloud.height)
    whole = Crop(0, 0, step, depth, np.ones(depth.shape, bool), image)
    labels = split(cloud, whole, _raised(whole, _on_plane(cloud, whole, plane)))
    x1, y1, x2, y2 = around
    window = (slice(y1 // step, y2 // step + 1), slice(x1 // step, x2 // step + 1))
    found = labels[window]
    found = found[found > 0]
    if len(found) < max(1, _MIN_POINT_FRACTION * (depth[window] > 0).sum()):
        return None
    mask: Mask = labels == int(np.bincount(found).argmax())
    _, _, w, h = cv2.boundingRect(mask.astype(np.uint8))
    if w * h > _LARGE_PIECE_FRACTION * mask.size:
        row, column = at
        return _of_one_colour(scene.rgb[::step, ::step], mask, row // step, column // step)
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


def _described(scene: Upright, crop: Crop, support: Support | None, mask: Mask) -> ObjectPixels:
    """The object's pixels with a description of its surroundings."""
    cloud = scene.cloud
    x1, y1, x2, y2 = crop.own_box
    inset_x, inset_y = (x2 - x1) // 4, (y2 - y1) // 4
    inner = (slice(y1 + inset_y, y2 - inset_y), slice(x1 + inset_x, x2 - inset_x))
    below_support = 0.0
    plane = base = no_plane(scene.up)
    if support is not None:
        plane, base = support.plane, support.base
        lowest = np.float32(-max(MIN_RISE_SPREADS * plane.spread, 2 * MIN_RISE_FRACTION))
        below = crop.valid & (support.height < lowest * crop.depth)
        below_support = _enclosed_fraction(below, crop.inside)
    on_support = not mask.any()
    if on_support:
        mask = crop.inside & crop.valid
    rows, columns = np.nonzero(mask)
    rows, columns = rows * crop.step + crop.top, columns * crop.step + crop.left
    near = 1 + crop.step // 2
    cut = len(rows) > 0 and (
        rows.min() <= near
        or columns.min() <= near
        or rows.max() >= cloud.height - 1 - near
        or columns.max() >= cloud.width - 1 - near
    )
    if scene.border is not None:
        cut = cut or bool(scene.border[rows, columns].any())
    return ObjectPixels(
        rows=rows,
        columns=columns,
        plane=plane,
        base=base,
        box=crop.box,
        valid_fraction=_fraction(crop.valid, crop.inside),
        missing_fraction=_fraction(~crop.valid[inner], crop.inside[inner]),
        below_support_fraction=below_support,
        occluded_fraction=0.0 if on_support else _occluded_fraction(cloud, crop, mask),
        truncated=bool(cut) or (len(rows) > 0 and _leaves_depth_view(cloud, rows, columns, near)),
        step=crop.step,
        on_support=on_support,
    )


def _leaves_depth_view(
    cloud: Cloud, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], near: int
) -> bool:
    """Whether the depth camera's view ends inside the image and truncates the object.

    At the view's border, an object's last pixel in a row or column is also the last reading of that
    row or column. The upper border is not tested, because the end of the camera's range looks the
    same there.
    """
    left, right, bottom = cloud.depth_view
    width, height = cloud.width - 1, cloud.height - 1
    reach = round(_PARALLAX_FRACTION * cloud.width)
    for depth, along, across, edge in (
        (cloud.depth, rows, columns, left),
        (cloud.depth[:, ::-1], rows, width - columns, width - right),
        (cloud.depth.T[:, ::-1], columns, height - rows, height - bottom),
    ):
        if edge <= near or across.min() > edge + reach:
            continue
        start = along.min()
        ends = np.full(along.max() - start + 1, len(depth) + width)
        np.minimum.at(ends, along - start, across)
        lines = np.unique(along)
        ends = ends[lines - start]
        beyond = depth[lines, : edge + reach + 1] > 0
        first = np.where(beyond.any(axis=1), beyond.argmax(axis=1), width + height)
        if np.mean((np.abs(ends - edge) <= reach) & (ends <= first + near)) > _MIN_CUT_FRACTION:
            return True
    return False


def _fraction(mask: Mask, inside: Mask) -> float:
    """Fraction of a region that a mask covers; 0 for an empty region."""
    return float(np.count_nonzero(mask & inside) / max(1, int(np.count_nonzero(inside))))


def _enclosed_fraction(mask: Mask, inside: Mask) -> float:
    """Fraction of a region covered by the segments of a mask that are mostly inside it.

    The floor beyond a table does not count, because it continues outside the region.
    """
    if not (mask & inside).any():
        return 0.0
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    total = np.bincount(labels.ravel())
    within = np.bincount(labels[inside], minlength=len(total))
    enclosed = within > 0.8 * total
    enclosed[0] = False
    return float(total[enclosed].sum() / np.count_nonzero(inside))


def _occluded_fraction(cloud: Cloud, crop: Crop, mask: Mask) -> float:
    """Fraction of the outline where a nearer surface covers the object.

    Searches up to 1.2 % of the image width from the outline, because an active sensor has no
    readings in the occluder's shadow.
    """
    radius = max(1, round(0.012 * cloud.width / crop.step))
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    around = (slice(max(0, y - radius), y + h + radius), slice(max(0, x - radius), x + w + radius))
    mask, depth, valid = mask[around], crop.depth[around], crop.valid[around]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    nearest = cv2.erode(np.where(mask, depth, _NO_DEPTH), kernel)
    ring = (nearest < _NO_DEPTH) & ~mask
    if not ring.any():
        return 0.0
    nearer = ring & valid & (depth < nearest - np.float32(1.5 * MIN_STEP_FRACTION) * depth)
    return float(np.count_nonzero(nearer) / np.count_nonzero(ring))
