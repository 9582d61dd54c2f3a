"""Depth split where it jumps: the pieces of a crop, and which of them the object of a box is.

The object is the piece that fills the middle of the box, stays inside it and has its outline,
with the smaller ones in the box that are close to it in space. Knows pixels, depths and a height
over the support; does not know where the box came from.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree

from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Mask
from sdvlm_core.geometry.region_support import NEAR_RISE, RISE, SPECK
from sdvlm_core.geometry.robust import median
from sdvlm_core.geometry.support_plane import Plane

Labels = npt.NDArray[np.int32]

# A step in depth from one pixel to the next is a border between things if it exceeds this part
# of the distance plus what a surface seen at about 76 degrees makes: 4 pixels' pitch per pixel.
STEP, _SLOPE = 0.008, 4.0
_NOISE = 6.0  # in standard deviations: the range of nine readings of one surface stays below it
_STEP_PARTS = (1.0, 0.5, 0.25)  # tried one after the other, until the object stays in its box
_WHOLE = 0.9  # the part of it that does
_INSIDE = 0.7  # the part of a piece that must lie in the box for it to belong to it
# Pieces of one thing (holes, self-occlusion) are this close: in parts of the distance, or of the
# smaller piece's own size.
_BRIDGE, _BRIDGE_SIZE = 0.02, 0.2
_CENTRED = 0.3  # of a box's sides: how far from its middle a thing's pixels weigh


def object_in_box(
    cloud: Cloud, crop: Crop, raised: Mask, plane: Plane | None, height: DepthImage | None
) -> Mask:
    """The object of a box among what is raised over its support.

    A piece that goes on far outside is one with a neighbour that nearly touches it: smaller
    steps are tried as borders, and if none helps, the box itself is the border.
    """
    first: tuple[Labels, int] | None = None
    for part in _STEP_PARTS:
        labels = split(cloud, crop, raised, part)
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


def split(cloud: Cloud, crop: Crop, wanted: Mask, part: float = 1.0) -> Labels:
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
    step = np.float32(part * STEP)
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


def _shares(crop: Crop, labels: Labels) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Pixels of every label, and the part of them inside the region."""
    total = np.bincount(labels.ravel())
    within = np.bincount(labels[crop.inside], minlength=len(total))
    return total, within / np.maximum(total, 1)


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
