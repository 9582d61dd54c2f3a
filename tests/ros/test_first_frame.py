"""A request right after activation waits for the first frame, is canceled, or is told why not."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import rclpy
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from rclpy.action import ActionClient

from sdvlm.action import SpatialReasoning
from sdvlm.msg import Region
from sdvlm.srv import Capture, MeasureRegions
from sdvlm_core.errors import (
    ErrorCode,
    FrameError,
    QueryCanceled,
    QueueFullError,
    SdvlmError,
    StaleFrameError,
)
from sdvlm_ros.first_frame import FirstFrame, Waiter
from sdvlm_ros.frame_buffer import BufferedMessage, RawFrame
from tests.ros.conftest import running
from tests.ros.peer import RGB, Peer, Response, frame
from tests.waiting import PATIENCE_S

PART = BufferedMessage(1, b"", 0.0)
FRAME = RawFrame(PART, PART, PART)
LONG = Duration(sec=round(PATIENCE_S))


class Request:
    """A waiter whose frame a test supplies."""

    def __init__(self) -> None:
        self.frame: RawFrame | None = None
        self.error: SdvlmError = FrameError("nothing has arrived")
        self.used: list[RawFrame] = []
        self.refused: list[Exception] = []
        self.over = False

    def pick(self) -> RawFrame:
        if self.frame is None:
            raise self.error
        return self.frame

    def waiter(self) -> Waiter:
        return Waiter(self.pick, self.used.append, self.refused.append, lambda: self.over)


def test_a_request_waits_until_its_frame_is_there() -> None:
    waiting, request = FirstFrame(lambda: True, 2), Request()
    waiting.serve(request.waiter())
    waiting.poll()
    assert (request.used, len(waiting)) == ([], 1)
    request.frame = FRAME
    waiting.poll()
    assert (request.used, len(waiting)) == ([FRAME], 0)


def test_a_request_is_refused_with_its_reason_when_no_frame_can_be_expected_any_more() -> None:
    expected = [True]
    waiting, request = FirstFrame(lambda: expected[0], 2), Request()
    waiting.serve(request.waiter())
    expected[0] = False
    waiting.poll()
    assert request.refused == [request.error]
    with pytest.raises(FrameError, match="nothing has arrived"):
        waiting.serve(Request().waiter())


def test_a_stale_frame_is_not_waited_for() -> None:
    waiting, request = FirstFrame(lambda: True, 2), Request()
    request.error = StaleFrameError("an hour old")
    with pytest.raises(StaleFrameError):
        waiting.serve(request.waiter())


def test_more_requests_than_the_queue_holds_do_not_wait() -> None:
    waiting, requests = FirstFrame(lambda: True, 1), [Request() for _ in range(3)]
    waiting.serve(requests[0].waiter())
    with pytest.raises(QueueFullError, match="queue_size"):
        waiting.serve(requests[1].waiter())
    requests[0].over = True  # canceled: it makes room
    waiting.serve(requests[2].waiter())
    waiting.close(QueryCanceled("closed"))
    assert len(requests[2].refused) == 1


@pytest.fixture
def peer(context: rclpy.Context) -> Iterator[Peer]:
    with running("tests.ros.stub_node", "--ros-args", "-r", "__ns:=/first"):
        peer = Peer(context, "/first")
        assert peer.query.wait_for_service(PATIENCE_S)
        yield peer


def publish_until(peer: Peer, *futures: rclpy.Future) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not all(future.done() for future in futures):
        assert time.monotonic() < deadline
        for topic, message in frame(time.time_ns()).items():
            peer.publishers[topic].publish(message)
        peer.executor.spin_once(timeout_sec=0.05)


def test_question_measurement_and_capture_wait_for_the_first_frame(peer: Peer) -> None:
    measure = peer.client(MeasureRegions, "measure_regions")
    capture = peer.client(Capture, "capture")
    peer.connect()
    region = Region(label="part")
    region.roi.x_offset, region.roi.y_offset, region.roi.width, region.roi.height = 10, 10, 20, 20
    asked = peer.query.call_async(peer.request(max_age=LONG))
    measured = measure.call_async(
        MeasureRegions.Request(regions=[region], max_age=LONG, timeout=LONG)
    )
    held = capture.call_async(Capture.Request(max_age=LONG, timeout=LONG))
    publish_until(peer, asked, measured, held)
    assert asked.result().error_code == Response.NONE, asked.result().error_msg
    assert measured.result().error_code == Response.NONE, measured.result().error_msg
    assert held.result().error_code == Response.NONE, held.result().error_msg
    assert held.result().header.frame_id == "optical"


def test_a_waiting_question_ends_at_its_timeout_with_the_reason(peer: Peer) -> None:
    peer.connect()
    response = peer.ask(timeout=0.3)
    assert response.error_code == Response.NO_IMAGE
    assert "nothing has arrived" in response.error_msg


def test_a_waiting_goal_can_be_canceled(peer: Peer) -> None:
    reason = ActionClient(peer.node, SpatialReasoning, "spatial_query/reason")
    assert reason.wait_for_server(PATIENCE_S)
    peer.connect()
    sent = reason.send_goal_async(SpatialReasoning.Goal(questions=["How far?"], timeout=LONG))
    peer.spin_until(sent.done, "the goal's response")
    result = sent.result().get_result_async()
    sent.result().cancel_goal_async()
    peer.spin_until(result.done, "the cancellation")
    assert result.result().status == GoalStatus.STATUS_CANCELED
    assert result.result().result.error_code == ErrorCode.CANCELED
    # The node serves the next question as ever.
    asked = peer.query.call_async(peer.request(max_age=LONG))
    publish_until(peer, asked)
    assert asked.result().error_code == Response.NONE, asked.result().error_msg
    reason.destroy()


def test_without_a_publisher_a_question_does_not_wait_for_its_timeout(peer: Peer) -> None:
    peer.node.destroy_publisher(peer.publishers.pop(RGB))
    peer.connect(tuple(peer.publishers))
    asked = peer.ask(timeout=PATIENCE_S)  # the test would fail before
    assert asked.error_code == Response.NO_IMAGE
    assert "has no publisher" in asked.error_msg
