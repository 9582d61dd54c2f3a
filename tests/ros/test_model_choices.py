"""The node process with other models than nano: estimated depth, downloads, little memory."""

from __future__ import annotations

import json
import re
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy

from sdvlm_core.frame import CameraIntrinsics
from sdvlm_ros.client import SpatialClient
from sdvlm_ros.conversions import camera_info_message, image_message
from tests.hub_server import COMMIT, NAME, serving
from tests.ros.conftest import running
from tests.ros.peer import DEPTH, INFO, RGB, Peer, Response, frame
from tests.waiting import PATIENCE_S


def _parameters(**values: object) -> list[str]:
    return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]


@pytest.fixture(scope="module")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Depth-Anything with random weights, converted from the released layout."""
    torch = pytest.importorskip("torch")
    from sdvlm_core.model.convert import convert_depth_anything
    from tests.released_checkpoint import depth_anything_shapes, random_weights

    directory = tmp_path_factory.mktemp("depth")
    torch.save(random_weights(depth_anything_shapes(), seed=3), directory / "upstream.pth")
    convert_depth_anything(directory / "upstream.pth", directory / "hf")
    return directory / "hf"


def test_with_an_estimator_the_node_needs_no_depth_and_reports_it(
    estimator: Path, tmp_path: Path, context: rclpy.Context
) -> None:
    from tests.tiny_checkpoint import write_tiny_checkpoint

    model = write_tiny_checkpoint(tmp_path, "relative")
    words = _parameters(model=model, depth_estimator=estimator)
    with running("sdvlm_ros.node", "--ros-args", *words, "-r", "__ns:=/blind") as process:
        peer = Peer(context, "/blind")
        peer.connect((RGB, INFO))
        stamp_ns = time.time_ns()
        messages = frame(stamp_ns)
        del messages[DEPTH]
        response = peer.ask_about(messages, stamp_ns)
        assert response.error_code == Response.NONE, response.error_msg
        assert response.answer.depth_source == "estimated_relative"
        assert not response.answer.positions
        assert peer.publishers[DEPTH].get_subscription_count() == 0
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert "not measured" in output


def test_regions_are_measured_on_estimated_depth_with_a_warning(
    estimator: Path, tiny_model: Path, tmp_path: Path, context: rclpy.Context
) -> None:
    metric = Path(shutil.copytree(estimator, tmp_path / "metric"))
    config = json.loads((metric / "config.json").read_text())
    config |= {"depth_estimation_type": "metric", "max_depth": 10}
    (metric / "config.json").write_text(json.dumps(config))
    words = _parameters(model=tiny_model, depth_estimator=metric)
    with (
        running("sdvlm_ros.node", "--ros-args", *words, "-r", "__ns:=/guessing"),
        SpatialClient("/guessing/spatial_query") as client,
    ):
        peer = Peer(context, "/guessing")
        peer.connect((RGB, INFO))
        stamp_ns = time.time_ns()
        messages = frame(stamp_ns, depth=None)
        asked = peer.ask_about(messages, stamp_ns)
        assert asked.answer.depth_source == "estimated_metric", asked.error_msg
        measured = client.measure({"wall": (16, 12, 48, 36)}, stamp_ns=stamp_ns, timeout=PATIENCE_S)
        assert "estimated_depth" in measured.regions[0].warnings
        assert measured.header == asked.answer.header


def test_the_node_downloads_only_if_a_parameter_allows_it(
    tiny_model: Path, tmp_path: Path, context: rclpy.Context
) -> None:
    with serving({path.name: path.read_bytes() for path in tiny_model.iterdir()}) as hub:
        hub_at = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.address, "no_proxy": "127.0.0.1"}
        forbidden = [*_parameters(model=NAME), "-r", "__ns:=/offline"]
        with running("sdvlm_ros.node", "--ros-args", *forbidden, **hub_at):
            peer = Peer(context, "/offline")
            assert peer.query.wait_for_service(PATIENCE_S)
            peer.spin_until(lambda: "did not load" in peer.ask().error_msg, "the end of the load")
            response = peer.ask()
        assert response.error_code == Response.MODEL_NOT_READY
        assert f"sdvlm download {NAME}" in response.error_msg
        assert hub.served == []
        allowed = [*_parameters(model=NAME, allow_download=True), "-r", "__ns:=/online"]
        with running("sdvlm_ros.node", "--ros-args", *allowed, **hub_at) as process:
            peer = Peer(context, "/online")
            peer.connect()
            stamp_ns = time.time_ns()
            answered = peer.ask_about(frame(stamp_ns), stamp_ns)
            process.terminate()
            output, _ = process.communicate(timeout=PATIENCE_S)
        assert answered.error_code == Response.NONE
        assert f"{NAME}@{COMMIT}" in output
        assert "licence: apache-2.0" in output


def test_quantized_weights_answer_through_the_node(context: rclpy.Context) -> None:
    words = _parameters(model="nano", quantization="bnb-int8")
    with running("sdvlm_ros.node", "--ros-args", *words, "-r", "__ns:=/small"):
        peer = Peer(context, "/small")
        peer.connect()
        stamp_ns = time.time_ns()
        response = peer.ask_about(frame(stamp_ns), stamp_ns)
    assert response.error_code == Response.NONE, response.error_msg


def test_out_of_memory_is_an_error_code_and_the_node_survives_it(
    tiny_model: Path, context: rclpy.Context
) -> None:
    """With a large frame in the buffer, the memory limit is set to slightly more than is in use."""
    width, height = 4000, 3000
    stamp_ns = time.time_ns()
    large = {
        RGB: image_message(np.full((height, width, 3), 90, np.uint8), "rgb8", stamp_ns, "optical"),
        DEPTH: image_message(np.ones((height, width), np.float32), "32FC1", stamp_ns, "optical"),
        INFO: camera_info_message(
            CameraIntrinsics(3000, 3000, 1999.5, 1499.5, width, height), stamp_ns, "optical"
        ),
    }
    words = [*_parameters(model=tiny_model), "-r", "__ns:=/crowded"]
    with running("sdvlm_ros.node", "--ros-args", *words) as process:
        peer = Peer(context, "/crowded")
        peer.connect()
        first = peer.ask_about(large, stamp_ns)
        assert first.error_code == Response.NONE, first.error_msg
        # Another frame, so that the first session is closed; then the memory limit.
        peer.ask_about(frame(stamp_ns + 10**9), stamp_ns + 10**9)
        status = Path(f"/proc/{process.pid}/status").read_text()
        kilobytes = int(re.search(r"VmSize:\s+(\d+)", status)[1])
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_AS)
        allowed = (kilobytes + 40_000) * 1024
        resource.prlimit(process.pid, resource.RLIMIT_AS, (allowed, unlimited[1]))
        refused = peer.ask(stamp_ns=stamp_ns)
        assert refused.error_code == Response.OUT_OF_MEMORY, refused.error_msg
        resource.prlimit(process.pid, resource.RLIMIT_AS, unlimited)
        again = peer.ask(stamp_ns=stamp_ns)
        assert again.error_code == Response.NONE, again.error_msg
        assert process.poll() is None
