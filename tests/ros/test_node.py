"""The node process over real DDS: a bad input has an error code, and the node keeps serving."""

from __future__ import annotations

import itertools
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import DurabilityPolicy, QoSProfile

from sdvlm.msg import Region, SpatialAnswer
from sdvlm.srv import SpatialQuery
from sdvlm_core.camera.assembly import frame_from_messages
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.errors import ModelNotReadyError
from sdvlm_core.frame import CameraIntrinsics
from sdvlm_ros import parameters
from sdvlm_ros.client import SpatialClient, SpatialQueryFailed
from sdvlm_ros.conversions import camera_info_message, image_message
from sdvlm_ros.detections_out import DetectionsOut
from sdvlm_ros.dispatch import Dispatcher
from sdvlm_ros.transforms import Transforms
from sdvlm_ros.visualization import Visualization
from tests.ros.conftest import running
from tests.ros.peer import (
    DEPTH,
    HEIGHT,
    INFO,
    RGB,
    WIDTH,
    Peer,
    Response,
    color,
    depth,
    frame,
    info,
)
from tests.waiting import PATIENCE_S

_tests = itertools.count(1)


@dataclass(frozen=True)
class Started:
    """The node that all tests of this module share, and its log while inputs were missing."""

    peer: Peer
    before_any_image: Response
    before_any_info: Response


@pytest.fixture(scope="module")
def started(tiny_model: Path) -> Iterator[Started]:
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    with running("sdvlm_ros.node", "--ros-args", "-p", f"model:={tiny_model}") as process:
        peer = Peer(context)
        peer.connect()
        first = time.time_ns()
        yield Started(peer, peer.ask(), peer.ask_about(frame(first, info=None), first))
        assert process.poll() is None, "the node did not survive its tests"
    context.try_shutdown()


@pytest.fixture
def peer(started: Started) -> Peer:
    return started.peer


@pytest.fixture
def stamp_ns() -> int:
    """A different stamp for each test: the current time plus one second for each earlier test."""
    return time.time_ns() + next(_tests) * 10**9


def assert_still_serving(peer: Peer, stamp_ns: int) -> None:
    after = stamp_ns + 200_000_000
    response = peer.ask_about(frame(after), after)
    assert response.error_code == Response.NONE, response.error_msg


def test_a_question_before_any_image_is_refused_with_nothing_has_arrived(started: Started) -> None:
    response = started.before_any_image
    assert response.error_code == Response.NO_IMAGE
    assert "nothing has arrived" in response.error_msg
    assert "/rgb/image_rect_color is published by peer" in response.error_msg


def test_missing_camera_info_is_named_with_the_rates_of_the_other_inputs(started: Started) -> None:
    response = started.before_any_info
    assert response.error_code == Response.BAD_CAMERA_INFO
    assert "camera_info: nothing has arrived" in response.error_msg
    assert "Hz" in response.error_msg


def test_a_good_frame_is_answered_with_the_images_stamp_and_frame(
    peer: Peer, stamp_ns: int
) -> None:
    response = peer.ask_about(frame(stamp_ns), stamp_ns)
    assert response.error_code == Response.NONE, response.error_msg
    answer = response.answer
    assert answer.header.stamp.sec * 10**9 + answer.header.stamp.nanosec == stamp_ns
    assert answer.header.frame_id == "optical"
    assert answer.question == "How far is it?"
    assert answer.depth_source == "sensor"
    assert answer.id
    assert answer.model_id


BAD = {
    "colour in an unknown encoding": ("rgb", lambda t: color(t, "yuv422"), "NO_IMAGE", "'yuv422'"),
    "depth in an unknown encoding": (
        "depth",
        lambda t: image_message(np.ones((HEIGHT, WIDTH), np.uint8), "8UC1", t, "optical"),
        "BAD_DEPTH",
        "'8UC1'",
    ),
    "depth of another size": (
        "depth",
        lambda t: image_message(np.ones((24, 32), np.float32), "32FC1", t, "optical"),
        "BAD_DEPTH",
        "32x24",
    ),
    "all-zero depth": ("depth", lambda t: depth(t, 0.0), "BAD_DEPTH", "no usable reading"),
    "all-NaN depth": ("depth", lambda t: depth(t, float("nan")), "BAD_DEPTH", "no usable reading"),
    "camera info without calibration": (
        "info",
        lambda t: info(t, focal=0.0),
        "BAD_CAMERA_INFO",
        "not calibrated",
    ),
    "camera info of another size": (
        "info",
        lambda t: camera_info_message(CameraIntrinsics(60, 60, 31, 23, 640, 480), t, "optical"),
        "BAD_CAMERA_INFO",
        "640x480",
    ),
    "no depth near the image": ("depth", lambda t: None, "BAD_DEPTH", "no depth within"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_has_its_error_code_and_the_node_keeps_serving(
    peer: Peer, stamp_ns: int, name: str
) -> None:
    part, make, code, text = BAD[name]
    response = peer.ask_about(frame(stamp_ns, **{part: make(stamp_ns)}), stamp_ns)
    assert response.error_code == getattr(Response, code), response.error_msg
    assert text in response.error_msg
    assert_still_serving(peer, stamp_ns)


def test_truncated_image_data_is_refused_and_the_node_keeps_serving(
    peer: Peer, stamp_ns: int
) -> None:
    short = color(stamp_ns)
    short.data = short.data[:100]
    response = peer.ask_about(frame(stamp_ns, rgb=short), stamp_ns)
    assert response.error_code == Response.NO_IMAGE
    assert "truncated: 100 bytes" in response.error_msg
    assert_still_serving(peer, stamp_ns)


@pytest.mark.parametrize(("offset", "text"), [(-10, "s old"), (1000, "in the future")])
def test_an_image_from_another_time_is_stale(peer: Peer, offset: int, text: str) -> None:
    stamp_ns = time.time_ns() + offset * 10**9
    peer.ask_about(frame(stamp_ns), stamp_ns)  # now the node has it
    response = peer.ask()
    assert response.error_code == Response.STALE_IMAGE
    assert text in response.error_msg
    assert "max_age is 1 s" in response.error_msg
    fresh = time.time_ns()
    peer.ask_about(frame(fresh), fresh)
    assert peer.ask(max_age=Duration(sec=60)).error_code == Response.NONE


@pytest.mark.parametrize(
    ("question", "text"), [("", "empty"), ("  \n", "empty"), ("x" * 10_000, "10000 characters")]
)
def test_a_question_that_cannot_be_asked_is_an_invalid_query(
    peer: Peer, stamp_ns: int, question: str, text: str
) -> None:
    response = peer.ask(question)
    assert response.error_code == Response.INVALID_QUERY
    assert text in response.error_msg
    assert_still_serving(peer, stamp_ns)


def test_an_unsupported_request_is_refused_and_not_ignored(peer: Peer) -> None:
    assert peer.ask(regions=[Region(label="mug")]).error_code == Response.INVALID_QUERY


def test_a_question_that_takes_too_long_times_out(peer: Peer, stamp_ns: int) -> None:
    peer.ask_about(frame(stamp_ns), stamp_ns)
    response = peer.ask(stamp_ns=stamp_ns, timeout=0.002)
    assert response.error_code == Response.TIMEOUT
    assert_still_serving(peer, stamp_ns)


def test_more_questions_than_the_queue_holds_are_refused_at_once(peer: Peer, stamp_ns: int) -> None:
    peer.ask_about(frame(stamp_ns), stamp_ns)
    futures = [peer.query.call_async(peer.request(stamp_ns=stamp_ns)) for _ in range(24)]
    peer.spin_until(lambda: all(f.done() for f in futures), "every response")
    codes = [future.result().error_code for future in futures]
    assert set(codes) == {Response.NONE, Response.QUEUE_FULL}
    assert codes.count(Response.NONE) >= 8
    assert_still_serving(peer, stamp_ns)


def test_a_missing_transform_is_an_error_that_includes_the_answer(
    peer: Peer, stamp_ns: int
) -> None:
    peer.ask_about(frame(stamp_ns), stamp_ns)
    response = peer.ask(stamp_ns=stamp_ns, target_frame="base_link")
    assert response.error_code == Response.TF_ERROR
    assert response.answer.status == SpatialAnswer.TF_UNAVAILABLE
    assert response.answer.header.frame_id == "optical"
    same = peer.ask(stamp_ns=stamp_ns, target_frame="optical")
    assert same.error_code == Response.NONE


def test_a_second_question_about_a_frame_does_not_encode_it_again(
    peer: Peer, stamp_ns: int
) -> None:
    first = peer.ask_about(frame(stamp_ns), stamp_ns)
    second = peer.ask("How many are there?", stamp_ns=stamp_ns)
    assert first.answer.encode_time.nanosec > 1_000_000
    assert second.answer.encode_time.nanosec < 100_000


def test_the_node_and_the_core_give_the_same_answer_about_a_frame(
    peer: Peer, stamp_ns: int, tiny_model: Path
) -> None:
    from sdvlm_core.engine import SpatialEngine
    from sdvlm_core.model.checkpoint import load

    messages = frame(stamp_ns)
    through_ros = peer.ask_about(messages, stamp_ns).answer
    same = frame_from_messages(*(messages[topic] for topic in (RGB, DEPTH, INFO)))
    directly = SpatialEngine(load(str(tiny_model))).open(same).ask("How far is it?")
    assert through_ros.text == directly.text
    assert through_ros.confidence == pytest.approx(directly.confidence, rel=1e-3)


def test_a_captured_frame_is_available_after_it_leaves_the_buffer(
    peer: Peer,
) -> None:
    for _ in range(12):  # more than buffer_size: a stamp before those of other tests is a restart
        stamp_ns = time.time_ns()
        peer.ask_about(frame(stamp_ns), stamp_ns)
    with SpatialClient() as client:

        def held() -> int:
            stamp_ns = time.time_ns()
            peer.ask_about(frame(stamp_ns), stamp_ns)
            with suppress(SpatialQueryFailed):  # on a busy machine the frame may already be too old
                return client.capture()
            return 0

        held_ns = peer.spin_until(held, "a capture")
    for index in range(1, 13):
        later = held_ns + index * 10**8
        peer.ask_about(frame(later), later)
    response = peer.ask(stamp_ns=held_ns)
    assert response.error_code == Response.NONE, response.error_msg
    assert nanoseconds(response.answer.header.stamp) == held_ns


@pytest.mark.parametrize(
    ("offset", "text"), [(-10 * 10**9, "s old"), (None, r"header\.stamp is 0")]
)
def test_a_frame_too_old_to_answer_from_is_not_held(
    peer: Peer, offset: int | None, text: str
) -> None:
    stamp_ns = 0 if offset is None else time.time_ns() + offset

    def arrived() -> bool:
        for topic, message in frame(stamp_ns).items():
            peer.publishers[topic].publish(message)
        return bool(re.search(text, peer.ask().error_msg))

    peer.spin_until(arrived, "its arrival")
    with SpatialClient() as client, pytest.raises(SpatialQueryFailed, match=text) as refusal:
        client.capture()
    assert refusal.value.code == Response.STALE_IMAGE


def test_a_late_subscriber_gets_the_last_answer_and_no_old_ones_as_new(
    peer: Peer, stamp_ns: int
) -> None:
    last = peer.ask_about(frame(stamp_ns), stamp_ns).answer
    latched: list[SpatialAnswer] = []
    answers: list[SpatialAnswer] = []
    profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node = peer.node
    node.create_subscription(SpatialAnswer, "spatial_query/last_answer", latched.append, profile)
    node.create_subscription(SpatialAnswer, "spatial_query/answers", answers.append, 10)
    peer.spin_until(lambda: latched, "the latched answer")
    assert [answer.id for answer in latched] == [last.id]
    assert not answers


def test_diagnostics_count_what_arrives_on_each_topic(peer: Peer, stamp_ns: int) -> None:
    arrays: list[DiagnosticArray] = []
    peer.node.create_subscription(DiagnosticArray, "/diagnostics", arrays.append, 10)
    peer.publishers[RGB].publish(color(stamp_ns))
    peer.spin_until(lambda: len(arrays) >= 2, "diagnostics")
    values = {pair.key: pair.value for pair in arrays[-1].status[0].values}
    assert int(values["colour received"]) > 0
    assert values["colour dropped"] == "0"
    assert values["state"] == "active"
    assert "latency decode (s)" in values


def test_the_client_answers_or_raises_with_the_nodes_code(peer: Peer) -> None:
    with SpatialClient() as client:
        client.wait_for_node()
        stamp_ns = time.time_ns()
        peer.ask_about(frame(stamp_ns), stamp_ns)
        assert client.ask("How tall is it?", stamp_ns=stamp_ns).question == "How tall is it?"
        with pytest.raises(SpatialQueryFailed, match=r"INVALID_QUERY.*empty") as refusal:
            client.ask("")
        assert refusal.value.code == Response.INVALID_QUERY


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_node_ends_with_status_0_on_a_signal(
    tiny_model: Path, context: rclpy.Context, number: signal.Signals
) -> None:
    # In a separate namespace, because the shared node of this module is in the root namespace.
    arguments = ("-p", f"model:={tiny_model}", "-r", "__ns:=/ending")
    with running("sdvlm_ros.node", "--ros-args", *arguments) as process:
        Peer(context, "/ending").connect()
        process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, output
        assert "Traceback" not in output


def test_a_missing_model_is_reported_in_every_error_reply(context: rclpy.Context) -> None:
    pytest.importorskip("torch")
    with running("sdvlm_ros.node", "--ros-args", "-p", "model:=/nowhere", "-r", "__ns:=/lost"):
        peer = Peer(context, "/lost")
        assert peer.query.wait_for_service(PATIENCE_S)
        response = peer.ask()
        assert response.error_code == Response.MODEL_NOT_READY
        assert "/nowhere" in response.error_msg


def test_a_question_without_torch_is_refused_because_the_node_is_not_ready(
    context: rclpy.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sdvlm_core.engine", None)  # makes the import fail
    node = rclpy.create_node("bare", context=context)
    parameters.declare(node)
    dispatcher = Dispatcher(
        node,
        lambda: "No module named 'torch'",
        Visualization(node),
        DetectionsOut(node, Transforms(node)),
    )
    with pytest.raises(ModelNotReadyError, match="No module named 'torch'"):
        dispatcher.ask(SpatialQuery.Request(), ["How far is it?"])
    node.destroy_node()


def test_the_life_cycle_can_run_twice(tiny_model: Path, context: rclpy.Context) -> None:
    arguments = ("-p", f"model:={tiny_model}", "-p", "autostart:=false", "-r", "__ns:=/managed")
    with running("sdvlm_ros.node", "--ros-args", *arguments) as process:
        peer = Peer(context, "/managed")
        change = peer.client(ChangeState, "change_state")
        assert peer.query.wait_for_service(PATIENCE_S)

        def transition(number: int) -> bool:
            future = change.call_async(ChangeState.Request(transition=Transition(id=number)))
            peer.spin_until(future.done, f"transition {number}")
            return future.result().success

        assert "unconfigured" in peer.ask().error_msg
        for _ in range(2):
            assert transition(Transition.TRANSITION_CONFIGURE)
            assert peer.ask().error_code == Response.MODEL_NOT_READY
            assert transition(Transition.TRANSITION_ACTIVATE)
            peer.connect()
            stamp_ns = time.time_ns()
            assert peer.ask_about(frame(stamp_ns), stamp_ns).error_code == Response.NONE
            waiting = [peer.query.call_async(peer.request(stamp_ns=stamp_ns)) for _ in range(4)]
            assert transition(Transition.TRANSITION_DEACTIVATE)
            peer.spin_until(lambda w=waiting: all(f.done() for f in w), "the replies")
            assert {f.result().error_code for f in waiting} <= {
                Response.NONE,
                Response.CANCELED,
                Response.MODEL_NOT_READY,
            }
            assert transition(Transition.TRANSITION_CLEANUP)
        assert process.poll() is None
