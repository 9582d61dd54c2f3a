"""Segmentation of a crop at depth discontinuities, and selection of the object's segments.

The object is the segment that fills the middle of the box, is inside the box and matches its
outline, joined with smaller segments in the box that are close to it in space. Uses pixels, depths
and heights above the support; does not know the source of the box.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree

from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Mask
from sdvlm_core.geometry.region_support import MIN_PIECE_PX, min_rise_fraction
from sdvlm_core.geometry.robust import median
from sdvlm_core.geometry.support_plane import Plane

Labels = npt.NDArray[np.int32]

# Values without another source: tuned on the development frames of benchmarks/real_frames.py and
# on training.simulate.
#: A depth difference between neighbouring pixels is a discontinuity if it exceeds this fraction of
#: the distance plus the difference on a surface at an angle of atan(4), about 76 degrees.
MIN_STEP_FRACTION, _MAX_SLOPE = 0.008, 4.0
#: In standard deviations: the range of nine readings of one surface is smaller.
_NOISE_SIGMAS = 6.0
#: Factors on the depth discontinuity threshold, tried in this order until the object is inside its
#: box.
_STEP_FACTORS = (1.0, 0.5, 0.25)
#: Smallest fraction of the main segment that is inside the box.
_MIN_MAIN_INSIDE_FRACTION = 0.9
#: Smallest fraction of another segment inside the box, for it to be part of the object.
_MIN_INSIDE_FRACTION = 0.7
#: Largest distance between segments of one object (holes, self-occlusion): a fraction of the camera
#: distance, or of the smaller segment's size.
_MAX_BRIDGE_FRACTION, _MAX_BRIDGE_SIZE_FRACTION = 0.02, 0.2
#: Largest number of levels among which the level top of a segment is searched.
_MAX_LEVELS = 10_000
#: 1 sigma of the weight of pixels around the middle of a box, as a fraction of its sides.
_CENTRE_SIGMA_FRACTION = 0.3


def object_in_box(
    cloud: Cloud, crop: Crop, raised: Mask, plane: Plane | None, height: DepthImage | None
) -> Mask:
    """The mask of a box's object among the pixels above its support.

    A segment that continues far outside the box contains a neighbour that nearly touches the
    object. Smaller discontinuity thresholds are then tried. If no threshold separates the two
    objects, the segment is cut at the box.
    """
    first: tuple[Labels, int] | None = None
    for factor in _STEP_FACTORS:
        labels = split(cloud, crop, raised, factor)
        total, inside = _inside_fractions(crop, labels)
        main = _main_piece(crop, labels, total, inside)
        if main and inside[main] >= _MIN_MAIN_INSIDE_FRACTION:
            others = np.flatnonzero((inside > _MIN_INSIDE_FRACTION) & (total >= MIN_PIECE_PX))
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


def split(cloud: Cloud, crop: Crop, wanted: Mask, step_factor: float = 1.0) -> Labels:
    """Labels (h, w) of the connected segments of a mask, split at depth discontinuities; 0 = none.

    The threshold is `step_factor` times the usual one. Pixels next to a discontinuity mix two
    depths. They are first left out, then added to a neighbouring segment of matching depth. Pixels
    that match no segment stay 0.
    """
    kernel, depth = np.ones((3, 3), np.uint8), crop.depth
    # Small holes inside a surface must not split it. A hole at a silhouette gets the depth of the
    # far side, because it is the shadow of an active sensor.
    filled = np.where(crop.valid, depth, cv2.dilate(depth, kernel))
    far = cv2.dilate(filled, kernel)
    near = cv2.erode(np.where(filled > 0, filled, np.float32(np.inf)), kernel)
    slope = np.float32(step_factor * _MAX_SLOPE * cloud.pixel_angle * crop.step)
    step = np.float32(step_factor * MIN_STEP_FRACTION)
    noise = np.float32(_NOISE_SIGMAS) * cloud.scatter(depth)
    with np.errstate(over="ignore"):  # where nothing is near: no border
        border = far - near > (step + 2 * slope) * near + noise
    interior = wanted & ~border
    if np.count_nonzero(interior) < 0.3 * np.count_nonzero(wanted):
        interior = wanted  # thin objects: the left-out pixels of both sides cover them
    _, labels = cv2.connectedComponents(interior.astype(np.uint8), connectivity=8)
    for _ in range(2):
        unlabelled = wanted & (labels == 0)
        if not unlabelled.any():
            break
        labelled = labels > 0
        neighbour = cv2.dilate(labels.astype(np.uint16), kernel)
        low = cv2.erode(np.where(labelled, depth, np.float32(np.inf)), kernel)
        high = cv2.dilate(np.where(labelled, depth, np.float32(0)), kernel)
        slack = (0.5 * step + slope) * depth + 0.5 * noise
        matches = unlabelled & (neighbour > 0) & (depth > low - slack) & (depth < high + slack)
        np.copyto(labels, neighbour, where=matches)
    return labels


def _inside_fractions(
    crop: Crop, labels: Labels
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Pixels of every label, and the fraction of them inside the region."""
    total = np.bincount(labels.ravel())
    within = np.bincount(labels[crop.inside], minlength=len(total))
    return total, within / np.maximum(total, 1)


def _main_piece(
    crop: Crop, labels: Labels, total: npt.NDArray[np.intp], inside: npt.NDArray[np.float64]
) -> int:
    """Label of the segment that fills the middle of the box and matches its outline; 0 = none."""
    x1, y1, x2, y2 = crop.own_box
    within = (slice(y1, y2), slice(x1, x2))
    down, across = (
        np.exp(
            -(((np.arange(side) - (side - 1) / 2) / side) ** 2) / (2 * _CENTRE_SIGMA_FRACTION**2)
        )
        for side in labels[within].shape
    )
    centred = down[:, None] * across * crop.inside[within]
    filled = np.bincount(labels[within].ravel(), weights=centred.ravel(), minlength=len(total))
    # A detector's box encloses its object, so the object's segment has the same outline. A surface
    # behind the gaps of a chair, or an object in front of the box, has another outline.
    weight = filled * inside**2 * _outline_match(crop, labels, total)
    weight[0] = 0.0
    main = int(np.argmax(weight))
    return main if weight[main] > 0 else 0


def _outline_match(
    crop: Crop, labels: Labels, total: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """IoU of every label's bounding box with the region's box; 0 for noise."""
    x1, y1, x2, y2 = crop.own_box
    match = np.zeros(len(total))
    for label, found in enumerate(find_objects(labels), start=1):
        if found is None or total[label] < MIN_PIECE_PX:
            continue
        (top, bottom), (left, right) = ((part.start, part.stop) for part in found)
        across, down = min(right, x2) - max(left, x1), min(bottom, y2) - max(top, y1)
        if across > 0 and down > 0:
            both = across * down
            match[label] = both / ((bottom - top) * (right - left) + (x2 - x1) * (y2 - y1) - both)
    return match


def _standing_on(crop: Crop, mask: Mask, plane: Plane, height: DepthImage) -> Mask:
    """The pixels of a segment that rise above its level top and continue outside the region."""
    within = height[mask & crop.inside]
    rise = min_rise_fraction(plane) * median(crop.depth[mask])
    top = min(float(within.max()), _MAX_LEVELS * rise)
    counts, edges = np.histogram(within, bins=np.arange(rise, top + 2 * rise, rise))
    lid = float(edges[int(np.argmax(counts))]) + rise / 2
    above = mask & (height > lid + 2 * rise)
    outside = np.count_nonzero(above & ~crop.inside)
    continues = outside > 0.3 * np.count_nonzero(above)
    level = np.mean(np.abs(within - lid) < rise) > 0.25
    return above if continues and level else np.zeros_like(mask)


def _bridged(
    cloud: Cloud, crop: Crop, labels: Labels, main: int, others: npt.NDArray[np.intp]
) -> Mask:
    """The main segment joined with the other segments that are close to it in space.

    Most of a segment must be close, not only its edge: mixed pixels connect a chair to the wall.
    """
    mask: Mask = labels == main
    if not len(others):
        return mask
    sample = _sample(cloud, crop, mask)
    tree = cKDTree(sample)
    reach = float(np.linalg.norm(np.ptp(sample, axis=0)))
    for label in others:
        piece = labels == label
        points = _sample(cloud, crop, piece)
        distance = tree.query(points)[0]
        z = median(points[:, 2])
        nearest = float(np.sort(distance)[: max(3, len(distance) // 50)].mean())
        smaller = min(reach, float(np.linalg.norm(np.ptp(points, axis=0))))
        limit = max(
            _MAX_BRIDGE_FRACTION * z + 2 * float(cloud.scatter(np.float32(z))),
            _MAX_BRIDGE_SIZE_FRACTION * smaller,
        )
        if nearest < limit and np.quantile(distance, 0.9) < reach:
            mask = mask | piece
    return mask


def _sample(cloud: Cloud, crop: Crop, mask: Mask) -> npt.NDArray[np.float64]:
    """About 300 points (N, 3) of a mask, metres."""
    rows, columns = np.nonzero(mask)
    thin = max(1, len(rows) // 300)
    return cloud.points(
        rows[::thin] * crop.step + crop.top, columns[::thin] * crop.step + crop.left
    )
