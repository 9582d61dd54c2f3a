"""Many questions at once through the real node: each gets the answer that it gets alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.action import ActionClient

from sdvlm.action import SpatialReasoning
from sdvlm_ros.conversions import duration_message, time_message
from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, frame
from tests.waiting import PATIENCE_S

WORDS = [f"How tall is the {'very ' * n}large box?" for n in range(10)]


@pytest.fixture(scope="module")
def peer(tiny_model: Path) -> Iterator[Peer]:
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    arguments = ["-p", f"model:={tiny_model}", "-p", "queue_size:=64", "-p", "max_new_tokens:=12"]
    with running("sdvlm_ros.node", "--ros-args", *arguments, "-r", "__ns:=/together") as process:
        peer = Peer(context, "/together")
        peer.connect()
        yield peer
        assert process.poll() is None, "the node did not survive its tests"
    context.try_shutdown()


def test_twenty_calls_and_a_goal_about_one_frame_get_the_answers_that_they_get_alone(
    peer: Peer,
) -> None:
    stamp_ns = time.time_ns()
    assert peer.ask_about(frame(stamp_ns), stamp_ns).error_code == Response.NONE
    alone = {words: peer.ask(words, stamp_ns=stamp_ns).answer.text for words in WORDS}
    client = ActionClient(peer.node, SpatialReasoning, "spatial_query/reason")
    assert client.wait_for_server(PATIENCE_S)
    goal = SpatialReasoning.Goal(questions=WORDS, stamp=time_message(stamp_ns))
    goal.timeout = duration_message(PATIENCE_S / 2)

    calls = [
        peer.query.call_async(peer.request(WORDS[n % 10], stamp_ns=stamp_ns)) for n in range(20)
    ]
    sent = client.send_goal_async(goal)
    peer.spin_until(sent.done, "the goal's response")
    result = sent.result().get_result_async()
    peer.spin_until(lambda: result.done() and all(call.done() for call in calls), "all answers")

    for n, call in enumerate(calls):
        response = call.result()
        assert response.error_code == Response.NONE, response.error_msg
        assert response.answer.text == alone[WORDS[n % 10]]
    answers = result.result().result.answers
    assert [answer.text for answer in answers] == list(alone.values())


def test_a_question_about_another_frame_is_answered_among_many_about_one(peer: Peer) -> None:
    first, second = time.time_ns(), time.time_ns() + 10**9
    for stamp_ns in (first, second):
        assert peer.ask_about(frame(stamp_ns), stamp_ns).error_code == Response.NONE
    stamps = [first] * 8 + [second] + [first] * 8
    calls = [peer.query.call_async(peer.request(WORDS[0], stamp_ns=one)) for one in stamps]
    peer.spin_until(lambda: all(call.done() for call in calls), "all answers")
    for stamp_ns, call in zip(stamps, calls, strict=True):
        response = call.result()
        assert response.error_code == Response.NONE, response.error_msg
        assert response.answer.header.stamp == time_message(stamp_ns)
