"""Which pixels of a region are the object: not its support, its background, or a neighbour.

A box is a detector's: loose, cutting through neighbours. Depth is split where it jumps, the
support plane is taken away, and among the pieces the one that fills the box's middle and stays
inside it is the object. A point grows into the piece it lies on, over depth and colour.
Does not know what an object is called, nor measures it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree

from sdvlm_core.cloud import Cloud, DepthImage, Mask
from sdvlm_core.crops import Crop, crop_around, crop_region, thinning
from sdvlm_core.errors import QueryError
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.region_support import NEAR_RISE, RISE, SPECK, support_of_point, support_under
from sdvlm_core.robust import median
from sdvlm_core.support_plane import Plane, no_plane

Labels = npt.NDArray[np.int32]

# A step in depth from one pixel to the next is a border between things if it exceeds this part
# of the distance plus what a surface seen at about 76 degrees makes: 4 pixels' pitch per pixel.
_NOTHING = np.finfo(np.float32).max  # what OpenCV takes for the depth beyond a border
_STEP, _SLOPE = 0.008, 4.0
_NOISE = 6.0  # in standard deviations: the range of nine readings of one surface stays below it
_STEP_PARTS = (1.0, 0.5, 0.25)  # tried one after the other, until the object stays in its box
_WHOLE = 0.9  # the part of it that does
_INSIDE = 0.7  # the part of a piece that must lie in the box for it to belong to it
# Pieces of one thing (holes, self-occlusion) are this close: in parts of the distance, or of the
# smaller piece's own size.
_BRIDGE, _BRIDGE_SIZE = 0.02, 0.2
_LARGE = 0.1  # of the image: pieces that take up more are cut by colour as well
_CENTRED = 0.3  # of a box's sides: how far from its middle a thing's pixels weigh


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
        truncated: the object touches the image's border.
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
        mask &= _pieces(cloud, crop, raised) > 0
    else:
        mask = _inside_box(cloud, crop, raised, plane, height)
    return _described(cloud, crop, plane, height, mask)


def _height(cloud: Cloud, crop: Crop, plane: Plane | None) -> DepthImage | None:
    return None if plane is None else plane.height_image(cloud, crop.rows, crop.columns)


def _raised(crop: Crop, plane: Plane | None, height: DepthImage | None) -> Mask:
    """What stands out of the support; every reading where there is none."""
    if plane is None or height is None:
        return crop.read
    return crop.read & (height > np.float32(max(NEAR_RISE * plane.spread, RISE)) * crop.depth)


def _inside_box(
    cloud: Cloud, crop: Crop, raised: Mask, plane: Plane | None, height: DepthImage | None
) -> Mask:
    """The object of a box among what is raised over its support.

    A piece that goes on far outside is one with a neighbour that nearly touches it: smaller
    steps are tried as borders, and if none helps, the box itself is the border.
    """
    first: tuple[Labels, int] | None = None
    for part in _STEP_PARTS:
        labels = _pieces(cloud, crop, raised, part)
        total, share = _shares(crop, labels)
        main = _main_piece(crop, labels, total, share)
        if main and share[main] >= _WHOLE:
            others = np.flatnonzero((share > _INSIDE) & (total >= SPECK))
            others = others[(others != main) & (total[others] > 0.01 * total[main])]
            return _bridged(cloud, crop, labels, main, others[others > 0])
        first = first or (labels, main)
    assert first is not None
    labels, main = first
    mask = (labels == main) & (main > 0)
    if plane is not None and height is not None and mask.any():
        rest = mask & ~_standing_on(crop, mask, plane, height)
        within = np.count_nonzero(mask & crop.inside)
        if np.count_nonzero(rest & crop.inside) > 0.25 * within:
            mask = rest
    clipped: Mask = mask & crop.inside
    return clipped


def _pieces(cloud: Cloud, crop: Crop, wanted: Mask, part: float = 1.0) -> Labels:
    """Connected pieces of the wanted pixels, split where depth jumps (0 = none).

    `part` of the usual step makes a border.

    Pixels beside a jump mix two depths. They are left out, then given back to a piece that they
    agree with; those in between belong to nothing.
    """
    kernel, depth = np.ones((3, 3), np.uint8), crop.depth
    # Specks without a reading inside a surface must not cut it; at a silhouette the hole takes
    # the far side's depth, where the shadow of an active sensor lies.
    filled = np.where(crop.read, depth, cv2.dilate(depth, kernel))
    far = cv2.dilate(filled, kernel)
    near = cv2.erode(np.where(filled > 0, filled, np.float32(np.inf)), kernel)
    slope = np.float32(part * _SLOPE * cloud.pitch * crop.step)
    step = np.float32(part * _STEP)
    noise = np.float32(_NOISE) * cloud.scatter(depth)
    jump = far - near > (step + 2 * slope) * near + noise
    whole = wanted & ~jump
    if np.count_nonzero(whole) < 0.3 * np.count_nonzero(wanted):
        whole = wanted  # as thin as the jumps on both its sides
    _, labels = cv2.connectedComponents(whole.astype(np.uint8), connectivity=8)
    for _ in range(2):
        spare = wanted & (labels == 0)
        if not spare.any():
            break
        labelled = labels > 0
        offered = cv2.dilate(labels.astype(np.uint16), kernel)
        low = cv2.erode(np.where(labelled, depth, np.float32(np.inf)), kernel)
        high = cv2.dilate(np.where(labelled, depth, np.float32(0)), kernel)
        slack = (0.5 * step + slope) * depth + 0.5 * noise
        agrees = spare & (offered > 0) & (depth > low - slack) & (depth < high + slack)
        np.copyto(labels, offered, where=agrees)
    return labels


def _main_piece(
    crop: Crop, labels: Labels, total: npt.NDArray[np.intp], share: npt.NDArray[np.float64]
) -> int:
    """The piece that fills the middle of the box and ends where it does; 0 if there is none."""
    x1, y1, x2, y2 = crop.own_box
    within = (slice(y1, y2), slice(x1, x2))
    down, across = (
        np.exp(-(((np.arange(side) - (side - 1) / 2) / side) ** 2) / (2 * _CENTRED**2))
        for side in labels[within].shape
    )
    centred = down[:, None] * across * crop.inside[within]
    filled = np.bincount(labels[within].ravel(), weights=centred.ravel(), minlength=len(total))
    # A detector draws its box around the thing: a piece with the same outline is the thing.
    # What shows through a chair, or stands before a box, has another one.
    weight = filled * share**2 * _outline_match(crop, labels, total)
    weight[0] = 0.0
    main = int(np.argmax(weight))
    return main if weight[main] > 0 else 0


def _shares(crop: Crop, labels: Labels) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Pixels of every label, and the part of them inside the region."""
    total = np.bincount(labels.ravel())
    within = np.bincount(labels[crop.inside], minlength=len(total))
    return total, within / np.maximum(total, 1)


def _standing_on(crop: Crop, mask: Mask, plane: Plane, height: DepthImage) -> Mask:
    """The pixels of a piece that stand on its level top and go on outside the region."""
    within = height[mask & crop.inside]
    rise = max(NEAR_RISE * plane.spread, RISE) * median(crop.depth[mask])
    counts, edges = np.histogram(within, bins=np.arange(rise, within.max() + 2 * rise, rise))
    lid = float(edges[int(np.argmax(counts))]) + rise / 2
    above = mask & (height > lid + 2 * rise)
    outside = np.count_nonzero(above & ~crop.inside)
    goes_on = outside > 0.3 * np.count_nonzero(above)
    level = np.mean(np.abs(within - lid) < rise) > 0.25
    return above if goes_on and level else np.zeros_like(mask)


def _outline_match(
    crop: Crop, labels: Labels, total: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Intersection over union of every label's bounding box with the region's box; 0 for specks."""
    x1, y1, x2, y2 = crop.own_box
    match = np.zeros(len(total))
    for label, found in enumerate(find_objects(labels), start=1):
        if found is None or total[label] < SPECK:
            continue
        (top, bottom), (left, right) = ((part.start, part.stop) for part in found)
        across, down = min(right, x2) - max(left, x1), min(bottom, y2) - max(top, y1)
        if across > 0 and down > 0:
            both = across * down
            match[label] = both / ((bottom - top) * (right - left) + (x2 - x1) * (y2 - y1) - both)
    return match


def _bridged(
    cloud: Cloud, crop: Crop, labels: Labels, main: int, others: npt.NDArray[np.intp]
) -> Mask:
    """The main piece with those of the others that are close to it in space.

    Close is most of the piece, not its edge: a mixed pixel reaches from a chair to the wall.
    """
    mask: Mask = labels == main
    if not len(others):
        return mask
    some = _sample(cloud, crop, mask)
    tree = cKDTree(some)
    reach = float(np.linalg.norm(np.ptp(some, axis=0)))
    for label in others:
        piece = labels == label
        points = _sample(cloud, crop, piece)
        distance = tree.query(points)[0]
        z = median(points[:, 2])
        nearest = float(np.sort(distance)[: max(3, len(distance) // 50)].mean())
        own = min(reach, float(np.linalg.norm(np.ptp(points, axis=0))))
        limit = max(_BRIDGE * z + 2 * float(cloud.scatter(np.float32(z))), _BRIDGE_SIZE * own)
        if nearest < limit and np.quantile(distance, 0.9) < reach:
            mask = mask | piece
    return mask


def _sample(cloud: Cloud, crop: Crop, mask: Mask) -> npt.NDArray[np.float64]:
    rows, columns = np.nonzero(mask)
    thin = max(1, len(rows) // 300)
    return cloud.points(
        rows[::thin] * crop.step + crop.top, columns[::thin] * crop.step + crop.left
    )


def _grown(
    frame: RgbdFrame, cloud: Cloud, planes: tuple[Plane, ...], region: Region
) -> ObjectPixels:
    """The object at a point: the piece it lies on in the whole image, then as for a box."""
    assert region.point is not None
    u, v = region.point
    if not (-0.5 <= u <= cloud.width - 0.5 and -0.5 <= v <= cloud.height - 0.5):
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
    labels = _pieces(cloud, whole, raised)
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
    object_mask = _inside_box(cloud, crop, raised, near_plane, height)
    rows, columns = (
        np.minimum(np.arange(part.start, part.stop, part.step) // step, most - 1)
        for part, most in zip((crop.rows, crop.columns), mask.shape, strict=True)
    )
    seed = mask[np.ix_(rows, columns)]
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
        truncated=bool(cut),
        step=crop.step,
        on_support=on_support,
    )


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
    nearer = ring & read & (depth < nearest - np.float32(1.5 * _STEP) * depth)
    return float(np.count_nonzero(nearer) / np.count_nonzero(ring))
