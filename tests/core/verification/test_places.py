"""The model gives the places of objects as boxes, geometry the numbers; whose an answer has."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sdvlm_core.answer import (
    AnswerBy,
    Asked,
    Measurement,
    Quantity,
    Source,
    SpatialAnswer,
    Status,
    Verdict,
    answered_by,
)
from sdvlm_core.cautions import UNFIT, Caution
from sdvlm_core.errors import QueryError
from sdvlm_core.geometry.measure import measure
from sdvlm_core.language.boxes import Form
from sdvlm_core.verification import verify
from tests import blocks
from tests.core.verification.sessions import BLUE, CHAIRS, CUT, RED, TABLE, Session, room, said
from tests.locators import WITH_BOXES, Locator

PLACES = {one.label: one.box for one in (RED, BLUE, TABLE, CUT)}
TRUE_DISTANCE = math.dist(blocks.RED.centre, blocks.BLUE.centre)
HEIGHT = said(Quantity.HEIGHT, 0.95, "red chair")
#: What a model says whose text has no number.
SILENT = SpatialAnswer(
    "?", "Hard to say.", Asked(Quantity.HEIGHT, ("red chair",)), status=Status.NO_ANSWER
)


def located(form: Form = Form.THOUSAND, **places: object) -> Locator:
    return Locator(room(), {**PLACES, **places}, form)


def sources(answer: SpatialAnswer) -> list[Source]:
    return [one.source for one in answer.measurements]


@pytest.mark.parametrize("form", WITH_BOXES)
def test_an_object_without_a_region_is_measured_in_the_models_box(form):
    session = located(form)
    answer, (check,) = verify(session, HEIGHT)
    assert check.agrees is True
    assert sources(answer) == [Source.LANGUAGE, Source.GEOMETRY, Source.FUSED]
    (expected,), _ = measure(room(), [RED])
    assert answer.measurements[1].value == pytest.approx(expected.height_m, rel=0.03)
    assert check.objects[0].region.box == pytest.approx(RED.box, abs=2)
    assert session.batches == 1


def test_the_boxes_of_all_objects_are_asked_for_together():
    session = located()
    answer, (check,) = verify(session, said(Quantity.DISTANCE, TRUE_DISTANCE, *CHAIRS))
    assert (check.agrees, session.batches, len(session.asked)) == (True, 1, 2)
    assert answer.measurements[1].value == pytest.approx(TRUE_DISTANCE, rel=0.05)


def test_the_callers_region_comes_before_the_models_box():
    session = located(**{"red chair": TABLE.box})
    _, (check,) = verify(session, said(Quantity.DISTANCE, TRUE_DISTANCE, *CHAIRS), [RED])
    assert check.agrees is True
    assert check.objects[0].region.box == RED.box
    assert len(session.asked) == 1


def test_without_a_box_the_reason_is_in_the_check():
    answer, (check,) = verify(Locator(room(), {}), HEIGHT)
    assert check.reason == "object not located: red chair: the text has no box"
    assert (answer.measurements, answer.status) == (HEIGHT.measurements, Status.OK)


def test_one_box_for_two_objects_measures_nothing():
    x1, y1, x2, y2 = RED.box
    session = located(**{"blue chair": (x1 - 3, y1, x2 + 4, y2 + 2)})
    _, (check,) = verify(session, said(Quantity.GAP, 1.0, *CHAIRS))
    assert (check.agrees, check.measurement) == (None, None)
    assert "at one place" in check.reason


def test_a_box_beside_the_object_decides_nothing():
    session = located(**{"red chair": (2.0, 2.0, 60.0, 40.0)})
    answer, (check,) = verify(session, HEIGHT)
    assert check.agrees is None
    assert UNFIT.intersection(answer.cautions)


@pytest.mark.parametrize("by_model", [True, False])
def test_a_number_that_the_text_does_not_state_is_measured(by_model):
    session, regions = (located(), []) if by_model else (Session(room()), [RED])
    answer, (check,) = verify(session, SILENT, regions)
    assert sources(answer) == [Source.GEOMETRY]
    assert answer.measurements[0].value == pytest.approx(blocks.RED.sides[2], rel=0.05)
    assert (answer.status, check.agrees) == (Status.OK, None)
    assert check.reason.startswith("the answer states no HEIGHT; geometry measures 0.9")


def test_a_number_that_the_text_does_not_state_is_not_measured_at_a_mere_point():
    session = Session(room(), {"red chair": blocks.middle_of(blocks.RED)})
    answer, (check,) = verify(session, SILENT)
    assert (answer, check.reason) == (SILENT, "the answer states no HEIGHT")
    assert session.asked == []


def test_what_the_model_does_not_see_is_not_measured():
    unseen = replace(SILENT, status=Status.NOT_VISIBLE)
    for by in (AnswerBy.BOTH, AnswerBy.GEOMETRY):
        session = located()
        answer, _ = verify(session, unseen, answer_by=by)
        assert (answer.status, answer.measurements) == (Status.NOT_VISIBLE, ())
        assert session.asked == []


def test_a_size_that_the_text_does_not_state_has_three_measured_sides():
    silent = replace(SILENT, asked=Asked(Quantity.SIZE, ("red chair",)))
    answer, checks = verify(located(), silent)
    assert [one.kind for one in answer.measurements] == [check.claim.kind for check in checks]
    values = [one.value for one in answer.measurements]
    assert values == pytest.approx(blocks.RED.sides, rel=0.1)


@pytest.mark.parametrize("by", [AnswerBy.BOTH, AnswerBy.GEOMETRY])
def test_the_position_of_an_object_with_an_extent_is_its_centre(by):
    asked = SpatialAnswer("?", "(0.5, 0.5)", Asked(Quantity.POSITION, ("red chair",)))
    answer, _ = verify(located(), asked, answer_by=by)
    (place,) = answer.positions
    assert place.label == "red chair"
    (expected,), _ = measure(room(), [RED])
    assert (place.x, place.y, place.z) == pytest.approx(expected.position_m, abs=0.03)
    assert answer.measurements == ()


@pytest.mark.parametrize("value", [0.95, 5.0])
def test_answered_by_geometry_has_geometrys_number_alone(value):
    claim = replace(said(Quantity.HEIGHT, value, "red chair"), confidence=0.9, why_none="?")
    answer, (check,) = verify(located(), claim, answer_by=AnswerBy.GEOMETRY)
    assert sources(answer) == [Source.GEOMETRY]
    assert answer.measurements[0].value == pytest.approx(blocks.RED.sides[2], rel=0.05)
    assert (answer.status, answer.why_none, check.agrees) == (Status.OK, "", None)
    assert math.isnan(answer.confidence)
    assert answer.text == claim.text


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (said(Quantity.WIDTH, 0.5, "piano"), "object not located: piano"),
        (said(Quantity.COUNT, 2.0, "chairs"), "depth does not measure COUNT"),
        (said(Quantity.DISTANCE, 2.0, "red chair", "camera"), "ask for CAMERA_DISTANCE"),
        (
            SpatialAnswer("?", "1 m", Asked(), (Measurement(Quantity.GAP, 1.0, objects=("a",)),)),
            "GAP is of 2 objects",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_answered_by_geometry_without_a_measurement_is_no_answer(claim, reason):
    answer, _ = verify(located(), claim, answer_by=AnswerBy.GEOMETRY)
    assert (answer.status, answer.measurements) == (Status.NO_ANSWER, ())
    assert reason in answer.why_none


@pytest.mark.parametrize("missing", ["depth", "intrinsics"])
def test_answered_by_geometry_without_depth_is_no_answer_and_asks_nothing(missing):
    session = Locator(replace(room(), **{missing: None}), PLACES)
    answer, _ = verify(session, HEIGHT, answer_by=AnswerBy.GEOMETRY)
    assert (answer.status, answer.measurements) == (Status.NO_ANSWER, ())
    assert missing in answer.why_none
    assert session.asked == []


def test_an_unfit_measurement_is_given_with_its_caution():
    claim = said(Quantity.LENGTH, 9.0, "sofa")
    answer, _ = verify(located(), claim, answer_by=AnswerBy.GEOMETRY)
    assert sources(answer) == [Source.GEOMETRY]
    assert Caution.TRUNCATED in answer.cautions


def test_answered_by_geometry_a_free_question_has_the_measured_kinds_that_it_states():
    number = Measurement(Quantity.HEIGHT, 2.0, objects=("red chair",))
    claim = SpatialAnswer("Describe it.", "It is 2 m tall.", Asked(), (number,))
    answer, _ = verify(located(), claim, answer_by=AnswerBy.GEOMETRY)
    assert [(one.kind, one.source) for one in answer.measurements] == [
        (Quantity.HEIGHT, Source.GEOMETRY)
    ]
    words = SpatialAnswer("Describe it.", "A room.", Asked())
    assert verify(located(), words, answer_by=AnswerBy.GEOMETRY)[0] == words


@pytest.mark.parametrize(
    ("asked", "verdict", "chosen"),
    [
        (Asked(Quantity.COMPARISON, ("coffee table", "red chair"), "longer"), Verdict.HOLDS, ""),
        (
            Asked(Quantity.COMPARISON, ("coffee table", "red chair"), "taller"),
            Verdict.DOES_NOT_HOLD,
            "",
        ),
        (Asked(Quantity.COMPARISON, CHAIRS, "wider"), Verdict.UNDECIDED, ""),
        (
            Asked(Quantity.COMPARISON, ("red chair", "coffee table"), "longer", which=True),
            Verdict.UNDECIDED,
            "coffee table",
        ),
    ],
)
def test_answered_by_geometry_a_comparison_has_geometrys_verdict(asked, verdict, chosen):
    said_otherwise = SpatialAnswer("?", "Yes.", asked, verdict=Verdict.HOLDS, chosen="red chair")
    answer, _ = verify(located(), said_otherwise, answer_by=AnswerBy.GEOMETRY)
    assert (answer.verdict, answer.chosen) == (verdict, chosen)
    known = bool(chosen) or verdict is not Verdict.UNDECIDED
    assert answer.status is (Status.OK if known else Status.NO_ANSWER)


def test_whether_something_exists_stays_the_models_answer():
    claim = SpatialAnswer("?", "Yes.", Asked(Quantity.EXISTS, ("lamp",)), verdict=Verdict.HOLDS)
    answer, _ = verify(located(), claim, answer_by=AnswerBy.GEOMETRY)
    assert (answer.verdict, answer.status) == (Verdict.HOLDS, Status.OK)


def test_answered_by_language_measures_nothing():
    session = located()
    assert verify(session, HEIGHT, [RED], answer_by=AnswerBy.LANGUAGE) == (HEIGHT, ())
    assert session.asked == []


def test_verify_brings_geometry_in_and_is_never_silently_ignored():
    both, geometry, language = AnswerBy.BOTH, AnswerBy.GEOMETRY, AnswerBy.LANGUAGE
    assert [answered_by(both, verify) for verify in (False, True)] == [language, both]
    assert [answered_by(geometry, verify) for verify in (False, True)] == [geometry, geometry]
    assert answered_by(language, False) is language
    with pytest.raises(QueryError, match="answer_by"):
        answered_by(language, True)
