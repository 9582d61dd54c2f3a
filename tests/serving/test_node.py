"""Nodes whose language model is on a vLLM server, over DDS."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest
import rclpy

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import RgbdFrame
from sdvlm_ros.client import SpatialClient, SpatialQueryFailed
from sdvlm_ros.conversions import camera_info_message, image_message
from tests.blocks import room_frame
from tests.ros.conftest import context, running  # noqa: F401 - a fixture
from tests.ros.peer import DEPTH, INFO, RGB, Peer, Response
from tests.serving.conftest import KEY, Serving
from tests.serving.test_vllm import QUESTIONS
from tests.waiting import PATIENCE_S


def _parameters(**values: object) -> list[str]:
    return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]


def _messages(stamp_ns: int, frame: RgbdFrame | None = None) -> dict[str, object]:
    frame = frame or room_frame()
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


def _mirrored(frame: RgbdFrame) -> RgbdFrame:
    """What another camera sees."""
    assert frame.depth is not None
    return replace(frame, rgb=frame.rgb[:, ::-1].copy(), depth=frame.depth[:, ::-1].copy())


@pytest.mark.usefixtures("key")
def test_of_two_nodes_and_one_with_two_cameras_no_question_is_lost_when_one_is_killed(
    serving: Serving,
    local: SpatialEngine,
    context: rclpy.Context,  # noqa: F811
) -> None:
    """Four callers, 200 questions each: every one has the local model's answer, or a code."""
    seen = {"": room_frame(), "left": room_frame(), "right": _mirrored(room_frame())}
    expected = {
        camera: {question: local.open(frame).ask(question).text for question in QUESTIONS}
        for camera, frame in seen.items()
    }
    callers = [("/one", ""), ("/two", ""), ("/both", "left"), ("/both", "right")]
    served = _parameters(model="nano", dtype="float32", backend="served", server=serving.url)
    halfway = threading.Event()

    def ask(namespace: str, camera: str) -> list[tuple[str, str | int]]:
        """Each question, and its answer's text or its error's code."""
        found: list[tuple[str, str | int]] = []
        with SpatialClient(f"{namespace}/spatial_query") as client:
            client.wait_for_node(PATIENCE_S)
            stamp_ns = client.capture(camera=camera, max_age=1000.0)
            for count in range(200):
                if namespace == "/two" and count == 100:
                    halfway.set()
                question = QUESTIONS[count % len(QUESTIONS)]
                try:
                    answer = client.ask(question, stamp_ns=stamp_ns, camera=camera, timeout=60.0)
                    assert answer.camera == camera
                    found.append((question, answer.text))
                except SpatialQueryFailed as error:
                    print(f"{namespace} {camera}, question {count}: {error}")
                    found.append((question, error.code))
        return found

    with ExitStack() as stack:
        processes = {}
        for namespace in ("/one", "/two", "/both"):
            words = [*served, "-r", f"__ns:={namespace}", "-p", "max_age:=1000.0"]
            words += ["-p", "cameras:=[left, right]"] if namespace == "/both" else []
            process = running("sdvlm_ros.node", "--ros-args", *words, SDVLM_SERVER_KEY=KEY)
            processes[namespace] = stack.enter_context(process)
        for namespace, camera in callers:
            peer = Peer(context, namespace, camera)
            peer.connect()
            stamp_ns = time.time_ns()
            response = peer.ask_about(_messages(stamp_ns, seen[camera]), stamp_ns)
            assert response.error_code == Response.NONE, response.error_msg
        with ThreadPoolExecutor(len(callers)) as pool:
            calls = [pool.submit(ask, *caller) for caller in callers]
            assert halfway.wait(300)
            processes["/two"].kill()
            found = dict(zip(callers, (call.result(600) for call in calls), strict=True))
    for (namespace, camera), answers in found.items():
        assert len(answers) == 200
        codes = [text for _, text in answers if isinstance(text, int)]
        texts = [(asked, text) for asked, text in answers if isinstance(text, str)]
        assert all(text == expected[camera][asked] for asked, text in texts)
        if namespace == "/two":
            assert len(texts) >= 100
            assert {*codes} == {Response.MODEL_NOT_READY}
        else:
            assert codes == []
        print(f"{namespace} {camera}: {len(texts)} answers, {len(codes)} codes")
