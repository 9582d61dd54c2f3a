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
from sdvlm_core.verification.check import Check, undecided
from sdvlm_core.verification.estimates import ONE, Estimate, difference, estimate, of_one
from sdvlm_core.verification.objects import NotLocatedError, Objects

#: Two lengths agree if their ratio is below this: the success rule of MSMU-Bench.
MAX_RATIO = 1.25
#: 1 sigma of a length that a model answers without one, as a fraction of it: the rule above.
_LANGUAGE_STD_DEV_FRACTION = MAX_RATIO - 1
#: Of "A is 0.1 m R than B": the quantity of A is the greater one. The other relations are their
#: opposites.
GREATER = frozenset(("taller", "wider", "longer", "larger", "farther"))


def check_number(claim: Measurement, asked: Asked, objects: Objects) -> Check:
    """Compare a claimed number; undecided, with the reason, where geometry cannot judge it."""
    kind = claim.kind
    if kind not in OBJECTS or kind is Quantity.COUNT:
        return undecided(claim, f"depth does not measure {kind.name}")
    if not _was_asked(kind, asked):
        reason = f"the answer states {kind.name}, and {asked.quantity.name} was asked for"
        return undecided(claim, reason)
    names = claim.objects or asked.objects
    needed = OBJECTS[kind][0]
    if len(names) != needed:
        listed = ", ".join(names) or "none"
        return undecided(claim, f"{kind.name} is of {needed} objects; the answer names: {listed}")
    try:
        found = objects.measured(names)
    except NotLocatedError as error:
        return undecided(claim, str(error))
    if kind is Quantity.DIFFERENCE:
        value = _difference(asked.relation, found)
    else:
        value = estimate(kind, found)
    if value is None:
        return undecided(claim, f"depth does not measure {kind.name} {asked.relation}".rstrip())
    return _compared(claim, names, value, found)


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
        reason = f"nothing was measured: {value.unfit}"
        return Check(claim, None, None, reason, value.warnings, found)
    measurement = Measurement(claim.kind, value.value, value.std_dev, Source.GEOMETRY, names)
    if value.unfit:
        reason = f"the measurement is unfit to act on: {value.unfit}"
        return Check(claim, measurement, None, reason, value.warnings, found)
    agrees = agreement(claim.value, value.value, value.half_90)
    word = {True: "agrees", False: "disagrees", None: "cannot tell"}[agrees]
    reason = (
        f"geometry {word}: {value.value:.3f} m ± {value.std_dev:.3f} m (90 % within "
        f"{value.half_90:.3f} m), answer {claim.value:.3f} m"
    )
    return Check(claim, measurement, agrees, reason, value.warnings, found)
