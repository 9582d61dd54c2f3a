"""A claimed number against the measurement of the same quantity of the same objects.

MSMU's rule decides, and only where it gives one answer over the whole 90 % interval of the
measurement. Does not know sessions, regions or verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sdvlm_core.answer import SIDES, Asked, Measurement, Quantity, Source
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.language.question import OBJECTS, RELATIONS
from sdvlm_core.verification.check import Check, StatedVerdict, undecided
from sdvlm_core.verification.estimates import ONE, Estimate, difference, estimate, of_one
from sdvlm_core.verification.objects import NotMeasuredError, Objects

#: Two lengths agree if their ratio is below this: the success rule of MSMU-Bench.
MAX_RATIO = 1.25
#: 1 sigma of a length that a model answers without one, as a fraction of it: the rule above.
_LANGUAGE_STD_DEV_FRACTION = MAX_RATIO - 1
#: The kinds of numbers that depth can measure.
MEASURED = ONE | {Quantity.DISTANCE, Quantity.GAP, Quantity.DIFFERENCE}
#: Of "A is 0.1 m R than B": the quantity of A is the greater one. The other relations are their
#: opposites.
GREATER = frozenset(("taller", "wider", "longer", "larger", "farther"))


def check_number(claim: Measurement, asked: Asked, objects: Objects) -> Check:
    """Compare a claimed number; undecided, with the reason, where geometry cannot judge it."""
    kind = claim.kind
    if kind in MEASURED and not _was_asked(kind, asked):
        reason = f"the answer states {kind.name}, and {asked.quantity.name} was asked for"
        return undecided(claim, reason)
    names = claim.objects or asked.objects
    try:
        value, found = _measured(kind, names, asked.relation, objects)
    except NotMeasuredError as error:
        return undecided(claim, str(error))
    return _compared(claim, names, value, found)


def measure_asked(asked: Asked, objects: Objects, why: str = "") -> tuple[Check, ...]:
    """The asked numbers from depth, compared with nothing: one check for each side of a SIZE.

    Args:
        why: why there is nothing to compare with, for people.
    """
    return tuple(
        _unstated(replace(asked, quantity=kind), objects, why)
        for kind in (SIDES if asked.quantity is Quantity.SIZE else (asked.quantity,))
    )


def _unstated(asked: Asked, objects: Objects, why: str) -> Check:
    claim, names = StatedVerdict(asked), asked.objects
    before = f"{why}; " if why else ""
    try:
        value, found = _measured(asked.quantity, names, asked.relation, objects)
    except NotMeasuredError as error:
        return undecided(claim, f"{before}{error}")
    if math.isnan(value.value):
        return Check(claim, None, None, before + _nothing(value), value.warnings, found)
    measurement = Measurement(asked.quantity, value.value, value.std_dev, Source.GEOMETRY, names)
    reason = _unfit(value) if value.unfit else f"geometry measures {_words(value)}"
    return Check(claim, measurement, None, before + reason, value.warnings, found)


def _measured(
    kind: Quantity, names: Sequence[str], relation: str, objects: Objects
) -> tuple[Estimate, tuple[Measured, ...]]:
    """A quantity of named objects; raises NotMeasuredError."""
    if kind not in MEASURED:
        raise NotMeasuredError(f"depth does not measure {kind.name}")
    needed = OBJECTS[kind][0]
    if len(names) != needed:
        listed = ", ".join(names) or "none"
        raise NotMeasuredError(f"{kind.name} is of {needed} objects; the answer names: {listed}")
    found = objects.measured(names)
    value = _difference(relation, found) if kind is Quantity.DIFFERENCE else estimate(kind, found)
    if value is None:
        raise NotMeasuredError(f"depth does not measure {kind.name} {relation}".rstrip())
    return value, found


def exchanged(claims: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """The claims with length >= width for each object, as the definitions have it."""
    result = list(claims)
    for i, one in enumerate(result):
        for j, other in enumerate(result):
            horizontal = (one.kind, other.kind) == (Quantity.LENGTH, Quantity.WIDTH)
            if horizontal and one.objects == other.objects and one.value < other.value:
                result[i], result[j] = replace(other, kind=one.kind), replace(one, kind=other.kind)
                break
    return tuple(result)


def agreement(claim: float, value: float, half_90: float) -> bool | None:
    """Whether a claim is right by MSMU's rule: max(a / b, b / a) < 1.25, the same sign.

    None if it is right for some values within the 90 % interval and wrong for others.
    """
    low, high = sorted((claim / MAX_RATIO, claim * MAX_RATIO))
    least, greatest = value - half_90, value + half_90
    if low < least and greatest < high:
        return True
    if greatest <= low or high <= least:
        return False
    return None


def fused(claim: Measurement, measurement: Measurement) -> Measurement:
    """The mean of a claim and a measurement of one kind, weighted by inverse variance.

    A claim without a standard deviation gets the one that the agreement rule implies.
    """
    std_dev = claim.std_dev if claim.std_dev > 0 else _LANGUAGE_STD_DEV_FRACTION * abs(claim.value)
    a, b = std_dev**-2, max(measurement.std_dev, 1e-6) ** -2
    value = (a * claim.value + b * measurement.value) / (a + b)
    return replace(measurement, value=value, std_dev=(a + b) ** -0.5, source=Source.FUSED)


def _was_asked(kind: Quantity, asked: Asked) -> bool:
    """A FREE question asks for anything but a difference, whose relation it does not state."""
    if asked.quantity is Quantity.FREE:
        return kind is not Quantity.DIFFERENCE
    return kind is asked.quantity or (asked.quantity is Quantity.SIZE and kind in SIDES)


def _difference(relation: str, found: Sequence[Measured]) -> Estimate | None:
    kind = RELATIONS.get(relation, Quantity.FREE)
    if kind not in ONE:
        return None
    first, second = (of_one(kind, one) for one in found)
    return difference(first, second) if relation in GREATER else difference(second, first)


def _compared(
    claim: Measurement, names: tuple[str, ...], value: Estimate, found: tuple[Measured, ...]
) -> Check:
    """Undecided if the measurement is unfit to act on, or if its interval reaches the limit."""
    if math.isnan(value.value):
        return Check(claim, None, None, _nothing(value), value.warnings, found)
    measurement = Measurement(claim.kind, value.value, value.std_dev, Source.GEOMETRY, names)
    if value.unfit:
        return Check(claim, measurement, None, _unfit(value), value.warnings, found)
    agrees = agreement(claim.value, value.value, value.half_90)
    word = {True: "agrees", False: "disagrees", None: "cannot tell"}[agrees]
    reason = f"geometry {word}: {_words(value)}, answer {claim.value:.3f} m"
    return Check(claim, measurement, agrees, reason, value.warnings, found)


def _nothing(value: Estimate) -> str:
    return f"nothing was measured: {value.unfit}"


def _unfit(value: Estimate) -> str:
    return f"the measurement is unfit to act on: {value.unfit}"


def _words(value: Estimate) -> str:
    return f"{value.value:.3f} m ± {value.std_dev:.3f} m (90 % within {value.half_90:.3f} m)"
