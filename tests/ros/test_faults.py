"""Faults of a robot, injected into the real node in a separate process. The node never hangs, every
caller gets an answer or an error code, and the node ends with status 0. Prints the counts.

`make soak` runs the long tests: thousands of questions and fifty life cycles.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from rclpy.action import ActionClient
from rclpy.qos import QoSProfile

from sdvlm.action import SpatialReasoning
from sdvlm.srv import SpatialQuery
from sdvlm_core.errors import ErrorCode
from sdvlm_core.frame import CameraIntrinsics
from sdvlm_ros.conversions import camera_info_message, image_message, time_message
from tests.ros.conftest import ROOT, running
from tests.ros.peer import DEPTH, INFO, RGB, Peer, Response, depth, frame
from tests.waiting import PATIENCE_S

CALLERS, CANCELS = 50, 40
ANY_AGE = Duration(sec=10**8)


@pytest.fixture(scope="module")
def peer(tiny_model: Path) -> Iterator[Peer]:
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    arguments = ["-p", f"model:={tiny_model}", "-p", "max_new_tokens:=24", "-r", "__ns:=/faults"]
    with running("sdvlm_ros.node", "--ros-args", *arguments) as process:
        peer = Peer(context, "/faults")
        peer.connect()
        yield peer
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE_S)
    context.try_shutdown()
    assert process.returncode == 0, output
    assert "Traceback" not in output


def ask_until(peer: Peer, told: Callable[[Response], bool], **fields: Any) -> Counter[str]:
    """Ask about the newest frame until `told(response)`; returns the counts of the codes."""
    codes: Counter[str] = Counter()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        response = peer.ask(**fields)
        codes[ErrorCode(response.error_code).name] += 1
        if told(response):
            return codes
        assert time.monotonic() < deadline, codes
        peer.executor.spin_once(timeout_sec=0.05)  # leaves processor time to the camera


def answered(response: Response) -> bool:
    return response.error_code == Response.NONE


def refused(response: Response) -> bool:
    return not answered(response)


def still_serves(peer: Peer) -> None:
    stamp_ns = time.time_ns()
    response = peer.ask_about(frame(stamp_ns), stamp_ns)
    assert answered(response), response.error_msg


def test_a_killed_camera_is_reported_and_answers_resume_after_its_restart(peer: Peer) -> None:
    command = [sys.executable, "-m", "tests.ros.camera", "--ros-args", "-r", "__ns:=/faults"]
    counted = []
    camera = subprocess.Popen(command, cwd=ROOT)
    try:
        for _ in range(2):
            counted.append(ask_until(peer, answered))
            camera.send_signal(signal.SIGUSR1)
            assert camera.wait(PATIENCE_S) == -signal.SIGKILL
            counted.append(ask_until(peer, refused))
            assert set(counted[-1]) <= {"NONE", "STALE_IMAGE"}
            camera = subprocess.Popen(command, cwd=ROOT)
        counted.append(ask_until(peer, answered))
    finally:
        camera.send_signal(signal.SIGUSR1)
        camera.wait(PATIENCE_S)
    print("killed and restarted:", *map(dict, counted))
    still_serves(peer)


def test_after_stamps_jump_back_the_newest_arrival_is_used(peer: Peer) -> None:
    start = time.time_ns()
    for loop in range(3):
        for index in range(10):
            stamp_ns = start + index * 100_000_000
            for topic, message in frame(stamp_ns, depth=depth(stamp_ns, 1.0 + loop)).items():
                peer.publishers[topic].publish(message)
        last = start + 900_000_000

        def of_the_last(response: Response, last: int = last) -> bool:
            stamp = response.answer.header.stamp
            return answered(response) and stamp.sec * 10**9 + stamp.nanosec == last

        counted = ask_until(peer, of_the_last, max_age=ANY_AGE)
        # Restart: the same stamps again, which are older than the stamps in the buffer.
        first = frame(start)
        for topic, message in first.items():
            peer.publishers[topic].publish(message)

        def of_the_first(response: Response) -> bool:
            stamp = response.answer.header.stamp
            return answered(response) and stamp.sec * 10**9 + stamp.nanosec == start

        counted += ask_until(peer, of_the_first, max_age=ANY_AGE)
        print("stamps jumped back:", dict(counted))
        assert set(counted) == {"NONE"}


def sized(stamp_ns: int, width: int, height: int) -> dict[str, Any]:
    intrinsics = CameraIntrinsics(60, 60, width / 2, height / 2, width, height)
    rgb, metres = np.full((height, width, 3), 90, np.uint8), np.ones((height, width), np.float32)
    return {
        RGB: image_message(rgb, "rgb8", stamp_ns, "optical"),
        DEPTH: image_message(metres, "32FC1", stamp_ns, "optical"),
        INFO: camera_info_message(intrinsics, stamp_ns, "optical"),
    }


def test_a_resolution_change_is_refused_only_while_colour_and_depth_sizes_differ(
    peer: Peer,
) -> None:
    codes = Counter()
    start = time.time_ns()
    for index, (width, height) in enumerate([(64, 48), (128, 96), (32, 24), (64, 48)]):
        stamp_ns = start + index * 10**9
        late = sized(stamp_ns, width, height) | {INFO: sized(stamp_ns, 99, 77)[INFO]}
        response = peer.ask_about(late, stamp_ns)
        codes[ErrorCode(response.error_code).name] += 1
        assert response.error_code == Response.BAD_CAMERA_INFO
        assert f"colour is {width}x{height}" in response.error_msg
        assert "camera_info is 99x77" in response.error_msg
        good = stamp_ns + 500_000_000
        response = peer.ask_about(sized(good, width, height), good)
        codes[ErrorCode(response.error_code).name] += 1
        assert answered(response), response.error_msg
    print("resolution changed:", dict(codes))


def test_one_broken_frame_in_ten_is_one_error_in_ten(peer: Peer) -> None:
    codes: Counter[str] = Counter()
    start = time.time_ns()
    for index in range(40):
        stamp_ns = start + index * 100_000_000
        messages, expected = frame(stamp_ns), "NONE"
        if index % 20 == 5:
            messages[RGB].data, expected = messages[RGB].data[:200], "NO_IMAGE"
        if index % 20 == 15:
            messages[DEPTH].step, expected = 7, "BAD_DEPTH"
        response = peer.ask_about(messages, stamp_ns)
        codes[ErrorCode(response.error_code).name] += 1
        assert ErrorCode(response.error_code).name == expected, response.error_msg
    print("one broken frame in ten:", dict(codes))
    assert codes == {"NONE": 36, "NO_IMAGE": 2, "BAD_DEPTH": 2}


def test_missing_depth_is_reported_and_answers_resume_with_depth(peer: Peer) -> None:
    counted = []
    for present in (True, False, True):
        codes: Counter[str] = Counter()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            stamp_ns = time.time_ns()
            messages = frame(stamp_ns, depth=depth(stamp_ns) if present else None)
            for topic, message in messages.items():
                peer.publishers[topic].publish(message)
            response = peer.ask()
            codes[ErrorCode(response.error_code).name] += 1
            # Until the new frames arrive in the buffer, it uses earlier frames, including broken
            # ones.
            text = response.error_msg
            if answered(response) if present else ("no depth" in text or "s old" in text):
                break
            assert time.monotonic() < deadline, codes
        counted.append(codes)
        if not present:
            assert ErrorCode(response.error_code).name in {"BAD_DEPTH", "STALE_IMAGE"}
    print("depth there, stopped, and there again:", *map(dict, counted))
    still_serves(peer)


def test_fifty_callers_at_once_all_get_an_answer_or_queue_full(peer: Peer) -> None:
    deep = QoSProfile(depth=100)
    callers = [
        peer.node.create_client(SpatialQuery, "spatial_query/query", qos_profile=deep)
        for _ in range(CALLERS)
    ]
    assert all(caller.wait_for_service(PATIENCE_S) for caller in callers)
    stamp_ns = time.time_ns()
    assert answered(peer.ask_about(frame(stamp_ns), stamp_ns))
    futures = [caller.call_async(peer.request(stamp_ns=stamp_ns)) for caller in callers]
    peer.spin_until(lambda: all(future.done() for future in futures), "every response")
    codes = Counter(ErrorCode(future.result().error_code).name for future in futures)
    print(f"{CALLERS} callers:", dict(codes))
    assert set(codes) <= {"NONE", "QUEUE_FULL"}
    assert codes["NONE"] >= 8
    for caller in callers:
        peer.node.destroy_client(caller)
    still_serves(peer)


def test_goals_canceled_at_random_moments_all_end(peer: Peer) -> None:
    client = ActionClient(peer.node, SpatialReasoning, "spatial_query/reason")
    assert client.wait_for_server(PATIENCE_S)
    stamp_ns = time.time_ns()
    assert answered(peer.ask_about(frame(stamp_ns), stamp_ns))
    goal = SpatialReasoning.Goal(questions=["How far?"] * 3, stamp=time_message(stamp_ns))
    moments = random.Random(7)
    ends: Counter[str] = Counter()
    for _ in range(CANCELS):
        sent = client.send_goal_async(goal)
        peer.spin_until(sent.done, "the goal's response")
        handle = sent.result()
        assert handle.accepted
        result = handle.get_result_async()
        until = time.monotonic() + moments.uniform(0.0, 0.1)
        while not result.done() and (left := until - time.monotonic()) > 0:
            peer.executor.spin_once(timeout_sec=left)
        canceled = handle.cancel_goal_async()
        peer.spin_until(lambda f=canceled, r=result: f.done() and r.done(), "the end")
        done = result.result()
        if done.status == GoalStatus.STATUS_CANCELED:
            assert done.result.error_code == Response.CANCELED
            # All three answers, if the cancellation came between the last answer and the result.
            assert len(done.result.answers) <= 3
            ends["CANCELED"] += 1
        else:
            assert done.status == GoalStatus.STATUS_SUCCEEDED
            assert len(done.result.answers) == 3
            ends["SUCCEEDED"] += 1
    print(f"{CANCELS} cancellations:", dict(ends))
    assert ends["CANCELED"] >= CANCELS // 10
    client.destroy()
    still_serves(peer)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_generation_replies_to_every_caller_and_ends_with_status_0(
    tiny_model: Path, context: rclpy.Context, number: signal.Signals
) -> None:
    arguments = ["-p", f"model:={tiny_model}", "-p", "max_new_tokens:=3000", "-r", "__ns:=/ended"]
    with running("sdvlm_ros.node", "--ros-args", *arguments) as process:
        peer = Peer(context, "/ended")
        peer.connect()
        client = ActionClient(peer.node, SpatialReasoning, "spatial_query/reason")
        assert client.wait_for_server(PATIENCE_S)
        stamp_ns = time.time_ns()
        assert answered(peer.ask_about(frame(stamp_ns), stamp_ns, timeout=PATIENCE_S))
        goal = SpatialReasoning.Goal(questions=["How far?"], stamp=time_message(stamp_ns))
        told: list[Any] = []
        sent = client.send_goal_async(goal, told.append)
        peer.spin_until(sent.done, "the goal's response")
        result = sent.result().get_result_async()
        peer.spin_until(lambda: told and told[-1].feedback.partial_text, "a token")
        futures = [peer.query.call_async(peer.request(stamp_ns=stamp_ns)) for _ in range(4)]
        # The node has received all requests when a later request has been answered.
        assert peer.ask("").error_code == Response.INVALID_QUERY
        process.send_signal(number)
        peer.spin_until(
            lambda: result.done() and all(future.done() for future in futures), "the replies"
        )
        output, _ = process.communicate(timeout=PATIENCE_S)
    codes = Counter(ErrorCode(future.result().error_code).name for future in futures)
    print(f"{number.name} during generation:", dict(codes))
    assert set(codes) == {"CANCELED"}
    assert result.result().result.error_code == Response.CANCELED
    assert process.returncode == 0, output
    assert "Traceback" not in output
