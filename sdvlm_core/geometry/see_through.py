"""Signs that an object is transparent or reflective: missing readings, and readings behind it.

Glass and polished surfaces return no reading, the reading of what is behind them, or that of a
mirror image. What a depth camera shows of them is a fragment of the object or another surface.
Does not know colours, and cannot recognize glass whose readings all show the surface behind it:
that looks like no object, or like a flat one.
"""

from __future__ import annotations

import cv2
import numpy as np

from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.point_cloud import Cloud, Mask
from sdvlm_core.geometry.region_support import MIN_RISE_FRACTION, MIN_RISE_SPREADS, Support

# Fractions without another source: tuned on the development frames of benchmarks/real_frames.py.
#: Fraction of a region's middle without readings that opaque objects rarely have.
_MISSING_FRACTION = 0.4
#: Fraction of the surroundings without readings, where nothing rises above the support.
_MISSING_NEAR_FRACTION = 0.1
#: Width of these surroundings beyond the region, as a fraction of the image's width.
_NEAR_FRACTION = 0.03
#: Fraction of the pixels around a fragment without readings: the shadow of an active sensor is at
#: one side of an opaque object.
_SURROUNDED_FRACTION = 0.5
#: Distance to which they are counted, as a fraction of the side of a square of the fragment's area,
#: and beyond the readings that are lost at any silhouette, radians.
_AROUND_FRACTION, _SILHOUETTE_RAD = 0.5, 0.004
#: Fraction of a region with readings below the support, enclosed by the region.
_BELOW_FRACTION = 0.05
#: Readings of an object are below its support if they are lower than this fraction of the distance
#: and this many robust standard deviations of the support: cameras bend planes.
_DEPTH_FRACTION, _DEPTH_SPREADS = 0.02, 6.0


def seems_transparent(cloud: Cloud, crop: Crop, support: Support | None, mask: Mask) -> bool:
    """Whether the readings of a region show a transparent or reflective object.

    Args:
        mask: (h, w) the object's pixels in the crop; empty if nothing rises above the support.
    """
    x1, y1, x2, y2 = crop.own_box
    inset_x, inset_y = (x2 - x1) // 4, (y2 - y1) // 4
    inner = (slice(y1 + inset_y, y2 - inset_y), slice(x1 + inset_x, x2 - inset_x))
    if _fraction(~crop.valid[inner], crop.inside[inner]) > _MISSING_FRACTION:
        return True
    flat = not mask.any()
    if support is not None and _fraction_below(crop, support, flat) > _BELOW_FRACTION:
        return True
    return _missing_near(cloud, crop) if flat else _surrounded(cloud, crop, mask)


def _fraction(mask: Mask, inside: Mask) -> float:
    """Fraction of a region that a mask covers; 0 for an empty region."""
    return float(np.count_nonzero(mask & inside) / max(1, int(np.count_nonzero(inside))))


def _fraction_below(crop: Crop, support: Support, flat: bool) -> float:
    """Fraction of a region covered by readings below the support, in areas it mostly encloses.

    The floor beyond a table does not count, because it continues outside the region. Where nothing
    rises above the support (`flat`), readings lower than its noise are enough: there is no value
    that they could make doubtful.
    """
    spread = support.plane.spread
    lowest = np.float32(-max(MIN_RISE_SPREADS * spread, 2 * MIN_RISE_FRACTION))
    below = crop.valid & (support.height < lowest * crop.depth)
    if not (below & crop.inside).any():
        return 0.0
    _, labels = cv2.connectedComponents(below.view(np.uint8), connectivity=8)
    total = np.bincount(labels.ravel())
    within = np.bincount(labels[crop.inside], minlength=len(total))
    enclosed = within > 0.8 * total
    enclosed[0] = False
    counted = enclosed[labels]
    if not flat:
        deep = np.float32(-max(_DEPTH_SPREADS * spread, _DEPTH_FRACTION))
        counted &= support.height < deep * crop.depth
    return _fraction(counted, crop.inside)


def _missing_near(cloud: Cloud, crop: Crop) -> bool:
    """Whether readings are missing in a region and close to it."""
    x1, y1, x2, y2 = crop.box
    near = round(_NEAR_FRACTION * cloud.width)
    part = cloud.depth[max(0, y1 - near) : y2 + near, max(0, x1 - near) : x2 + near]
    return bool(np.count_nonzero(part) < (1 - _MISSING_NEAR_FRACTION) * part.size)


def _surrounded(cloud: Cloud, crop: Crop, mask: Mask) -> bool:
    """Whether an object is a fragment: most pixels around it have no reading."""
    area = np.count_nonzero(mask)
    side = float(np.sqrt(area))
    reach = _AROUND_FRACTION * side + _SILHOUETTE_RAD / (cloud.pixel_angle * crop.step)
    # A lens of extreme focal length sees a silhouette wider than the crop.
    reach = max(1, round(min(reach, max(mask.shape))))
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    rows, columns = (
        first + crop.step * np.arange(start - reach, start + size + reach)
        for first, start, size in ((crop.top, y, h), (crop.left, x, w))
    )
    known_rows = (rows >= 0) & (rows < cloud.height)
    known_columns = (columns >= 0) & (columns < cloud.width)
    missing = cloud.depth[np.ix_(rows[known_rows], columns[known_columns])] == 0
    # No figure of this area has a smaller ring than a square (Brunn and Minkowski).
    least = (side + 2 * reach) ** 2 - area
    inside_image = known_rows.all() and known_columns.all()
    if np.count_nonzero(missing) <= (_SURROUNDED_FRACTION * least if inside_image else 0):
        return False
    own = mask[y : y + h, x : x + w].view(np.uint8)
    own = cv2.copyMakeBorder(own, *4 * (reach,), cv2.BORDER_CONSTANT, value=0)
    ring = cv2.dilate(own, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > own
    return _fraction(missing, ring[np.ix_(known_rows, known_columns)]) > _SURROUNDED_FRACTION
