"""A number is compared with the same quantity of the same objects, and fused only if it agrees."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.answer import Asked, Measurement, Quantity, Source, SpatialAnswer, Status
from sdvlm_core.cautions import Caution
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.verification import objects as objects_module
from sdvlm_core.verification import verify
from sdvlm_core.verification.numbers import agreement, exchanged, fused
from tests import blocks
from tests.blocks import Block
from tests.core.verification.sessions import (
    BLUE,
    CHAIRS,
    CUT,
    RED,
    TABLE,
    Session,
    room,
    said,
    seen,
)

TRUE_DISTANCE = math.dist(blocks.RED.centre, blocks.BLUE.centre)
AWAY = math.dist(blocks.RED.centre, blocks.POSES[0][:3, 3])


def test_a_right_number_is_confirmed_and_fused():
    answer, (check,) = verify(Session(room()), said(Quantity.HEIGHT, 0.95, "red chair"), [RED])
    assert check.agrees is True
    claim, seen, both = answer.measurements
    assert [m.source for m in (claim, seen, both)] == list(Source)
    assert seen.value == pytest.approx(blocks.RED.sides[2], rel=0.05)
    assert seen.objects == both.objects == ("red chair",)
    assert min(claim.value, seen.value) < both.value < max(claim.value, seen.value)
    assert both.std_dev < seen.std_dev
    assert abs(both.value - seen.value) < abs(both.value - claim.value)
    assert answer.status is Status.OK


def test_a_wrong_number_is_contradicted_and_both_are_shown():
    answer, (check,) = verify(Session(room()), said(Quantity.HEIGHT, 2.0, "red chair"), [RED])
    assert check.agrees is False
    assert "disagrees" in check.reason
    assert answer.status is Status.DISAGREEMENT
    assert [m.source for m in answer.measurements] == [Source.LANGUAGE, Source.GEOMETRY]


@pytest.mark.parametrize(("value", "agrees"), [(0.95, True), (1.15, None), (1.6, False)])
def test_near_the_limit_of_the_ratio_the_interval_decides_nothing(value, agrees):
    answer, (check,) = verify(Session(room()), said(Quantity.HEIGHT, value, "red chair"), [RED])
    assert check.agrees is agrees
    assert (Source.FUSED in {m.source for m in answer.measurements}) is (agrees is True)
    assert (answer.status is Status.DISAGREEMENT) is (agrees is False)


@pytest.mark.parametrize(
    ("kind", "names", "value", "regions"),
    [
        (Quantity.LENGTH, ("coffee table",), 1.2, [TABLE]),
        (Quantity.CAMERA_DISTANCE, ("red chair",), AWAY, [RED]),
        (Quantity.DISTANCE, CHAIRS, TRUE_DISTANCE, [RED, BLUE]),
        (Quantity.GAP, CHAIRS, 1.75, [BLUE, RED]),
    ],
    ids=lambda value: value.name if isinstance(value, Quantity) else "",
)
def test_each_kind_is_compared_with_its_own(kind, names, value, regions):
    session = Session(room())
    answer, (check,) = verify(session, said(kind, value, *names), regions)
    assert check.agrees is True, check.reason
    assert {(m.kind, m.objects) for m in answer.measurements} == {(kind, names)}
    assert all(m.value == pytest.approx(value, rel=0.05) for m in answer.measurements)
    _, (check,) = verify(session, said(kind, 2 * value, *names), regions)
    assert check.agrees is False, check.reason


def _two_boxes(gap: float) -> tuple[RgbdFrame, list[Region], float]:
    """Two boxes 0.2 m wide with a gap between them; and the distance of their centres."""
    centres = (("mug", -(gap + 0.2) / 2), ("box", (gap + 0.2) / 2))
    world = [Block(name, (200, 90, 40), (x, 1.2, 0.0), (0.2, 0.1, 0.1)) for name, x in centres]
    return *seen(world), gap + 0.2


def test_a_gap_claim_is_never_compared_with_the_centre_distance():
    frame, regions, distance = _two_boxes(0.175)
    for value, agrees in ((0.175, True), (distance, False)):
        claim = said(Quantity.GAP, value, "mug", "box")
        answer, (check,) = verify(Session(frame), claim, regions, "simulated")
        assert check.agrees is agrees, check.reason
        assert {m.kind for m in answer.measurements} == {Quantity.GAP}
        seen = [m.value for m in answer.measurements if m.source is not Source.LANGUAGE]
        assert seen == pytest.approx([0.175] * len(seen), abs=0.02)


def test_a_distance_claim_is_never_compared_with_the_gap():
    frame, regions, distance = _two_boxes(0.175)
    claim = said(Quantity.DISTANCE, distance, "mug", "box")
    _, (check,) = verify(Session(frame), claim, regions, "simulated")
    assert check.agrees is True
    assert check.measurement.kind is Quantity.DISTANCE
    _, (check,) = verify(
        Session(frame), said(Quantity.DISTANCE, 0.175, "mug", "box"), regions, "simulated"
    )
    assert check.agrees is False


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_size_with_length_and_width_exchanged_is_compared_sorted(order):
    asked = Asked(Quantity.SIZE, ("coffee table",))
    values = [(1.2, 0.6)[at] for at in order] + [0.45]
    kinds = (Quantity.LENGTH, Quantity.WIDTH, Quantity.HEIGHT)
    numbers = tuple(
        Measurement(kind, value, objects=asked.objects)
        for kind, value in zip(kinds, values, strict=True)
    )
    answer, checks = verify(Session(room()), SpatialAnswer("?", "", asked, numbers), [TABLE])
    by_kind = {check.claim.kind: check for check in checks}
    assert by_kind[Quantity.LENGTH].claim.value == 1.2
    assert by_kind[Quantity.LENGTH].agrees is True
    assert by_kind[Quantity.WIDTH].claim.value == 0.6
    assert by_kind[Quantity.WIDTH].agrees is not False
    assert all(check.claim.kind is check.measurement.kind for check in checks)
    assert answer.measurements[:3] == numbers  # what the model said stays as it is


def test_sides_of_different_objects_are_not_exchanged():
    one = Measurement(Quantity.LENGTH, 0.1, objects=("mug",))
    other = Measurement(Quantity.WIDTH, 0.5, objects=("box",))
    assert exchanged((one, other)) == (one, other)


@pytest.mark.parametrize(
    ("names", "relation", "value", "agrees"),
    [
        (CHAIRS, "taller", 0.1, None),  # 0.1 m with an error of 0.1 m
        (CHAIRS, "taller", 0.9, False),
        (CHAIRS, "taller", -0.9, False),
        (CHAIRS, "shorter", 0.9, False),
        (("coffee table", "red chair"), "longer", 0.7, None),
        (("coffee table", "red chair"), "longer", 1.4, False),
        (CHAIRS, "farther", 2.0, False),
        (CHAIRS, "closer", 2.0, False),
    ],
)
def test_a_difference_is_compared_with_that_of_two_measured_sides(names, relation, value, agrees):
    regions = [one for one in (RED, BLUE, TABLE) if one.label in names]
    claim = said(Quantity.DIFFERENCE, value, *names, relation=relation)
    _, (check,) = verify(Session(room()), claim, regions)
    assert check.agrees is agrees, check.reason
    assert check.measurement.kind is Quantity.DIFFERENCE


def test_the_sign_of_a_difference_is_respected_and_its_errors_add():
    frame, names = room(), ("coffee table", "red chair")
    one, opposite = (
        verify(
            Session(frame), said(Quantity.DIFFERENCE, 0.7, *names, relation=relation), [RED, TABLE]
        )[1][0].measurement
        for relation in ("longer", "narrower")
    )
    assert one.value == pytest.approx(0.7, abs=0.05)
    assert opposite.value == pytest.approx(-0.15, abs=0.05)
    sides = [
        verify(Session(frame), said(Quantity.LENGTH, 1.0, name), [region])[1][0].measurement
        for name, region in zip(names, (TABLE, RED), strict=True)
    ]
    assert one.std_dev == pytest.approx(math.hypot(*(side.std_dev for side in sides)))


def test_an_unfit_measurement_decides_nothing():
    answer, (check,) = verify(Session(room()), said(Quantity.LENGTH, 9.0, "sofa"), [CUT])
    assert check.agrees is None
    assert Caution.TRUNCATED in check.warnings
    assert answer.status is Status.OK
    assert answer.measurements[-1].source is Source.GEOMETRY


def test_a_doubtful_size_does_not_make_a_camera_distance_doubtful(monkeypatch):
    measured = objects_module.measure_in

    def unseen(*arguments):
        (one,), _ = measured(*arguments)
        return (replace(one, warnings=(Caution.UNSEEN_EXTENT, Caution.IMPRECISE)),), ()

    monkeypatch.setattr(objects_module, "measure_in", unseen)
    claim = said(Quantity.CAMERA_DISTANCE, AWAY, "red chair")
    _, (check,) = verify(Session(room()), claim, [RED])
    assert (check.agrees, check.warnings) == (True, ())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cautions": (Caution.IMPLAUSIBLE_INTRINSICS,)}, Caution.IMPLAUSIBLE_INTRINSICS),
        ({"up": (0.0, -math.sqrt(0.5), math.sqrt(0.5))}, Caution.UP_UNCERTAIN),
        ({"depth_source": "estimated_metric"}, Caution.ESTIMATED_DEPTH),
    ],
    ids=["of the camera", "of the planes", "of the depth"],
)
@pytest.mark.parametrize("value", [0.9, 2.0])
def test_an_unfit_frame_decides_nothing(changes, code, value):
    frame = replace(room(), **changes)
    answer, (check,) = verify(Session(frame), said(Quantity.HEIGHT, value, "red chair"), [RED])
    assert check.agrees is None
    assert code.value in check.reason
    assert answer.status is Status.OK
    assert Source.FUSED not in {m.source for m in answer.measurements}


def test_a_region_outside_the_image_decides_nothing():
    away = replace(RED, box=(900.0, 0.0, 950.0, 40.0))
    answer, (check,) = verify(Session(room()), said(Quantity.HEIGHT, 0.9, "red chair"), [away])
    assert (check.agrees, check.measurement, answer.status) == (None, None, Status.OK)
    assert check.reason == "nothing was measured: outside_image"


@pytest.mark.parametrize("missing", ["depth", "intrinsics"])
def test_a_frame_without_depth_or_intrinsics_is_undecided_with_the_reason(missing):
    session = Session(replace(room(), **{missing: None}))
    answer, (check,) = verify(session, said(Quantity.HEIGHT, 1.0, "red chair"))
    assert check.agrees is None
    assert missing in check.reason
    assert len(answer.measurements) == 1
    assert session.asked == []


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (said(Quantity.COUNT, 2.0, "chairs"), "depth does not measure COUNT"),
        (said(Quantity.DISTANCE, 2.0, "red chair"), "DISTANCE is of 2 objects"),
        (said(Quantity.HEIGHT, 2.0, "red chair", "blue chair"), "HEIGHT is of 1 objects"),
        (said(Quantity.HEIGHT, 2.0), "the answer names: none"),
        (
            said(Quantity.DIFFERENCE, 2.0, *CHAIRS, relation="larger"),
            "depth does not measure DIFFERENCE larger",
        ),
        (
            SpatialAnswer(
                "?", "", Asked(), (Measurement(Quantity.DIFFERENCE, 2.0, objects=CHAIRS),)
            ),
            "the answer states DIFFERENCE, and FREE was asked for",
        ),
        (
            replace(said(Quantity.DISTANCE, 2.4, *CHAIRS), asked=Asked(Quantity.GAP, CHAIRS)),
            "the answer states DISTANCE, and GAP was asked for",
        ),
        (
            SpatialAnswer("?", "", Asked(Quantity.COUNT, ("chairs",)), why_none="two numbers"),
            "the answer states no COUNT: two numbers",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_judged_is_undecided_with_the_reason(claim, reason):
    regions = [one for one in (RED, BLUE) if one.label in claim.asked.objects]
    answer, (check,) = verify(
        Session(room(), {"red chair": (9, 9), "blue chair": (99, 99)}), claim, regions
    )
    assert (check.agrees, check.measurement) == (None, None)
    assert reason in check.reason
    assert (answer.status, answer.measurements) == (claim.status, claim.measurements)


def test_a_number_of_a_free_question_is_judged_by_its_own_kind():
    number = Measurement(Quantity.HEIGHT, 2.0, objects=("red chair",))
    claim = SpatialAnswer("Describe the red chair.", "", Asked(), (number,))
    answer, (check,) = verify(Session(room()), claim, [RED])
    assert (check.agrees, answer.status) == (False, Status.DISAGREEMENT)


lengths = st.floats(1e-3, 100)


@given(lengths, lengths, st.floats(0, 10))
def test_agreement_holds_for_every_value_of_the_interval_or_is_undecided(claim, value, half):
    agrees = agreement(claim, value, half)
    for one in (value - half, value, value + half):
        right = one > 0 and max(claim / one, one / claim) < 1.25
        near = abs(max(claim / one, one / claim) - 1.25) < 1e-9 if one > 0 else False
        assert agrees is None or agrees is right or near
    assert agreement(-claim, -value, half) is agrees


@pytest.mark.parametrize(
    ("claim", "value", "half", "agrees"),
    [
        (1.0, 1.24, 0.0, True),
        (1.24, 1.0, 0.0, True),
        (1.0, 1.26, 0.0, False),
        (1.3, 1.0, 0.35, None),  # within the interval, although the ratio is above the limit
        (1.2, 1.0, 0.1, None),  # the interval reaches the limit
        (0.0, 0.01, 0.02, None),
        (0.0, 0.1, 0.02, False),
        (0.08, -0.08, 0.01, False),
        (1.0, math.nan, 0.1, None),
        (1.0, 1.0, math.nan, None),
    ],
)
def test_agreement_by_the_benchmarks_rule(claim, value, half, agrees):
    assert agreement(claim, value, half) is agrees


def test_fusing_weighs_by_inverse_variance_with_any_sign():
    claim = Measurement(Quantity.DIFFERENCE, -1.0, std_dev=0.1)
    seen = Measurement(Quantity.DIFFERENCE, -1.2, 0.1, Source.GEOMETRY, ("box", "can"))
    both = fused(claim, seen)
    assert both.value == pytest.approx(-1.1)
    assert both.std_dev == pytest.approx(0.1 / math.sqrt(2))
    assert (both.kind, both.source, both.objects) == (seen.kind, Source.FUSED, ("box", "can"))
    assert fused(replace(claim, std_dev=math.nan), seen).std_dev < seen.std_dev
