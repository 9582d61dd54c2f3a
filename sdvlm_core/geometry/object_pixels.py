"""Which pixels of a region are the object: not its support, its background, or a neighbour.

A box is a detector's: loose, cutting through neighbours. The support plane is taken away, depth
is split where it jumps, and one of the pieces is the object (`pieces`). A point grows into the
piece it lies on, over depth and colour. Says what was seen around the object. Does not know what
it is called, nor measures it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.errors import QueryError
from sdvlm_core.frame import Region, RgbdFrame, is_in_image
from sdvlm_core.geometry.crops import Crop, crop_around, crop_region, thinning
from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Mask
from sdvlm_core.geometry.region_support import NEAR_RISE, RISE, support_of_point, support_under
from sdvlm_core.geometry.segmentation import STEP, object_in_box, split
from sdvlm_core.geometry.support_plane import Plane, no_plane

_NOTHING = np.finfo(np.float32).max  # what OpenCV takes for the depth beyond a border
_PARALLAX = 0.02  # of the width: how far the end of a registered view is from straight
_CUT = 0.25  # of an object's rows or columns, that end where the view does
_LARGE = 0.1  # of the image: pieces that take up more are cut by colour as well


@dataclass(frozen=True, eq=False)
class ObjectPixels:
    """The pixels of one object, and what was seen around them.

    Attributes:
        rows, columns: (N,) pixels of the colour image.
        plane: what it stands on, refined near it; `seen` is False where nothing was found.
        box: (x1, y1, x2, y2) the region searched, pixels, whole numbers.
        valid_fraction: share of the region's pixels with a depth reading.
        missing: share of pixels without a reading in the region's middle.
        behind: share of the region whose readings lie enclosed and below the support.
        occluded: share of the object's outline along which something nearer cuts it off.
        truncated: the object touches the border of the image or of the depth camera's own view.
        on_support: nothing stood out of the support; the pixels are the support's own.
        step: only every so many rows and columns were looked at.
    """

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    plane: Plane
    box: tuple[int, int, int, int]
    valid_fraction: float
    missing: float
    behind: float
    occluded: float
    truncated: bool
    on_support: bool
    step: int


def find_object(
    frame: RgbdFrame, cloud: Cloud, planes: tuple[Plane, ...], region: Region
) -> ObjectPixels:
    """The object that a region means.

    Raises:
        QueryError: the region lies outside the image, or its mask is of another size.
    """
    if region.point is not None:
        return _grown(frame, cloud, planes, region)
    crop = crop_region(cloud, region)
    plane, height = support_under(cloud, crop, planes)
    raised = _raised(crop, plane, height)
    if region.mask is not None:
        mask = crop.inside & (raised if (raised & crop.inside).any() else crop.read)
        mask &= split(cloud, crop, raised) > 0
    else:
        mask = object_in_box(cloud, crop, raised, plane, height)
    return _described(cloud, crop, plane, height, mask)


def _height(cloud: Cloud, crop: Crop, plane: Plane | None) -> DepthImage | None:
    return None if plane is None else plane.height_image(cloud, crop.rows, crop.columns)


def _raised(crop: Crop, plane: Plane | None, height: DepthImage | None) -> Mask:
    """What stands out of the support; every reading where there is none."""
    if plane is None or height is None:
        return crop.read
    return crop.read & (height > np.float32(max(NEAR_RISE * plane.spread, RISE)) * crop.depth)


def _grown(
    frame: RgbdFrame, cloud: Cloud, planes: tuple[Plane, ...], region: Region
) -> ObjectPixels:
    """The object at a point: the piece it lies on in the whole image, then as for a box."""
    assert region.point is not None
    u, v = region.point
    if not is_in_image(u, v, cloud.width, cloud.height):
        raise QueryError(
            f"point {region.label!r} ({u}, {v}) lies outside the {cloud.width}x{cloud.height} image"
        )
    half = max(3, round(0.01 * cloud.width))
    column, row = min(round(u), cloud.width - 1), min(round(v), cloud.height - 1)
    around = (column - half, row - half, column + half + 1, row + half + 1)
    around = (
        max(0, around[0]),
        max(0, around[1]),
        min(cloud.width, around[2]),
        min(cloud.height, around[3]),
    )
    everything = (0, 0, cloud.width, cloud.height)
    step = thinning(cloud.depth.size // 4)
    thinned = cloud.depth[::step, ::step]
    whole = Crop(0, 0, step, thinned, np.ones(thinned.shape, bool), everything)
    plane = support_of_point(cloud, planes, row, column)
    raised = _raised(whole, plane, _height(cloud, whole, plane))
    labels = split(cloud, whole, raised)
    near = slice(around[1] // step, around[3] // step + 1)
    found = labels[near, around[0] // step : around[2] // step + 1]
    readings = (thinned[near, around[0] // step : around[2] // step + 1] > 0).sum()
    found = found[found > 0]
    small = crop_around(cloud, around)
    if len(found) < max(1, 0.2 * readings):
        nothing = np.zeros(small.depth.shape, bool)
        return _described(cloud, small, plane, _height(cloud, small, plane), nothing)
    mask = labels == int(np.bincount(found).argmax())
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    if w * h > _LARGE * mask.size:
        mask = _of_one_colour(frame.rgb[::step, ::step], mask, row // step, column // step)
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    box = (
        x * step,
        y * step,
        min(cloud.width, (x + w) * step),
        min(cloud.height, (y + h) * step),
    )
    # What was found is a hint as good as a detector's box: the support is looked at again from
    # near, and parts that a hole or a fold cut off are joined.
    crop = crop_around(cloud, box)
    near_plane, height = support_under(cloud, crop, planes)
    raised = _raised(crop, near_plane, height)
    object_mask = object_in_box(cloud, crop, raised, near_plane, height)
    rows, columns = (
        np.minimum(np.arange(part.start, part.stop, part.step) // step, most - 1)
        for part, most in zip((crop.rows, crop.columns), mask.shape, strict=True)
    )
    seed = mask[np.ix_(rows, columns)] & crop.read
    if np.count_nonzero(object_mask & seed) > 0.5 * np.count_nonzero(seed):
        return _described(cloud, crop, near_plane, height, object_mask)
    return _described(cloud, crop, plane, _height(cloud, crop, plane), seed)


def _of_one_colour(rgb: npt.NDArray[np.uint8], mask: Mask, row: int, column: int) -> Mask:
    """The part of a large piece that is connected to the point and close to it in colour."""
    lab = cv2.cvtColor(
        cv2.GaussianBlur(np.ascontiguousarray(rgb), (5, 5), 0), cv2.COLOR_RGB2LAB
    ).astype(np.float32)
    seed = lab[row, column]
    alike = mask & (np.linalg.norm((lab - seed) * (0.5, 1, 1), axis=2) < 25)
    if not alike[row, column]:
        return mask
    _, labels = cv2.connectedComponents(alike.astype(np.uint8), connectivity=8)
    same: Mask = labels == labels[row, column]
    return same


def _described(
    cloud: Cloud, crop: Crop, plane: Plane | None, height: DepthImage | None, mask: Mask
) -> ObjectPixels:
    """What can be said about the object and its region before it is measured."""
    x1, y1, x2, y2 = crop.own_box
    inset_x, inset_y = (x2 - x1) // 4, (y2 - y1) // 4
    inner = (slice(y1 + inset_y, y2 - inset_y), slice(x1 + inset_x, x2 - inset_x))
    behind = 0.0
    if plane is not None and height is not None:
        deepest = np.float32(-max(NEAR_RISE * plane.spread, 2 * RISE))
        behind = _enclosed(crop.read & (height < deepest * crop.depth), crop.inside)
    on_support = not mask.any()
    if on_support:
        mask = crop.inside & crop.read
    rows, columns = np.nonzero(mask)
    rows, columns = rows * crop.step + crop.top, columns * crop.step + crop.left
    near = 1 + crop.step // 2
    cut = len(rows) > 0 and (
        rows.min() <= near
        or columns.min() <= near
        or rows.max() >= cloud.height - 1 - near
        or columns.max() >= cloud.width - 1 - near
    )
    return ObjectPixels(
        rows=rows,
        columns=columns,
        plane=plane if plane is not None else no_plane(),
        box=crop.box,
        valid_fraction=_part(crop.read, crop.inside),
        missing=_part(~crop.read[inner], crop.inside[inner]),
        behind=behind,
        occluded=0.0 if on_support else _occluded_share(cloud, crop, mask),
        truncated=bool(cut) or (len(rows) > 0 and _leaves_view(cloud, rows, columns, near)),
        step=crop.step,
        on_support=on_support,
    )


def _leaves_view(
    cloud: Cloud, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], near: int
) -> bool:
    """Whether the depth camera's view ends inside the image and cuts a good part of the object.

    There the object's last pixel of a row, or of a column, is the last reading at all. Upwards the
    camera's range ends like a view, and what stands against it would be called cut: not looked at.
    """
    left, right, bottom = cloud.view
    width, height = cloud.width - 1, cloud.height - 1
    reach = round(_PARALLAX * cloud.width)
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
        if np.mean((np.abs(ends - edge) <= reach) & (ends <= first + near)) > _CUT:
            return True
    return False


def _part(mask: Mask, inside: Mask) -> float:
    """The part of a region that a mask covers; 0 of an empty region."""
    return float(np.count_nonzero(mask & inside) / max(1, int(np.count_nonzero(inside))))


def _enclosed(mask: Mask, inside: Mask) -> float:
    """The pieces of a mask that lie almost wholly in a region, as a part of the region.

    A floor beyond a table goes on.
    """
    if not (mask & inside).any():
        return 0.0
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    total = np.bincount(labels.ravel())
    within = np.bincount(labels[inside], minlength=len(total))
    enclosed = within > 0.8 * total
    enclosed[0] = False
    return float(total[enclosed].sum() / np.count_nonzero(inside))


def _occluded_share(cloud: Cloud, crop: Crop, mask: Mask) -> float:
    """Share of the outline where something nearer stands against the object.

    Looked for a little way off: an active sensor leaves a shadow between the two.
    """
    radius = max(1, round(0.012 * cloud.width / crop.step))
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    around = (slice(max(0, y - radius), y + h + radius), slice(max(0, x - radius), x + w + radius))
    mask, depth, read = mask[around], crop.depth[around], crop.read[around]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    nearest = cv2.erode(np.where(mask, depth, _NOTHING), kernel)
    ring = (nearest < _NOTHING) & ~mask
    if not ring.any():
        return 0.0
    nearer = ring & read & (depth < nearest - np.float32(1.5 * STEP) * depth)
    return float(np.count_nonzero(nearer) / np.count_nonzero(ring))
