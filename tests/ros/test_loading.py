"""While a model loads, the node answers requests and publishes how long it has been loading."""

from __future__ import annotations

import signal

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters

from tests.ros.conftest import running
from tests.ros.peer import Peer, Response
from tests.ros.watch import Watched
from tests.waiting import PATIENCE_S

SLOW = ("-p", "model:=slow")


def test_questions_and_diagnostics_are_answered_while_the_model_loads(
    context: rclpy.Context,
) -> None:
    with running("tests.ros.stub_node", "--ros-args", *SLOW, "-r", "__ns:=/loads"):
        peer = Peer(context, "/loads")
        watched = Watched(peer)
        assert peer.query.wait_for_service(PATIENCE_S)
        response = peer.ask()
        assert response.error_code == Response.MODEL_NOT_READY
        assert "loading model 'slow' for" in response.error_msg
        watched.until(lambda: "loading model 'slow' for" in watched.status.message, "loading")
        assert watched.status.level == DiagnosticStatus.WARN
        watched.until(lambda: watched.value("state") == "active", "the active state")
        assert any("loading model 'slow' for" in line for line in watched.log)


def test_a_life_cycle_manager_gets_its_reply_after_the_load_and_others_are_answered_meanwhile(
    context: rclpy.Context,
) -> None:
    arguments = (*SLOW, "-p", "autostart:=false", "-r", "__ns:=/managed_load")
    with running("tests.ros.stub_node", "--ros-args", *arguments):
        peer = Peer(context, "/managed_load")
        change = peer.client(ChangeState, "change_state")
        get_state = peer.client(GetState, "get_state")
        get_parameters = peer.client(GetParameters, "get_parameters")
        configure = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        configured = change.call_async(configure)
        label = get_state.call_async(GetState.Request())
        value = get_parameters.call_async(GetParameters.Request(names=["max_age"]))
        second = change.call_async(configure)
        peer.spin_until(lambda: label.done() and value.done() and second.done(), "the replies")
        assert not configured.done()
        assert label.result().current_state.label == "configuring"
        assert value.result().values[0].double_value == 1.0
        assert not second.result().success
        peer.spin_until(configured.done, "the end of the load")
        assert configured.result().success


def test_a_signal_during_a_load_ends_the_process_with_status_0(context: rclpy.Context) -> None:
    with running("tests.ros.stub_node", "--ros-args", *SLOW, "-r", "__ns:=/ended_load") as process:
        peer = Peer(context, "/ended_load")
        watched = Watched(peer)
        watched.until(lambda: "loading" in watched.status.message, "loading")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert "Traceback" not in output
