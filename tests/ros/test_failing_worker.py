"""A thread that has failed is never behind "ready": the real node, with an engine that panics."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, frame
from tests.ros.stub_node import PANIC, RAISE
from tests.ros.watch import Watched
from tests.waiting import PATIENCE_S

NODE = "tests.ros.stub_node"


@pytest.fixture
def watched(context: rclpy.Context) -> Iterator[Watched]:
    with running(NODE, "--ros-args", "-r", "__ns:=/panics"):
        peer = Peer(context, "/panics")
        peer.connect()
        yield Watched(peer)


def answer(watched: Watched, question: str = "How far is it?", **fields: float) -> Response:
    """The response about a new frame."""
    stamp_ns = time.time_ns()
    return watched.peer.ask_about(frame(stamp_ns), stamp_ns, question=question, **fields)


def call(peer: Peer, kind: type, name: str, request: object) -> object:
    future = peer.client(kind, name).call_async(request)
    peer.spin_until(future.done, name)
    return future.result()


def state(peer: Peer) -> str:
    return call(peer, GetState, "get_state", GetState.Request()).current_state.label


def change(peer: Peer, number: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=number))
    return call(peer, ChangeState, "change_state", request).success


def test_a_panic_settles_every_ticket_and_the_node_is_unconfigured_until_it_is_configured_again(
    watched: Watched,
) -> None:
    peer = watched.peer
    assert answer(watched).error_code == Response.NONE
    response = answer(watched, PANIC)
    assert response.error_code == Response.MODEL_NOT_READY
    assert "PanicException: index out of bounds\\n[ERROR] forged" in response.error_msg
    watched.until(lambda: watched.status.level == DiagnosticStatus.ERROR, "the state ERROR")
    assert "PanicException" in watched.status.message
    assert "\n" not in watched.status.message
    assert state(peer) == "unconfigured"
    later = peer.ask()
    assert later.error_code == Response.MODEL_NOT_READY
    assert "PanicException" in later.error_msg
    assert change(peer, Transition.TRANSITION_CONFIGURE)
    assert change(peer, Transition.TRANSITION_ACTIVATE)
    peer.connect()
    assert answer(watched).error_code == Response.NONE
    watched.publish_until(frame, lambda: watched.status.message == "ready")


def test_with_exit_on_failure_the_process_ends_with_status_1_after_its_replies(
    context: rclpy.Context,
) -> None:
    arguments = ("-p", "exit_on_failure:=true", "-r", "__ns:=/exits")
    with running(NODE, "--ros-args", *arguments) as process:
        peer = Peer(context, "/exits")
        peer.connect()
        watched = Watched(peer)
        assert answer(watched, PANIC).error_code == Response.MODEL_NOT_READY
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, output
    assert "a worker has failed: PanicException" in output
    assert "Traceback" in output
    assert not any(line.startswith("[ERROR] forged") for line in output.splitlines())


def test_a_repeated_defect_has_one_traceback_a_minute(context: rclpy.Context) -> None:
    with running(NODE, "--ros-args", "-r", "__ns:=/defects") as process:
        peer = Peer(context, "/defects")
        peer.connect()
        watched = Watched(peer)
        for _ in range(5):
            response = answer(watched, RAISE)
            assert response.error_code == Response.UNKNOWN
            assert response.error_msg.startswith("a defect")
        assert answer(watched).error_code == Response.NONE
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert output.count("Traceback") == 1


def test_a_panic_while_the_model_loads_is_reported_as_a_model_that_did_not_load(
    context: rclpy.Context,
) -> None:
    with running(NODE, "--ros-args", "-p", f"model:={PANIC}", "-r", "__ns:=/unloadable"):
        peer = Peer(context, "/unloadable")
        watched = Watched(peer)
        assert peer.query.wait_for_service(PATIENCE_S)
        watched.until(lambda: watched.status.level == DiagnosticStatus.ERROR, "the state ERROR")
        response = peer.ask()
        assert response.error_code == Response.MODEL_NOT_READY
        assert "the model did not load: CheckpointError: PanicException" in response.error_msg
