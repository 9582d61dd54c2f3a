"""Standing questions: asked at a period by the real node, answered on ~/answers, never piled up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from builtin_interfaces.msg import Duration
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from sdvlm.msg import Asked, Region, SpatialAnswer
from sdvlm.srv import AskEvery
from sdvlm_ros.standing import MAX_STANDING
from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, frame
from tests.ros.stub_node import BLOCK
from tests.ros.watch import Watched
from tests.waiting import PATIENCE_S

BY_PARAMETER = "How far is the door?"


class Patrol(Watched):
    """A camera, the node's diagnostics and answers, and its service ~/ask_every."""

    def __init__(self, peer: Peer, gate: Path) -> None:
        super().__init__(peer)
        self.gate = gate
        self.answers: list[str] = []
        peer.node.create_subscription(
            SpatialAnswer,
            "spatial_query/answers",
            lambda answer: self.answers.append(answer.question),
            100,
        )
        self.service = peer.client(AskEvery, "ask_every")

    def ask_every(self, period_s: float, question: str = "", **fields: Any) -> AskEvery.Response:
        """The reply of the service."""
        whole = int(period_s)
        period = Duration(sec=whole, nanosec=round((period_s - whole) * 1e9))
        future = self.service.call_async(
            AskEvery.Request(question=question, period=period, **fields)
        )
        self.peer.spin_until(future.done, "the reply of ~/ask_every")
        return future.result()

    def publish_until_answered(self, question: str, times: int = 1) -> None:
        """Publish frames until there are so many new answers."""
        before = self.answers.count(question)
        self.publish_until(frame, lambda: self.answers.count(question) >= before + times)


@pytest.fixture(scope="module")
def patrol(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patrol]:
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    gate = tmp_path_factory.mktemp("patrol") / "gate"
    arguments = ["-p", f"standing_questions:=['{BY_PARAMETER}']", "-p", "standing_period:=0.2"]
    # Long, for a loaded machine.
    arguments += ["-p", "max_age:=60.0", "-p", "timeout:=600.0", "-r", "__ns:=/patrol"]
    with running("tests.ros.stub_node", "--ros-args", *arguments, STUB_GATE=str(gate)) as process:
        peer = Peer(context, "/patrol")
        patrol = Patrol(peer, gate)
        peer.connect()
        yield patrol
        assert process.poll() is None, "the node did not survive its tests"
    context.try_shutdown()


@pytest.fixture(autouse=True)
def nothing_else_stands(patrol: Patrol) -> Iterator[None]:
    yield
    for one in patrol.ask_every(0.0).standing:
        if one.question != BY_PARAMETER:
            patrol.ask_every(0.0, one.question, asked=one.asked)
    patrol.gate.unlink(missing_ok=True)


def test_without_an_image_the_refusal_and_its_code_are_in_the_log(patrol: Patrol) -> None:
    refusal = f"standing question '{BY_PARAMETER}' refused, NO_IMAGE"
    patrol.until(lambda: any(refusal in line for line in patrol.log), "the refusal")
    patrol.until(lambda: patrol.value("standing questions refused") not in ("", "0"), "its count")
    assert patrol.answers == []


def test_a_question_by_parameter_is_answered_again_and_again(patrol: Patrol) -> None:
    patrol.publish_until_answered(BY_PARAMETER, times=3)
    (standing,) = patrol.ask_every(0.0).standing
    assert (standing.question, standing.period) == (BY_PARAMETER, Duration(nanosec=200_000_000))
    assert standing.answered >= 3
    assert standing.refused >= 1


def test_a_question_by_service_stands_until_its_period_is_0(patrol: Patrol) -> None:
    reply = patrol.ask_every(0.1, "How far is the box?")
    assert (reply.error_code, reply.error_msg) == (Response.NONE, "")
    assert [one.question for one in reply.standing] == [BY_PARAMETER, "How far is the box?"]
    patrol.publish_until_answered("How far is the box?", times=2)
    slower = patrol.ask_every(3600.0, "How far is the box?")
    assert [one.period.sec for one in slower.standing] == [0, 3600]
    ended = patrol.ask_every(0.0, "How far is the box?")
    assert [one.question for one in ended.standing] == [BY_PARAMETER]
    twice = patrol.ask_every(0.0, "How far is the box?")
    assert twice.error_code == Response.INVALID_QUERY
    assert "does not stand" in twice.error_msg


def test_a_typed_question_is_asked_as_typed(patrol: Patrol) -> None:
    asked = Asked(quantity=Asked.HEIGHT, objects=["red mug"])
    reply = patrol.ask_every(0.1, asked=asked)
    assert reply.standing[-1].asked == asked
    assert reply.standing[-1].question == ""
    patrol.publish_until(frame, lambda: any("red mug" in words for words in patrol.answers))
    assert patrol.ask_every(0.0, asked=asked).error_code == Response.NONE


TALL = "How tall is the mug?"


@pytest.mark.parametrize(
    ("period_s", "fields", "text"),
    [
        (0.05, {"question": "How far is it?"}, "the period is 0.05 s"),
        (90_000.0, {"question": "How far is it?"}, "it must be 0.1 to 86400 s"),
        (1.0, {"question": "x" * 3000}, "3000 characters"),
        (1.0, {"question": TALL, "asked": Asked(quantity=1)}, "one of the two"),
        (1.0, {"question": TALL, "regions": [Region(label="car")], "verify": True}, "car"),
        (1.0, {"question": TALL, "regions": [Region(label="mug")]}, "set verify, or leave"),
        (1.0, {"question": TALL, "target_frame": "x" * 300}, "target_frame has 300 characters"),
    ],
)
def test_what_would_be_refused_every_time_does_not_stand(
    patrol: Patrol, period_s: float, fields: dict[str, Any], text: str
) -> None:
    reply = patrol.ask_every(period_s, **fields)
    assert reply.error_code == Response.INVALID_QUERY
    assert text in reply.error_msg
    assert [one.question for one in reply.standing] == [BY_PARAMETER]


def test_the_number_of_standing_questions_is_bounded(patrol: Patrol) -> None:
    replies = [patrol.ask_every(3600.0, f"How far is box {n}?") for n in range(MAX_STANDING)]
    assert {reply.error_code for reply in replies[:-1]} == {Response.NONE}
    assert replies[-1].error_code == Response.INVALID_QUERY
    assert f"{MAX_STANDING} questions stand" in replies[-1].error_msg
    assert len(replies[-1].standing) == MAX_STANDING


def test_a_question_that_waits_for_its_answer_is_skipped_and_never_queued_twice(
    patrol: Patrol,
) -> None:
    patrol.ask_every(0.1, BLOCK)
    patrol.publish_until(frame, patrol.gate.exists)

    def skipped() -> dict[str, int]:
        return {one.question: one.skipped for one in patrol.ask_every(0.0).standing}

    patrol.peer.spin_until(lambda: skipped()[BLOCK] >= 5, "five skipped times")
    # The other question waits behind it, once.
    patrol.peer.spin_until(lambda: skipped()[BY_PARAMETER] >= 2, "the other one is skipped")
    patrol.until(lambda: int(patrol.value("standing questions skipped") or 0) >= 7, "the count")
    assert int(patrol.value("questions waiting")) <= 1
    # Ended while it is asked: its answer comes, and no other.
    patrol.ask_every(0.0, BLOCK)
    patrol.gate.unlink()
    patrol.publish_until_answered(BLOCK)


def test_an_inactive_node_asks_nothing_and_an_active_one_continues(patrol: Patrol) -> None:
    change = patrol.peer.client(ChangeState, "change_state")

    def transition(number: int) -> None:
        future = change.call_async(ChangeState.Request(transition=Transition(id=number)))
        patrol.peer.spin_until(future.done, f"transition {number}")
        assert future.result().success

    transition(Transition.TRANSITION_DEACTIVATE)
    (before,) = patrol.ask_every(0.0).standing
    until = time.monotonic() + 1.0  # five periods
    patrol.peer.spin_until(lambda: time.monotonic() > until, "a second")
    (after,) = patrol.ask_every(0.0).standing
    assert (after.answered, after.refused, after.skipped) == (
        before.answered,
        before.refused,
        before.skipped,
    )
    transition(Transition.TRANSITION_ACTIVATE)
    patrol.peer.connect()
    patrol.publish_until_answered(BY_PARAMETER)


def test_a_question_of_the_parameter_that_cannot_be_asked_ends_the_node_with_status_2() -> None:
    question = "standing_questions:=['" + "x" * 3000 + "']"
    with running("tests.ros.stub_node", "--ros-args", "-p", question) as process:
        assert process.wait(PATIENCE_S) == 2
