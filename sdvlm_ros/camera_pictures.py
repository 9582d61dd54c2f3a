"""CameraPictures: the frame that a running node has, decoded in another process.

A node sends no pictures. This finds the topics that it subscribes to, however they are remapped,
reads its parameters, and receives the same messages with the node's own subscriptions and decoder.
A frame is the one of exactly the requested stamp, or none. Does not know questions or regions.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSPresetProfiles
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from sdvlm_core.camera.decoding import image_size
from sdvlm_core.camera.pairing import Input
from sdvlm_core.errors import DepthError, FrameError, IntrinsicsError, ModelNotReadyError, shown
from sdvlm_core.frame import RgbdFrame
from sdvlm_ros.camera import decoder_of
from sdvlm_ros.conversions import read_serialized
from sdvlm_ros.frame_buffer import NoImageError, RawFrame
from sdvlm_ros.parameters import PARAMETERS, Settings, camera_settings
from sdvlm_ros.screening import MAX_IMAGE_BYTES
from sdvlm_ros.subscriptions import Subscriptions

#: How long a picture, a parameter and the first message of a topic may take, seconds.
PATIENCE_S = 20.0
_POLL_S = 0.02
# The executor answers at once; this only ends a wait for one that was closed, seconds.
_CALL_S = 60.0
# Depth and camera_info arrive less than this after their colour image.
_LATE_NS = 1_000_000_000
_IMAGE, _COMPRESSED, _INFO = (
    f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo")
)
_SUFFIXES = {"compressed": "/compressed", "compressedDepth": "/compressedDepth"}
T = TypeVar("T")


class CameraPictures:
    """Receives what a node receives. Its own context and thread; methods are thread-safe.

    Args:
        server: name of the node, with its namespace.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._finder = self._node("sdvlm_pictures_finder")
        self._remote = AsyncParameterClient(self._finder, server)
        self._lock = threading.Lock()  # of the camera
        self._camera: _Camera | None = None
        self._thread = threading.Thread(target=self._spin, name="sdvlm_pictures", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the ROS graph."""
        self._context.try_shutdown()
        self._thread.join()
        self._executor.shutdown()
        self._finder.destroy_node()

    def start(self) -> None:
        """Find the node's camera and subscribe to it, unless that is done.

        Raises:
            FrameError: an input has no topic, or sends nothing within PATIENCE_S.
            ModelNotReadyError: the node does not answer.
        """
        self._started()

    def frame(self, stamp_ns: int, deadline: float) -> RgbdFrame | None:
        """The frame of exactly this stamp; None = it did not come this way.

        That is known at once if a later image has arrived and this one has not: the middleware lost
        it. Otherwise it is known at `deadline`, monotonic seconds.

        Raises:
            FrameError: its messages do not make a frame; or as `start`.
        """
        camera = self._started()
        while True:
            found, lost = self._call(lambda: camera.look(stamp_ns))
            if found is not None:
                return camera.decode(found)
            if lost or time.monotonic() > deadline:
                return None
            time.sleep(_POLL_S)

    def forget(self) -> None:
        """Look for the node's topics again with the next frame: it may have been restarted."""
        with self._lock:
            camera, self._camera = self._camera, None
        if camera is not None:
            self._call(camera.close)

    def missing(self) -> str:
        """Which input is missing, and its publishers; "" = none."""
        camera = self._camera
        return "" if camera is None else self._call(camera.inputs.problem)

    def parameters(self, *names: str) -> list[Any]:
        """Values of the node's parameters.

        Raises:
            ModelNotReadyError: the node does not answer within PATIENCE_S.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not self._remote.services_are_ready():
            self._check(deadline, "has no parameters")
        future = self._remote.get_parameters(list(names))
        while not future.done():
            self._check(deadline, "does not answer")
        reply = future.result()
        assert reply is not None
        return [parameter_value_to_python(value) for value in reply.values]

    def _check(self, deadline: float, what: str) -> None:
        if time.monotonic() > deadline:
            raise ModelNotReadyError(f"after {PATIENCE_S:g} s the node {self._server} {what}")
        time.sleep(_POLL_S)

    def _started(self) -> _Camera:
        with self._lock:
            if self._camera is None:
                self._camera = self._find_camera()
            return self._camera

    def _find_camera(self) -> _Camera:
        settings = Settings(**dict(zip(PARAMETERS, self.parameters(*PARAMETERS), strict=True)))
        topics = self._topics(settings)
        remaps = [word for name, topic in topics.items() for word in ("-r", f"{name}:={topic}")]
        node = self._node("sdvlm_pictures", "--ros-args", *remaps)
        return self._call(lambda: _Camera(node, settings))

    def _topics(self, settings: Settings) -> dict[str, str]:
        """The names of the node's inputs -> its topics, without the transport."""
        of_type: dict[str, list[str]] = {_IMAGE: [], _COMPRESSED: [], _INFO: []}
        for topic, types in self._subscribed():
            for kind in types:
                of_type.get(kind, []).append(topic)
        colors, depths = of_type[_IMAGE], of_type[_IMAGE]
        if settings.rgb_transport != "raw":
            colors = _of_transport(of_type[_COMPRESSED], settings.rgb_transport)
        if settings.depth_transport != "raw":
            depths = _of_transport(of_type[_COMPRESSED], settings.depth_transport)
        if settings.depth_estimator:
            depths = []
        elif colors is depths:  # both raw
            colors, depths = self._told_apart(colors, settings)
        (color,) = self._one(colors, "colour")
        topics = {"rgb/image_rect_color": color}
        infos = of_type[_INFO]
        if depths or not settings.depth_estimator:
            (depth,) = self._one(depths, "depth")
            topics["depth_registered/image_rect"] = depth
            beside = f"{depth.rpartition('/')[0]}/camera_info"
            infos = [topic for topic in infos if topic != beside] or infos
        (topics["rgb/camera_info"],) = self._one(infos, "camera_info")
        return topics

    def _subscribed(self) -> list[tuple[str, list[str]]]:
        """Topics and types of the node's subscriptions; the graph is discovered piece by piece."""
        namespace, _, name = self._server.rpartition("/")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with suppress(NodeNameNonExistentError):
                found = self._finder.get_subscriber_names_and_types_by_node(name, namespace or "/")
                if any(_INFO in types for _, types in found):
                    return found
            self._check(deadline, "subscribes to no camera_info: is it active?")

    def _one(self, topics: list[str], what: str) -> list[str]:
        if len(topics) != 1:
            found = ", ".join(map(shown, topics)) or "none"
            raise FrameError(
                f"the node {self._server} must subscribe to one {what} topic, found {found}; is it "
                "active?"
            )
        return topics

    def _told_apart(self, topics: list[str], settings: Settings) -> tuple[list[str], list[str]]:
        """Colour and depth among topics of raw images, by the encodings of their messages."""
        kinds: dict[str, Input] = {}
        limits = camera_settings(settings)

        def on_image(topic: str, data: bytes) -> None:
            if len(data) > MAX_IMAGE_BYTES or topic in kinds:
                return
            message = read_serialized(data, Image, "an image", FrameError)
            for kind in (Input.COLOR, Input.DEPTH):
                with suppress(FrameError):
                    image_size(message, limits, kind)
                    kinds[topic] = kind

        def subscribe() -> list[Any]:
            return [
                self._finder.create_subscription(
                    Image,
                    topic,
                    lambda data, topic=topic: on_image(topic, data),
                    QoSPresetProfiles.SENSOR_DATA.value,
                    raw=True,
                )
                for topic in topics
            ]

        subscriptions = self._call(subscribe)
        deadline = time.monotonic() + PATIENCE_S
        while len(kinds) < len(topics) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self._call(lambda: [self._finder.destroy_subscription(one) for one in subscriptions])
        silent = [shown(topic) for topic in topics if topic not in kinds]
        if silent:
            raise FrameError(
                f"no image that can be decoded on {', '.join(silent)} within {PATIENCE_S:g} s: "
                "does the camera run?"
            )
        colors, depths = (
            [topic for topic in topics if kinds[topic] is kind]
            for kind in (Input.COLOR, Input.DEPTH)
        )
        return colors, depths

    def _node(self, name: str, *arguments: str) -> Node:
        node = rclpy.create_node(
            name,
            context=self._context,
            cli_args=list(arguments),
            # Remappings of the process are for the caller's nodes.
            use_global_arguments=False,
            start_parameter_services=False,
        )
        self._executor.add_node(node)
        return node

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):  # raised when `close` shuts the context down
            self._executor.spin()

    def _call(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread that owns the buffer."""
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                outcome.set_exception(error)

        self._executor.create_task(run)
        return outcome.result(_CALL_S)


class _Camera:
    """The node's inputs as this process receives them."""

    def __init__(self, node: Node, settings: Settings) -> None:
        self._node = node
        self.inputs = Subscriptions(node, settings)
        self.decode = decoder_of(self.inputs).decode

    def look(self, stamp_ns: int) -> tuple[RawFrame | None, bool]:
        """The frame of exactly `stamp_ns`, and whether it cannot be expected any more."""
        self.inputs.look_for_latched_info()
        buffer = self.inputs.buffer
        with suppress(NoImageError, DepthError, IntrinsicsError):  # not arrived yet
            found = buffer.at(stamp_ns)
            if found.color.stamp_ns == stamp_ns:
                return found, False
        stamps = buffer.stamps(Input.COLOR)
        last_ns = stamps[-1] if stamps else 0
        # Depth may arrive after the next colour image.
        return None, last_ns > stamp_ns + (_LATE_NS if stamp_ns in stamps else 0)

    def close(self) -> None:
        """Unsubscribe."""
        self.inputs.close()
        self._node.destroy_node()


def _of_transport(topics: list[str], transport: str) -> list[str]:
    """The topics of a transport, without its suffix."""
    suffix = _SUFFIXES[transport]
    return [topic.removesuffix(suffix) for topic in topics if topic.endswith(suffix)]
