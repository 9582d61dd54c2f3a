"""SpatialClient.reason with an action server of the test, which controls the timing."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor

from sdvlm.action import SpatialReasoning
from sdvlm.msg import SpatialAnswer
from sdvlm_ros.client import SpatialClient, SpatialQueryFailed
from tests.ros.peer import Response
from tests.waiting import PATIENCE_S

_reasoners = itertools.count(1)


class Reasoner:
    """An action server for ~/reason that sends one character of each question every 20 ms."""

    def __init__(self, context: rclpy.Context) -> None:
        self.goals = GoalResponse.ACCEPT
        self.canceled, self._closing = threading.Event(), threading.Event()
        # A separate namespace, because the node of the previous test may still be in the graph.
        self.name = f"/reasoning_{next(_reasoners)}/spatial_query"
        namespace, name = self.name.rsplit("/", 1)
        self._node = rclpy.create_node(name, context=context, namespace=namespace)
        self._server = ActionServer(
            self._node,
            SpatialReasoning,
            "~/reason",
            self._execute,
            goal_callback=lambda _: self.goals,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )
        self._executor = MultiThreadedExecutor(2, context=context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def close(self) -> None:
        """End the running goals, then the server."""
        self._closing.set()
        self._executor.shutdown()
        self._thread.join()
        self._server.destroy()
        self._node.destroy_node()

    def _execute(self, handle: Any) -> SpatialReasoning.Result:
        result = SpatialReasoning.Result()
        for index, question in enumerate(handle.request.questions):
            for end in range(1, len(question) + 1):
                if handle.is_cancel_requested:
                    self.canceled.set()
                    handle.canceled()
                elif self._closing.is_set():
                    handle.abort()
                if not handle.is_active:
                    result.error_code, result.error_msg = Response.CANCELED, "as you wish"
                    return result
                handle.publish_feedback(
                    SpatialReasoning.Feedback(question_index=index, partial_text=question[:end])
                )
                time.sleep(0.02)
            result.answers.append(SpatialAnswer(question=question, text=question))
        handle.succeed()
        return result


@pytest.fixture
def reasoner(context: rclpy.Context) -> Iterator[Reasoner]:
    reasoner = Reasoner(context)
    yield reasoner
    reasoner.close()


@pytest.fixture
def asking(reasoner: Reasoner) -> Iterator[SpatialClient]:
    with SpatialClient(reasoner.name) as client:
        yield client


def test_reason_answers_in_order_and_streams_the_text(asking) -> None:
    told: list[tuple[int, str]] = []
    answers = asking.reason(
        ["first", "second"],
        on_feedback=lambda heard: told.append((heard.question_index, heard.partial_text)),
    )
    assert [answer.text for answer in answers] == ["first", "second"]
    assert (1, "sec") in told


def test_reason_can_be_canceled_from_feedback_and_keeps_complete_answers(asking) -> None:
    def stop(heard: Any) -> None:
        if heard.question_index == 1:
            asking.cancel()

    with pytest.raises(SpatialQueryFailed, match="CANCELED: as you wish") as canceled:
        asking.reason(["first", "x" * 500], on_feedback=stop)
    assert canceled.value.code == Response.CANCELED
    assert [answer.text for answer in canceled.value.answers] == ["first"]
    assert asking.cancel() == 0


def test_reason_is_canceled_in_the_node_after_its_timeout(asking, reasoner) -> None:
    with pytest.raises(SpatialQueryFailed, match="no reply from the node within") as late:
        asking.reason(["x" * 500], timeout=0.1)
    assert late.value.code == Response.TIMEOUT
    assert reasoner.canceled.wait(PATIENCE_S)
    assert asking.reason(["next"])[0].text == "next"


def test_a_rejected_goal_is_an_exception(asking, reasoner) -> None:
    reasoner.goals = GoalResponse.REJECT
    with pytest.raises(SpatialQueryFailed, match="rejected") as rejected:
        asking.reason(["anything"])
    assert rejected.value.code == Response.QUEUE_FULL


def test_a_feedback_callback_cannot_call_a_blocking_method(asking) -> None:
    raised: list[BaseException] = []

    def ask_again(_: Any) -> None:
        try:
            asking.ask("And now?")
        except RuntimeError as error:
            raised.append(error)

    asking.reason(["one"], on_feedback=ask_again)
    assert "only cancel() is allowed there" in str(raised[0])


def test_what_a_feedback_callback_raises_ends_the_goal_and_not_the_client(asking, reasoner) -> None:
    def fail(_: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asking.reason(["x" * 500], on_feedback=fail)
    assert reasoner.canceled.wait(PATIENCE_S)
    assert asking.reason(["next"])[0].text == "next"


def test_a_client_whose_thread_has_ended_releases_its_callers_and_refuses_others(reasoner) -> None:
    client = SpatialClient(reasoner.name)
    ended = threading.Event()

    def end(_: object) -> None:
        ended.set()
        raise SystemExit  # as an exception of rclpy would

    threading.excepthook, hook = lambda _: None, threading.excepthook
    try:
        client._executor.create_task(lambda: end(None))
        with pytest.raises((SystemExit, SpatialQueryFailed)):
            client.reason(["x" * 500])
        assert ended.is_set()
        with pytest.raises(SpatialQueryFailed, match="closed"):
            client.reason(["next"])
    finally:
        threading.excepthook = hook


def test_close_releases_waiting_callers_and_cancels_their_goals(asking, reasoner) -> None:
    begun, failures = threading.Event(), []

    def wait() -> None:
        try:
            asking.reason(["x" * 500], on_feedback=lambda _: begun.set())
        except SpatialQueryFailed as failed:
            failures.append(failed)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert begun.wait(PATIENCE_S)
    asking.close()
    waiting.join(PATIENCE_S)
    assert failures[0].code == Response.CANCELED
    assert reasoner.canceled.wait(PATIENCE_S)
    with pytest.raises(SpatialQueryFailed, match="closed"):
        asking.ask("Is anybody there?")
