"""Region of a frame -> size, position and distances of the object there, from depth alone.

`measure` is independent of the language model: it has no learned part. It combines the frame's
support planes (`scene`), the hypotheses of the object's pixels (`region_objects`), their upright
boxes (`upright_box`), their differences (`doubt`) and the errors (`uncertainty`), and lists what
may be wrong with the values (`Caution`). Does not know what an object is, or how a model describes
it.
Affine-invariant depth (`estimated_relative`) has no scale in metres and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.rectification import rectified_regions
from sdvlm_core.cautions import Caution
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.crops import is_outside
from sdvlm_core.geometry.doubt import doubt_about
from sdvlm_core.geometry.measured import Measured, unmeasured
from sdvlm_core.geometry.object_pixels import ObjectPixels, turned_pixels
from sdvlm_core.geometry.pairs import Pair, measure_pair
from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Mask, Points
from sdvlm_core.geometry.region_objects import find_objects
from sdvlm_core.geometry.robust import ends, median
from sdvlm_core.geometry.scene import Scene, open_scene
from sdvlm_core.geometry.segmentation import MAX_SLOPE, MIN_STEP_FRACTION
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR, DepthNoise, sensor_noise
from sdvlm_core.geometry.uncertainty import (
    ErrorSources,
    Situation,
    Spread,
    error_sources,
    hidden_underside,
    is_imprecise,
    spreads,
)
from sdvlm_core.geometry.upright_box import UprightBox, turned_box, upright_box

# Fractions without another source: tuned on the development frames of benchmarks/real_frames.py
# and on training.simulate.
#: Smallest number of readings for a size.
_MIN_POINTS = 20
#: Largest number of points of one object; more points take time and add no accuracy.
_MAX_POINTS = 1300
#: Radius of the bilateral filter.
_MAX_SMOOTHING_PX = 3
#: Fraction of the support's scatter that smoothing leaves.
_SMOOTHED_FRACTION = 0.5
#: A width whose std_dev is a larger fraction of it is hardly known: a warning.
_UNKNOWN_WIDTH_FRACTION = 0.6
#: Hidden lower part, as a fraction of the height, above which there is a warning: of a thing that
#: may stand on the support, and of the underside of a thing in the air.
_HIDDEN_BASE_FRACTION, _UNDERSIDE_FRACTION = 0.3, 0.05
#: A reading lies behind a point if it is this fraction of the distance further away.
_BEHIND_FRACTION = 0.02
#: An object touches its support unless its lowest reading is higher than this fraction of the
#: distance, and than this many robust standard deviations of the support's readings.
_CLEARANCE_FRACTION, _CLEARANCE_SPREADS = 0.02, 6.0
#: Heights at which supporting parts are searched, as fractions of the lowest reading's height.
_FOOT_LEVELS = (0.25, 0.5, 0.75)
#: Smallest fraction of an object's footprint that can support the object.
_MIN_FOOT_FRACTION = 0.02
_SIZE_KEYS = ("length_m", "width_m", "height_m")


def measure(
    frame: RgbdFrame, regions: Sequence[Region], sensor: str = DEFAULT_SENSOR
) -> tuple[tuple[Measured, ...], tuple[Pair, ...]]:
    """Measure the objects of some regions and every pair of them.

    Regions are in pixels of the camera's image, also where the frame was rectified. A region
    outside the image is not measured (OUTSIDE_IMAGE), so that the others are.

    Raises:
        DepthError, IntrinsicsError: the frame has no metric depth or no intrinsics.
        QueryError: a mask is not of the image's size, or the sensor is unknown.
    """
    return measure_in(open_scene(frame), rectified_regions(frame, regions), sensor)


def object_points(cloud: Cloud, one: Measured, limit: int) -> npt.NDArray[np.float32]:
    """(N, 3) the readings of a measured object's pixels, metres in the optical frame.

    Args:
        cloud: of the scene in which it was measured.
        limit: largest N; of more pixels every n-th.

    Returns:
        Readings as the camera has them, not smoothed; none if the object was not measured.
    """
    if one.pixels is None:
        return np.empty((0, 3), np.float32)
    rows, columns = one.pixels.rows, one.pixels.columns
    read = np.flatnonzero(cloud.depth[rows, columns] > 0)
    read = read[:: max(1, -(-len(read) // limit))]
    return cloud.points(rows[read], columns[read]).astype(np.float32)


def measure_in(
    scene: Scene, regions: Sequence[Region], sensor: str = DEFAULT_SENSOR
) -> tuple[tuple[Measured, ...], tuple[Pair, ...]]:
    """As `measure`, in a scene that is already open.

    Raises:
        QueryError: a mask is not of the image's size, or the sensor is unknown.
    """
    noise = sensor_noise(sensor)
    found = tuple(measure_region(scene, region, noise) for region in regions)
    return found, tuple(measure_pair(a, b) for a, b in combinations(found, 2))


def measure_region(scene: Scene, region: Region, noise: DepthNoise) -> Measured:
    """Measure the object of one region: its best hypothesis, doubted by the other plausible ones.

    Raises:
        QueryError: its mask is not of the image's size.
    """
    if is_outside(region, scene.frame.width, scene.frame.height):
        return unmeasured(region, (*scene.cautions, Caution.OUTSIDE_IMAGE))
    if region.mask is not None and not region.mask.any():
        return unmeasured(region, (*scene.cautions, Caution.TOO_FEW_POINTS))
    turn = scene.upright.turn
    pixels, *others = find_objects(scene.upright, turn.region(region))
    if len(pixels.rows) < _MIN_POINTS:
        own = (Caution.TOO_FEW_POINTS, *_warnings(scene.frame, pixels))
        return unmeasured(region, (*scene.cautions, *own), pixels.valid_fraction)
    best = _box_of(scene, pixels, noise)
    boxes = [_box_of(scene, other, noise).box for other in others if len(other.rows) >= _MIN_POINTS]
    doubt = doubt_about(best.box, pixels, boxes)
    warnings = (*scene.cautions, *_warnings(scene.frame, pixels))
    if doubt.ambiguous:
        warnings = (*warnings, Caution.AMBIGUOUS_EXTENT)
    underside = hidden_underside(best.box) if best.hangs else 0.0
    doubt = doubt.with_underside(underside)
    sources = error_sources(best.box, pixels, best.points, best.pixel_m, noise, best.clearance)
    situation = Situation.of(warnings, sources)
    errors = spreads(best.box, sources, situation, doubt.by_key())
    one = replace(
        _measured(scene, region, best.box, pixels),
        spreads=errors,
        sources=sources,
        situation=situation,
        warnings=(*warnings, *_imprecisions(best.box, pixels, sources, errors, underside)),
    )
    return replace(one, warnings=tuple(dict.fromkeys((*one.warnings, *one.distance_warnings))))


def _imprecisions(
    box: UprightBox,
    pixels: ObjectPixels,
    sources: ErrorSources,
    errors: dict[str, Spread],
    underside: float,
) -> tuple[Caution, ...]:
    """Warnings of a large error, with its cause: what is hidden counts if a value depends on it."""
    length, _, height = (float(value) for value in box.size)
    longest = (length, errors["length_m"]) if length > height else (height, errors["height_m"])
    imprecise = is_imprecise(height, errors["height_m"]) or is_imprecise(*longest)
    width_unknown = errors["width_m"].std_dev > _UNKNOWN_WIDTH_FRACTION * float(box.size[1])
    below = underside > _UNDERSIDE_FRACTION * height
    hidden_base = below or sources.base > _HIDDEN_BASE_FRACTION / math.sqrt(12) * height
    unseen = hidden_base or width_unknown or (imprecise and sources.unseen_share > 0)
    conditions = {
        Caution.OCCLUDED: imprecise and (pixels.covered_across or pixels.covered_up),
        Caution.UNSEEN_EXTENT: unseen,
        Caution.IMPRECISE: imprecise,
    }
    return tuple(code for code, holds in conditions.items() if holds)


@dataclass(frozen=True, eq=False)
class _Boxed:
    """The upright box of one hypothesis.

    Attributes:
        points: (N, 3) the object's points, metres.
        pixel_m: size of a pixel at the object's distance, metres.
        clearance: height of the lowest reading above the support, metres, if the object may extend
            down to the support; 0 = it ends at its lowest reading.
        hangs: it is in the air.
    """

    box: UprightBox
    points: Points
    pixel_m: float
    clearance: float
    hangs: bool


def _box_of(scene: Scene, pixels: ObjectPixels, noise: DepthNoise) -> _Boxed:
    cloud = scene.upright.cloud
    points = surface_points(cloud, pixels) if pixels.flat is None else pixels.flat.points
    z = median(points[:, 2])
    pixel_m = cloud.pixel_angle * z
    clearance = _clearance(pixels, points)
    hangs = clearance > 0 and _hangs(cloud, pixels, points, clearance)
    standing = pixels.plane.detected and not hangs
    flat = pixels.flat is not None  # colour shows the whole outline, and no extreme readings
    # A rim that is too wide is not cut off: the shape of the near outline would change. The colour
    # of a pixel is a mean of its surroundings, so an outline by colour needs no rim.
    lost = max(0.0, noise.edge_lost_rad) * z
    rim = 0.0 if flat else 0.5 * pixels.step * pixel_m + lost
    scatter = 0.0 if flat else _SMOOTHED_FRACTION * pixels.plane.spread * z
    unseen = _may_be_unseen(cloud)
    box = upright_box(points, pixels.plane, rim, unseen, standing, whole=flat, scatter=scatter)
    return _Boxed(box, points, pixel_m, 0.0 if hangs else clearance, hangs)


def _measured(scene: Scene, region: Region, box: UprightBox, pixels: ObjectPixels) -> Measured:
    """The values of a box, in the camera's own image, without their errors and warnings."""
    length, width, height = (float(value) for value in box.size)
    top = box.centre + box.size[2] / 2 * box.axes[2]
    above = float(pixels.base.heights(top[None])[0]) if pixels.base.detected else math.nan
    back = scene.upright.turn.back if scene.upright.turn.turns else None
    if back is not None:
        box, pixels = turned_box(box, back), turned_pixels(pixels, back)
    x, y, z = (float(value) for value in box.centre)
    return Measured(
        label=region.label,
        position_m=(x, y, z),
        camera_distance_m=float(np.linalg.norm(box.centre)),
        length_m=length,
        width_m=width,
        height_m=height,
        top_above_support_m=above,
        spreads={},
        valid_fraction=pixels.valid_fraction,
        warnings=(),
        region=region,
        box=box,
        pixels=pixels,
    )


def surface_points(cloud: Cloud, pixels: ObjectPixels) -> Points:
    """A sample (N, 3) of the object's points, metres, smoothed over their scatter.

    Without the outermost readings that mix two depths. The bilateral filter uses the object's
    points only, and preserves its depth discontinuities.
    """
    top, left = pixels.rows.min(), pixels.columns.min()
    rows, columns = (pixels.rows - top) // pixels.step, (pixels.columns - left) // pixels.step
    # One pixel more on each side: OpenCV repeats the border of an image.
    patch = np.zeros((rows.max() + 3, columns.max() + 3), np.float32)
    patch[rows + 1, columns + 1] = cloud.depth[pixels.rows, pixels.columns]
    z = median(patch[rows + 1, columns + 1])
    steepest = MAX_SLOPE * cloud.pixel_angle * pixels.step + MIN_STEP_FRACTION
    kept = ~_mixed(patch, np.float32(steepest * z))[rows + 1, columns + 1]
    if np.count_nonzero(kept) < _MIN_POINTS:
        kept[:] = True
    scatter = float(cloud.scatter(np.float32(z)))
    radius = min(round(scatter / (cloud.pixel_angle * pixels.step * z)), _MAX_SMOOTHING_PX)
    if radius >= 1:
        patch = cv2.bilateralFilter(patch, 2 * radius + 1, 4 * scatter, radius)
    sample = np.flatnonzero(kept)
    sample = sample[:: max(1, len(sample) // _MAX_POINTS)]
    depth = patch[rows[sample] + 1, columns[sample] + 1].astype(np.float64)
    across, down = cloud.ray_x[pixels.columns[sample]], cloud.ray_y[pixels.rows[sample]]
    return np.stack([across * depth, down * depth, depth], axis=1)


def _mixed(patch: DepthImage, limit: np.float32) -> Mask:
    """Outermost pixels of an object (0 = outside) whose depth differs from that inside of them.

    limit: largest difference on a surface, metres.
    """
    kernel = np.ones((3, 3), np.uint8)
    own = (patch > 0).view(np.uint8)
    inner = cv2.erode(own, kernel)
    near = cv2.boxFilter(inner.astype(np.float32), -1, (3, 3), normalize=False)
    total = cv2.boxFilter(np.where(inner, patch, np.float32(0)), -1, (3, 3), normalize=False)
    mixed: Mask = (
        (own > inner) & (near > 0.5) & (np.abs(patch - total / np.maximum(near, 1)) > limit)
    )
    return mixed


def _warnings(frame: RgbdFrame, pixels: ObjectPixels) -> tuple[Caution, ...]:
    """The warnings that need only the pixels, in the order of this table."""
    conditions = {
        Caution.TRUNCATED: pixels.truncated,
        Caution.TRANSPARENT_OR_REFLECTIVE: pixels.transparent,
        Caution.NOTHING_STANDS_OUT: pixels.on_support,
        Caution.EXTENT_FROM_COLOUR: pixels.flat is not None,
        Caution.NO_SUPPORT_PLANE: not pixels.plane.detected,
        Caution.ESTIMATED_DEPTH: frame.depth_source == "estimated_metric",
    }
    return tuple(code for code, holds in conditions.items() if holds)


def _clearance(pixels: ObjectPixels, points: Points) -> float:
    """Height of the lowest of points (N, 3) above the support, metres; 0 if they may touch it."""
    plane = pixels.plane
    lowest = ends(plane.heights(points))[0]
    threshold = max(_CLEARANCE_FRACTION, _CLEARANCE_SPREADS * plane.spread) * median(points[:, 2])
    return lowest if plane.detected and lowest > threshold else 0.0


def _hangs(cloud: Cloud, pixels: ObjectPixels, points: Points, lowest: float) -> bool:
    """Whether the readings show that an object (N, 3) does not stand on the support below it.

    A standing object passes through every level between the support and its lowest reading. It
    hangs if, at one of these levels, every position below it has a reading behind it. Positions
    inside the region do not count: legs there may be too thin to have readings.
    """
    up = np.array(pixels.plane.normal)
    heights = pixels.plane.heights(points)
    x1, y1, x2, y2 = pixels.box
    unseen = _may_be_unseen(cloud)
    for level in _FOOT_LEVELS:
        feet = points - np.outer(heights - level * lowest, up)
        u, v = cloud.pixels(feet)
        inside = (u >= x1) & (u < x2) & (v >= y1) & (v < y2)
        if np.mean(inside | unseen(feet)) < _MIN_FOOT_FRACTION:
            return True
    return False


def _may_be_unseen(cloud: Cloud) -> Callable[[Points], Mask]:
    """A function points (M, 3) -> (M,) bool: whether a point may exist that no reading shows.

    A point cannot exist if the camera measured a surface behind it.
    """

    def unseen(points: Points) -> Mask:
        with np.errstate(divide="ignore", invalid="ignore"):  # points beside the camera
            column, row = (np.round(part) for part in cloud.pixels(points))
        inside = (column >= 0) & (row >= 0) & (column < cloud.width) & (row < cloud.height)
        depth = np.zeros(len(points))
        depth[inside] = cloud.depth[row[inside].astype(int), column[inside].astype(int)]
        behind: Mask = depth > points[:, 2] * (1 + _BEHIND_FRACTION)
        return ~behind

    return unseen
