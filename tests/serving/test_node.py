"""Nodes whose language model is on a vLLM server, over DDS."""

from __future__ import annotations

import time

import pytest
import rclpy

from sdvlm_core.engine import SpatialEngine
from sdvlm_ros.conversions import camera_info_message, image_message
from tests.blocks import room_frame
from tests.ros.conftest import context, running  # noqa: F401 - a fixture
from tests.ros.peer import DEPTH, INFO, RGB, Peer, Response
from tests.serving.conftest import KEY, Serving
from tests.serving.test_vllm import QUESTIONS
from tests.waiting import PATIENCE_S


def _parameters(**values: object) -> list[str]:
    return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]


def _messages(stamp_ns: int) -> dict[str, object]:
    frame = room_frame()
    assert frame.depth is not None
    assert frame.intrinsics is not None
    return {
        INFO: camera_info_message(frame.intrinsics, stamp_ns, "camera"),
        RGB: image_message(frame.rgb, "rgb8", stamp_ns, "camera"),
        DEPTH: image_message(frame.depth, "32FC1", stamp_ns, "camera"),
    }


@pytest.mark.usefixtures("key")
def test_a_served_node_gives_the_answers_of_a_local_one_and_names_a_server_that_is_gone(
    serving: Serving,
    local: SpatialEngine,
    context: rclpy.Context,  # noqa: F811
) -> None:
    session = local.open(room_frame())
    words = _parameters(model="nano", dtype="float32", backend="served", server=serving.url)
    ros = ["--ros-args", *words, "-r", "__ns:=/served"]
    with running("sdvlm_ros.node", *ros, SDVLM_SERVER_KEY=KEY) as process:
        peer = Peer(context, "/served")
        peer.connect()
        stamp_ns = time.time_ns()
        for question in QUESTIONS:
            response = peer.ask_about(_messages(stamp_ns), stamp_ns, question=question)
            assert response.error_code == Response.NONE, response.error_msg
            expected = session.ask(question)
            assert response.answer.text == expected.text
            assert response.answer.confidence == pytest.approx(expected.confidence, abs=2e-3)
        serving.kill()
        response = peer.ask_about(_messages(stamp_ns), stamp_ns, question=QUESTIONS[0])
        assert response.error_code == Response.MODEL_NOT_READY
        assert serving.url in response.error_msg
        serving.start()
        response = peer.ask_about(_messages(stamp_ns), stamp_ns, question=QUESTIONS[0])
        assert response.answer.text == session.ask(QUESTIONS[0]).text
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert f"its language model at {serving.url}" in output


@pytest.mark.usefixtures("key")
def test_a_served_node_without_a_server_says_what_is_missing(context: rclpy.Context) -> None:  # noqa: F811
    for ns, words, reason in (
        ("/empty", _parameters(backend="served"), "the parameter server is empty"),
        ("/gone", _parameters(backend="served", server="http://127.0.0.1:9"), "127.0.0.1:9 failed"),
    ):
        with running("sdvlm_ros.node", "--ros-args", *words, "-r", f"__ns:={ns}"):
            peer = Peer(context, ns)
            assert peer.query.wait_for_service(PATIENCE_S)
            peer.spin_until(lambda peer=peer: "did not load" in peer.ask().error_msg, "the load")
            response = peer.ask()
        assert response.error_code == Response.MODEL_NOT_READY
        assert reason in response.error_msg
