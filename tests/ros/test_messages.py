"""One builder for both message libraries: rclpy's and rosbags' messages have equal fields."""

from __future__ import annotations

import math
from typing import Any

import pytest
from rclpy.serialization import serialize_message
from visualization_msgs.msg import Marker

from sdvlm.action import SpatialReasoning
from sdvlm.msg import Asked as AskedMsg
from sdvlm_core.answer import (
    Asked,
    Measurement,
    Position,
    Quantity,
    SpatialAnswer,
    Status,
    Timings,
    answer_document,
    answer_from_document,
)
from sdvlm_core.camera import messages
from sdvlm_core.camera.messages import Action, MessageFactory, Shape
from sdvlm_core.errors import QueryError
from sdvlm_core.replay import answer_bag
from sdvlm_ros import conversions
from sdvlm_ros.ticket import Stage

STAMP_NS = 1_700_000_000_123_456_789
ANSWER = SpatialAnswer(
    question="How tall is the mug?",
    text="The mug is 9.5 cm tall.",
    asked=Asked(Quantity.COMPARISON, ("mug", "box"), "taller", which=True, unit="cm"),
    why_none="no number, as was asked",
    chosen="mug",
    measurements=(Measurement(Quantity.HEIGHT, 0.095, objects=("mug",), text="9.5 cm"),),
    image_points=((0.25, 0.5),),
    positions=(Position("mug", 0.1, -0.2, 0.75),),
    status=Status.DISAGREEMENT,
    confidence=0.75,
    model_id="nano",
    depth_source="sensor",
    timings=Timings(0.125, 0.25, 0.5, 1.0, 0.0625),
)


def build_answer(make: MessageFactory[Any]) -> Any:
    header = messages.header_message(make, STAMP_NS, "optical")
    return messages.answer_message(make, ANSWER, header, "id")


def build_marker(make: MessageFactory[Any]) -> Any:
    return messages.marker(
        make,
        messages.header_message(make, STAMP_NS, "optical"),
        "sizes",
        3,
        Shape.LINE_LIST,
        rgb=(255, 51, 0),
        alpha=0.25,
        position=(1.0, 2.0, 3.0),
        scale=(0.5, 0.0, 0.0),
        points=[(0.0, 1.0, 2.0), (3.0, 4.0, 5.0)],
        point_colors=[(255, 0, 0), (0, 255, 0)],
        text="9.5 cm",
        lifetime_s=30.5,
    )


@pytest.mark.parametrize(
    ("build", "type_name"),
    [(build_answer, "sdvlm/msg/SpatialAnswer"), (build_marker, "visualization_msgs/msg/Marker")],
)
def test_messages_of_both_libraries_have_equal_fields(build: Any, type_name: str) -> None:
    types = answer_bag.typestore()
    through_rclpy = types.deserialize_cdr(
        serialize_message(build(conversions.make_message)), type_name
    )
    # Both are serialized by the same library, because the middleware's padding is arbitrary.
    expected = types.serialize_cdr(build(answer_bag.make_message), type_name)
    assert bytes(types.serialize_cdr(through_rclpy, type_name)) == bytes(expected)


def test_an_answer_read_from_its_document_is_the_same_message() -> None:
    entry = {"entry": 7, "answer": answer_document(ANSWER)}
    header = messages.header_message(answer_bag.make_message, STAMP_NS, "optical")
    message = answer_bag.answer_message(entry, header)
    assert message.id == "replay-7"
    assert math.isnan(message.measurements[0].std_dev)
    # NaN is not equal to itself, so the texts are compared.
    assert repr(answer_from_document(answer_document(ANSWER))) == repr(ANSWER)


@pytest.mark.parametrize("make", [conversions.make_message, answer_bag.make_message])
def test_a_typed_question_read_from_its_message_is_the_same(make: MessageFactory[Any]) -> None:
    full = Asked(Quantity.DIFFERENCE, ("mug", "red box"), "taller", False, "cm", "the bed is 1 m")
    for asked in (full, ANSWER.asked, Asked()):
        assert messages.asked_from_message(messages.asked_message(make, asked)) == asked


def test_a_quantity_has_the_number_of_its_constant_and_another_number_is_refused() -> None:
    for quantity in Quantity:
        assert getattr(AskedMsg, quantity.name) == quantity
    with pytest.raises(QueryError, match="quantity is 13; known are 0 FREE, 1 HEIGHT"):
        messages.asked_from_message(AskedMsg(quantity=len(Quantity)))


def test_shapes_actions_and_stages_have_the_numbers_of_their_interfaces() -> None:
    for shape in Shape:
        assert getattr(Marker, shape.name) == shape
    assert (Marker.ADD, Marker.DELETEALL) == (Action.ADD, Action.DELETE_ALL)
    for stage in Stage:
        assert getattr(SpatialReasoning.Feedback, stage.name) == stage


@pytest.mark.parametrize("time_ns", [0, 1, 999_999_999, STAMP_NS])
def test_nanoseconds_are_preserved_in_a_message(time_ns: int) -> None:
    assert messages.nanoseconds(conversions.time_message(time_ns)) == time_ns
