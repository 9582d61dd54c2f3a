"""What a peer sends is bounded before it is stored, and cannot forge a line of the log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.action import ActionClient

from sdvlm.action import SpatialReasoning
from sdvlm.msg import Asked, Region
from sdvlm.srv import MeasureRegions
from sdvlm_ros.conversions import image_message
from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, frame
from tests.ros.watch import Watched
from tests.waiting import PATIENCE_S

FORGED = "a\n[ERROR] [1.0] [spatial_query]: forged\x1b[31m"


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    arguments = ("-p", "max_regions:=3", "-r", "__ns:=/bounds")
    with running("tests.ros.stub_node", "--ros-args", *arguments) as process:
        peer = Peer(context, "/bounds")
        peer.connect()
        yield Watched(peer)
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE_S)
    context.try_shutdown()
    assert not any(line.startswith("[ERROR] [1.0]") for line in output.splitlines())
    assert "\x1b[31m" not in output


def serves(watched: Watched) -> None:
    stamp_ns = time.time_ns()
    response = watched.peer.ask_about(frame(stamp_ns), stamp_ns)
    assert response.error_code == Response.NONE, response.error_msg


def test_a_thin_image_is_refused_by_its_header_and_the_diagnostics_say_so(
    watched: Watched,
) -> None:
    def thin(stamp_ns: int) -> dict:
        pixels = np.zeros((1, 30_000, 3), np.uint8)
        return frame(stamp_ns, rgb=image_message(pixels, "rgb8", stamp_ns, "optical"))

    stamp_ns = time.time_ns()
    response = watched.peer.ask_about(thin(stamp_ns), stamp_ns)
    assert response.error_code == Response.NO_IMAGE
    assert "30000x1" in response.error_msg
    assert "max_aspect" in response.error_msg
    watched.publish_until(thin, lambda: "30000x1" in watched.status.message)
    assert watched.status.level == DiagnosticStatus.WARN
    assert int(watched.value("colour refused")) > 0
    serves(watched)


def test_a_frame_id_of_a_megabyte_is_refused(watched: Watched) -> None:
    stamp_ns = time.time_ns()
    messages = frame(stamp_ns)
    for message in messages.values():
        message.header.frame_id = "x" * 1_000_000
    response = watched.peer.ask_about(messages, stamp_ns)
    assert response.error_code in (Response.NO_IMAGE, Response.BAD_DEPTH, Response.BAD_CAMERA_INFO)
    assert "1000000 bytes" in response.error_msg
    assert len(response.error_msg) <= 1000
    serves(watched)


def test_requests_are_bounded_before_anything_is_stored(watched: Watched) -> None:
    peer = watched.peer
    response = peer.ask(target_frame="x" * 100_000)
    assert response.error_code == Response.INVALID_QUERY
    assert "target_frame has 100000 characters" in response.error_msg
    response = peer.ask("x" * 1_000_000)
    assert response.error_code == Response.INVALID_QUERY
    measure = peer.client(MeasureRegions, "measure_regions")
    for regions, text in (
        ([Region(label=str(number)) for number in range(4)], "at most 3"),
        ([Region(label=FORGED * 10)], "at most 200"),
    ):
        future = measure.call_async(MeasureRegions.Request(regions=regions))
        peer.spin_until(future.done, "the reply")
        assert future.result().error_code == Response.INVALID_QUERY
        assert text in future.result().error_msg
        assert future.result().error_msg.isprintable()
    serves(watched)


@pytest.mark.parametrize(
    ("question", "fields", "text"),
    [
        ("How far is it?", {"quantity": Asked.HEIGHT, "objects": ["mug"]}, "give one of the two"),
        ("How far is it?", {"objects": ["mug"]}, "give one of the two"),
        ("", {"quantity": Asked.GAP, "objects": ["mug"]}, "GAP needs 2 objects, got 1"),
        ("", {"quantity": 200, "objects": ["mug"]}, "asked.quantity is 200"),
        ("", {"quantity": Asked.COUNT, "objects": ["x" * 100_000]}, "has 100000 characters"),
        ("", {"quantity": Asked.COUNT, "objects": [FORGED]}, "is not one printable line"),
    ],
)
def test_a_typed_question_that_cannot_be_asked_is_an_invalid_query(
    watched: Watched, question: str, fields: dict[str, Any], text: str
) -> None:
    response = watched.peer.ask(question, asked=Asked(**fields))
    assert response.error_code == Response.INVALID_QUERY
    assert text in response.error_msg
    assert response.error_msg.isprintable()
    serves(watched)


def test_a_region_that_no_asked_object_is_in_is_an_invalid_query(watched: Watched) -> None:
    height = Asked(quantity=Asked.HEIGHT, objects=["red mug"])
    regions = [Region(label="lamp")]
    response = watched.peer.ask("", asked=height, regions=regions, verify=True)
    assert response.error_code == Response.INVALID_QUERY
    assert "labels: 'lamp'; objects: 'red mug'" in response.error_msg


def test_a_goal_with_too_many_questions_is_refused(watched: Watched) -> None:
    peer = watched.peer
    reason = ActionClient(peer.node, SpatialReasoning, "spatial_query/reason")
    assert reason.wait_for_server(PATIENCE_S)
    sent = reason.send_goal_async(SpatialReasoning.Goal(questions=["?"] * 65))
    peer.spin_until(sent.done, "the goal's response")
    result = sent.result().get_result_async()
    peer.spin_until(result.done, "the result")
    assert result.result().result.error_code == Response.INVALID_QUERY
    assert "65 questions" in result.result().result.error_msg
    reason.destroy()
    serves(watched)


def test_a_refused_text_is_one_printable_line_in_reply_log_and_diagnostics(
    watched: Watched,
) -> None:
    stamp_ns = time.time_ns()
    response = watched.peer.ask_about(frame(stamp_ns), stamp_ns, target_frame=FORGED)
    assert response.error_code == Response.TF_ERROR
    assert response.error_msg.isprintable()
    watched.until(lambda: "TF_ERROR" in watched.value("last error"), "the diagnostics")
    assert watched.value("last error").isprintable()
