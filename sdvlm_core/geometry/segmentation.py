"""Segmentation of a crop at depth steps and concave creases, and joining of near segments.

Uses pixels, depths and the noise of the readings; does not know boxes, supports or objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from sdvlm_core.geometry.creases import CREASE_PX, concave_creases
from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Mask, Points
from sdvlm_core.geometry.robust import median

Labels = npt.NDArray[np.int32]

# Values without another source: tuned on the development frames of benchmarks/real_frames.py and
# on training.simulate.
#: A depth difference between neighbouring pixels is a discontinuity if it exceeds this fraction of
#: the distance plus the difference on a surface at an angle of atan(4), about 76 degrees.
MIN_STEP_FRACTION, MAX_SLOPE = 0.008, 4.0
#: In standard deviations: the range of nine readings of one surface is smaller.
_NOISE_SIGMAS = 6.0
#: Largest distance between segments of one object (holes, self-occlusion): a fraction of the camera
#: distance, or of the smaller segment's size.
_MAX_BRIDGE_FRACTION, _MAX_BRIDGE_SIZE_FRACTION = 0.02, 0.2
#: Samples on the line between two segments, and the fraction of them that must be nearer; also of
#: their heights (widths) that must overlap.
_BETWEEN_SAMPLES, _MIN_DIVIDED_FRACTION = 40, 0.6


@dataclass(frozen=True)
class Borders:
    """What separates two segments.

    Attributes:
        step_factor: factor on the threshold for depth steps.
        creases: concave creases separate too.
    """

    step_factor: float
    creases: bool


#: From the most to the least certain border between two objects.
BORDERS = (Borders(1.0, False), Borders(1.0, True), Borders(0.5, True), Borders(0.25, True))


def split(cloud: Cloud, crop: Crop, wanted: Mask, borders: Borders = BORDERS[0]) -> Labels:
    """Labels (h, w) of the connected segments of a mask between borders; 0 = none.

    Pixels next to a depth step mix two depths. They are first left out, then added to a
    neighbouring segment of matching depth. Pixels that match no segment stay 0.
    """
    kernel, depth = np.ones((3, 3), np.uint8), crop.depth
    # Small holes inside a surface must not split it. A hole at a silhouette gets the depth of the
    # far side, because it is the shadow of an active sensor.
    filled = np.where(crop.valid, depth, cv2.dilate(depth, kernel))
    far = cv2.dilate(filled, kernel)
    near = cv2.erode(np.where(filled > 0, filled, np.float32(np.inf)), kernel)
    slope = np.float32(borders.step_factor * MAX_SLOPE * cloud.pixel_angle * crop.step)
    step = np.float32(borders.step_factor * MIN_STEP_FRACTION)
    noise = np.float32(_NOISE_SIGMAS) * cloud.scatter(depth)
    with np.errstate(over="ignore"):  # where nothing is near: no border
        border = far - near > (step + 2 * slope) * near + noise
    if borders.creases:
        border |= concave_creases(cloud, depth, crop.step)
    interior = wanted & ~border
    if np.count_nonzero(interior) < 0.3 * np.count_nonzero(wanted):
        interior = wanted  # thin objects: the left-out pixels of both sides cover them
    _, labels = cv2.connectedComponents(interior.astype(np.uint8), connectivity=8)
    # Creases are wider than steps.
    rounds = 2 + (CREASE_PX if borders.creases else 0)
    slack = (0.5 * step + slope) * depth + 0.5 * noise
    return _grown(np.asarray(labels, np.int32), wanted, depth, slack, rounds)


def _grown(
    labels: Labels, wanted: Mask, depth: DepthImage, slack: DepthImage, rounds: int
) -> Labels:
    """The labels (h, w) with the wanted pixels beside them whose depth matches, round by round.

    A pixel joins the neighbour that is nearest in depth, if it is nearer than `slack`, metres.
    """
    width = labels.shape[1] + 2
    grown = np.pad(labels, 1).ravel()
    z, limit = (np.pad(image, 1).ravel() for image in (depth, slack))
    open_ = np.flatnonzero(np.pad(wanted & (labels == 0), 1))
    beside = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    for _ in range(rounds):
        if not len(open_):
            break
        around = open_[:, None] + beside
        difference = np.abs(z[around] - z[open_, None])
        difference[grown[around] == 0] = np.inf
        nearest = difference.argmin(axis=1)
        every = np.arange(len(open_))
        joins = difference[every, nearest] < limit[open_]
        grown[open_[joins]] = grown[around[every, nearest][joins]]
        open_ = open_[~joins]
    inner: Labels = grown.reshape(-1, width)[1:-1, 1:-1]
    return inner


def bridged(
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
    reach = _size(sample)
    for label in others:
        piece = labels == label
        points = _sample(cloud, crop, piece)
        distance = tree.query(points)[0]
        z = median(points[:, 2])
        nearest = float(np.sort(distance)[: max(3, len(distance) // 50)].mean())
        smaller = min(reach, _size(points))
        limit = max(
            _MAX_BRIDGE_FRACTION * z + 2 * float(cloud.scatter(np.float32(z))),
            _MAX_BRIDGE_SIZE_FRACTION * smaller,
        )
        close = nearest < limit and np.quantile(distance, 0.9) < reach
        if close or _continues_behind(crop, mask, piece, reach):
            mask = mask | piece
    return mask


def _continues_behind(crop: Crop, one: Mask, other: Mask, reach: float) -> bool:
    """Whether two segments are parts of one thing that a nearer thing divides.

    They are equally far, side by side, and most of what lies between them is nearer than both.
    """
    places = [np.nonzero(mask) for mask in (one, other)]
    z, other_z = (median(crop.depth[place]) for place in places)
    if abs(z - other_z) > reach / 2:
        return False
    (row, column), (other_row, other_column) = ((r.mean(), c.mean()) for r, c in places)
    along = np.linspace(0, 1, _BETWEEN_SAMPLES)
    rows = np.rint(row + along * (other_row - row)).astype(int)
    columns = np.rint(column + along * (other_column - column)).astype(int)
    if abs(other_column - column) > abs(other_row - row):
        overlap, extent = _overlap(places[0][0], places[1][0])
    else:
        overlap, extent = _overlap(places[0][1], places[1][1])
    between = crop.depth[rows, columns][~(one | other)[rows, columns]]
    between = between[between > 0]
    nearer = between < (1 - MIN_STEP_FRACTION) * min(z, other_z)
    return bool(
        len(between)
        and np.mean(nearer) > _MIN_DIVIDED_FRACTION
        and overlap > _MIN_DIVIDED_FRACTION * extent
    )


def _overlap(
    one: npt.NDArray[np.intp], other: npt.NDArray[np.intp]
) -> tuple[np.intp | int, np.intp | int]:
    """Overlap of the ranges of two sets of rows or columns, and the smaller range."""
    overlap = min(one.max(), other.max()) - max(one.min(), other.min())
    return overlap, min(np.ptp(one), np.ptp(other))


def _size(points: Points) -> float:
    """Diagonal of the extents of points (N, 3) without the tenth at each end: mixed readings."""
    low, high = np.quantile(points, (0.1, 0.9), axis=0)
    return 1.25 * float(np.linalg.norm(high - low))


def _sample(cloud: Cloud, crop: Crop, mask: Mask) -> Points:
    """About 300 points (N, 3) of a mask, metres."""
    rows, columns = np.nonzero(mask)
    thin = max(1, len(rows) // 300)
    return cloud.points(
        rows[::thin] * crop.step + crop.top, columns[::thin] * crop.step + crop.left
    )
