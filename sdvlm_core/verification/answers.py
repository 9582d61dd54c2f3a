"""The claims of an answer -> checks, and the answer with what was measured.

`AnswerBy` says whose numbers the answer has: geometry's beside the model's, or alone (`alone`). A
claim is compared only with a measurement of its own kind and objects (`numbers`, `comparisons`).
A number is fused with its measurement only if the two agree; after a disagreement both stay. Does
not know how objects are measured (`geometry`), messages or requests.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sdvlm_core.answer import AnswerBy, Asked, Measurement, Quantity, SpatialAnswer, Status
from sdvlm_core.cautions import UNFIT
from sdvlm_core.frame import Region
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR
from sdvlm_core.language.object_names import matched_labels, matched_name
from sdvlm_core.verification.alone import (
    answered_alone,
    checks_alone,
    measure_position,
    positions,
)
from sdvlm_core.verification.check import Check, StatedVerdict, undecided
from sdvlm_core.verification.comparisons import check_verdict
from sdvlm_core.verification.numbers import (
    MEASURED,
    check_number,
    exchanged,
    fused,
    measure_asked,
)
from sdvlm_core.verification.objects import Objects

if TYPE_CHECKING:  # imports torch
    from sdvlm_core.session import FrameSession


def verify(
    session: FrameSession,
    answer: SpatialAnswer,
    regions: Sequence[Region] = (),
    sensor: str = DEFAULT_SENSOR,
    deadline: float | None = None,
    cancel: threading.Event | None = None,
    others: Sequence[Asked] = (),
    answer_by: AnswerBy = AnswerBy.BOTH,
) -> tuple[SpatialAnswer, tuple[Check, ...]]:
    """Measure the objects of an answer, and compare what it claims of them.

    Args:
        session: the session of the answer's frame.
        answer: the answer of the session.
        regions: the objects' regions by label; the model is asked for the other objects.
        sensor: preset of `sensor_noise`.
        deadline: as in `FrameSession.ask`.
        cancel: as in `FrameSession.ask`.
        others: all questions of the request, whose objects may have regions too.
        answer_by: LANGUAGE = nothing is measured.

    Returns:
        BOTH: the answer with the measurements added, and one check per claim: at least one, which
        says why nothing is judged. Where a number agrees, a FUSED measurement is added; where a
        claim is contradicted, the status becomes DISAGREEMENT. A number that the text does not
        state is measured too, if the objects have regions or get boxes from the model.
        GEOMETRY: the answer with the measurements in place of the model's values
        (`alone.answered_alone`), and one undecided check per value.
        In a frame without metric depth or intrinsics every check is undecided.

    Raises:
        QueryError: a region belongs to no object of the question or the answer, or to several; a
            mask is not of the image's size; or the sensor is unknown.
        QueryTimeout, QueryCanceled, ModelMemoryError: from the questions that locate the objects.
    """
    if answer_by is AnswerBy.LANGUAGE:
        return answer, ()
    claims = _claims(answer)
    by_name = _regions_by_name(answer.asked, claims, regions, others)
    objects = Objects(session, by_name, sensor, deadline, cancel)
    if answer_by is AnswerBy.GEOMETRY:
        checks = checks_alone(answer, claims, objects)
        answer = answered_alone(answer, checks)
    else:
        checks = tuple(check for claim in claims for check in _checks(claim, answer, objects))
        answer = _answered_by_both(answer, checks)
    if any(check.objects for check in checks):
        # An answer's measurements have no warnings of their own.
        unfit = [code for one in checks for code in one.warnings if code in UNFIT]
        cautions = tuple(dict.fromkeys((*answer.cautions, *objects.scene.cautions, *unfit)))
        answer = replace(answer, cautions=cautions)
    return answer, checks


def _answered_by_both(answer: SpatialAnswer, checks: Sequence[Check]) -> SpatialAnswer:
    measured, places = _measured(checks), positions(checks)
    status = answer.status
    if any(check.agrees is False for check in checks):
        status = Status.DISAGREEMENT
    elif status is Status.NO_ANSWER and (measured or places):
        status = Status.OK
    return replace(
        answer,
        measurements=(*answer.measurements, *measured, *_fused(checks)),
        positions=(*answer.positions, *places),
        status=status,
    )


def _claims(answer: SpatialAnswer) -> tuple[Measurement | StatedVerdict, ...]:
    """The numbers of the answer, with the asked names of their objects, and its verdict.

    An answer without a number has one claim too, so that a check says why nothing is judged.
    """
    asked = answer.asked
    numbers = exchanged(
        [
            replace(one, objects=tuple(_asked_name(name, asked) for name in one.objects))
            for one in answer.measurements
        ]
    )
    if asked.quantity is Quantity.COMPARISON or not numbers:
        return (*numbers, StatedVerdict(asked, answer.verdict, answer.chosen))
    return numbers


def _asked_name(name: str, asked: Asked) -> str:
    return matched_name(name, asked.objects) or name


def _checks(
    claim: Measurement | StatedVerdict, answer: SpatialAnswer, objects: Objects
) -> tuple[Check, ...]:
    if isinstance(claim, Measurement):
        return (check_number(claim, answer.asked, objects),)
    kind = claim.kind
    can_measure = answer.status is not Status.NOT_VISIBLE and objects.have_extents(claim.objects)
    if kind is Quantity.POSITION and can_measure:
        return (measure_position(claim.asked, objects),)
    if kind not in _NUMERIC:
        return (check_verdict(claim, objects),)
    because = f": {answer.why_none}" if answer.why_none else ""
    why = f"the answer states no {kind.name}{because}"
    if kind is Quantity.COUNT or not can_measure:
        return (undecided(claim, why),)
    return measure_asked(claim.asked, objects, why)


def _regions_by_name(
    asked: Asked,
    claims: Sequence[Measurement | StatedVerdict],
    regions: Sequence[Region],
    others: Sequence[Asked],
) -> dict[str, Region]:
    """The regions by the names of the answer's objects; none is silently unused."""
    claimed = [name for one in claims if isinstance(one, Measurement) for name in one.objects]
    names = [*asked.objects, *claimed, *(name for other in others for name in other.objects)]
    free = [one for one in others if one.quantity is Quantity.FREE]
    if len(free) > (asked.quantity is Quantity.FREE):
        # A label that matches nothing here may be of the answer to another FREE question.
        regions = [one for one in regions if not one.label or matched_name(one.label, names)]
    found = matched_labels([one.label for one in regions], names)
    return {name: regions[index] for name, index in found.items()}


def _measured(checks: Sequence[Check]) -> list[Measurement]:
    return [check.measurement for check in checks if check.measurement is not None]


def _fused(checks: Sequence[Check]) -> list[Measurement]:
    return [
        fused(check.claim, check.measurement)
        for check in checks
        if check.agrees and check.measurement is not None and isinstance(check.claim, Measurement)
    ]


#: Questions for numbers.
_NUMERIC = MEASURED | {Quantity.SIZE, Quantity.COUNT}
