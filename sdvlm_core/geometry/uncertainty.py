"""Standard deviations and 90 % intervals of an object's position, distance and size.

The error sources are taken as independent, so they add as squares:

- reading: scatter of one depth reading. The extreme of many readings scatters about as much as one
  reading.
- edge: place of the outline, whose pixels are lost or mixed with the background, on each side.
- calibration: scale error of the depth camera, a fraction of every length.
- support: unevenness of the support plane, where height starts.
- hidden depth: extent behind the visible side.
- base: the object may end anywhere between its lowest reading and the support.
- cut: extent that an occluder or the image's border hides.

Their sum is then scaled by a factor that was fitted to true values (`calibration_table`), because
shapes, poses and wrong pixels add errors that no source describes, with heavier tails than a
Gaussian's. Does not know pixels, planes or depth images beyond these numbers, and issues no
warnings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sdvlm_core.cautions import Caution
from sdvlm_core.geometry.calibration_table import SCALES, TAILS
from sdvlm_core.geometry.object_pixels import ObjectPixels
from sdvlm_core.geometry.point_cloud import Points
from sdvlm_core.geometry.robust import median
from sdvlm_core.geometry.sensor_noise import DepthNoise
from sdvlm_core.geometry.upright_box import UprightBox

#: Keys of `Measured.std_dev`; all in metres.
STD_DEV_KEYS = ("position_m", "camera_distance_m", "length_m", "width_m", "height_m")
#: Keys of the spreads of a pair.
DISTANCE, GAP = "distance_m", "gap_m"

# Fractions tuned on the development frames of benchmarks/real_frames.py and on training.simulate.
#: 1 sigma of the place of an outline found by colour, in sampling intervals of the image.
_COLOUR_EDGE = 1.0
#: 1 sigma of a depth inferred from symmetry, as a fraction of it.
_INFERRED_DEPTH_FRACTION = 0.25
#: 1 sigma of a size, as a fraction of it, if an occluder covers an end of it, and if the border of
#: the image cuts the object.
_COVERED_FRACTION, _TRUNCATED_FRACTION = 0.3, 0.5
#: 1 sigma of a hidden depth, as a fraction of the visible width, that is much.
_MUCH_UNSEEN = 0.15
#: Two plausible values that differ by a larger fraction are not the same answer, as two sizes whose
#: ratio is more than 1.25. Shorter lengths count as this long, metres.
_AMBIGUOUS_FRACTION, _SHORTEST_M = 0.25, 1e-3
#: Values with a larger std_dev are imprecise. Set on the development splits, where it separates
#: right from wrong answers (the table of warnings of benchmarks/real_frames.py).
_IMPRECISE_FRACTION = 0.3


class Situation(str, Enum):
    """What the calibration distinguishes, besides the quantity and the kind of depth."""

    CLEAR = "clear"
    HIDDEN = "hidden"  # a part is hidden or outside the view
    DOUBTFUL = "doubtful"  # which readings are the object's is not certain

    @classmethod
    def of(cls, warnings: Iterable[Caution], sources: ErrorSources) -> Situation:
        """The situation of one object, by the warnings about its frame and its pixels."""
        if set(warnings) - _HARMLESS:
            return cls.DOUBTFUL
        hides = max(sources.cut_across, sources.cut_up, sources.base, sources.unseen_share)
        return cls.HIDDEN if hides > 0 else cls.CLEAR

    def worse(self, other: Situation) -> Situation:
        """The worse of two."""
        return max(self, other, key=list(Situation).index)


_HARMLESS = {
    Caution.ASSUMED_RECTIFIED,
    Caution.SPARSE_DEPTH,
    Caution.NO_SUPPORT_PLANE,
    Caution.TRUNCATED,  # a part of ErrorSources
}


@dataclass(frozen=True)
class Spread:
    """The error of one value, metres.

    Attributes:
        std_dev: 1 sigma.
        half_90: half of the interval that contains the true value with a probability of 90 %.
        physical: the sum of the error sources, before the calibration.
        alternative: half the difference between two plausible values; 0 = there is one.
        row: the row of the calibration table: kind of depth, key, situation.
    """

    std_dev: float
    half_90: float
    physical: float = math.nan
    alternative: float = 0.0
    row: tuple[str, str, str] = ("", "", "")

    def interval_90(self, value: float) -> tuple[float, float]:
        """(low, high) around a length; low is at least 0."""
        low = value - self.half_90
        return 0.0 if low < 0 else low, value + self.half_90


#: Of a value that was not measured.
UNKNOWN = Spread(math.nan, math.nan)


def calibrated(
    physical: float, key: str, depth_kind: str, situation: Situation, alternative: float = 0.0
) -> Spread:
    """The error of a value from the sum of its error sources.

    The alternative is not scaled: if the other value is the true one, the error is twice that. It
    is within 2 std_dev, and within the 90 % interval.

    Args:
        physical: 1 sigma, metres.
        key: one of STD_DEV_KEYS, DISTANCE or GAP.
        depth_kind: `DepthNoise.kind`.
        situation: of the object or pair.
        alternative: half the difference between two plausible values, metres.
    """
    row = (depth_kind, key, situation.value)
    scaled = SCALES[row] * physical
    std_dev = math.hypot(scaled, alternative)
    half = TAILS[depth_kind, key] * std_dev
    if alternative > 0:
        half = max(half, 2 * alternative + scaled)
    return Spread(std_dev, half, physical, alternative, row)


def is_imprecise(value: float, spread: Spread) -> bool:
    """Whether the error is large compared with the value."""
    return spread.std_dev > _IMPRECISE_FRACTION * value


def is_ambiguous(value: float, spread: Spread) -> bool:
    """Whether another plausible value is another answer."""
    return 2 * spread.alternative > _AMBIGUOUS_FRACTION * max(value, _SHORTEST_M)


def doubts(value: float, spread: Spread) -> tuple[Caution, ...]:
    """The cautions that the error of one value shows."""
    conditions = {
        Caution.AMBIGUOUS_EXTENT: is_ambiguous(value, spread),
        Caution.IMPRECISE: is_imprecise(value, spread),
    }
    return tuple(code for code, holds in conditions.items() if holds)


@dataclass(frozen=True)
class ErrorSources:
    """1 sigma of each error source of one object, metres.

    Attributes:
        reading: scatter of one depth reading.
        edge: place of the outline.
        edge_lost: mean part of the outline that is lost, on each side, negative where it is gained;
            not random.
        support: unevenness of the support.
        base: place of the lower end.
        hidden: extent of the far side along the horizontal view.
        cut_across: horizontal extent that an occluder or the border hides, as a fraction of it.
        cut_up: the same of the height.
        unseen_share: `hidden` as a fraction of the visible width, if it is much; else 0.
        scale: calibration, as a fraction of a length.
        depth_kind: `DepthNoise.kind`.
    """

    reading: float
    edge: float
    edge_lost: float
    support: float
    base: float
    hidden: float
    cut_across: float
    cut_up: float
    unseen_share: float
    scale: float
    depth_kind: str


def hidden_depth_std_dev(box: UprightBox) -> float:
    """1 sigma of the depth that the visible side may hide, metres along the horizontal view.

    An object may be as deep as it is wide; the steeper the view, the less can be hidden.
    """
    depth = box.visible_depth + box.inferred_depth
    unseen = (1 - _elevation_sine(box)) * max(0.0, box.visible_width - depth) / math.sqrt(12)
    return math.hypot(unseen, box.inferred_depth * _INFERRED_DEPTH_FRACTION)


def hidden_underside(box: UprightBox) -> float:
    """How far a thing in the air may extend below its lowest reading, metres.

    The camera sees the side of a ball down to where the line of sight touches it.
    """
    return box.visible_width / 2 * (1 - math.sqrt(1 - _elevation_sine(box) ** 2))


def error_sources(
    box: UprightBox,
    pixels: ObjectPixels,
    points: Points,
    pixel_m: float,
    noise: DepthNoise,
    clearance_m: float,
) -> ErrorSources:
    """The error sources of one object.

    Args:
        box: the object's upright box.
        pixels: the object's pixels and its surroundings.
        points: (N, 3) the object's points, metres.
        pixel_m: size of one pixel at the object's distance, metres.
        noise: noise model of the depth camera.
        clearance_m: height of the lowest reading above the support, if the object may extend down
            to the support; 0 = the object ends at its lowest reading.
    """
    z = median(points[:, 2])
    flat = pixels.flat is not None  # its whole outline is seen
    by_colour = pixels.flat is not None and not pixels.flat.found.by_depth.any()
    hidden = 0.0 if flat else hidden_depth_std_dev(box)
    share = hidden / box.visible_width if box.visible_width > 0 else 0.0
    cut_across, cut_up = _cut_fractions(pixels)
    return ErrorSources(
        reading=noise.reading_std_dev(z),
        edge=_COLOUR_EDGE * pixels.step * pixel_m if by_colour else noise.edge_std_dev(z, pixel_m),
        edge_lost=0.0 if flat else noise.edge_lost_rad * z,
        support=pixels.plane.spread * z if pixels.plane.detected else 0.0,
        base=clearance_m / math.sqrt(12),
        hidden=hidden,
        cut_across=cut_across,
        cut_up=cut_up,
        unseen_share=share if share > _MUCH_UNSEEN else 0.0,
        scale=noise.scale_fraction,
        depth_kind=noise.kind,
    )


def spreads(
    box: UprightBox,
    sources: ErrorSources,
    situation: Situation,
    alternatives: Mapping[str, float] | None = None,
) -> dict[str, Spread]:
    """The error of each measured value, by STD_DEV_KEYS.

    Args:
        box: the object's upright box.
        sources: its error sources.
        situation: what its warnings describe.
        alternatives: half the difference between two plausible values, metres, by STD_DEV_KEYS.
    """
    other = alternatives or {}
    return {
        key: calibrated(physical, key, sources.depth_kind, situation, other.get(key, 0.0))
        for key, physical in _physical(box, sources).items()
    }


def _physical(box: UprightBox, sources: ErrorSources) -> dict[str, float]:
    """The sum of the error sources of each value, metres, by STD_DEV_KEYS."""
    length, width, height = (float(value) for value in box.size)
    distance = float(np.linalg.norm(box.centre))

    def horizontal(value: float, along_view: float) -> float:
        visible = math.hypot(math.sqrt(2) * sources.edge, sources.reading)
        of_size = math.hypot(sources.scale * value, sources.cut_across * value)
        return math.hypot(visible, of_size, along_view * sources.hidden)

    view = horizontal_view(box)
    length_along_view, width_along_view = (abs(float(axis @ view)) for axis in box.axes[:2])
    outline = sources.edge * math.sqrt(1 - _elevation_sine(box) ** 2)
    vertical = math.hypot(outline, sources.reading, sources.support, sources.base)
    of_centre = centre_std_dev(box, sources)
    return {
        "position_m": math.hypot(of_centre, sources.scale * distance),
        "camera_distance_m": math.hypot(of_centre, sources.scale * distance),
        "length_m": horizontal(length, length_along_view),
        "width_m": horizontal(width, width_along_view),
        "height_m": math.hypot(vertical, sources.scale * height, sources.cut_up * height),
    }


def centre_std_dev(box: UprightBox, sources: ErrorSources) -> float:
    """1 sigma of the centre's place without the scale error, metres."""
    of_depth = math.hypot(sources.reading, sources.hidden / 2)
    of_extent = math.hypot(sources.cut_across * float(box.size[0]) / 2, sources.base / 2)
    return math.hypot(of_depth, sources.edge, of_extent)


def horizontal_view(box: UprightBox) -> Points:
    """Unit vector (3,) from the camera to the object along the support."""
    up = box.axes[2]
    view = box.centre - (box.centre @ up) * up
    size = float(np.linalg.norm(view))
    return view / size if size > 1e-9 else box.axes[0]


def _elevation_sine(box: UprightBox) -> float:
    """Sine of the camera's elevation over the object; 1 = straight from above."""
    distance = float(np.linalg.norm(box.centre))
    return min(1.0, abs(float(box.centre @ box.axes[2])) / distance)


def _cut_fractions(pixels: ObjectPixels) -> tuple[float, float]:
    """1 sigma of what an occluder or the border hides, as fractions of the width and the height."""
    if pixels.truncated:
        return _TRUNCATED_FRACTION, _TRUNCATED_FRACTION
    across, up = pixels.covered_across, pixels.covered_up
    return _COVERED_FRACTION if across else 0.0, _COVERED_FRACTION if up else 0.0
