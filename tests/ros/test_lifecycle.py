"""A transition that takes long: the node answers meanwhile, and the reply comes at its end."""

from __future__ import annotations

from pathlib import Path

import rclpy
from builtin_interfaces.msg import Duration
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters

from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, frame
from tests.ros.stub_node import BLOCK
from tests.ros.watch import Watched

INSIDE = ("--ros-args", "-r", "__ns:=/ends")


def test_while_a_question_cannot_be_interrupted_the_deactivating_node_answers(
    context: rclpy.Context, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with running("tests.ros.stub_node", *INSIDE, STUB_GATE=str(gate)):
        peer = Peer(context, "/ends")
        watched = Watched(peer)
        change = peer.client(ChangeState, "change_state")
        get_state = peer.client(GetState, "get_state")
        get_parameters = peer.client(GetParameters, "get_parameters")
        peer.connect()
        watched.publish_until(frame, lambda: watched.value("colour received") not in ("", "0"))
        held = peer.query.call_async(peer.request(BLOCK, max_age=Duration(sec=600)))
        peer.spin_until(gate.exists, "the question in the model's thread")
        ending = change.call_async(
            ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        )
        watched.until(lambda: watched.value("state") == "deactivating", "deactivating")
        again = change.call_async(
            ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        )
        label = get_state.call_async(GetState.Request())
        value = get_parameters.call_async(GetParameters.Request(names=["max_age"]))
        refused = peer.ask()
        assert refused.error_code == Response.MODEL_NOT_READY
        assert "the node is deactivating, not active" in refused.error_msg
        peer.spin_until(lambda: label.done() and value.done() and again.done(), "the replies")
        assert label.result().current_state.label == "deactivating"
        assert not again.result().success
        assert not ending.done()
        gate.unlink()
        peer.spin_until(lambda: ending.done() and held.done(), "the end of the transition")
        assert ending.result().success
        assert held.result().error_code in (Response.CANCELED, Response.NONE)
        label = get_state.call_async(GetState.Request())
        peer.spin_until(label.done, "the state")
        assert label.result().current_state.label == "inactive"
