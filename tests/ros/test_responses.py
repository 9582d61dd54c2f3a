"""A response that the middleware drops is sent again, and one that is lost is in the log."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from sdvlm.srv import Capture
from sdvlm_ros import responses
from tests.ros.conftest import running
from tests.ros.peer import Peer

# The service writes volatile responses; a reader of latched ones never matches.
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def noted() -> Iterator[None]:
    with warnings.catch_warnings():
        responses.note_dropped_responses()
        yield


def told(request: Capture.Request, response: Capture.Response) -> Capture.Response:
    response.error_msg = f"about {request.camera}"
    return response


class Pair:
    """A service and its client, on two nodes of one executor."""

    def __init__(self, context: rclpy.Context, name: str, **qos: Any) -> None:
        self.server, asker = (
            rclpy.create_node(f"{name}_{role}", context=context) for role in ("server", "asker")
        )
        self.executor = SingleThreadedExecutor(context=context)
        for node in (self.server, asker):
            self.executor.add_node(node)
        self.service = self.server.create_service(Capture, name, told)
        self.client = asker.create_client(Capture, name, **qos)

    def spin_until(self, condition: Any, what: str) -> None:
        Peer.spin_until(self, condition, what)  # type: ignore[arg-type]


@contextmanager
def every(period_s: float, call: Callable[[], object]) -> Iterator[None]:
    """Call in another thread, until the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(period_s):
            call()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def timers(node: Node) -> int:
    return len(list(node.timers))


def drops(service: Any, times: int) -> list[Any]:
    """The first responses are dropped as rclpy and Fast DDS drop them; what was sent."""
    send, sent = service.send_response, []

    def send_response(response: Any, header: Any) -> None:
        sent.append(response)
        if len(sent) <= times:
            warnings.warn("failed to send response (timeout): no reader", RuntimeWarning, 1)
        else:
            send(response, header)

    service.send_response = send_response
    return sent


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_dropped_response_is_sent_until_it_arrives(
    context: rclpy.Context, noted: None, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(responses, "PERIOD_S", 0.05)
    pair = Pair(context, f"dropped_{times}")
    sent = drops(pair.service, times)
    responses.Responses(pair.server).watch(pair.service)
    pair.spin_until(pair.client.service_is_ready, "the service")
    future = pair.client.call_async(Capture.Request(camera="left"))
    pair.spin_until(future.done, "the response")
    assert future.result().error_msg == "about left"
    pair.spin_until(lambda: not timers(pair.server), "the end of the timer")
    assert len(sent) == times + 1


def test_tries_end_and_no_more_than_a_few_responses_wait(
    context: rclpy.Context, noted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "PERIOD_S", 0.05)
    pair = Pair(context, "never")
    sent = drops(pair.service, 10**6)
    responses.Responses(pair.server).watch(pair.service)
    pair.spin_until(pair.client.service_is_ready, "the service")
    asked = 7
    for _ in range(asked):
        pair.client.call_async(Capture.Request())
    pair.spin_until(lambda: len(sent) >= asked, "the responses")
    pair.spin_until(lambda: not timers(pair.server), "the end of the timers")
    assert asked < len(sent) <= 4 * responses.TRIES + 3


def test_other_warnings_are_shown() -> None:
    with warnings.catch_warnings(record=True) as shown:
        responses.note_dropped_responses()
        for text in ("failed otherwise", "failed to send response (timeout): no reader"):
            warnings.warn(text, RuntimeWarning, 1)
    assert [str(one.message) for one in shown] == ["failed otherwise"]


def test_the_node_says_that_a_client_with_another_qos_gets_no_response(
    context: rclpy.Context,
) -> None:
    with running("tests.ros.stub_node", "--ros-args", "-r", "__ns:=/unread") as node:
        peer = Peer(context, "/unread")
        client = peer.node.create_client(Capture, "spatial_query/capture", qos_profile=LATCHED)
        assert node.stdout is not None
        # It is never ready, so that a call may be too early for the service: there are many.
        with every(0.2, lambda: client.call_async(Capture.Request())):
            said = [node.stdout.readline()]
            while " is lost " not in said[-1]:
                said.append(node.stdout.readline())
                assert said[-1], "the node has ended"
    assert "a response of /unread/spatial_query/capture is lost" in said[-1]
    assert not any("RuntimeWarning" in line for line in said)
