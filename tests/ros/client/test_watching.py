"""The clients fail soon after the node's process was killed, and serve a node that is restarted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

from sdvlm_ros.client import AsyncSpatialClient, SpatialClient, SpatialQueryFailed
from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, frame
from tests.ros.stub_node import DIE
from tests.waiting import PATIENCE_S

NODE = ("tests.ros.stub_node", "--ros-args", "-r", "__ns:=/mortal")
# A killed process leaves its segments of shared memory behind.
NO_SHARED_MEMORY = '<dds xmlns="http://www.eprosima.com"><profiles/></dds>'
# Longer than the test waits for anything: an error before it is not a TIMEOUT.
LONG_S = 2 * PATIENCE_S


def answer(peer: Peer) -> Response:
    """The response about a frame of now."""
    stamp_ns = time.time_ns()
    return peer.ask_about(frame(stamp_ns), stamp_ns)


def started(call: Callable[[], Any]) -> tuple[threading.Thread, list[SpatialQueryFailed]]:
    """A call on a thread, and the error that it raises."""
    errors: list[SpatialQueryFailed] = []

    def run() -> None:
        try:
            call()
        except SpatialQueryFailed as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, errors


def test_a_killed_node_fails_every_call_with_its_name_and_a_restarted_one_answers(
    context: rclpy.Context, tmp_path: Path
) -> None:
    profile = tmp_path / "fastdds.xml"
    profile.write_text(NO_SHARED_MEMORY)
    alone = {
        "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
        "FASTDDS_DEFAULT_PROFILES_FILE": str(profile),
    }
    peer = Peer(context, "/mortal")
    planner = rclpy.create_node("planner", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(planner)
    awaited = AsyncSpatialClient(planner, "/mortal/spatial_query")
    with SpatialClient("/mortal/spatial_query") as client:
        with running(*NODE, **alone) as process:
            client.wait_for_node(PATIENCE_S)
            peer.connect()
            response = answer(peer)
            assert response.error_code == Response.NONE, response.error_msg
            stamp = response.answer.header.stamp
            when = {"stamp_ns": stamp.sec * 10**9 + stamp.nanosec, "timeout": LONG_S}
            peer.spin_until(lambda: client.alive, "the sign of life")
            while not awaited.alive:
                executor.spin_once(timeout_sec=0.1)
            calls = [
                started(lambda: client.reason([DIE], **when)),
                started(lambda: client.ask(DIE, **when)),
            ]
            errors: list[SpatialQueryFailed] = []

            async def ask() -> None:
                try:
                    await awaited.ask(DIE, **when)
                except SpatialQueryFailed as error:
                    errors.append(error)

            task = executor.create_task(ask)
            deadline = time.monotonic() + PATIENCE_S
            while not task.done() and time.monotonic() < deadline:
                executor.spin_once(timeout_sec=0.1)
            for thread, _ in calls:
                thread.join(PATIENCE_S)
            assert process.wait(PATIENCE_S) == -9
        errors += [error for _, found in calls for error in found]
        assert len(errors) == 3
        for error in errors:
            assert error.code == Response.MODEL_NOT_READY
            assert "the node /mortal/spatial_query has ended" in str(error)
        # The graph still has its services.
        with pytest.raises(SpatialQueryFailed, match="has ended"):
            client.measure({"mug": (1, 2, 30, 40)}, timeout=LONG_S)
        with running(*NODE, **alone):
            client.wait_for_node(PATIENCE_S)
            peer.spin_until(lambda: answer(peer).error_code == Response.NONE, "an answer")
            assert client.ask("How far is it?", max_age=60.0, timeout=LONG_S).text == "an answer"
    planner.destroy_node()
