"""Hypotheses: the sets of pixels that may be the object of a box, scored by the box's edges.

A box is about one object and encloses it closely, so the outline of the object's pixels agrees with
the box. The pixels above the support are segmented with ever finer borders until a segment agrees:
at depth steps, at concave creases too, at smaller depth steps. What continues outside the box is
another object. Segments inside the box may belong to the object or not, if they are close in space
or reach edges of the box that the object misses: both hypotheses are kept if both agree with the
box. Uses pixels, depths and heights above the support; does not know where the box comes from, and
does not measure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import Cloud, Mask
from sdvlm_core.geometry.region_support import MIN_PIECE_PX, Support, min_rise_fraction
from sdvlm_core.geometry.robust import median
from sdvlm_core.geometry.segmentation import BORDERS, MIN_STEP_FRACTION, Labels, bridged, split

# Values without another source: tuned on the development split of benchmarks/real_frames.py.
#: A detector's box is off by at most this fraction of its sides at each edge.
_EDGE_TOLERANCE = 0.1
#: A hypothesis that agrees this well with the box needs no finer borders.
_GOOD_AGREEMENT = 0.9
#: Another hypothesis is plausible if its agreement is at most this much lower than the best one.
_PLAUSIBLE_LOSS = 0.07
#: Agreement of pixels that no border separates from what is outside the box: cut at the box's
#: edges, they agree with it by construction.
_CUT_AGREEMENT = 0.6
#: Pixels cross an edge of the box if they do so on more than this fraction of it.
_MIN_CROSSED_FRACTION = 0.1
#: Smallest fraction of the main segment, and of another segment, inside the box.
_MIN_MAIN_INSIDE_FRACTION, _MIN_INSIDE_FRACTION = 0.9, 0.8
#: Other segments complete an object if they reach further to an edge of the box by this fraction of
#: its side, and if their depths differ by at most this fraction of the object's size.
_MIN_COMPLETED_FRACTION, _MAX_APART_FRACTION = 0.05, 0.5
#: Samples on the line between two segments, and the fraction of those outside of both that may show
#: something behind.
_BETWEEN_SAMPLES, _MAX_SEEN_FRACTION = 40, 0.4
#: The box's margin for readings that a depth camera adds at silhouettes, a fraction of its sides.
_MARGIN_FRACTION = 0.08
#: Fraction of a segment's pixels at one height that make its top level.
_MIN_LEVEL_FRACTION = 0.25
#: Fractions of the pixels above a level top that may be another thing.
_MIN_THING_FRACTION, _MAX_THING_FRACTION = 0.02, 0.7
#: Largest width of such a thing, as a fraction of the width of what it stands on.
_MAX_THING_WIDTH = 0.7
#: Number of segments that are tried as the object's main one: a thing in front of the object may
#: fill the middle of its box.
_MAX_MAINS = 3
#: 1 sigma of the weight of pixels around the middle of a box, as a fraction of its sides.
_CENTRE_SIGMA_FRACTION = 0.3
#: Largest number of levels among which the level top of a segment is searched.
_MAX_LEVELS = 10_000


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """Pixels that may be the object.

    Attributes:
        mask: (h, w) of the crop.
        agreement: 1 = the pixels reach every edge of the box within its tolerance and do not
            continue beyond; less by the sum of the differences, as fractions of the sides.
        extents: fractions of the box's width and height that the pixels reach, at most 1.
        bounded: borders separate the pixels from what is outside the box.
    """

    mask: Mask
    agreement: float
    extents: tuple[float, float]
    bounded: bool = True


def hypotheses_in_box(
    cloud: Cloud, crop: Crop, raised: Mask, support: Support | None
) -> tuple[Hypothesis, ...]:
    """The plausible hypotheses of a box's object, the best first; empty if nothing is there.

    Args:
        raised: (h, w) pixels above the support.
    """
    found: list[Hypothesis] = []
    first: tuple[Labels, int] | None = None
    for borders in BORDERS:
        labels = split(cloud, crop, raised, borders)
        total, inside = _inside_fractions(crop, labels)
        mains = _main_pieces(crop, labels, total, inside)
        if not mains:
            continue
        first = first or (labels, mains[0])
        for main in mains:
            if inside[main] < _MIN_MAIN_INSIDE_FRACTION:
                continue
            masks = _joined(cloud, crop, labels, main, _others(main, total, inside))
            found += [_judged(cloud, crop, mask, support) for mask in masks]
            if found[-len(masks)].agreement > _GOOD_AGREEMENT:
                break
        if max((one.agreement for one in found), default=0.0) > _GOOD_AGREEMENT:
            break
    if first is not None and max((one.agreement for one in found), default=0) < _CUT_AGREEMENT:
        found += _cut_at_box(cloud, crop, *first, support)
    if not found:
        return ()
    found.sort(key=lambda one: -one.agreement)  # stable: of equals, the coarser borders are first
    best = found[0]
    plausible = [one for one in found if one.agreement >= best.agreement - _PLAUSIBLE_LOSS]
    if support is not None:
        plausible += _without_a_thing_on_top(cloud, crop, best, support)
    return tuple(plausible)


def _others(
    main: int, total: npt.NDArray[np.intp], inside: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Labels of the other segments in the box that are large enough to matter."""
    others = np.flatnonzero((inside > _MIN_INSIDE_FRACTION) & (total >= MIN_PIECE_PX))
    return others[(others > 0) & (others != main) & (total[others] > 0.01 * total[main])]


def _joined(
    cloud: Cloud, crop: Crop, labels: Labels, main: int, others: npt.NDArray[np.intp]
) -> list[Mask]:
    """The main segment with those others that are close to it, without them, and completed."""
    alone: Mask = labels == main
    together = bridged(cloud, crop, labels, main, others)
    masks = [together, alone]
    if np.count_nonzero(together) == np.count_nonzero(alone):
        masks.pop()
    completed = _completed(cloud, crop, labels, together, others)
    if completed is not None:
        masks.append(completed)
    return masks


def _completed(
    cloud: Cloud, crop: Crop, labels: Labels, mask: Mask, others: npt.NDArray[np.intp]
) -> Mask | None:
    """A mask with the segments farther away that reach edges of the box which it misses.

    The readings between two parts of one object may be lost (a neck, a strut), or a nearer thing
    hides them. None if there is no such segment at about the object's distance.
    """
    least = _MIN_COMPLETED_FRACTION
    missed = _distances_to_edges(crop, mask)
    if not len(others) or max(missed) < least:
        return None
    z = median(crop.depth[mask])
    _, _, w, h = cv2.boundingRect(mask.view(np.uint8))
    reach = _MAX_APART_FRACTION * max(w, h) * cloud.pixel_angle * crop.step * z
    completed = mask.copy()
    for label in others:
        piece = labels == label
        if mask[piece].any() or abs(median(crop.depth[piece]) - z) > reach:
            continue
        left = _distances_to_edges(crop, piece)
        further = max(one - other for one, other in zip(missed, left, strict=True))
        if further > least and not _seen_between(crop, mask, piece):
            completed |= piece
    return completed if np.count_nonzero(completed) > np.count_nonzero(mask) else None


def _seen_between(crop: Crop, one: Mask, other: Mask) -> bool:
    """Whether the camera sees past two segments between them: they may be two things."""
    (row, column), (other_row, other_column) = (
        (float(rows.mean()), float(columns.mean()))
        for rows, columns in map(np.nonzero, (one, other))
    )
    along = np.linspace(0, 1, _BETWEEN_SAMPLES)
    rows = np.rint(row + along * (other_row - row)).astype(np.intp)
    columns = np.rint(column + along * (other_column - column)).astype(np.intp)
    between = crop.depth[rows, columns][~(one | other)[rows, columns]]
    z = min(median(crop.depth[one]), median(crop.depth[other]))
    behind = np.count_nonzero(between > (1 - MIN_STEP_FRACTION) * z)
    return bool(behind > _MAX_SEEN_FRACTION * len(between))


def _distances_to_edges(crop: Crop, mask: Mask) -> tuple[float, float, float, float]:
    """From a mask to the left, right, upper and lower edge of the box, as fractions of its sides.

    Negative beyond an edge.
    """
    x1, y1, x2, y2 = crop.own_box
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    across, down = x2 - x1, y2 - y1
    return (x - x1) / across, (x2 - x - w) / across, (y - y1) / down, (y2 - y - h) / down


def _judged(cloud: Cloud, crop: Crop, mask: Mask, support: Support | None) -> Hypothesis:
    """A mask with its agreement with the box; readings far outside the box are removed from it.

    The lowest part of an object has heights within the noise of its support. A gap of that size
    above the lower edge of the box is no disagreement.
    """
    x1, y1, x2, y2 = crop.own_box
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    if w == 0:
        return Hypothesis(mask, 0.0, (0.0, 0.0))
    bottom = y + h
    if support is not None:
        slack = 1 + round(min_rise_fraction(support.plane) / (cloud.pixel_angle * crop.step))
        bottom = max(bottom, min(y2, bottom + slack))
    across, down = x2 - x1, y2 - y1
    edges = ((x - x1) / across, (x2 - x - w) / across, (y - y1) / down, (y2 - bottom) / down)
    excess = sum(max(0.0, abs(edge) - _EDGE_TOLERANCE) for edge in edges)
    extents = (1 - max(edges[0], 0) - max(edges[1], 0), 1 - max(edges[2], 0) - max(edges[3], 0))
    return Hypothesis(mask & _with_margin(crop), max(0.0, 1 - excess), extents)


def _with_margin(crop: Crop) -> Mask:
    """The pixels of the box and of its margin."""
    x1, y1, x2, y2 = crop.own_box
    across, down = (max(1, round(_MARGIN_FRACTION * side)) for side in (x2 - x1, y2 - y1))
    allowed = np.zeros(crop.depth.shape, bool)
    allowed[max(0, y1 - down) : y2 + down, max(0, x1 - across) : x2 + across] = True
    return allowed


def _cut_at_box(
    cloud: Cloud, crop: Crop, labels: Labels, main: int, support: Support | None
) -> list[Hypothesis]:
    """The part in the box of a segment that no border separates from what is outside.

    A box is loose, so where the segment continues, the object may also end inside of the edge.
    """
    mask = labels == main
    if support is not None:
        above = _above_level_top(crop, mask, support)
        rest = mask & ~above
        continues = np.count_nonzero(above & ~crop.inside) > 0.3 * np.count_nonzero(above)
        within = np.count_nonzero(mask & crop.inside)
        if continues and np.count_nonzero(rest & crop.inside) > 0.25 * within:
            mask = rest
    masks = [mask & crop.inside, mask & _inside_of_crossed_edges(crop, mask)]
    if not 0 < np.count_nonzero(masks[1]) < np.count_nonzero(masks[0]):
        masks.pop()
    cuts = (_judged(cloud, crop, one, support) for one in masks)
    return [
        replace(cut, agreement=min(cut.agreement, _CUT_AGREEMENT), bounded=len(masks) == 1)
        for cut in cuts
    ]


def _inside_of_crossed_edges(crop: Crop, mask: Mask) -> Mask:
    """The box without its margin at the edges that the pixels of a mask (h, w) cross."""
    x1, y1, x2, y2 = crop.own_box
    rows, columns = slice(y1, y2), slice(x1, x2)
    across, down = (max(1, round(_EDGE_TOLERANCE * side)) for side in (x2 - x1, y2 - y1))
    inner = crop.inside.copy()
    for beyond, margin in (
        ((rows, slice(max(0, x1 - 1), x1)), (rows, slice(x1, x1 + across))),
        ((rows, slice(x2, x2 + 1)), (rows, slice(x2 - across, x2))),
        ((slice(max(0, y1 - 1), y1), columns), (slice(y1, y1 + down), columns)),
        ((slice(y2, y2 + 1), columns), (slice(y2 - down, y2), columns)),
    ):
        outside = mask[beyond]
        if np.count_nonzero(outside) > _MIN_CROSSED_FRACTION * outside.size:
            inner[margin] = False
    return inner


def _without_a_thing_on_top(
    cloud: Cloud, crop: Crop, found: Hypothesis, support: Support
) -> list[Hypothesis]:
    """The pixels without a small thing that stands on their level top; empty if nothing does.

    A knob on a lid looks the same, so both are plausible.
    """
    above = _above_level_top(crop, found.mask, support)
    pixels, all_pixels = np.count_nonzero(above), np.count_nonzero(found.mask)
    if not _MIN_THING_FRACTION * all_pixels < pixels < _MAX_THING_FRACTION * all_pixels:
        return []
    width, all_width = (np.ptp(np.flatnonzero(mask.any(axis=0))) for mask in (above, found.mask))
    if width > _MAX_THING_WIDTH * all_width:
        return []
    rest = _judged(cloud, crop, found.mask & ~above, support)
    return [rest] if rest.agreement >= found.agreement - _PLAUSIBLE_LOSS else []


def _above_level_top(crop: Crop, mask: Mask, support: Support) -> Mask:
    """The pixels of a segment above its level top (a lid); none if its top is not level."""
    height = support.height
    within = height[mask & crop.inside]
    if not len(within):
        return np.zeros_like(mask)
    rise = min_rise_fraction(support.plane) * median(crop.depth[mask])
    levels = np.clip(within / rise, 0, _MAX_LEVELS).astype(np.intp)
    counts = np.bincount(levels, minlength=2)
    counts[0] = 0  # the support's own readings
    lid = (int(np.argmax(counts)) + 0.5) * rise
    level = np.mean(np.abs(within - lid) < rise) > _MIN_LEVEL_FRACTION
    above: Mask = mask & (height > lid + 2 * rise)
    return above if level else np.zeros_like(mask)


def _inside_fractions(
    crop: Crop, labels: Labels
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Pixels of every label, and the fraction of them inside the region."""
    total = np.bincount(labels.ravel())
    within = np.bincount(labels[crop.inside], minlength=len(total))
    return total, within / np.maximum(total, 1)


def _main_pieces(
    crop: Crop, labels: Labels, total: npt.NDArray[np.intp], inside: npt.NDArray[np.float64]
) -> list[int]:
    """Labels of the segments that fill the middle of the box and match its outline, best first."""
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
    best = np.argsort(-weight)[:_MAX_MAINS]
    return [int(label) for label in best if weight[label] > 0]


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
