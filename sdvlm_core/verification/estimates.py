"""Measured objects -> the value of one quantity with its error and its warnings.

One function for each kind of number that can be claimed, so that a claim meets a value of its own
kind. Does not know claims.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sdvlm_core.answer import Quantity
from sdvlm_core.cautions import UNFIT, Caution
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import measure_pair
from sdvlm_core.geometry.uncertainty import UNKNOWN

_SIDES = {
    Quantity.LENGTH: "length_m",
    Quantity.WIDTH: "width_m",
    Quantity.HEIGHT: "height_m",
}


@dataclass(frozen=True)
class Estimate:
    """A value from depth; metres.

    Attributes:
        value: NaN = nothing was measured.
        std_dev: 1 sigma.
        half_90: half of the interval that contains the true value with a probability of 90 %.
        warnings: what makes the value doubtful.
    """

    value: float
    std_dev: float
    half_90: float
    warnings: tuple[Caution, ...]

    @property
    def unfit(self) -> str:
        """The codes of the warnings that make the value unfit to act on; "" = none."""
        return ", ".join(sorted(code.value for code in UNFIT.intersection(self.warnings)))


def estimate(kind: Quantity, objects: Sequence[Measured]) -> Estimate | None:
    """The value of a quantity of one object or of a pair; None if geometry does not measure it."""
    pair = _OF_PAIRS.get(kind)
    if pair is not None:
        return pair(*objects) if len(objects) == 2 else None
    return of_one(kind, objects[0]) if kind in ONE and len(objects) == 1 else None


def of_one(kind: Quantity, one: Measured) -> Estimate:
    """A side or the camera distance of an object."""
    if kind is Quantity.CAMERA_DISTANCE:
        key, warnings = "camera_distance_m", one.distance_warnings
    else:
        key, warnings = _SIDES[kind], one.warnings
    spread = one.spreads.get(key, UNKNOWN)
    return Estimate(getattr(one, key), spread.std_dev, spread.half_90, warnings)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """First minus second; their errors are independent."""
    return Estimate(
        first.value - second.value,
        math.hypot(first.std_dev, second.std_dev),
        math.hypot(first.half_90, second.half_90),
        tuple(dict.fromkeys((*first.warnings, *second.warnings))),
    )


def log_volume(one: Measured) -> Estimate:
    """The logarithm of length x width x height; a difference of two is that of their ratio."""
    sides = [of_one(kind, one) for kind in _SIDES]
    if not all(side.value > 0 for side in sides):
        return Estimate(math.nan, math.nan, math.nan, one.warnings)
    return Estimate(
        sum(math.log(side.value) for side in sides),
        math.hypot(*(side.std_dev / side.value for side in sides)),
        math.hypot(*(side.half_90 / side.value for side in sides)),
        one.warnings,
    )


def _distance(a: Measured, b: Measured) -> Estimate:
    pair = measure_pair(a, b)
    spread = pair.distance_spread
    return Estimate(pair.distance_m, spread.std_dev, spread.half_90, pair.distance_warnings)


def _gap(a: Measured, b: Measured) -> Estimate:
    pair = measure_pair(a, b)
    return Estimate(pair.gap_m, pair.gap_spread.std_dev, pair.gap_spread.half_90, pair.warnings)


#: What is measured of one object.
ONE = frozenset((*_SIDES, Quantity.CAMERA_DISTANCE))
_OF_PAIRS: dict[Quantity, Callable[[Measured, Measured], Estimate]] = {
    Quantity.DISTANCE: _distance,
    Quantity.GAP: _gap,
}
