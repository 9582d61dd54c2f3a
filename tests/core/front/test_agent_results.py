"""What an agent is told of an answer: the number that was asked for, or why there is none."""

from __future__ import annotations

from typing import Any

import pytest

mcp = pytest.importorskip("mcp")


from sdvlm_core.answer import (  # noqa: E402
    SIDES,
    Asked,
    Measurement,
    Quantity,
    Source,
    SpatialAnswer,
    Status,
    Verdict,
    answer_document,
)
from sdvlm_core.cautions import Caution  # noqa: E402
from sdvlm_core.errors import ErrorCode  # noqa: E402
from sdvlm_core.front import agent_results  # noqa: E402


def test_every_error_code_says_what_to_do() -> None:
    assert {code.name for code in ErrorCode if code} <= agent_results.WHAT_TO_DO.keys()


def answer(kind: Quantity, *numbers: Measurement, **fields: Any) -> agent_results.AnswerResult:
    found = SpatialAnswer("?", "text", Asked(kind, ("mug",)), tuple(numbers), **fields)
    return agent_results.answer_result(answer_document(found), "?")


def number(source: Source, value: float = 0.1, kind: Quantity = Quantity.HEIGHT) -> Measurement:
    return Measurement(kind, value, 0.01, source, ("mug",))


def test_only_what_depth_confirms_is_fit_to_act_on() -> None:
    told, seen = number(Source.LANGUAGE), number(Source.GEOMETRY, 0.2)
    alone = answer(Quantity.HEIGHT, told)
    assert (alone.fit_to_act_on, alone.value, alone.source) == (False, 0.1, "LANGUAGE")
    both = answer(Quantity.HEIGHT, told, seen)
    assert (both.fit_to_act_on, both.value, both.source) == (True, 0.2, "GEOMETRY")
    contradicted = answer(Quantity.HEIGHT, told, seen, status=Status.DISAGREEMENT)
    assert not contradicted.fit_to_act_on
    doubtful = answer(Quantity.HEIGHT, told, seen, cautions=(Caution.TRUNCATED,))
    assert doubtful.why_not == "truncated"
    assert not answer(Quantity.HEIGHT, status=Status.NO_ANSWER).fit_to_act_on
    assert not answer(Quantity.COMPARISON, verdict=Verdict.HOLDS).fit_to_act_on


@pytest.mark.parametrize(
    ("asked", "kind", "objects"),
    [
        (Quantity.HEIGHT, Quantity.WIDTH, ("mug",)),
        (Quantity.HEIGHT, Quantity.HEIGHT, ("box",)),
        (Quantity.SIZE, Quantity.LENGTH, ("mug",)),
        (Quantity.FREE, Quantity.LENGTH, ("mug",)),
    ],
)
def test_a_number_of_another_kind_or_object_is_never_the_value(asked, kind, objects) -> None:
    other = Measurement(kind, 0.3, 0.01, Source.GEOMETRY, objects)
    found = answer(asked, other)
    assert (found.value, found.source, found.fit_to_act_on) == (None, "", False)
    assert [(one.kind, one.value, one.objects) for one in found.numbers] == [
        (kind.name, 0.3, list(objects))
    ]


def test_a_size_is_fit_when_depth_has_measured_every_side() -> None:
    sides = [number(Source.GEOMETRY, 0.1, kind) for kind in SIDES]
    assert answer(Quantity.SIZE, *sides).fit_to_act_on
    assert not answer(Quantity.SIZE, *sides[:2]).fit_to_act_on
    told = number(Source.LANGUAGE, 0.1, SIDES[2])
    assert not answer(Quantity.SIZE, *sides[:2], told).fit_to_act_on


def test_a_count_and_an_existence_need_no_depth() -> None:
    count = number(Source.LANGUAGE, 0.0, Quantity.COUNT)
    assert answer(Quantity.COUNT, count, status=Status.NOT_VISIBLE).fit_to_act_on
    assert answer(Quantity.EXISTS, verdict=Verdict.DOES_NOT_HOLD).fit_to_act_on
    assert not answer(Quantity.EXISTS).fit_to_act_on
