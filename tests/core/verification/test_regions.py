"""Every region belongs to an object of the answer; the model locates the other objects."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sdvlm_core.answer import Asked, Measurement, Quantity, SpatialAnswer, Status
from sdvlm_core.errors import QueryError
from sdvlm_core.frame import Region
from sdvlm_core.verification import verify
from tests import blocks
from tests.blocks import middle_of
from tests.core.verification.sessions import BLUE, CHAIRS, RED, TABLE, Session, room, said

HEIGHT = said(Quantity.HEIGHT, 0.95, "red chair")
TRUE_DISTANCE = math.dist(blocks.RED.centre, blocks.BLUE.centre)


def test_without_a_region_the_model_is_asked_once_for_each_place():
    places = {"red chair": middle_of(blocks.RED), "blue chair": middle_of(blocks.BLUE)}
    session = Session(room(), places)
    answer = said(Quantity.DISTANCE, TRUE_DISTANCE, *CHAIRS)
    height = Measurement(Quantity.HEIGHT, 0.95, objects=("red chair",))
    both = (*answer.measurements, height)
    _, checks = verify(session, replace(answer, asked=Asked(), measurements=both))
    assert [check.agrees for check in checks] == [True, True]
    assert session.asked == [*CHAIRS]


def test_an_object_that_is_not_located_is_undecided():
    answer, (check,) = verify(Session(room()), said(Quantity.WIDTH, 0.5, "piano"))
    assert (check.agrees, check.reason) == (None, "object not located: piano")
    assert (len(answer.measurements), answer.status) == (1, Status.OK)


def test_several_image_points_for_one_object_locate_nothing():
    class Unsure(Session):
        def answer(self, question):
            reply = super().answer(question)
            return replace(reply, image_points=reply.image_points * 2)

    session = Unsure(room(), {"red chair": middle_of(blocks.RED)})
    assert verify(session, HEIGHT)[1][0].reason == "object not located: red chair"


@pytest.mark.parametrize("label", ["red chair", "Red Chair", "the chair", "chair", ""])
def test_a_region_matches_the_only_object_that_its_label_can_mean(label):
    session = Session(room())
    _, (check,) = verify(session, HEIGHT, [replace(RED, label=label)])
    assert check.agrees is True
    assert check.objects[0].label == "red chair"
    assert session.asked == []


@pytest.mark.parametrize("label", ["lamp", "leg of the red chair", "black chair"])
def test_a_region_of_no_object_is_refused_with_labels_and_objects(label):
    session = Session(room())
    with pytest.raises(QueryError, match=f"labels: '{label}'; objects: 'red chair'"):
        verify(session, HEIGHT, [replace(RED, label=label)])
    assert session.asked == []


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (("chair",), "may be of 'red chair', 'blue chair'"),
        (("",), "labels: ''; objects: 'red chair', 'blue chair'"),
        (("red chair", "chair", "the blue chair"), "the region label 'chair'"),
        (("red chair", "Red chair"), "and another label are both of 'red chair'"),
    ],
)
def test_a_region_that_may_be_of_two_objects_is_refused(labels, reason):
    regions = [replace(RED, label=label) for label in labels]
    with pytest.raises(QueryError, match=reason):
        verify(Session(room()), said(Quantity.GAP, 1.0, *CHAIRS), regions)


def test_regions_are_refused_for_an_answer_without_objects():
    with pytest.raises(QueryError, match="objects: none"):
        verify(Session(room()), SpatialAnswer("?", "A room."), [RED])


def test_the_name_in_the_text_is_the_asked_object_that_it_can_mean():
    number = Measurement(Quantity.HEIGHT, 0.95, objects=("chair",))
    answer = replace(HEIGHT, measurements=(number,))
    verified, (check,) = verify(Session(room()), answer, [RED])
    assert check.agrees is True
    assert check.claim.objects == verified.measurements[1].objects == ("red chair",)


def test_regions_of_the_other_questions_of_a_request_are_accepted():
    width = Asked(Quantity.WIDTH, ("blue chair",))
    session, regions = Session(room()), [RED, BLUE]
    with pytest.raises(QueryError):
        verify(session, HEIGHT, regions)
    assert verify(session, HEIGHT, regions, others=[HEIGHT.asked, width])[1][0].agrees
    with pytest.raises(QueryError, match="'coffee table'"):
        verify(session, HEIGHT, [*regions, TABLE], others=[HEIGHT.asked, width])
    # What a FREE question's answer will name is not known.
    others = [HEIGHT.asked, width, Asked()]
    assert verify(session, HEIGHT, [*regions, TABLE], others=others)[1][0].agrees
    with pytest.raises(QueryError, match="'coffee table'"):
        verify(session, SpatialAnswer("?", "A room."), [*regions, TABLE], others=others)


@pytest.mark.parametrize("name", ["camera", "the camera", "robot", "your robot", "you"])
def test_what_is_not_in_the_image_is_never_located(name):
    session = Session(room())
    answer, (check,) = verify(session, said(Quantity.DISTANCE, 3.5, "red chair", name), [RED])
    assert (check.agrees, check.measurement, answer.status) == (None, None, Status.OK)
    assert "ask for CAMERA_DISTANCE" in check.reason
    assert session.asked == []


def test_a_region_named_camera_is_an_object():
    shown = replace(BLUE, label="camera")
    claim = said(Quantity.DISTANCE, TRUE_DISTANCE, "red chair", "camera")
    _, (check,) = verify(Session(room()), claim, [RED, shown])
    assert check.agrees is True
    assert len(check.objects) == 2


def test_two_names_at_one_place_measure_nothing():
    place = middle_of(blocks.RED)
    session = Session(room(), dict.fromkeys(CHAIRS, place))
    for regions in ([], [RED, replace(RED, label="blue chair")]):
        answer, (check,) = verify(session, said(Quantity.DISTANCE, 1.0, *CHAIRS), regions)
        assert (check.agrees, answer.status) == (None, Status.OK)
        assert "at one place" in check.reason


def test_a_name_that_cannot_be_asked_for_is_undecided():
    name = "x" * 1000
    number = Measurement(Quantity.HEIGHT, 1.0, objects=(name,))
    answer = SpatialAnswer("?", "", Asked(), (number,))
    _, (check,) = verify(Session(room()), answer)
    assert check.agrees is None
    assert "1000 characters" in check.reason


def test_a_point_beside_the_object_is_searched_around():
    beside = (RED.box[0] - 1.0, middle_of(blocks.RED)[1])
    session = Session(room(), {"red chair": beside})
    _, (check,) = verify(session, HEIGHT)
    assert [one.label for one in check.objects] == ["red chair"]
    assert isinstance(check.objects[0].region, Region)
