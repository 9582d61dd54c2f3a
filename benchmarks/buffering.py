"""Measures the CPU time of the idle node, and the node's latency overhead per question.

A camera in this process publishes 640x480 colour, depth and info at 30 Hz over Fast DDS; the node
runs in its own process. Counts frames sent, received and lost from the node's own diagnostics,
reads its CPU time from /proc (Linux), then asks questions and subtracts the model's time from the
round trip. Does not measure the model. Prints a table, and one JSON line last.

    python benchmarks/buffering.py [--seconds 20] [--model nano]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT, RATE = 640, 480, 30
TOPICS = ("rgb/image_rect_color", "depth_registered/image_rect", "rgb/camera_info")

# Before rclpy, which reads them when it starts.
os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402

from sdvlm.srv import SpatialQuery  # noqa: E402
from sdvlm_core.camera.messages import nanoseconds  # noqa: E402
from sdvlm_core.frame import CameraIntrinsics  # noqa: E402
from sdvlm_ros.conversions import camera_info_message, image_message, time_message  # noqa: E402


class Camera:
    """Publishes at a fixed rate while `run` is called; stores the node's last diagnostics."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("camera")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.publishers = [
            self.node.create_publisher(kind, topic, 10)
            for topic, kind in zip(TOPICS, (Image, Image, CameraInfo), strict=True)
        ]
        self.client = self.node.create_client(SpatialQuery, "/spatial_query/query")
        self.values: dict[str, str] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        noise = np.random.default_rng(0)
        self.messages = [
            image_message(noise.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), "rgb8", 0, "cam"),
            image_message(noise.integers(500, 5000, (HEIGHT, WIDTH), np.uint16), "16UC1", 0, "cam"),
            camera_info_message(CameraIntrinsics(600, 600, 319.5, 239.5, WIDTH, HEIGHT), 0, "cam"),
        ]
        self.sent = 0
        self._due = time.monotonic()

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        self.values = {pair.key: pair.value for pair in array.status[0].values}

    def received(self) -> list[int]:
        """Messages the node has received, from its diagnostics: colour, depth, info."""
        return [
            int(self.values.get(f"{k} received", 0)) for k in ("colour", "depth", "camera_info")
        ]

    def publish(self) -> int:
        """One frame; its stamp, nanoseconds."""
        stamp_ns = time.time_ns()
        stamp = time_message(stamp_ns)
        for publisher, message in zip(self.publishers, self.messages, strict=True):
            message.header.stamp = stamp
            publisher.publish(message)
        self.sent += 1
        return stamp_ns

    def spin(self) -> None:
        """One cycle: publish due messages, process received messages."""
        ahead = self._due - time.monotonic()
        if ahead <= 0:
            self.publish()
            self._due = max(self._due + 1 / RATE, time.monotonic() - 1 / RATE)
        else:
            self.executor.spin_once(timeout_sec=ahead)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_active(camera: Camera, node: subprocess.Popen[bytes]) -> None:
    """Wait until the node has subscribed; raises RuntimeError if it does not."""
    deadline = time.monotonic() + 300.0
    while not all(publisher.get_subscription_count() for publisher in camera.publishers):
        if node.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the node did not become active; see its log")
        if camera.values.get("state") == "unconfigured":
            raise RuntimeError("the node has no model; see its log (--model)")
        camera.executor.spin_once(timeout_sec=0.05)


@contextmanager
def node_and_camera(
    model: str, program: Sequence[str] = ("-m", "sdvlm_ros.node"), **parameters: object
) -> Iterator[tuple[subprocess.Popen[bytes], Camera]]:
    """An active node in its own process, and its camera; both end with the context.

    `program`: Python arguments that start the node; `parameters`: further parameters of the node.

    Raises:
        RuntimeError: the node did not become active.
    """
    command = [sys.executable, *program, "--ros-args", "-p", f"model:={model}"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    node = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
    rclpy.init()
    try:
        camera = Camera()
        wait_until_active(camera, node)
        yield node, camera
    finally:
        node.terminate()
        try:
            node.wait(30)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()
        rclpy.try_shutdown()


def measure(camera: Camera, pid: int, seconds: float, questions: int) -> dict[str, float]:
    """Idle for `seconds`, then ask; returns the figures by name."""
    while min(camera.received()) < RATE:  # discovery is over
        camera.spin()

    cpu, began, sent = cpu_seconds(pid), time.monotonic(), camera.sent
    while time.monotonic() - began < seconds:
        camera.spin()
    elapsed = time.monotonic() - began
    idle = (cpu_seconds(pid) - cpu) / elapsed
    rate = (camera.sent - sent) / elapsed

    overheads, trips = [], []
    for _ in range(questions):
        asked = time.monotonic()
        future = camera.client.call_async(SpatialQuery.Request(question="How far is the wall?"))
        while not future.done():
            camera.spin()
        trips.append(time.monotonic() - asked)
        response = future.result()
        assert response.error_code == 0, response.error_msg
        answer = response.answer
        model = nanoseconds(answer.encode_time) + nanoseconds(answer.generate_time)
        overheads.append(trips[-1] - model / 1e9)

    # Publishing has stopped; the next diagnostics count what has arrived.
    deadline = time.monotonic() + 5.0
    while min(camera.received()) < camera.sent and time.monotonic() < deadline:
        camera.executor.spin_once(timeout_sec=0.1)
    received = camera.received()
    return {
        "sent": camera.sent,
        "received_colour": received[0],
        "received_depth": received[1],
        "received_info": received[2],
        "lost": 3 * camera.sent - sum(received),
        "rate_hz": round(rate, 2),
        "idle_cpu_percent": round(100 * idle, 1),
        "round_trip_ms": round(1e3 * statistics.median(trips), 1),
        "overhead_ms": round(1e3 * statistics.median(overheads), 2),
    }


def main() -> int:
    """Start the node, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--model", default="nano")
    chosen = parser.parse_args()
    try:
        with node_and_camera(chosen.model) as (node, camera):
            figures = measure(camera, node.pid, chosen.seconds, chosen.questions)
    except RuntimeError as error:
        print(f"buffering: {error}", file=sys.stderr)
        return 1
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):24}{value:>10}")
    print(json.dumps({"benchmark": "buffering", "model": chosen.model, **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
