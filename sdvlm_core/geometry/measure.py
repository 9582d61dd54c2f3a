"""Region of a frame -> size, position and distances of the object there, from its depth alone.

`measure` is the second opinion on what a language model says: no model, no learned part. It puts
together the scene's support plane (`support_plane`), the pixels that are the object (`regions`)
and their upright box (`extents`), and says how far each number is to be trusted and what was
amiss (`Caution`). `point_at` reads one pixel, robustly. Does not know what an object is called
by, nor what a model said about it. Affine-invariant depth (`estimated_relative`) has no metres:
`measure` refuses it and `point_at` gives no point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

import cv2
import numpy as np

from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.gap import smallest_gap
from sdvlm_core.geometry.object_pixels import ObjectPixels, find_object
from sdvlm_core.geometry.point_cloud import Cloud, Mask, Points, make_cloud
from sdvlm_core.geometry.robust import ends, median
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR, DepthNoise, sensor_noise
from sdvlm_core.geometry.support_plane import Plane, find_support_planes
from sdvlm_core.geometry.upright_box import UprightBox, upright_box

#: What `Measured.std_dev` tells, metres.
STD_DEV_KEYS = ("position_m", "camera_distance_m", "length_m", "width_m", "height_m")

_LEAST_POINTS = 20  # readings; fewer carry no size
_MOST_SMOOTHING = 3  # pixels
_MISSING = 0.4  # share of a region's middle without readings that opaque things seldom reach
_BEHIND = 0.05  # share of a region that is read below the ground it stands on
_OCCLUDED = 0.1  # share of the outline along which something nearer cuts the object off
_HIDDEN = 0.15  # of its width: standard deviation of an unseen extent that deserves a warning
_HIDDEN_BELOW = 0.3  # of its height: an unseen lower part that deserves the same
_INFERRED = 0.25  # of the inferred depth: how far it is trusted
_CUT = 1.0  # of a size, per share of the outline that is hidden
_PAST = 0.02  # of the distance: how much further a reading must be to have gone past a point
_CLEAR = 0.02  # of the distance: a lowest reading that far over the support touches it nowhere
_CLEAR_SPREADS = 6.0  # the same in spreads of the support's readings
_LEVELS = (0.25, 0.5, 0.75)  # between the support and the lowest reading, where a foot would show
_FOOT = 0.02  # of an object's footprint: the least that carries it
_MOST_POINTS = 2500  # of an object; more make it slower, not better


class Caution(str, Enum):
    """Why a measurement may be wrong; the values are the codes of the JSON and the messages."""

    TOO_FEW_POINTS = "too_few_points"
    TRUNCATED = "truncated"
    OCCLUDED = "occluded"
    TRANSPARENT_OR_REFLECTIVE = "transparent_or_reflective"
    NO_SUPPORT_PLANE = "no_support_plane"
    NOTHING_STANDS_OUT = "nothing_stands_out"
    UNSEEN_EXTENT = "unseen_extent"
    ESTIMATED_DEPTH = "estimated_depth"


#: A measurement with one of these is unfit to act on: a robot must not move because of it, and it
#: neither confirms nor contradicts a model's answer.
UNFIT: frozenset[Caution] = frozenset(
    {
        Caution.TOO_FEW_POINTS,  # nothing was measured: every value is NaN
        Caution.TRUNCATED,  # the object ends outside the view: its sizes are lower bounds
        Caution.TRANSPARENT_OR_REFLECTIVE,  # readings lie behind the object, or are reflections
        Caution.NOTHING_STANDS_OUT,  # the pixels are the support's: there is no object in them
        # The sensor presets do not cover a network's scale error, which can be a third.
        Caution.ESTIMATED_DEPTH,
    }
)
#: These only inform: the values are usable, because std_dev already contains the doubt.
INFORMATIVE: frozenset[Caution] = frozenset(
    {
        Caution.OCCLUDED,  # std_dev grows with the hidden part of the outline
        Caution.NO_SUPPORT_PLANE,  # "height" runs along the image's up axis, not against gravity
        Caution.UNSEEN_EXTENT,  # std_dev covers how far the object may reach where nothing was seen
    }
)


@dataclass(frozen=True, eq=False)
class Measured:
    """One region's object: metres in the colour optical frame; NaN = unknown, never 0.

    Without enough readings there is no `box` and there are no `pixels`.

    `std_dev` has the keys position_m (each axis), camera_distance_m, length_m, width_m, height_m.
    """

    label: str
    position_m: tuple[float, float, float]
    camera_distance_m: float
    length_m: float
    width_m: float
    height_m: float
    std_dev: dict[str, float]
    valid_fraction: float
    warnings: tuple[Caution, ...]
    region: Region
    box: UprightBox | None = None
    pixels: ObjectPixels | None = None


@dataclass(frozen=True)
class Pair:
    """Two regions' objects: between their centres, and between their nearest surfaces, metres."""

    a: str
    b: str
    distance_m: float
    gap_m: float
    std_dev_m: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A frame made ready for measuring: done once, shared by all its regions."""

    frame: RgbdFrame
    cloud: Cloud
    planes: tuple[Plane, ...]


def open_scene(frame: RgbdFrame) -> Scene:
    """Back-project the frame and find its horizontal surfaces.

    Raises:
        DepthError: no depth, or affine-invariant depth.
        IntrinsicsError: no intrinsics.
    """
    cloud = make_cloud(frame)
    return Scene(frame, cloud, find_support_planes(cloud))


def measure(
    frame: RgbdFrame, regions: Sequence[Region], sensor: str = DEFAULT_SENSOR
) -> tuple[tuple[Measured, ...], tuple[Pair, ...]]:
    """Measure the objects of some regions and every pair of them.

    Raises:
        DepthError, IntrinsicsError: the frame cannot be measured in.
        QueryError: a region lies outside the image, or the sensor is not known.
    """
    return measure_in(open_scene(frame), regions, sensor)


def measure_in(
    scene: Scene, regions: Sequence[Region], sensor: str = DEFAULT_SENSOR
) -> tuple[tuple[Measured, ...], tuple[Pair, ...]]:
    """As `measure`, in a frame that was made ready before."""
    noise = sensor_noise(sensor)
    found = tuple(measure_region(scene, region, noise) for region in regions)
    return found, tuple(measure_pair(a, b) for a, b in combinations(found, 2))


def measure_region(scene: Scene, region: Region, noise: DepthNoise) -> Measured:
    """Measure the object of one region.

    Raises:
        QueryError: the region lies outside the image.
    """
    pixels = find_object(scene.frame, scene.cloud, scene.planes, region)
    warnings = _warnings(scene.frame, pixels)
    if len(pixels.rows) < _LEAST_POINTS:
        return Measured(
            region.label,
            (math.nan, math.nan, math.nan),
            math.nan,
            math.nan,
            math.nan,
            math.nan,
            dict.fromkeys(STD_DEV_KEYS, math.nan),
            pixels.valid_fraction,
            (Caution.TOO_FEW_POINTS, *warnings),
            region,
        )
    points = surface_points(scene.cloud, pixels)
    pixel = pixels.step * scene.cloud.pitch * median(points[:, 2])
    below = _off_support(pixels, points)
    if below > 0 and _hangs(scene.cloud, pixels, points, below):
        standing, below = False, 0.0
    else:
        standing = pixels.plane.seen
    box = upright_box(points, pixels.plane, 0.5 * pixel, _unseen(scene.cloud), standing)
    std_dev, hidden = uncertainty(box, pixels, points, pixel / pixels.step, noise, below)
    if hidden > _HIDDEN * box.seen_width or below > _HIDDEN_BELOW * box.size[2]:
        warnings = (*warnings, Caution.UNSEEN_EXTENT)
    x, y, z = (float(value) for value in box.centre)
    length, width, height = (float(value) for value in box.size)
    return Measured(
        region.label,
        (x, y, z),
        float(np.linalg.norm(box.centre)),
        length,
        width,
        height,
        std_dev,
        pixels.valid_fraction,
        warnings,
        region,
        box,
        pixels,
    )


def _warnings(frame: RgbdFrame, pixels: ObjectPixels) -> tuple[Caution, ...]:
    glass = (
        pixels.missing > _MISSING
        or pixels.behind > _BEHIND
        or (pixels.on_support and pixels.missing > _MISSING / 4)
    )
    found = {
        Caution.TRUNCATED: pixels.truncated,
        Caution.OCCLUDED: pixels.occluded > _OCCLUDED,
        Caution.TRANSPARENT_OR_REFLECTIVE: glass,
        Caution.NOTHING_STANDS_OUT: pixels.on_support,
        Caution.NO_SUPPORT_PLANE: not pixels.plane.seen,
        Caution.ESTIMATED_DEPTH: frame.depth_source == "estimated_metric",
    }
    return tuple(code for code, holds in found.items() if holds)


def uncertainty(
    box: UprightBox,
    pixels: ObjectPixels,
    points: Points,
    pixel: float,
    noise: DepthNoise,
    below: float,
) -> tuple[dict[str, float], float]:
    """Standard deviations of what is said of a box, and the one of its unseen extent, metres.

    Independent parts are added as squares: a reading's scatter (what is left of it in an extreme
    is about one reading's), the silhouette's doubtful pixels, the support's own unevenness, the
    camera's calibration, what may be hidden behind the seen side, that the thing may end anywhere
    in the length `below` its lowest reading, and what an occluder or the image's border hides.
    """
    z = median(points[:, 2])
    reading, edge = noise.reading(z), noise.edge * pixel
    length, width, height = (float(value) for value in box.size)
    up = box.axes[2]
    distance = float(np.linalg.norm(box.centre))
    steep = min(1.0, abs(float(box.centre @ up)) / distance)  # sine of the camera's elevation
    depth = box.seen_depth + box.inferred_depth
    # A thing may be as deep as it is wide; the steeper it is seen from, the less can hide.
    hidden = (1 - steep) * max(0.0, box.seen_width - depth) / math.sqrt(12)
    hidden = math.hypot(hidden, box.inferred_depth * _INFERRED)
    cut = _CUT * (pixels.occluded if pixels.occluded > _OCCLUDED else 0.0)
    cut = max(cut, _CUT / 2 if pixels.truncated else 0.0)
    view = box.centre - (box.centre @ up) * up
    size = float(np.linalg.norm(view))
    view = view / size if size > 1e-9 else box.axes[0]
    ground = pixels.plane.spread * z if pixels.plane.seen else 0.0
    below /= math.sqrt(12)

    def extent(value: float, deep: float) -> float:
        seen = math.hypot(math.sqrt(2) * edge, reading, noise.scale * value, cut * value)
        return math.hypot(seen, deep * hidden)

    deep_length, deep_width = (abs(float(axis @ view)) for axis in box.axes[:2])
    tall = math.hypot(edge * math.sqrt(1 - steep**2), reading, ground, noise.scale * height, below)
    centre = math.hypot(edge, reading, hidden / 2, noise.scale * distance, cut * length / 2)
    centre = math.hypot(centre, below / 2)
    std_dev = {
        "position_m": centre,
        "camera_distance_m": centre,
        "length_m": extent(length, deep_length),
        "width_m": extent(width, deep_width),
        "height_m": math.hypot(tall, cut * height),
    }
    return std_dev, hidden


def _off_support(pixels: ObjectPixels, points: Points) -> float:
    """How far the lowest of an object's points (N, 3) is above its support; 0 if it may touch."""
    plane = pixels.plane
    lowest = ends(plane.heights(points))[0]
    clear = max(_CLEAR, _CLEAR_SPREADS * plane.spread) * median(points[:, 2])
    return lowest if plane.seen and lowest > clear else 0.0


def _hangs(cloud: Cloud, pixels: ObjectPixels, points: Points, lowest: float) -> bool:
    """Whether an object is seen not to stand on the support below its points (N, 3).

    What stands goes through every level between the support and its lowest reading, somewhere
    below itself. It hangs where at one of them the camera saw past all such places; but what the
    region reaches down to may be legs too thin to be read.
    """
    up = np.array(pixels.plane.normal)
    heights = pixels.plane.heights(points)
    x1, y1, x2, y2 = pixels.box
    unseen = _unseen(cloud)
    for level in _LEVELS:
        feet = points - np.outer(heights - level * lowest, up)
        u, v = cloud.pixels(feet)
        inside = (u >= x1) & (u < x2) & (v >= y1) & (v < y2)
        if np.mean(inside | unseen(feet)) < _FOOT:
            return True
    return False


def surface_points(cloud: Cloud, pixels: ObjectPixels) -> Points:
    """Some of the object's points (N, 3), their scatter evened out over as wide a patch as it is.

    A bilateral filter over the object alone: neither its background nor its own steps mix in.
    """
    some = slice(None, None, max(1, len(pixels.rows) // _MOST_POINTS))
    points = cloud.points(pixels.rows[some], pixels.columns[some])
    z = median(points[:, 2])
    scatter = float(cloud.scatter(np.float32(z)))
    radius = min(round(scatter / (cloud.pitch * pixels.step * z)), _MOST_SMOOTHING)
    if radius < 1:
        return points
    top, left = pixels.rows.min(), pixels.columns.min()
    rows, columns = (pixels.rows - top) // pixels.step, (pixels.columns - left) // pixels.step
    patch = np.zeros((rows.max() + 1, columns.max() + 1), np.float32)
    patch[rows, columns] = cloud.depth[pixels.rows, pixels.columns]
    even = cv2.bilateralFilter(patch, 2 * radius + 1, 4 * scatter, radius)
    return points * (even[rows[some], columns[some]] / points[:, 2])[:, None]


def _unseen(cloud: Cloud) -> Callable[[Points], Mask]:
    """Could points (M, 3) exist unseen: not where the camera looked past them at something else."""

    def unseen(points: Points) -> Mask:
        u, v = cloud.pixels(points)
        column, row = np.round(u).astype(int), np.round(v).astype(int)
        inside = (column >= 0) & (row >= 0) & (column < cloud.width) & (row < cloud.height)
        read = np.zeros(len(points))
        read[inside] = cloud.depth[row[inside], column[inside]]
        behind: Mask = read > points[:, 2] * (1 + _PAST)
        return ~behind

    return unseen


def measure_pair(a: Measured, b: Measured) -> Pair:
    """Distance of the centres and smallest gap of the surfaces of two objects.

    The surfaces include the far sides that were inferred. NaN where one was not measured.
    """
    if a.box is None or b.box is None:
        return Pair(a.label, b.label, math.nan, math.nan, math.nan)
    distance = float(np.linalg.norm(a.box.centre - b.box.centre))
    gap = smallest_gap(a.box.surface, b.box.surface)
    spread = math.hypot(a.std_dev["position_m"], b.std_dev["position_m"])
    return Pair(a.label, b.label, distance, gap, spread)
