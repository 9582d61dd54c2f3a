"""What geometry alone answers: the asked numbers, comparisons and positions, measured from depth.

Nothing of the model is in these values except the places of objects without a region. Does not
judge what the model claims (`numbers`, `comparisons`), and cannot count or tell what exists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sdvlm_core.answer import (
    Asked,
    Measurement,
    Position,
    Quantity,
    SpatialAnswer,
    Status,
    Verdict,
)
from sdvlm_core.verification.check import Check, StatedVerdict, undecided
from sdvlm_core.verification.comparisons import check_verdict
from sdvlm_core.verification.numbers import measure_asked
from sdvlm_core.verification.objects import NotLocatedError, Objects

_Claims = Sequence[Measurement | StatedVerdict]


def checks_alone(answer: SpatialAnswer, claims: _Claims, objects: Objects) -> tuple[Check, ...]:
    """The measurements that answer the question; they agree and disagree with nothing.

    Args:
        claims: of the answer; they say which quantities a FREE question is about.
    """
    asked = answer.asked
    if answer.status is Status.NOT_VISIBLE and not set(asked.objects) <= {*objects.regions}:
        return (undecided(StatedVerdict(asked), "the model does not see it"),)
    if asked.quantity is Quantity.COMPARISON:
        return (_compared(asked, objects),)
    if asked.quantity is Quantity.POSITION:
        return (measure_position(asked, objects),)
    if asked.quantity is Quantity.EXISTS:
        return (check_verdict(StatedVerdict(asked), objects),)
    if asked.quantity is not Quantity.FREE:
        return measure_asked(asked, objects)
    wanted = dict.fromkeys(
        (one.kind, one.objects) for one in claims if isinstance(one, Measurement)
    )
    return tuple(
        check for kind, names in wanted for check in measure_asked(Asked(kind, names), objects)
    )


def measure_position(asked: Asked, objects: Objects) -> Check:
    """The place of an object's centre."""
    claim = StatedVerdict(asked)
    try:
        found = objects.measured(asked.objects)
    except NotLocatedError as error:
        return undecided(claim, str(error))
    x, y, z = found[0].position_m
    if math.isnan(x):
        codes = ", ".join(code.value for code in found[0].warnings)
        return Check(claim, None, None, f"nothing was measured: {codes}", found[0].warnings, found)
    reason = f"geometry: the centre is at {x:.3f} {y:.3f} {z:.3f} m"
    return Check(claim, None, None, reason, found[0].warnings, found)


def positions(checks: Sequence[Check]) -> tuple[Position, ...]:
    """The centres that `measure_position` found, with the objects' names."""
    return tuple(
        Position(one.label, *one.position_m)
        for check in checks
        if check.claim.kind is Quantity.POSITION
        for one in check.objects
        if not math.isnan(one.position_m[0])
    )


def answered_alone(answer: SpatialAnswer, checks: Sequence[Check]) -> SpatialAnswer:
    """The answer with geometry's values in place of the model's; none in place of none.

    Its status is NO_ANSWER where nothing was measured, unless it says more. The model's confidence
    is not about these values. EXISTS and what a FREE question describes stay the model's.
    """
    quantity = answer.asked.quantity
    if quantity is Quantity.EXISTS or (quantity is Quantity.FREE and not checks):
        return replace(answer, measurements=())
    measurements = tuple(one.measurement for one in checks if one.measurement is not None)
    places = positions(checks) if quantity is Quantity.POSITION else answer.positions
    stated = next(one.claim for one in checks)
    assert isinstance(stated, StatedVerdict)
    known = bool(measurements or stated.chosen or stated.verdict is not Verdict.UNDECIDED)
    known |= quantity is Quantity.POSITION and bool(places)
    says_more = answer.status in (Status.NOT_VISIBLE, Status.NO_DEPTH)
    return replace(
        answer,
        measurements=measurements,
        positions=places,
        verdict=stated.verdict,
        chosen=stated.chosen,
        confidence=math.nan,
        status=Status.OK if known else answer.status if says_more else Status.NO_ANSWER,
        why_none="" if known else "; ".join(dict.fromkeys(one.reason for one in checks)),
    )


def _compared(asked: Asked, objects: Objects) -> Check:
    """The verdict or the choice of geometry, as the claim of a check."""
    tried = [StatedVerdict(asked, Verdict.HOLDS)]
    if asked.which:
        tried = [StatedVerdict(asked, chosen=name) for name in asked.objects]
    checks = [check_verdict(one, objects) for one in tried]
    check = next((one for one in checks if one.agrees), checks[0])
    claim = StatedVerdict(asked)
    if check.agrees:
        claim = tried[checks.index(check)]
    elif check.agrees is False and not asked.which:
        claim = StatedVerdict(asked, Verdict.DOES_NOT_HOLD)
    return replace(check, claim=claim, agrees=None)
