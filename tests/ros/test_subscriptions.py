"""The node's inputs: /diagnostics and the log report what is wrong and what to do."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from sdvlm_core.camera.pairing import Input
from sdvlm_ros import parameters
from sdvlm_ros.conversions import image_message
from sdvlm_ros.subscriptions import Subscriptions
from tests.ros.conftest import running
from tests.ros.peer import DEPTH, HEIGHT, INFO, RGB, WIDTH, Peer, Response, depth, frame, info
from tests.ros.watch import Watched
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def watched(tiny_model: Path) -> Iterator[Watched]:
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    arguments = ["-p", f"model:={tiny_model}", "-r", "__ns:=/inputs"]
    with running("sdvlm_ros.node", "--ros-args", *arguments) as process:
        peer = Peer(context, "/inputs")
        peer.connect()
        yield Watched(peer)
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE_S)
    context.try_shutdown()
    assert output.count("depth has frame_id 'depth_optical' but colour 'optical'") == 1
    assert output.count("camera_info has lens distortion (plumb_bob)") == 1
    assert "no new frame: no depth message" in output


def test_a_missing_input_is_named_with_its_remedy(
    watched: Watched,
) -> None:
    def without_depth(stamp_ns: int) -> dict:
        return frame(stamp_ns, depth=None)

    watched.publish_until(
        without_depth,
        lambda: (
            "no depth message" in watched.status.message
            and any("no new frame: no depth message" in line for line in watched.log)
        ),
    )
    assert watched.status.level == DiagnosticStatus.WARN
    assert "depth: nothing has arrived" in watched.status.message
    assert float(watched.value("colour rate (Hz)")) > 0
    assert int(watched.value("pairing misses")) > 0


def test_valid_frames_give_the_state_ready_with_rates_and_memory(watched: Watched) -> None:
    watched.publish_until(frame, lambda: watched.status.message == "ready")
    assert watched.status.level == DiagnosticStatus.OK
    assert float(watched.value("depth rate (Hz)")) > 0
    assert float(watched.value("depth silent for (s)")) < 1.5
    assert float(watched.value("resident memory (MB)")) > 50.0
    assert watched.value("colour QoS mismatches") == "0"


def test_a_depth_frame_id_of_another_camera_is_a_warning(watched: Watched) -> None:
    def foreign(stamp_ns: int) -> dict:
        image = depth(stamp_ns)
        image.header.frame_id = "depth_optical"
        return frame(stamp_ns, depth=image)

    watched.publish_until(foreign, lambda: "'depth_optical'" in watched.status.message)
    assert watched.status.level == DiagnosticStatus.WARN
    watched.publish_until(frame, lambda: watched.status.message == "ready")
    watched.publish_until(foreign, lambda: "'depth_optical'" in watched.status.message)


def test_lens_distortion_is_a_warning(watched: Watched) -> None:
    def distorted(stamp_ns: int) -> dict:
        message = info(stamp_ns)
        message.d = [0.1, -0.2, 0.0, 0.0, 0.0]
        return frame(stamp_ns, info=message)

    watched.publish_until(distorted, lambda: "lens distortion" in watched.status.message)
    assert watched.status.message.startswith("assumed_rectified: ")
    assert "/inputs/rgb/image_rect_color" in watched.status.message


def test_sizes_that_differ_are_refused_naming_all_three(watched: Watched) -> None:
    stamp_ns = time.time_ns()
    small = image_message(np.ones((24, 32), np.float32), "32FC1", stamp_ns, "optical")
    response = watched.peer.ask_about(frame(stamp_ns, depth=small), stamp_ns)
    assert response.error_code == Response.BAD_DEPTH
    sizes = f"depth is 32x24 but colour is {WIDTH}x{HEIGHT} (and camera_info is {WIDTH}x{HEIGHT})"
    assert sizes in response.error_msg


@pytest.mark.parametrize(
    ("part", "kind", "code"),
    [(RGB, "rgb", "NO_IMAGE"), (DEPTH, "depth", "BAD_DEPTH"), (INFO, "info", "BAD_CAMERA_INFO")],
)
def test_bytes_that_are_not_a_message_are_refused_and_the_node_continues(
    watched: Watched, part: str, kind: str, code: str
) -> None:
    from rclpy.serialization import serialize_message

    stamp_ns = time.time_ns()
    messages = frame(stamp_ns)
    messages[part] = serialize_message(messages[part])[:60]
    response = watched.peer.ask_about(messages, stamp_ns)
    assert response.error_code == getattr(Response, code), response.error_msg
    assert "is truncated or not a" in response.error_msg
    watched.peer.publishers[part].publish(b"\0\1\0\0")  # not even a header
    # Each try has a stamp of its own, as a camera's images have, farther than the slop from the
    # broken frame. If the request comes before the new camera_info, the broken one is still the
    # nearest, and a frame that was asked about keeps its messages.
    later = (stamp_ns + step * 200_000_000 for step in itertools.count(1))
    watched.peer.spin_until(
        lambda: (
            watched.peer.ask_about(frame(after := next(later)), after).error_code == Response.NONE
        ),
        "an answer about the next frame",
    )


def opened(
    context: rclpy.Context, namespace: str, cli_args: Sequence[str] = (), **overrides: object
) -> tuple[Node, Subscriptions]:
    """Subscriptions of a node. Each test has a namespace, because earlier nodes may still exist."""
    given = [Parameter(name, value=value) for name, value in overrides.items()]
    node = rclpy.create_node(
        "inputs",
        context=context,
        namespace=namespace,
        parameter_overrides=given,
        cli_args=list(cli_args),
    )
    parameters.declare(node)
    return node, Subscriptions(node, parameters.read(node))


def reliability(node: Node, topic: str) -> ReliabilityPolicy:
    (found,) = node.get_subscriptions_info_by_topic(f"{node.get_namespace()}/{topic}")
    return found.qos_profile.reliability


def test_qos_is_chosen_by_name_for_each_input_and_overridden_by_topic(
    context: rclpy.Context,
) -> None:
    override = f"qos_overrides./chosen/{RGB}.subscription.reliability"
    node, inputs = opened(context, "/chosen", **{"depth_qos": "reliable", override: "reliable"})
    assert reliability(node, DEPTH) == ReliabilityPolicy.RELIABLE
    assert reliability(node, RGB) == ReliabilityPolicy.RELIABLE
    # An override applies to one topic only.
    assert reliability(node, INFO) == ReliabilityPolicy.BEST_EFFORT
    assert qos_profile_sensor_data.reliability == ReliabilityPolicy.BEST_EFFORT
    inputs.close()
    node.destroy_node()


def test_a_remapped_base_topic_remaps_its_transports_too(context: rclpy.Context) -> None:
    node, inputs = opened(
        context,
        "/remapped",
        cli_args=["--ros-args", "-r", f"{RGB}:=/cam/color", "-r", f"{DEPTH}:=depth/aligned"],
        rgb_transport="compressed",
        depth_transport="compressedDepth",
    )
    names = {name for name, _ in node.get_subscriber_names_and_types_by_node("inputs", "/remapped")}
    wanted = {"/cam/color/compressed", "/remapped/depth/aligned/compressedDepth"}
    assert wanted <= names
    inputs.close()
    node.destroy_node()


def test_a_changed_slop_applies_to_diagnostics_at_once(context: rclpy.Context) -> None:
    node, inputs = opened(context, "/slop")
    for kind, stamp_ns in zip(Input, (0, 200_000_000, 0), strict=True):
        inputs.buffer.add(kind, stamp_ns, b"")
    assert "no depth within 0.03 s" in inputs.problem()
    node.set_parameters([Parameter("sync_slop", value=0.5)])
    assert inputs.problem() == ""
    inputs.close()
    node.set_parameters([Parameter("sync_slop", value=0.1)])
    assert inputs.buffer.slop_ns == 500_000_000  # after closing, parameter changes have no effect
    node.destroy_node()


def test_a_camera_info_that_was_latched_before_the_node_subscribed_is_received(
    context: rclpy.Context,
) -> None:
    peer = Peer(context, "/latched")
    peer.node.destroy_publisher(peer.publishers[INFO])
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    peer.node.create_publisher(CameraInfo, INFO, latched).publish(info(0))
    node, inputs = opened(context, "/latched")
    peer.executor.add_node(node)

    def received() -> bool:
        inputs.look_for_latched_info()
        return inputs.buffer.counters[Input.INFO].received > 0

    peer.spin_until(received, "the latched message")
    inputs.close()
    node.destroy_node()


def test_an_invalid_qos_override_leaves_no_subscription(context: rclpy.Context) -> None:
    override = f"qos_overrides./meaningless/{DEPTH}.subscription.reliability"
    with pytest.raises(RuntimeError, match="very_reliable"):
        opened(context, "/meaningless", **{override: "very_reliable"})
    watcher = rclpy.create_node("watcher", context=context)
    assert not watcher.get_subscriptions_info_by_topic(f"/meaningless/{RGB}")
    watcher.destroy_node()


def test_a_publisher_with_incompatible_qos_is_named_with_the_parameter_to_set(
    context: rclpy.Context,
) -> None:
    node, inputs = opened(context, "/unsuited", rgb_qos="reliable")
    peer = Peer(context, "/unsuited")
    peer.node.destroy_publisher(peer.publishers[RGB])
    peer.node.create_publisher(Image, RGB, qos_profile_sensor_data)
    peer.executor.add_node(node)
    peer.spin_until(lambda: inputs.mismatches[Input.COLOR], "the mismatch")
    problem = inputs.problem()
    assert "set rgb_qos to sensor_data" in problem
    assert "best_effort" in problem
    inputs.close()
    node.destroy_node()


def test_a_topic_of_another_name_or_type_is_found_and_reported(context: rclpy.Context) -> None:
    node, inputs = opened(context, "/elsewhere", rgb_transport="compressed")
    # A second participant, because one participant cannot have two types for one topic.
    elsewhere = rclpy.Context()
    rclpy.init(context=elsewhere, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    peer = Peer(elsewhere, "/elsewhere")
    peer.node.create_publisher(Image, f"{RGB}/compressed", 10)
    peer.node.create_publisher(Image, "camera/depth/image_raw", 10)
    peer.node.destroy_publisher(peer.publishers[DEPTH])
    peer.spin_until(lambda: "set rgb_transport" in inputs.problem(), "the type")
    assert "sensor_msgs/msg/CompressedImage is expected" in inputs.problem()
    peer.spin_until(
        lambda: (
            "remap depth_registered/image_rect" in inputs.problem()
            and "/elsewhere/camera/depth/image_raw" in inputs.problem()
        ),
        "the other topic",
    )
    inputs.close()
    node.destroy_node()
    elsewhere.try_shutdown()
