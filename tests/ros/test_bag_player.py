"""Bags of both storage formats, raw and compressed, are published as live topics with a clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sdvlm_core.camera.decoding import color_from_message, depth_from_message
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_ros.conversions import time_message
from tests.ros.conftest import ROOT, running
from tests.ros.peer import DEPTH, HEIGHT, INFO, RGB, WIDTH, Peer, Response, color, depth, info
from tests.waiting import PATIENCE_S

rosbag2 = pytest.importorskip("rosbags.rosbag2")

START = 1_700_000_000_000_000_000
PERIOD = 100_000_000
FRAMES = 5


def compressed(stamp_ns: int) -> dict[str, Any]:
    """The messages of peer.frame, compressed as by image_transport."""
    header = Header(stamp=time_message(stamp_ns), frame_id="optical")
    png = cv2.imencode(".png", np.full((HEIGHT, WIDTH), 1500, np.uint16))[1].tobytes()
    jpeg = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))[1].tobytes()
    return {
        f"{RGB}/compressed": CompressedImage(
            header=header, format="rgb8; jpeg compressed bgr8", data=jpeg
        ),
        f"{DEPTH}/compressedDepth": CompressedImage(
            header=header, format="16UC1; compressedDepth png", data=bytes(12) + png
        ),
        INFO: info(stamp_ns),
    }


def raw(stamp_ns: int) -> dict[str, Any]:
    return {RGB: color(stamp_ns), DEPTH: depth(stamp_ns), INFO: info(stamp_ns)}


def write_bag(path: Path, storage: str, make: Any) -> Path:
    """A bag of FRAMES frames, PERIOD apart, logged 5 ms after their stamps."""
    from rosbags.typesys import Stores, get_typestore

    typestore = get_typestore(Stores.ROS2_JAZZY)
    plugin = getattr(rosbag2.StoragePlugin, storage)
    with rosbag2.Writer(path, version=9, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for index in range(FRAMES):
            stamp_ns = START + index * PERIOD
            for topic, message in make(stamp_ns).items():
                kind = f"sensor_msgs/msg/{type(message).__name__}"
                if topic not in connections:
                    connections[topic] = writer.add_connection(
                        f"/{topic}", kind, typestore=typestore
                    )
                data = serialize_message(message)
                writer.write(connections[topic], stamp_ns + 5_000_000, data)
    return path


@pytest.mark.parametrize("storage", ["SQLITE3", "MCAP"])
@pytest.mark.parametrize("kind", ["raw", "compressed"])
def test_a_bag_is_published_as_live_topics_with_a_clock(
    tmp_path: Path, context: rclpy.Context, storage: str, kind: str
) -> None:
    bag = write_bag(tmp_path / "bag", storage, raw if kind == "raw" else compressed)
    suffixes = ("", "") if kind == "raw" else ("/compressed", "/compressedDepth")
    message = Image if kind == "raw" else CompressedImage
    node = rclpy.create_node("listener", context=context, namespace="/replayed")
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    colors: list[Any] = []
    depths: list[Any] = []
    clocks: list[int] = []
    sensor = qos_profile_sensor_data
    node.create_subscription(message, RGB + suffixes[0], colors.append, sensor)
    node.create_subscription(message, DEPTH + suffixes[1], depths.append, sensor)
    node.create_subscription(Clock, "/clock", lambda m: clocks.append(nanoseconds(m.clock)), 100)
    remaps = [
        argument
        for topic in (RGB + suffixes[0], DEPTH + suffixes[1], INFO)
        for argument in ("-r", f"/{topic}:=/replayed/{topic}")
    ]
    with running("sdvlm_ros.bag_player", str(bag), "--loop", "--ros-args", *remaps) as process:
        wanted = 2 * FRAMES  # so the bag has restarted
        while len(colors) < wanted or len(depths) < wanted:
            executor.spin_once(timeout_sec=1.0)
            assert process.poll() is None, "replay ended early"
    assert process.returncode == 0
    assert {nanoseconds(m.header.stamp) for m in colors} == {
        START + index * PERIOD for index in range(FRAMES)
    }
    assert np.abs(color_from_message(colors[0]).astype(int) - 90).max() <= 2
    expected = depth_from_message(depth(START)) if kind == "raw" else 1.5
    np.testing.assert_allclose(depth_from_message(depths[0]), expected)
    assert min(clocks) >= START
    assert max(clocks) <= START + (FRAMES - 1) * PERIOD + 5_000_000
    assert len(clocks) > 3 * wanted, "the clock ticks between messages too"


@pytest.mark.parametrize("kind", ["raw", "compressed"])
def test_the_node_answers_about_every_frame_if_the_player_waits(
    tmp_path: Path, context: rclpy.Context, tiny_model: Path, kind: str
) -> None:
    bag = write_bag(tmp_path / "bag", "MCAP", raw if kind == "raw" else compressed)
    transports = ("raw", "raw") if kind == "raw" else ("compressed", "compressedDepth")
    in_bagged = ["-r", "__ns:=/bagged"]
    node_arguments = [
        *("-p", f"model:={tiny_model}", "-p", "use_sim_time:=true"),
        *("-p", f"rgb_transport:={transports[0]}", "-p", f"depth_transport:={transports[1]}"),
    ]
    suffixes = ("", "") if kind == "raw" else ("/compressed", "/compressedDepth")
    for topic in (RGB + suffixes[0], DEPTH + suffixes[1], INFO):
        in_bagged += ["-r", f"/{topic}:=/bagged/{topic}"]
    with (
        running("sdvlm_ros.node", "--ros-args", *in_bagged, *node_arguments),
        running(
            "sdvlm_ros.bag_player", str(bag), "--as-fast-as-answered", "--ros-args", *in_bagged
        ) as replay,
    ):
        peer = Peer(context, "/bagged")
        assert peer.query.wait_for_service(PATIENCE_S)
        answered: list[int] = []
        while replay.poll() is None and len(answered) < 100:
            response = peer.ask()
            if response.error_code == Response.NONE:
                answered.append(nanoseconds(response.answer.header.stamp))
            else:
                assert response.error_code in (
                    Response.MODEL_NOT_READY,  # it is loading
                    Response.NO_IMAGE,
                    Response.BAD_DEPTH,
                    Response.BAD_CAMERA_INFO,
                    Response.STALE_IMAGE,  # before the first /clock, and after the end of the bag
                ), response.error_msg
        assert replay.wait(PATIENCE_S) == 0
    # Every frame in order, none skipped. A frame may be published again before the next one.
    assert list(dict.fromkeys(answered)) == [START + index * PERIOD for index in range(FRAMES)]


def test_a_missing_colour_topic_is_an_error_that_asks_for_a_remap(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", "MCAP", lambda t: {"camera/color": color(t)})
    result = replay_command(str(bag), "--as-fast-as-answered")
    assert result.returncode == 1
    assert "remap the colour topic to it: /camera/color" in result.stderr


def test_a_path_that_is_not_a_bag_is_refused_in_one_sentence(tmp_path: Path) -> None:
    result = replay_command(str(tmp_path))
    assert result.returncode == 2
    assert "it has no metadata.yaml" in result.stderr
    (tmp_path / "metadata.yaml").write_text("not: a bag\n")
    result = replay_command(str(tmp_path))
    assert result.returncode == 1
    assert "cannot be played" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_shows_examples() -> None:
    result = replay_command("--help")
    assert result.returncode == 0
    assert "--ros-args -r" in result.stdout


def replay_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sdvlm_ros.bag_player", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
