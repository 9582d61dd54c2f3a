"""The camera and the caller for tests of the node. The test chooses every frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from sdvlm.srv import SpatialQuery
from sdvlm_core.frame import CameraIntrinsics
from sdvlm_ros.conversions import camera_info_message, image_message
from tests.waiting import PATIENCE_S

WIDTH, HEIGHT = 64, 48
RGB, DEPTH, INFO = "rgb/image_rect_color", "depth_registered/image_rect", "rgb/camera_info"
Response = SpatialQuery.Response


def color(stamp_ns: int, encoding: str = "rgb8") -> Image:
    """A grey colour image with the given encoding name."""
    return image_message(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), encoding, stamp_ns, "optical")


def plausible_metres(metres: float = 1.5) -> npt.NDArray[np.float32]:
    """A wall with a step of 1 mm from row to row: equal readings would be a caution."""
    rows = np.float32(metres) + np.arange(HEIGHT, dtype=np.float32)[:, None] / 1000
    return np.repeat(rows, WIDTH, axis=1)


def depth(stamp_ns: int, metres: float = 1.5) -> Image:
    """A 32FC1 depth image of a wall; 0 or NaN = no reading anywhere."""
    pixels = plausible_metres(metres) if metres else np.zeros((HEIGHT, WIDTH), np.float32)
    return image_message(pixels, "32FC1", stamp_ns, "optical")


def info(stamp_ns: int, focal: float = 60.0) -> CameraInfo:
    """Camera info of the colour image; focal length 0 = not calibrated."""
    intrinsics = CameraIntrinsics(60.0, 60.0, 31.5, 23.5, WIDTH, HEIGHT)
    message = camera_info_message(intrinsics, stamp_ns, "optical")
    message.k[0] = message.k[4] = message.p[0] = message.p[5] = focal
    return message


class Peer:
    """A node with a camera's publishers and a client for ~/query. Its methods spin it.

    With a `camera`, its topics are below that name, and its questions are about it.
    """

    def __init__(self, context: rclpy.Context, namespace: str = "", camera: str = "") -> None:
        self.camera = camera
        self.node = rclpy.create_node(f"peer{camera}", context=context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.publishers = {
            topic: self.node.create_publisher(kind, f"{camera}/{topic}".lstrip("/"), 10)
            for topic, kind in ((RGB, Image), (DEPTH, Image), (INFO, CameraInfo))
        }
        deep = QoSProfile(depth=100)  # any number of questions at once
        self.query = self.node.create_client(SpatialQuery, "spatial_query/query", qos_profile=deep)

    def spin_until(self, condition: Callable[[], Any], what: str) -> Any:
        """Spin until `condition()` is true, and return what it returned."""
        deadline = time.monotonic() + PATIENCE_S
        while not (result := condition()):
            assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE_S} s"
            self.executor.spin_once(timeout_sec=0.05)
        return result

    def client(self, kind: Any, name: str) -> Any:
        """A client of ~/`name` that is ready. Services are discovered one by one: a request to an
        undiscovered one is lost.
        """
        client = self.node.create_client(kind, f"spatial_query/{name}")
        assert client.wait_for_service(PATIENCE_S), f"~/{name} did not appear"
        return client

    def connect(self, topics: tuple[str, ...] = (RGB, DEPTH, INFO)) -> None:
        """Wait until the node is active: service available, subscriptions matched."""
        assert self.query.wait_for_service(PATIENCE_S), "the node's service did not appear"
        self.spin_until(
            lambda: all(self.publishers[topic].get_subscription_count() for topic in topics),
            "the node's subscription",
        )

    def request(self, question: str = "How far is it?", **fields: Any) -> SpatialQuery.Request:
        """A request; `stamp_ns` and `timeout` (seconds) replace the message fields."""
        request = SpatialQuery.Request(question=question, camera=self.camera)
        stamp_ns = fields.pop("stamp_ns", 0)
        request.stamp.sec, request.stamp.nanosec = divmod(stamp_ns, 10**9)
        timeout_ns = round(fields.pop("timeout", PATIENCE_S / 2) * 1e9)
        request.timeout.sec, request.timeout.nanosec = divmod(timeout_ns, 10**9)
        for name, value in fields.items():
            setattr(request, name, value)
        return request

    def ask(self, question: str = "How far is it?", **fields: Any) -> Response:
        """Ask, and return the response, also if it is an error."""
        future = self.query.call_async(self.request(question, **fields))
        self.spin_until(future.done, "a response")
        return future.result()

    def ask_about(self, messages: dict[str, Any], stamp_ns: int, **fields: Any) -> Response:
        """Publish messages until the node has that frame, then return the response about it.

        Best effort may lose a message, and a request may arrive before an image. Therefore publish
        and ask again until the response is not "frame missing".
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for topic, message in messages.items():
                self.publishers[topic].publish(message)
            response = self.ask(stamp_ns=stamp_ns, **fields)
            # A published message has not arrived yet.
            text = response.error_msg
            arriving = (
                "no colour image within" in text
                or (RGB in messages and text.startswith("no colour message"))
                or (DEPTH in messages and text.startswith("no depth"))
                or (INFO in messages and text.startswith("no camera_info"))
            )
            if not arriving or time.monotonic() > deadline:
                return response


def frame(stamp_ns: int, **replaced: Any) -> dict[str, Any]:
    """Messages of a valid frame by topic; rgb, depth, info replace a message, None omits it."""
    # The info first: until it arrives, the image is complete with the info of an earlier frame.
    messages = {
        INFO: replaced.get("info", info(stamp_ns)),
        RGB: replaced.get("rgb", color(stamp_ns)),
        DEPTH: replaced.get("depth", depth(stamp_ns)),
    }
    return {topic: message for topic, message in messages.items() if message is not None}
