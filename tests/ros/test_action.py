"""The action ~/reason of the real node over real DDS: answers, feedback, cancellation, errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import rclpy
from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from sensor_msgs.msg import RegionOfInterest

from sdvlm.action import SpatialReasoning
from sdvlm.msg import Asked, Region
from sdvlm_ros.conversions import duration_message, time_message
from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, frame
from tests.waiting import PATIENCE_S

Feedback = SpatialReasoning.Feedback
HEIGHT = Asked(quantity=Asked.HEIGHT, objects=["red mug"])
QUESTIONS = ["How far is it?", "How tall is it?", "How many are there?"]
# The model of these tests never ends an answer. This number of tokens takes seconds.
LONG = 3000


class Caller:
    """A client of the action, on a peer's node."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.client = ActionClient(peer.node, SpatialReasoning, "spatial_query/reason")
        self.feedback: list[Any] = []

    def send(self, questions: list[str], stamp_ns: int, **fields: Any) -> Any:
        """The handle of a goal, which is always accepted."""
        goal = SpatialReasoning.Goal(questions=questions, stamp=time_message(stamp_ns))
        goal.timeout = duration_message(fields.pop("timeout", PATIENCE_S / 2))
        for name, value in fields.items():
            setattr(goal, name, value)
        self.feedback = []
        sent = self.client.send_goal_async(goal, lambda m: self.feedback.append(m.feedback))
        self.peer.spin_until(sent.done, "the goal's response")
        assert sent.result().accepted
        return sent.result()

    def result(self, handle: Any) -> Any:
        got = handle.get_result_async()
        self.peer.spin_until(got.done, "the result")
        return got.result()

    def reason(self, questions: list[str], stamp_ns: int, **fields: Any) -> Any:
        return self.result(self.send(questions, stamp_ns, **fields))

    def cancel(self, handle: Any) -> CancelGoal.Response:
        canceled = handle.cancel_goal_async()
        self.peer.spin_until(canceled.done, "the cancellation's response")
        return canceled.result()

    def limit(self, tokens: int) -> None:
        """Set max_new_tokens, while the node runs."""
        caller = self.peer.client(SetParameters, "set_parameters")
        parameter = Parameter("max_new_tokens", value=tokens).to_parameter_msg()
        future = caller.call_async(SetParameters.Request(parameters=[parameter]))
        self.peer.spin_until(future.done, "the parameter")
        assert future.result().results[0].successful


@pytest.fixture(scope="module")
def caller(tiny_model: Path) -> Iterator[Caller]:
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    arguments = ["-p", f"model:={tiny_model}", "-p", "queue_size:=2", "-r", "__ns:=/reasoning"]
    with running("sdvlm_ros.node", "--ros-args", *arguments) as process:
        peer = Peer(context, "/reasoning")
        peer.connect()
        caller = Caller(peer)
        assert caller.client.wait_for_server(PATIENCE_S)
        yield caller
        assert process.poll() is None, "the node did not survive its tests"
    context.try_shutdown()


@pytest.fixture
def stamp_ns(caller: Caller) -> Iterator[int]:
    """The stamp of a frame that the node has; answers are short by default."""
    caller.limit(12)
    stamp_ns = time.time_ns()
    assert caller.peer.ask_about(frame(stamp_ns), stamp_ns).error_code == Response.NONE
    yield stamp_ns
    caller.limit(12)


def test_several_questions_are_answered_in_order_about_one_frame(
    caller: Caller, stamp_ns: int
) -> None:
    done = caller.reason(QUESTIONS, stamp_ns)
    assert done.status == GoalStatus.STATUS_SUCCEEDED
    answers = done.result.answers
    assert [answer.question for answer in answers] == QUESTIONS
    stamps = {answer.header.stamp.sec * 10**9 + answer.header.stamp.nanosec for answer in answers}
    assert stamps == {stamp_ns}
    assert {answer.header.frame_id for answer in answers} == {"optical"}
    assert len({answer.id for answer in answers}) == len(QUESTIONS)
    # The texts are equal to those of the service, one question at a time.
    alone = [caller.peer.ask(question, stamp_ns=stamp_ns).answer.text for question in QUESTIONS]
    assert [answer.text for answer in answers] == alone


def test_typed_questions_are_answered_as_in_the_service(caller: Caller, stamp_ns: int) -> None:
    asked = [
        Asked(quantity=Asked.HEIGHT, objects=["red mug"]),
        Asked(quantity=Asked.GAP, objects=["red mug", "blue box"]),
    ]
    done = caller.reason([], stamp_ns, asked=asked)
    assert done.status == GoalStatus.STATUS_SUCCEEDED, done.result.error_msg
    assert [answer.asked for answer in done.result.answers] == asked
    alone = [caller.peer.ask("", asked=one, stamp_ns=stamp_ns).answer.text for one in asked]
    assert [answer.text for answer in done.result.answers] == alone
    # A model with random weights states no height; the reason is kept.
    assert all(answer.why_none for answer in done.result.answers if not answer.measurements)


def test_each_typed_question_is_verified_with_the_regions_of_its_objects(
    caller: Caller, stamp_ns: int
) -> None:
    asked = [
        Asked(quantity=Asked.HEIGHT, objects=["red mug"]),
        Asked(quantity=Asked.WIDTH, objects=["blue box"]),
    ]
    regions = [region("Red Mug", 4), region("blue box", 30)]
    done = caller.reason([], stamp_ns, asked=asked, regions=regions, verify=True)
    assert done.status == GoalStatus.STATUS_SUCCEEDED, done.result.error_msg
    refused = caller.reason([], stamp_ns, asked=asked[:1], regions=regions, verify=True).result
    assert refused.error_code == Response.INVALID_QUERY
    assert "labels: 'Red Mug', 'blue box'; objects: 'red mug'" in refused.error_msg


def region(label: str, x: int) -> Region:
    return Region(label=label, roi=RegionOfInterest(x_offset=x, y_offset=4, width=20, height=20))


def test_feedback_grows_to_the_answer_and_is_rate_limited(caller: Caller, stamp_ns: int) -> None:
    caller.limit(600)
    answer = caller.reason(QUESTIONS[:1], stamp_ns).result.answers[0]
    told = caller.feedback
    stages = [feedback.stage for feedback in told]
    assert stages == sorted(stages)
    assert {Feedback.WAITING, Feedback.ENCODING, Feedback.ANSWERING} <= set(stages)
    texts = [feedback.partial_text for feedback in told if feedback.stage == Feedback.ANSWERING]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert 0 < len(texts[-1]) <= 600
    assert answer.text.startswith(texts[-1].strip())
    # At most ten messages a second, not one for each of hundreds of tokens a second.
    assert len(told) < 600 / 4


def test_a_canceled_goal_ends_within_a_token_and_keeps_complete_answers(
    caller: Caller, stamp_ns: int
) -> None:
    caller.limit(LONG)
    handle = caller.send(QUESTIONS, stamp_ns)
    caller.peer.spin_until(
        lambda: caller.feedback and caller.feedback[-1].partial_text, "partial text"
    )
    assert caller.cancel(handle).return_code == CancelGoal.Response.ERROR_NONE
    done = caller.result(handle)
    assert done.status == GoalStatus.STATUS_CANCELED
    assert done.result.error_code == Response.CANCELED
    # The first answer was not finished: its tokens were not generated to the end.
    assert done.result.answers == []
    caller.limit(3)
    assert caller.peer.ask(stamp_ns=stamp_ns).error_code == Response.NONE


def test_a_waiting_goal_is_canceled_at_once_and_leaves_the_queue(
    caller: Caller, stamp_ns: int
) -> None:
    caller.limit(LONG)
    running_one = caller.send(QUESTIONS[:1], stamp_ns)
    caller.peer.spin_until(
        lambda: caller.feedback[-1:] and caller.feedback[-1].stage >= 2, "a token"
    )
    waiting = [caller.send(QUESTIONS[:1], stamp_ns) for _ in range(2)]
    refused = caller.reason(QUESTIONS[:1], stamp_ns)
    assert (refused.status, refused.result.error_code) == (
        GoalStatus.STATUS_ABORTED,
        Response.QUEUE_FULL,
    )
    assert "queue_size" in refused.result.error_msg
    for handle in waiting:
        caller.cancel(handle)
        assert caller.result(handle).status == GoalStatus.STATUS_CANCELED
    # The queue has room for new goals, although the model is still busy.
    late = caller.send(QUESTIONS[:1], stamp_ns)
    caller.cancel(late)
    assert caller.result(late).result.error_code == Response.CANCELED
    caller.cancel(running_one)
    assert caller.result(running_one).status == GoalStatus.STATUS_CANCELED


@pytest.mark.parametrize(
    ("questions", "fields", "code", "text"),
    [
        ([], {}, "INVALID_QUERY", "0 questions; 1 to 64"),
        (["How far is it?", " "], {}, "INVALID_QUERY", "empty"),
        (["How far is it?"] * 65, {}, "INVALID_QUERY", "65 questions"),
        ([], {"asked": [HEIGHT] * 65}, "INVALID_QUERY", "65 questions"),
        (QUESTIONS, {"asked": [HEIGHT]}, "INVALID_QUERY", "give one of the two"),
        ([], {"asked": [HEIGHT, Asked()]}, "INVALID_QUERY", "asked[1]: a typed question needs"),
        (QUESTIONS, {"target_frame": "base_link"}, "TF_ERROR", "tf2"),
        (QUESTIONS, {"stamp": time_message(10**9)}, "NO_IMAGE", "no colour image within"),
        (QUESTIONS, {"timeout": duration_message(0.002)}, "TIMEOUT", ""),
    ],
)
def test_an_invalid_goal_is_aborted_with_its_reason(
    caller: Caller,
    stamp_ns: int,
    questions: list[str],
    fields: dict[str, Any],
    code: str,
    text: str,
) -> None:
    timeout = fields.pop("timeout", None)
    goal = {**fields} if timeout is None else {**fields, "timeout": 0.002}
    done = caller.reason(questions, stamp_ns, **goal)
    assert done.status == GoalStatus.STATUS_ABORTED
    assert done.result.error_code == getattr(Response, code), done.result.error_msg
    assert text in done.result.error_msg
    assert caller.reason(QUESTIONS, stamp_ns).status == GoalStatus.STATUS_SUCCEEDED


def test_verification_is_a_separate_stage(caller: Caller, stamp_ns: int) -> None:
    done = caller.reason(["How tall is it?"], stamp_ns, verify=True)
    assert done.status == GoalStatus.STATUS_SUCCEEDED
    assert Feedback.VERIFYING in {feedback.stage for feedback in caller.feedback}


def test_deactivation_cancels_a_goal_and_the_next_activation_answers(
    caller: Caller, stamp_ns: int
) -> None:
    caller.limit(LONG)
    handle = caller.send(QUESTIONS, stamp_ns)
    caller.peer.spin_until(lambda: len(caller.feedback) > 3, "feedback")
    change = caller.peer.client(ChangeState, "change_state")
    for number in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=number))
        future = change.call_async(request)
        caller.peer.spin_until(future.done, f"transition {number}")
        assert future.result().success
    done = caller.result(handle)
    assert done.status == GoalStatus.STATUS_ABORTED
    assert done.result.error_code == Response.CANCELED
    caller.limit(12)
    caller.peer.connect()
    again = time.time_ns()
    assert caller.peer.ask_about(frame(again), again).error_code == Response.NONE
    assert caller.reason(QUESTIONS, again).status == GoalStatus.STATUS_SUCCEEDED
