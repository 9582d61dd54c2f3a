"""Measures detections in -> Detection3DArray out: latency and CPU time of the node.

A camera in this process publishes the simulated table, 640x480, at 30 Hz. For every third image,
that is at 10 Hz, it publishes five boxes with the stamp of that image, as a detector would. Two
runs, the second without detections, so that the difference is what measuring takes. Latency is from
the publishing of the boxes to the arrival of the result. Does not measure a detector. Prints a
table, and one JSON line last. Without vision_msgs from ROS it is built as the tests build it.

    python benchmarks/detections.py [--seconds 20]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))  # for the tests' vision_msgs

# Sets the ROS domain and the Fast DDS profile before rclpy reads them.
from buffering import RATE, Camera, cpu_seconds, node_and_camera

# isort: split
import numpy as np
import rclpy

from sdvlm_core import tabletop
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_ros.conversions import camera_info_message, image_message, message_class, time_message
from sdvlm_ros.vision_messages import DETECTIONS_2D, DETECTIONS_3D
from tests.ros import vision_msgs

EVERY = 3  # an image with detections


class Detector:
    """Publishes boxes, and takes the time of each result."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        rgb, depth, _ = tabletop.render()
        millimetres = tabletop.sensor_depth_mm(depth, np.random.default_rng(0))
        camera.messages = [
            image_message(rgb, "rgb8", 0, "cam"),
            image_message(millimetres, "16UC1", 0, "cam"),
            camera_info_message(tabletop.INTRINSICS, 0, "cam"),
        ]
        node = camera.node
        self.publisher = node.create_publisher(message_class(DETECTIONS_2D), "detections", 10)
        topic = "/spatial_query/detections_3d"
        node.create_subscription(message_class(DETECTIONS_3D), topic, self._on_result, 10)
        self.message = message_class(DETECTIONS_2D)()
        self.message.header.frame_id = "cam"
        boxes = list(tabletop.boxes().items())
        for label, box in (boxes * 5)[:5]:
            self.message.detections.append(_detection(label, box))
        self.sent: dict[int, float] = {}
        self.latencies: list[float] = []
        self.objects: list[int] = []

    def publish(self, stamp_ns: int) -> None:
        """The boxes of the image with a stamp."""
        self.message.header.stamp = time_message(stamp_ns)
        self.sent[stamp_ns] = time.perf_counter()
        self.publisher.publish(self.message)

    def _on_result(self, array: Any) -> None:
        started = self.sent.pop(nanoseconds(array.header.stamp), None)
        if started is not None:
            self.latencies.append(time.perf_counter() - started)
            self.objects.append(len(array.detections))


def _detection(label: str, box: tuple[float, ...]) -> Any:
    found = message_class("vision_msgs/msg/Detection2D")(id=label)
    x1, y1, x2, y2 = map(float, box)
    centre = found.bbox.center.position
    centre.x, centre.y = (x1 + x2) / 2, (y1 + y2) / 2
    found.bbox.size_x, found.bbox.size_y = x2 - x1, y2 - y1
    result = message_class("vision_msgs/msg/ObjectHypothesisWithPose")()
    result.hypothesis.class_id, result.hypothesis.score = label, 0.9
    found.results.append(result)
    return found


def run(detector: Detector, pid: int, seconds: float, detecting: bool) -> float:
    """Run for some time; cores that the node takes."""
    camera = detector.camera
    while min(camera.received()) < RATE:  # discovery is over
        camera.spin()
    cpu, began, sent = cpu_seconds(pid), time.monotonic(), camera.sent
    last = 0
    while time.monotonic() - began < seconds:
        camera.spin()
        images = camera.sent - sent
        if detecting and images // EVERY > last:
            last = images // EVERY
            detector.publish(nanoseconds(camera.messages[0].header.stamp))
    return (cpu_seconds(pid) - cpu) / (time.monotonic() - began)


def main() -> None:
    """Measure both runs, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of each run")
    arguments = parser.parse_args()
    if not vision_msgs.is_installed():
        prefix = vision_msgs.build()
        vision_msgs.load_libraries(prefix)
        os.environ.update(vision_msgs.environment(prefix))  # for the node
        sys.path.insert(0, str(vision_msgs.packages(prefix)))
    options = {"sensor": "simulated", "measure_detections": "true"}
    # The node of the tests has no model, and boxes need none.
    with node_and_camera("none", ("-m", "tests.ros.stub_node"), **options) as (node, camera):
        detector = Detector(camera)
        busy = run(detector, node.pid, arguments.seconds, detecting=True)
        values = dict(camera.values)
        idle = run(detector, node.pid, arguments.seconds, detecting=False)
    milliseconds = 1e3 * np.asarray(detector.latencies or [np.nan])
    figures = {
        "results": len(detector.latencies),
        "unanswered": len(detector.sent),
        "objects": float(np.mean(detector.objects or [np.nan])),
        "latency_ms_median": round(float(np.median(milliseconds)), 1),
        "latency_ms_p99": round(float(np.percentile(milliseconds, 99)), 1),
        "cores": round(busy, 3),
        "cores_without_detections": round(idle, 3),
        "load_average": round(os.getloadavg()[0], 1),
        **{name: values[name] for name in values if name.startswith("detection messages")},
    }
    for name, value in figures.items():
        print(f"{name:32} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
    rclpy.try_shutdown()
