"""Model work beside the executor: services answer while a question is answered.

`benchmarks/executor_timer.py` measures the delay of a timer during an answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from action_msgs.msg import GoalStatus
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.action import ActionClient
from rclpy.task import Future

from sdvlm.action import SpatialReasoning
from sdvlm_ros.conversions import time_message
from tests.ros.conftest import running
from tests.ros.peer import Peer, frame
from tests.waiting import PATIENCE_S

# Number of sequential calls of each service during one answer.
CALLS = 10


@pytest.fixture
def peer(tiny_model: Path, context: rclpy.Context) -> Iterator[Peer]:
    # The model never ends an answer. This number of tokens takes seconds.
    arguments = ["-p", f"model:={tiny_model}", "-p", "max_new_tokens:=3000"]
    arguments += ["-r", "__ns:=/threads"]
    with running("sdvlm_ros.node", "--ros-args", *arguments):
        peer = Peer(context, "/threads")
        peer.connect()
        yield peer


def being_answered(peer: Peer, client: ActionClient) -> tuple[Any, Future]:
    """Handle and result future of a goal whose first token has been generated."""
    stamp_ns = time.time_ns()
    goal = SpatialReasoning.Goal(questions=["How far is it?"], stamp=time_message(stamp_ns))
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for topic, message in frame(stamp_ns).items():
            peer.publishers[topic].publish(message)
        feedback: list[Any] = []
        sent = client.send_goal_async(goal, feedback.append)
        peer.spin_until(sent.done, "the goal's response")
        handle = sent.result()
        result = handle.get_result_async()
        peer.spin_until(
            lambda f=feedback, r=result: r.done() or (f and f[-1].feedback.partial_text), "a token"
        )
        if not result.done():  # otherwise the frame has not arrived yet
            return handle, result
    pytest.fail(f"no question was answered within {PATIENCE_S} s")


def test_parameter_and_lifecycle_services_answer_while_a_question_is_answered(peer: Peer) -> None:
    reason = ActionClient(peer.node, SpatialReasoning, "spatial_query/reason")
    assert reason.wait_for_server(PATIENCE_S)
    requests = [
        (GetState, "get_state", GetState.Request()),
        (GetParameters, "get_parameters", GetParameters.Request(names=["max_age"])),
        (ListParameters, "list_parameters", ListParameters.Request()),
    ]
    callers = [peer.client(kind, name) for kind, name, _ in requests]
    handle, result = being_answered(peer, reason)

    for _ in range(CALLS):
        replies = []
        for caller, (_, name, request) in zip(callers, requests, strict=True):
            reply = caller.call_async(request)
            peer.spin_until(reply.done, name)
            replies.append(reply.result())
        assert replies[0].current_state.label == "active"
        assert replies[1].values[0].double_value == 1.0
        assert "model" in replies[2].result.names
    assert not result.done(), "the services answered only after the question"

    canceled = handle.cancel_goal_async()
    peer.spin_until(lambda: canceled.done() and result.done(), "the cancellation")
    assert result.result().status == GoalStatus.STATUS_CANCELED
