"""The surface right below a region: how high it is, and whether the object touches it.

A region often ends at the top of another thing. Either the object stands on that thing, or the
thing is nearer and hides the object's foot. On the way up the image, the first case goes from the
thing to the object without a step; in the second case the line of sight leaves the thing's edge
and meets the object farther away, which is lower. Works on heights above a plane. Does not know
planes of the frame, and does not separate the object from the thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import cv2
import numpy as np

from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import DepthImage, Mask
from sdvlm_core.geometry.robust import MAD, median

# Fractions without another source: set on simulated stacks and occluded things (tests/core/
# geometry/test_support.py), not on single frames.
#: Reach of the search above and below a region's lower edge, as a fraction of its height, and of
#: the strip right below it.
_REACH_FRACTION, _STRIP_FRACTION = 0.25, 0.125
#: Columns at each side of a region that do not count: the object is narrower at its foot.
_INSET_FRACTION = 0.2
_MIN_STRIP_PX = 3
#: Fraction of the strip's readings that are raised where a steep surface continues below it.
_MIN_STEEP_FRACTION = 0.8
#: Fraction of the strip that must have readings, and of these that must be raised.
_MIN_VALID_FRACTION, _MIN_RAISED_FRACTION = 0.5, 0.4
#: A surface is level if its height changes by less than this fraction of what the height of a
#: vertical face changes over the same rows.
_MAX_LEVEL_SLOPE = 0.5
#: Largest robust standard deviation of a level surface, as a fraction of the largest height of the
#: plane's readings, which is at least three of the plane's.
_MAX_LEVEL_SPREAD = 0.4
#: Part of the strip's area that a level surface covers, and its smallest number of pixels.
_MIN_LEVEL_FRACTION, _MIN_LEVEL_PX = 0.15, 12
#: Largest number of heights among which a level surface is searched.
_MAX_LEVELS = 10_000
#: Width of the filter along rows.
_SMOOTH_PX = 5
#: The object's readings are this near to the depth of its middle, as a fraction of the depth.
_SAME_DEPTH_FRACTION = 0.15
#: Fraction of the object that is above the surface below it.
_MIN_ABOVE_FRACTION = 0.25
#: Smallest depth difference between two things, as a fraction of the distance.
_MIN_STEP_FRACTION = 0.008
#: Fraction of a region's columns in which an object that stands on the plane meets it.
_GROUNDED_FRACTION = 0.1
#: Fraction of the columns that decides about contact, and the smallest number of columns.
_DECISIVE_FRACTION, _MIN_COLUMNS = 0.7, 3
#: Fraction of the readings beside the object's foot that are on the surface it stands on.
_MIN_BESIDE_FRACTION = 0.2


class Touch(Enum):
    """Whether an object touches the surface right below its region."""

    SEEN = "seen"  # no step between them
    LIKELY = "likely"
    UNLIKELY = "unlikely"
    HIDDEN = "hidden"  # the surface is nearer than the object and hides its foot


@dataclass(frozen=True)
class Below:
    """The raised surface right below a region.

    Attributes:
        height: of the surface where the object would stand on it, above the plane, metres.
        spread: robust standard deviation of a level surface, metres; None = the edge of a steep
            one.
        touch: whether the object touches it.
    """

    height: float
    spread: float | None
    touch: Touch


@dataclass(frozen=True, eq=False)
class _Patch:
    """The part of a crop around a region's lower edge, all arrays (h, w).

    Attributes:
        height: metres above the plane.
        valid: pixels with a reading.
        depth: metres.
        same: pixels at the depth of the object, `z` metres.
        edge: row of the region's lower edge.
        strip: number of rows of the strip below the edge.
    """

    height: DepthImage
    valid: Mask
    depth: DepthImage
    same: Mask
    z: float
    edge: int
    strip: int

    @cached_property
    def smooth(self) -> DepthImage:
        """Heights, smoothed along rows; valid where `solid`."""
        blurred: DepthImage = cv2.blur(np.where(self.valid, self.height, 0), (_SMOOTH_PX, 1))
        return blurred

    @cached_property
    def solid(self) -> Mask:
        """Pixels whose neighbours in the row have readings too."""
        kernel = np.ones((1, _SMOOTH_PX), np.uint8)
        return cv2.erode(self.valid.astype(np.uint8), kernel).view(np.bool_)


def surface_below(
    crop: Crop, height: DepthImage, rise: float, row_m: float, far: float
) -> Below | None:
    """The raised surface right below a region; None if the plane itself or nothing is there.

    Args:
        crop: around the region.
        height: heights of the crop's pixels above the plane, metres.
        rise: largest height of the plane's own readings, metres.
        row_m: change of the height of a vertical face from one row to the next, metres.
        far: an object on a surface that is higher than this does not stand on the plane, metres.
    """
    x1, y1, x2, y2 = crop.own_box
    strip, inset = max(_MIN_STRIP_PX, round(_STRIP_FRACTION * (y2 - y1))), _inset(x1, x2)
    under = (slice(y2, y2 + strip), slice(x1 + inset, x2 - inset))
    valid, heights = crop.valid[under], height[under]
    count = np.count_nonzero(valid)
    if count < max(_MIN_STRIP_PX * _MIN_COLUMNS, _MIN_VALID_FRACTION * valid.size):
        return None
    raised = np.count_nonzero(valid & (heights > 2 * rise))
    if raised < _MIN_RAISED_FRACTION * count:
        return None
    own = crop.inside & crop.valid
    patch = _patch(crop, height, own & (height > 2 * rise), strip)
    level = _level(patch, rise, row_m)
    if level is None:
        return None if _grounded(crop, height, patch, rise) else _steep(patch, rise, row_m)
    # Else the surface is the top of the region's own object.
    above = np.count_nonzero(height[own] > level.height + 2 * rise)
    if above < _MIN_ABOVE_FRACTION * np.count_nonzero(own) and level.height < far:
        return None
    touch = _touch(patch, level, rise)
    if touch is Touch.SEEN and not _continues_beside(crop, height, level.height, rise, patch):
        touch = Touch.LIKELY
    return Below(level.height, level.spread, touch)


def _continues_beside(
    crop: Crop, height: DepthImage, level: float, rise: float, patch: _Patch
) -> bool:
    """Whether a level surface is seen on the left or right of the object's foot, not only before.

    If it ends there, the object may stand behind a thing of this height and touch it.
    """
    x1, y1, x2, y2 = crop.own_box
    rows = slice(max(y1, y2 - patch.edge), y2 - patch.strip)
    for columns in (slice(0, x1), slice(x2, None)):
        valid = crop.valid[rows, columns]
        on = valid & (np.abs(height[rows, columns] - np.float32(level)) < rise)
        if np.count_nonzero(on) > _MIN_BESIDE_FRACTION * np.count_nonzero(valid):
            return True
    return False


def _inset(x1: int, x2: int) -> int:
    return int(_INSET_FRACTION * (x2 - x1))


def _patch(crop: Crop, height: DepthImage, own: Mask, strip: int) -> _Patch:
    x1, y1, x2, y2 = crop.own_box
    reach, inset = max(strip, round(_REACH_FRACTION * (y2 - y1))), _inset(x1, x2)
    top = max(0, y2 - reach)
    part = (slice(top, y2 + reach), slice(x1 + inset, x2 - inset))
    # The upper part of the region shows the object, not what hides its foot.
    upper = own.copy()
    upper[y2 - reach :] = False
    chosen = crop.depth[upper] if upper.any() else crop.depth[own]
    z = median(chosen) if len(chosen) else 0.0
    depth = crop.depth[part]
    same = np.abs(depth - np.float32(z)) < np.float32(_SAME_DEPTH_FRACTION * z)
    return _Patch(height[part], crop.valid[part], depth, same, z, y2 - top, strip)


@dataclass(frozen=True, eq=False)
class _Level:
    """A level surface: height above the plane and its deviation, metres; readings (h, w) on it."""

    height: float
    spread: float
    on: Mask


def _level(patch: _Patch, rise: float, row_m: float) -> _Level | None:
    """The level surface around the region's lower edge; None if there is none."""
    # Over these rows, the height of a vertical face changes clearly more than the noise.
    rows = max(2, int(np.ceil(1.5 * rise / (row_m + 1e-12))))
    rows = min(rows, max(2, patch.strip))
    if len(patch.height) <= rows:
        return None
    smooth = patch.smooth
    change = np.abs(smooth[:-rows] - smooth[rows:])
    flat = patch.solid[:-rows] & patch.solid[rows:]
    flat &= change < max(0.75 * rise, _MAX_LEVEL_SLOPE * row_m * rows)
    flat &= (smooth[:-rows] > 2 * rise) & (smooth[rows:] > 2 * rise)
    flat[: max(0, patch.edge - patch.strip)] = False
    heights = smooth[:-rows][flat]
    least = max(_MIN_LEVEL_PX, _MIN_LEVEL_FRACTION * patch.strip * patch.height.shape[1])
    if len(heights) < least:
        return None
    bins = np.bincount((heights / rise).astype(np.int64).clip(0, _MAX_LEVELS))
    pairs = bins[:-1] + bins[1:]
    best = int(np.argmax(pairs))
    if pairs[best] < least:
        return None
    chosen = heights[np.abs(heights / rise - (best + 1)) < 1]
    level = median(chosen)
    spread = MAD * median(np.abs(chosen - level))
    if spread > _MAX_LEVEL_SPREAD * rise:
        return None
    on = np.zeros(patch.height.shape, bool)
    on[:-rows] = flat & (np.abs(smooth[:-rows] - level) < rise)
    on[rows:] |= on[:-rows]
    return _Level(level, spread, on)


def _touch(patch: _Patch, level: _Level, rise: float) -> Touch:
    """Whether the object touches a level surface.

    On the way up every column, the first reading that is higher or lower than the surface decides.
    """
    drop = max(3 * level.spread, 0.3 * rise)
    flipped = slice(None, None, -1)
    height, solid, same = patch.smooth[flipped], patch.solid[flipped], patch.same[flipped]
    # The front edge of the surface is lower than the surface, too.
    inner = level.on[flipped] & (np.abs(height - level.height) < drop)
    left = np.maximum.accumulate(inner, axis=0) & solid
    above = left & same & (height > level.height + 2 * rise)
    below = left & (height < level.height - drop) & (same | (height < 2 * rise))
    known = (left & same & (height > 2 * rise)).any(axis=0) & (above | below).any(axis=0)
    if np.count_nonzero(known) < _MIN_COLUMNS:
        return Touch.UNLIKELY
    first = np.argmax(above | below, axis=0)[known]
    seen = np.count_nonzero(above[first, np.flatnonzero(known)]) / len(first)
    if seen >= _DECISIVE_FRACTION:
        return Touch.SEEN
    if seen <= 1 - _DECISIVE_FRACTION:
        return Touch.HIDDEN
    return Touch.LIKELY if seen >= 0.5 else Touch.UNLIKELY


def _grounded(crop: Crop, height: DepthImage, patch: _Patch, rise: float) -> bool:
    """Whether the object meets the plane somewhere in the region, beside what is below its middle.

    In a column where it does, the readings right above the plane are the object's lowest ones.
    """
    x1, _, x2, y2 = crop.own_box
    part = (slice(max(0, y2 - patch.edge), y2 + 2), slice(x1, x2))
    heights, valid = height[part], crop.valid[part]
    same = np.abs(crop.depth[part] - np.float32(patch.z)) < np.float32(
        _SAME_DEPTH_FRACTION * patch.z
    )
    ground = valid & (np.abs(heights) < rise)
    low = valid & same & (heights > rise) & (heights < 4 * rise)
    # Two low readings above the plane: a mixed one at an occluding edge is alone.
    meets = ground[4:] & (low[3:-1] | low[2:-2]) & (low[1:-3] | low[:-4])
    return bool(np.count_nonzero(meets.any(axis=0)) > _GROUNDED_FRACTION * (x2 - x1))


def _steep(patch: _Patch, rise: float, row_m: float) -> Below | None:
    """A steep raised surface below the region: a thing in front of the object, or one below it.

    None if the surface ends within the patch: it may be the object's own lower end.
    """
    height, valid = patch.height, patch.valid
    under = slice(patch.edge, patch.edge + round(1.2 * patch.strip))
    lower = valid[under]
    raised = np.count_nonzero(lower & (height[under] > 2 * rise))
    if raised < _MIN_STEEP_FRACTION * np.count_nonzero(lower) or not lower.any():
        return None
    # On the way up a surface, the height increases; it decreases where a nearer one ends.
    gap = max(2, int(np.ceil(rise / (row_m + 1e-12))) // 2)
    if len(height) <= 2 * gap:
        return None
    above, beneath = height[: -2 * gap], height[2 * gap :]
    both = valid[: -2 * gap] & valid[2 * gap :] & patch.same[: -2 * gap]
    drop = both & (above < beneath - 2 * rise)
    known = both.any(axis=0)
    if np.count_nonzero(known) < _MIN_COLUMNS:
        return None
    hidden = np.count_nonzero(drop.any(axis=0)) / np.count_nonzero(known)
    around = slice(max(0, patch.edge - 2), patch.edge + 2)
    at_edge = height[around][valid[around]]
    if not len(at_edge):
        return None
    if hidden > _DECISIVE_FRACTION:
        return Below(median(at_edge), None, Touch.HIDDEN)
    # Up a vertical face, depth decreases if the camera looks down; it increases up to a farther
    # object where the sensor smooths the step.
    upper = patch.depth[: patch.edge - patch.strip // 2][
        patch.same[: patch.edge - patch.strip // 2]
    ]
    nearer = patch.depth[under][lower]
    farther = len(upper) > 0 and median(upper) > (1 + _MIN_STEP_FRACTION) * median(nearer)
    return Below(median(at_edge), None, Touch.UNLIKELY if farther else Touch.LIKELY)
