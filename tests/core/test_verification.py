"""A length is fused with its measurement only if the two agree; a disagreement is reported."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest

from sdvlm_core import verification
from sdvlm_core.answer import Measurement, Quantity, Source, SpatialAnswer, Status
from sdvlm_core.cautions import Caution
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.model.generation_options import GenerationOptions
from sdvlm_core.verification import fused, lengths_agree, verify
from tests import blocks
from tests.blocks import SIZE, box_around, middle_of, room_frame


@dataclass
class Session:
    """A fake FrameSession: a test sets the coordinates that the model answers."""

    frame: RgbdFrame
    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def ask(self, question: str, _: GenerationOptions) -> SpatialAnswer:
        self.asked.append(question)
        name = question.removeprefix("What is the coordinate of the ").rstrip("?")
        if name not in self.places:
            return SpatialAnswer(question, f"There is no {name} in the image.")
        u, v = self.places[name]
        return SpatialAnswer(question, "", image_points=((u / SIZE[0], v / SIZE[1]),))


def _said(kind: Quantity, value: float, label: str) -> SpatialAnswer:
    return SpatialAnswer("?", "...", measurements=(Measurement(kind, value, label=label),))


RED = Region("red chair", box=box_around(blocks.RED))


def test_a_right_number_is_confirmed_and_fused():
    answer, (check,) = verify(
        Session(room_frame()), _said(Quantity.HEIGHT, 1.0, "red chair"), [RED]
    )
    assert check.agrees is True
    said, seen, both = answer.measurements
    assert [m.source for m in (said, seen, both)] == [
        Source.LANGUAGE,
        Source.GEOMETRY,
        Source.FUSED,
    ]
    assert seen.value == pytest.approx(blocks.RED.sides[2], rel=0.05)
    assert min(said.value, seen.value) < both.value < max(said.value, seen.value)
    assert both.std_dev < seen.std_dev
    assert abs(both.value - seen.value) < abs(both.value - said.value)
    assert answer.status is Status.OK


def test_a_wrong_number_is_contradicted_and_both_are_shown():
    answer, (check,) = verify(
        Session(room_frame()), _said(Quantity.HEIGHT, 2.0, "red chair"), [RED]
    )
    assert check.agrees is False
    assert "disagrees" in check.reason
    assert answer.status is Status.DISAGREEMENT
    assert [m.source for m in answer.measurements] == [Source.LANGUAGE, Source.GEOMETRY]


def test_without_a_region_the_model_is_asked_once_for_each_place():
    frame = room_frame()
    places = {"red chair": middle_of(blocks.RED), "blue chair": middle_of(blocks.BLUE)}
    true = math.dist(blocks.RED.centre, blocks.BLUE.centre)
    session = Session(frame, places)
    answer = replace(
        _said(Quantity.DISTANCE, true, "red chair and blue chair"),
        measurements=(
            Measurement(Quantity.DISTANCE, true, label="red chair and blue chair"),
            Measurement(Quantity.HEIGHT, 0.9, label="red chair"),
        ),
    )
    verified, checks = verify(session, answer)
    assert [check.agrees for check in checks] == [True, True]
    assert verified.measurements[2].value == pytest.approx(true, rel=0.05)
    assert session.asked == [
        "What is the coordinate of the red chair?",
        "What is the coordinate of the blue chair?",
    ]


def test_an_object_that_is_not_located_is_undecided():
    answer, (check,) = verify(Session(room_frame()), _said(Quantity.WIDTH, 0.5, "piano"))
    assert check.agrees is None
    assert check.reason == "object not located: piano"
    assert len(answer.measurements) == 1
    assert answer.status is Status.OK


def test_an_unfit_measurement_decides_nothing():
    cut = Region("sofa", box=(0.0, *box_around(blocks.CUT)[1:]))
    answer, (check,) = verify(Session(room_frame()), _said(Quantity.LENGTH, 9.0, "sofa"), [cut])
    assert check.agrees is None
    assert Caution.TRUNCATED in check.warnings
    assert answer.status is Status.OK
    assert answer.measurements[-1].source is Source.GEOMETRY


def test_an_ambiguous_extent_decides_nothing_and_one_from_colour_does(monkeypatch):
    measured = verification.measure_in

    def with_warning(code):
        def measure_in(*arguments):
            (one,), _ = measured(*arguments)
            return (replace(one, warnings=(code,)),), ()

        return measure_in

    said = _said(Quantity.HEIGHT, 1.0, "red chair")
    monkeypatch.setattr(verification, "measure_in", with_warning(Caution.AMBIGUOUS_EXTENT))
    answer, (check,) = verify(Session(room_frame()), said, [RED])
    assert check.agrees is None
    assert check.reason == "the measurement is unfit to act on: ambiguous_extent"
    assert answer.status is Status.OK
    monkeypatch.setattr(verification, "measure_in", with_warning(Caution.EXTENT_FROM_COLOUR))
    assert verify(Session(room_frame()), said, [RED])[1][0].agrees is True


def test_a_warning_of_the_pair_alone_decides_the_distance(monkeypatch):
    measured = verification.measure_pair

    def doubtful(a, b):
        codes = (Caution.AMBIGUOUS_EXTENT,)
        return replace(measured(a, b), warnings=codes, distance_warnings=codes)

    true = math.dist(blocks.RED.centre, blocks.BLUE.centre)
    said = _said(Quantity.DISTANCE, true, "red chair and blue chair")
    regions = [RED, Region("blue chair", box=box_around(blocks.BLUE))]
    assert verify(Session(room_frame()), said, regions)[1][0].agrees is True
    monkeypatch.setattr(verification, "measure_pair", doubtful)
    (check,) = verify(Session(room_frame()), said, regions)[1]
    assert check.agrees is None
    assert check.warnings == (Caution.AMBIGUOUS_EXTENT,)


def test_estimated_depth_decides_nothing():
    frame = replace(room_frame(), depth_source="estimated_metric")
    answer, (check,) = verify(Session(frame), _said(Quantity.HEIGHT, 2.0, "red chair"), [RED])
    assert check.agrees is None
    assert Caution.ESTIMATED_DEPTH in check.warnings
    assert answer.status is Status.OK


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cautions": (Caution.IMPLAUSIBLE_INTRINSICS,)}, Caution.IMPLAUSIBLE_INTRINSICS),
        ({"up": (0.0, -math.sqrt(0.5), math.sqrt(0.5))}, Caution.UP_UNCERTAIN),
    ],
    ids=["of the camera", "of the planes"],
)
@pytest.mark.parametrize("value", [0.9, 2.0])
def test_an_unfit_frame_decides_nothing(changes, code, value):
    frame = replace(room_frame(), **changes)
    answer, (check,) = verify(Session(frame), _said(Quantity.HEIGHT, value, "red chair"), [RED])
    assert check.agrees is None
    assert code.value in check.reason
    assert code in answer.cautions
    assert answer.status is Status.OK
    assert Source.FUSED not in {m.source for m in answer.measurements}


def test_a_region_outside_the_image_decides_nothing():
    away = replace(RED, box=(900.0, 0.0, 950.0, 40.0))
    answer, (check,) = verify(
        Session(room_frame()), _said(Quantity.HEIGHT, 0.9, "red chair"), [away]
    )
    assert (check.agrees, check.measurement, answer.status) == (None, None, Status.OK)
    assert check.reason == "nothing was measured: outside_image"


BLUE = Region("blue chair", box=box_around(blocks.BLUE))
AWAY = math.dist(blocks.RED.centre, blocks.POSES[0][:3, 3])


@pytest.mark.parametrize(
    "viewer",
    ["camera", "Camera", "you", "me", "viewer", "viewer's position", "your camera", "where you"],
)
def test_a_distance_from_the_viewer_is_the_camera_distance(viewer):
    session = Session(room_frame(), {"red chair": middle_of(blocks.RED)})
    for label in (f"red chair and {viewer}", f"{viewer} and red chair"):
        for regions in ([RED], [Region("", box=RED.box)], []):
            answer, (check,) = verify(session, _said(Quantity.DISTANCE, AWAY, label), regions)
            assert check.agrees is True, (label, regions, check.reason)
            assert answer.measurements[1].value == pytest.approx(AWAY, rel=0.05)
    assert set(session.asked) == {"What is the coordinate of the red chair?"}


def test_a_region_named_camera_is_an_object():
    shown = replace(BLUE, label="camera")
    true = math.dist(blocks.RED.centre, blocks.BLUE.centre)
    said = _said(Quantity.DISTANCE, true, "red chair and camera")
    _, (check,) = verify(Session(room_frame()), said, [RED, shown])
    assert check.agrees is True
    assert len(check.objects) == 2


@pytest.mark.parametrize("robot", ["robot", "robot's base"])
def test_a_distance_from_the_robot_is_undecided(robot):
    session = Session(room_frame())
    answer, (check,) = verify(
        session, _said(Quantity.DISTANCE, 9.0, f"red chair and {robot}"), [RED]
    )
    assert (check.agrees, check.measurement, answer.status) == (None, None, Status.OK)
    assert "robot is not the camera" in check.reason
    assert session.asked == []


@pytest.mark.parametrize("other", ["blue chair", "camera"])
def test_the_word_and_inside_a_name_is_not_a_separator(other):
    name = "salt and pepper shaker"
    regions = [replace(RED, label=name), BLUE]
    true = AWAY if other == "camera" else math.dist(blocks.RED.centre, blocks.BLUE.centre)
    for label in (f"{name} and {other}", f"{other} and {name}"):
        session = Session(room_frame())
        _, (check,) = verify(session, _said(Quantity.DISTANCE, true, label), regions)
        assert check.agrees is True, check.reason
        assert session.asked == []
    _, (check,) = verify(Session(room_frame()), _said(Quantity.DISTANCE, AWAY, name), regions)
    assert check.agrees is True


def test_one_region_for_both_ends_of_a_distance_measures_nothing():
    nameless = [Region("", box=RED.box)]
    said = _said(Quantity.DISTANCE, 1.0, "red chair and blue chair")
    answer, (check,) = verify(Session(room_frame()), said, nameless)
    assert (check.agrees, answer.status) == (None, Status.OK)


@pytest.mark.parametrize("missing", ["depth", "intrinsics"])
def test_a_frame_without_depth_or_intrinsics_is_undecided_with_the_reason(missing):
    frame = replace(room_frame(), **{missing: None})
    answer, (check,) = verify(Session(frame), _said(Quantity.HEIGHT, 1.0, "red chair"), [RED])
    assert check.agrees is None
    assert missing in check.reason
    assert len(answer.measurements) == 1


def test_an_answer_without_lengths_is_returned_unchanged():
    session = Session(room_frame())
    answer = SpatialAnswer("?", "Yes.", measurements=(Measurement(Quantity.COUNT, 2.0, label="x"),))
    assert verify(session, answer) == (answer, ())
    assert session.asked == []


def test_numbers_agree_by_the_benchmarks_rule():
    assert lengths_agree(1.0, 1.24)
    assert lengths_agree(1.24, 1.0)
    assert not lengths_agree(1.0, 1.25)
    assert not lengths_agree(0.0, 0.0)
    assert not lengths_agree(math.nan, 1.0)


def test_fusing_weighs_by_inverse_variance():
    said = Measurement(Quantity.WIDTH, 1.0, std_dev=0.1)
    seen = Measurement(Quantity.WIDTH, 1.2, std_dev=0.1, source=Source.GEOMETRY, label="box")
    both = fused(said, seen)
    assert both.value == pytest.approx(1.1)
    assert both.std_dev == pytest.approx(0.1 / math.sqrt(2))
    assert (both.source, both.label) == (Source.FUSED, "box")
