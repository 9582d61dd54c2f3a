"""ObjectPixels: the pixels of one object, and what surrounds them.

Occluders, borders of the image and of the depth camera's view, missing readings, readings below the
support. Does not know how the pixels were found (`region_objects`), and does not measure them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.geometry.crops import Crop
from sdvlm_core.geometry.flat_extent import FlatObject
from sdvlm_core.geometry.point_cloud import Cloud, Mask, Points
from sdvlm_core.geometry.quarter_turn import QuarterTurn
from sdvlm_core.geometry.region_support import (
    Support,
    min_rise_fraction,
)
from sdvlm_core.geometry.scene import Upright
from sdvlm_core.geometry.see_through import seems_transparent
from sdvlm_core.geometry.segmentation import MIN_STEP_FRACTION
from sdvlm_core.geometry.support_plane import Plane, no_plane

#: Depth outside a mask, for OpenCV's erosion, which also pads with the largest float.
_NO_DEPTH = np.finfo(np.float32).max
# Fractions without another source: tuned on the development frames of benchmarks/real_frames.py.
#: Largest deviation of the border of a registered depth view from a straight line, as a fraction of
#: the image width.
_PARALLAX_FRACTION = 0.02
#: A truncated object has more than this fraction of its rows or columns end at the view's border.
_MIN_CUT_FRACTION = 0.25
#: Pixels that reach less of their box may be truncated by the end of the depth camera's view.
_MIN_EXTENT_IN_VIEW = 0.85
#: The left or right end of an object is hidden if an occluder covers more than this fraction of the
#: outline there; the upper end, which is often level, if it covers more than the second fraction.
_MAX_COVERED_END, _MAX_COVERED_TOP = 0.4, 0.5
#: Depth of an end of an outline, as a fraction of the object's extent in the image.
_END_FRACTION = 0.15
#: Fraction of an outline without readings from which on shadows are looked for.
_MIN_DARK_FRACTION = 0.05
#: Reach of the search for occluders, as a fraction of the image's width.
_OUTLINE_REACH_FRACTION = 0.012
#: Width of an occluder's shadow, radians: 0.075 m, the distance of a Kinect's projector from its
#: camera, times the difference of the inverse distances, 0.2 / m.
_SHADOW_RAD = 0.015
#: Number of pixels of an outline that are kept.
_OUTLINE_SAMPLE = 200


@dataclass(frozen=True, eq=False)
class Outline:
    """The pixels around an object.

    Attributes:
        rows, columns: (K,) a sample of them, pixels of the colour image.
        covered: (K,) whether a nearer surface there covers the object.
        covered_fraction: fraction of all of them that are covered.
        covered_ends: the same at the left, right and upper end of the object in the upright image.
    """

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    covered: Mask
    covered_fraction: float
    covered_ends: tuple[float, float, float]


_NO_OUTLINE = Outline(
    np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, bool), 0.0, (0.0, 0.0, 0.0)
)


@dataclass(frozen=True, eq=False)
class Flat:
    """What colour found of an object that is too flat for the depth camera.

    Attributes:
        points: (N, 3) the object's points, metres: readings, and rays cut with the support.
        found: where they come from.
    """

    points: Points
    found: FlatObject


@dataclass(frozen=True, eq=False)
class ObjectPixels:
    """The pixels of one object, and its surroundings. Fractions are in [0, 1].

    Attributes:
        rows, columns: (N,) pixels of the colour image.
        plane: the object's support, refined near the object; `detected` is False if there is none.
        base: the frame's plane that carries the support; equals `plane` for an object on it.
        box: (x1, y1, x2, y2) of the searched region, whole pixels.
        extents: width and height of the pixels' outline as fractions of the box's; 1, 1 if the
            region is no box.
        valid_fraction: fraction of the region's pixels that have a depth reading.
        transparent: missing readings, or readings below the support, show a transparent or
            reflective object.
        outline: the pixels around the object, and where a nearer surface covers it.
        truncated: the object touches the border of the image or of the depth camera's view.
        on_support: no object rises above the support; the pixels belong to the support.
        step: sampling interval in rows and columns, pixels.
        flat: set if colour found pixels that depth cannot tell from the support.
        bounded: False = only the region's box separates them from another thing.
    """

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    plane: Plane
    base: Plane
    box: tuple[int, int, int, int]
    extents: tuple[float, float]
    valid_fraction: float
    transparent: bool
    outline: Outline
    truncated: bool
    on_support: bool
    step: int
    flat: Flat | None = None
    bounded: bool = True

    @property
    def covered_across(self) -> bool:
        """Whether a nearer surface hides the left or right end, so that the width is unknown."""
        left, right, _ = self.outline.covered_ends
        return max(left, right) > _MAX_COVERED_END

    @property
    def covered_up(self) -> bool:
        """Whether a nearer surface hides the upper end, so that the height is unknown."""
        return self.outline.covered_ends[2] > _MAX_COVERED_TOP


def turned_pixels(pixels: ObjectPixels, turn: QuarterTurn) -> ObjectPixels:
    """The same object in the turned image and its optical frame."""
    rows, columns = turn.pixels(pixels.rows, pixels.columns)
    x1, y1, x2, y2 = (int(value) for value in turn.box(pixels.box))
    plane, base = (
        replace(part, normal=turn.vector(part.normal)) for part in (pixels.plane, pixels.base)
    )
    around = turn.pixels(pixels.outline.rows, pixels.outline.columns)
    return replace(
        pixels,
        rows=rows,
        columns=columns,
        plane=plane,
        base=base,
        box=(x1, y1, x2, y2),
        outline=replace(pixels.outline, rows=around[0], columns=around[1]),
    )


def described(
    scene: Upright,
    crop: Crop,
    support: Support | None,
    mask: Mask,
    extents: tuple[float, float] | None = None,
) -> ObjectPixels:
    """The pixels of a mask (h, w) of a crop, with a description of their surroundings.

    Args:
        mask: empty = nothing rises above the support, and the pixels are the region's.
        extents: fractions of the box's sides that the pixels reach; None = the region is no box.
    """
    cloud = scene.cloud
    plane = base = no_plane(scene.up)
    if support is not None:
        plane, base = support.plane, support.base
    transparent = seems_transparent(cloud, crop, support, mask)
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
    # A box that ends inside the depth camera's view says that the object ends there.
    ends_in_view = (
        len(rows) == 0
        or (extents is not None and min(extents) > _MIN_EXTENT_IN_VIEW)
        or not _leaves_depth_view(cloud, rows, columns, near)
    )
    if scene.border is not None:
        cut = cut or bool(scene.border[rows, columns].any())
    return ObjectPixels(
        rows=rows,
        columns=columns,
        plane=plane,
        base=base,
        box=crop.box,
        extents=extents or (1.0, 1.0),
        valid_fraction=_fraction(crop.valid, crop.inside),
        transparent=transparent,
        outline=_NO_OUTLINE if on_support else _outline(cloud, crop, support, mask),
        truncated=bool(cut)
        or (not ends_in_view and _leaves_depth_view(cloud, rows, columns, near)),
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


def _outline(cloud: Cloud, crop: Crop, support: Support | None, mask: Mask) -> Outline:
    """The surroundings of the object's outline, and where a nearer surface covers the object.

    Searches up to 1.2 % of the image width from the outline. An active sensor has no readings in
    an occluder's shadow, so the search goes on to the next thing beside the shadow. The support in
    front of the object is nearer too, and covers nothing.
    """
    radius = max(1, round(_OUTLINE_REACH_FRACTION * cloud.width / crop.step))
    # A lens of extreme focal length sees a shadow wider than the crop.
    shadow = max(1, round(min(_SHADOW_RAD / cloud.pixel_angle / crop.step, max(mask.shape))))
    margin = radius + shadow
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    top, left = max(0, y - margin), max(0, x - margin)
    around = (slice(top, y + h + margin), slice(left, x + w + margin))
    mask, depth, things = mask[around], crop.depth[around], crop.valid[around]
    if support is not None:
        rise = np.float32(min_rise_fraction(support.plane))
        things = things & (support.height[around] > rise * depth)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    nearest = cv2.erode(np.where(mask, depth, _NO_DEPTH), kernel)
    ring = (nearest < _NO_DEPTH) & ~mask
    total = np.count_nonzero(ring)
    if total == 0:
        return _NO_OUTLINE
    others = np.where(things & ~mask, depth, _NO_DEPTH)
    dark = ring & (depth == 0)
    if np.count_nonzero(dark) > _MIN_DARK_FRACTION * total:
        # A shadow lies along the rows of the camera; those of an image turned by a quarter are its
        # columns.
        reach = 2 * shadow + 1
        rows, columns = (cv2.erode(others, np.ones(k, np.uint8)) for k in ((1, reach), (reach, 1)))
        np.copyto(others, np.minimum(rows, columns), where=dark)
    with np.errstate(over="ignore"):  # where no thing is near
        covered = ring & (others < nearest - np.float32(1.5 * MIN_STEP_FRACTION) * others)
    across_end, down_end = (max(1, round(_END_FRACTION * side)) for side in (w, h))
    x, y = x - left, y - top
    ends = (
        (slice(None), slice(0, x + across_end)),
        (slice(None), slice(x + w - across_end, None)),
        (slice(0, y + down_end), slice(None)),
    )
    left_end, right_end, upper_end = (_fraction(covered[end], ring[end]) for end in ends)
    rows, columns = np.nonzero(ring)
    sample = slice(None, None, max(1, total // _OUTLINE_SAMPLE))
    rows, columns = rows[sample], columns[sample]
    return Outline(
        rows=(rows + top) * crop.step + crop.top,
        columns=(columns + left) * crop.step + crop.left,
        covered=covered[rows, columns],
        covered_fraction=float(np.count_nonzero(covered) / total),
        covered_ends=(left_end, right_end, upper_end),
    )
