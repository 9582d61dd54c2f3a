"""Values that the client takes from a response: fit to act on, or refused."""

from __future__ import annotations

import math
import re

import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import Point

from sdvlm.msg import Asked, Measurement, PairMeasurement, RegionMeasurement, SpatialAnswer
from sdvlm.srv import MeasureRegions
from sdvlm_core.cautions import INFORMATIVE, OF_SIZES, UNFIT, Caution
from sdvlm_ros.client.messages import (
    NoMeasurement,
    SpatialQueryFailed,
    best,
    holds,
    measured_distance,
    measured_gap,
    measured_position,
    measured_size,
    position_in,
    question_fields,
    typed,
)


def response(*warnings: str) -> MeasureRegions.Response:
    """A measured pair; the warnings are those of the first region and of the pair."""
    codes, of_sizes = list(warnings), {code.value for code in OF_SIZES}
    distance = [code for code in codes if code not in of_sizes]
    box = RegionMeasurement(label="box", length=0.2, width=0.1, height=0.3, camera_distance=1.0)
    box.pose.position.z = 1.0
    box.warnings, box.distance_warnings = codes, distance
    pair = PairMeasurement(a="box", b="cup", distance=0.4, gap=0.2, warnings=codes)
    pair.distance_warnings = distance
    return MeasureRegions.Response(regions=[box, RegionMeasurement(label="cup")], pairs=[pair])


@pytest.mark.parametrize("code", sorted(UNFIT))
def test_a_value_that_is_unfit_to_act_on_is_refused_by_the_name_of_its_warning(code):
    found = response(code.value)
    values = [lambda: measured_size(found.regions[0]), lambda: measured_position(found)]
    values.append(lambda: measured_gap(found, "cup", "box"))
    if code not in OF_SIZES:
        values.append(lambda: measured_distance(found, "box", "cup"))
        values.append(lambda: measured_distance(found, "box", ""))
    for value in values:
        with pytest.raises(NoMeasurement, match=code.value):
            value()


def test_a_warning_of_the_size_alone_does_not_refuse_the_distance():
    """A code that is unfit for a size is not unfit for a distance that it does not concern."""
    found = response(Caution.AMBIGUOUS_EXTENT.value)
    found.regions[0].distance_warnings = found.pairs[0].distance_warnings = []
    with pytest.raises(NoMeasurement, match="ambiguous_extent"):
        measured_size(found.regions[0])
    assert measured_distance(found, "box", "cup").value == 0.4
    assert measured_distance(found, "box", "").value == 1.0


@pytest.mark.parametrize("code", sorted(INFORMATIVE))
def test_a_value_with_an_informative_warning_is_returned(code):
    found = response(code.value)
    assert measured_size(found.regions[0]).height.value == 0.3
    assert measured_distance(found, "box", "cup").value == 0.4
    assert measured_distance(found, "box", "").value == 1.0
    assert measured_gap(found, "box", "cup").value == 0.2
    assert measured_position(found).point.z == 1.0


def measurement(value: float, *objects: str, **fields: int) -> Measurement:
    """A gap, unless `kind` is given."""
    return Measurement(value=value, objects=objects, **{"kind": Asked.GAP, **fields})


def answer(asked: Asked, *measurements: Measurement, **fields: object) -> SpatialAnswer:
    """An answer to a typed question."""
    return SpatialAnswer(asked=asked, text="as said", measurements=measurements, **fields)


GAP = typed(Asked.GAP, "red mug", "blue box")
TALLER = typed(Asked.COMPARISON, "red mug", "blue box", relation="taller")
EXISTS = typed(Asked.EXISTS, "red mug")


def test_the_best_value_is_of_the_asked_kind_and_objects() -> None:
    found = answer(
        GAP,
        measurement(0.9, "Blue box", "red mug", source=Measurement.LANGUAGE),
        measurement(0.2, "red mug", "blue box", source=Measurement.GEOMETRY),
        measurement(0.7, "red mug", "lamp", source=Measurement.FUSED),
        measurement(0.8, "red mug", "blue box", kind=Asked.DISTANCE, source=Measurement.FUSED),
    )
    assert best(found, Asked.GAP).value == 0.2


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (answer(GAP, why_none="[1 m] is a bound"), "no gap: [1 m] is a bound; the answer was 'as"),
        (answer(GAP, measurement(math.nan, "red mug", "blue box")), "no gap"),
        (answer(GAP, measurement(0.4, "lamp")), "the gap is of lamp, not of red mug and blue box"),
        (answer(GAP, measurement(0.4)), "the gap is of unnamed"),
        (answer(GAP, status=SpatialAnswer.NOT_VISIBLE), "not visible"),
        (
            answer(GAP, measurement(0.4, "mug"), status=SpatialAnswer.DISAGREEMENT),
            "language and depth disagree: mug 0.4 (language)",
        ),
        (
            answer(GAP, measurement(0.4, "red mug", "blue box"), cautions=["ambiguous_extent"]),
            "the answer is unfit to act on: ambiguous_extent",
        ),
    ],
)
def test_a_missing_or_doubtful_value_is_refused_with_the_reason(found, reason) -> None:
    with pytest.raises(NoMeasurement, match=re.escape(reason)) as refused:
        best(found, Asked.GAP)
    assert refused.value.answer == found


def test_none_of_a_kind_is_a_count_of_0_whatever_the_depth_is() -> None:
    mugs = typed(Asked.COUNT, "mugs")
    zero = measurement(0.0, "mugs", kind=Asked.COUNT)
    found = answer(mugs, zero, status=SpatialAnswer.NOT_VISIBLE, cautions=["estimated_depth"])
    assert best(found, Asked.COUNT).value == 0
    with pytest.raises(NoMeasurement, match="no count"):
        best(answer(mugs, status=SpatialAnswer.NOT_VISIBLE), Asked.COUNT)


@pytest.mark.parametrize(
    ("asked", "fields", "expected"),
    [
        (TALLER, {"verdict": SpatialAnswer.HOLDS}, True),
        (TALLER, {"verdict": SpatialAnswer.DOES_NOT_HOLD}, False),
        (EXISTS, {"verdict": SpatialAnswer.HOLDS, "cautions": ["estimated_depth"]}, True),
        (EXISTS, {"verdict": SpatialAnswer.DOES_NOT_HOLD}, False),
        (EXISTS, {"status": SpatialAnswer.NOT_VISIBLE}, False),
    ],
)
def test_a_verdict_is_true_or_false(asked, fields, expected) -> None:
    assert holds(answer(asked, **fields)) is expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "undecided; the answer was 'as said'"),
        ({"status": SpatialAnswer.NOT_VISIBLE}, "not visible"),
        (
            {"verdict": SpatialAnswer.HOLDS, "status": SpatialAnswer.DISAGREEMENT},
            "language and depth disagree",
        ),
        ({"verdict": SpatialAnswer.HOLDS, "cautions": ["up_uncertain"]}, "up_uncertain"),
    ],
)
def test_an_undecided_or_doubtful_comparison_is_refused(fields, reason) -> None:
    with pytest.raises(NoMeasurement, match=re.escape(reason)):
        holds(answer(TALLER, **fields))


def test_a_position_needs_a_point_and_sound_depth() -> None:
    asked = typed(Asked.POSITION, "red mug")
    points = [Point(z=1.5)]
    assert position_in(answer(asked, positions=points)).point.z == 1.5
    with pytest.raises(NoMeasurement, match="no position"):
        position_in(answer(asked))
    with pytest.raises(NoMeasurement, match="unregistered_depth"):
        position_in(answer(asked, positions=points, cautions=["unregistered_depth"]))


def test_a_gap_needs_two_measured_regions() -> None:
    found = response()
    for a, b in (("box", "lamp"), ("lamp", "cup")):
        with pytest.raises(NoMeasurement, match="`at` has no region for lamp"):
            measured_gap(found, a, b)
    with pytest.raises(NoMeasurement, match="box and box are no pair"):
        measured_gap(found, "box", "box")
    found.pairs[0].gap = math.nan
    with pytest.raises(NoMeasurement, match="box could not be measured"):
        measured_gap(found, "box", "cup")


def test_questions_of_one_goal_are_all_in_words_or_all_typed() -> None:
    assert question_fields(["How far?"]) == {"questions": ["How far?"]}
    assert question_fields([GAP, TALLER]) == {"asked": [GAP, TALLER]}
    with pytest.raises(SpatialQueryFailed, match="send two requests"):
        question_fields(["How far?", GAP])
