"""Backbones other than LLaVA through the real node: a tiny model answers typed questions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import rclpy

from sdvlm.msg import Asked
from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, frame
from tests.tiny_backbones import write_tiny_backbone


@pytest.fixture(scope="module", params=["qwen3_vl", "internvl"])
def peer(request, tmp_path_factory) -> Iterator[Peer]:
    model = write_tiny_backbone(tmp_path_factory.mktemp("model") / request.param, request.param)
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    arguments = ["-p", f"model:={model}", "-p", "max_new_tokens:=48", "-p", "answer_by:=language"]
    with running("sdvlm_ros.node", "--ros-args", *arguments, "-r", "__ns:=/backbone") as process:
        peer = Peer(context, "/backbone")
        peer.connect()
        yield peer
        assert process.poll() is None, "the node did not survive its tests"
    context.try_shutdown()


def test_a_typed_question_for_one_number_is_answered_in_json_and_read(peer: Peer) -> None:
    stamp_ns = time.time_ns()
    assert peer.ask_about(frame(stamp_ns), stamp_ns).error_code == Response.NONE
    request = peer.request("", stamp_ns=stamp_ns)
    request.asked = Asked(quantity=Asked.COUNT, objects=["red mug"])
    call = peer.query.call_async(request)
    peer.spin_until(call.done, "the answer")
    response = call.result()
    assert response.error_code == Response.NONE, response.error_msg
    stated = json.loads(response.answer.text)["value"]
    counts = [one.value for one in response.answer.measurements]
    assert counts == ([] if stated is None else [float(stated)])
