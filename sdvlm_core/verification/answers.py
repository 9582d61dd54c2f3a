"""The claims of an answer -> checks, and the answer with what was measured.

A claim is compared only with a measurement of its own kind and objects (`numbers`, `comparisons`).
A number is fused with its measurement only if the two agree; after a disagreement both stay. Does
not know how objects are measured (`geometry`), messages or requests.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sdvlm_core.answer import Asked, Measurement, Quantity, SpatialAnswer, Status
from sdvlm_core.cautions import UNFIT
from sdvlm_core.frame import Region
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR
from sdvlm_core.language.object_names import matched_labels, matched_name
from sdvlm_core.verification.check import Check, StatedVerdict, undecided
from sdvlm_core.verification.comparisons import check_verdict
from sdvlm_core.verification.numbers import check_number, exchanged, fused
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

    Returns:
        The answer with the measurements added, and one check per claim: at least one, which says
        why nothing is judged. Where a number agrees, a FUSED measurement is added; where a claim is
        contradicted, the status becomes DISAGREEMENT. In a frame without metric depth or
        intrinsics every check is undecided.

    Raises:
        QueryError: a region belongs to no object of the question or the answer, or to several; a
            mask is not of the image's size; or the sensor is unknown.
        QueryTimeout, QueryCanceled, ModelMemoryError: from the questions that locate the objects.
    """
    claims = _claims(answer)
    by_name = _regions_by_name(answer.asked, claims, regions, others)
    objects = Objects(session, by_name, sensor, deadline, cancel)
    checks = tuple(_check(claim, answer, objects) for claim in claims)
    status, cautions = answer.status, answer.cautions
    if any(check.agrees is False for check in checks):
        status = Status.DISAGREEMENT
    if any(check.objects for check in checks):
        # An answer's measurements have no warnings of their own.
        unfit = [code for one in checks for code in one.warnings if code in UNFIT]
        cautions = tuple(dict.fromkeys((*cautions, *objects.scene.cautions, *unfit)))
    return replace(
        answer,
        measurements=(*answer.measurements, *_measured(checks), *_fused(checks)),
        status=status,
        cautions=cautions,
    ), checks


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


def _check(claim: Measurement | StatedVerdict, answer: SpatialAnswer, objects: Objects) -> Check:
    if isinstance(claim, Measurement):
        return check_number(claim, answer.asked, objects)
    if claim.kind in _NUMERIC:
        because = f": {answer.why_none}" if answer.why_none else ""
        return undecided(claim, f"the answer states no {claim.kind.name}{because}")
    return check_verdict(claim, objects)


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


_NUMERIC = frozenset(
    [
        *(Quantity.LENGTH, Quantity.WIDTH, Quantity.HEIGHT, Quantity.SIZE, Quantity.DISTANCE),
        *(Quantity.GAP, Quantity.CAMERA_DISTANCE, Quantity.COUNT, Quantity.DIFFERENCE),
    ]
)
