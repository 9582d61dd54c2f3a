"""CameraPictures: the frame that a running node has, decoded in another process.

A node sends no pictures. Its diagnostics name the topics that it subscribes to, however they are
remapped; this reads them and its parameters, and receives the same messages with the node's own
subscriptions and decoder. A frame is the one of exactly the requested stamp, or none. Does not know
questions or regions.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from rclpy.signals import SignalHandlerOptions

from sdvlm_core.camera.pairing import Input
from sdvlm_core.errors import DepthError, IntrinsicsError, ModelNotReadyError
from sdvlm_core.frame import RgbdFrame
from sdvlm_ros.camera import decoder_of
from sdvlm_ros.diagnostics import status_name, topic_key
from sdvlm_ros.frame_buffer import NoImageError, RawFrame
from sdvlm_ros.parameters import PARAMETERS, Settings
from sdvlm_ros.subscriptions import TOPICS, Subscriptions

#: How long a picture, a parameter and the first message of a topic may take, seconds.
PATIENCE_S = 20.0
_POLL_S = 0.02
# The executor answers at once; this only ends a wait for one that was closed, seconds.
_CALL_S = 60.0
# Depth and camera_info arrive less than this after their colour image.
_LATE_NS = 1_000_000_000
T = TypeVar("T")


class CameraPictures:
    """Receives what a node receives. Its own context and thread; methods are thread-safe.

    Args:
        server: name of the node, with its namespace.

    Attributes:
        camera: which of the node's cameras; "" = the only one, without a name. Set before `start`.
    """

    def __init__(self, server: str) -> None:
        self._server, self.camera = server, ""
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._finder = self._node("sdvlm_pictures_finder")
        self._remote = AsyncParameterClient(self._finder, server)
        self._lock = threading.Lock()  # of what is received
        self._received: _Camera | None = None
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
            ModelNotReadyError: the node does not answer, or is not active.
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
            camera, self._received = self._received, None
        if camera is not None:
            self._call(camera.close)

    def missing(self) -> str:
        """Which input is missing, and its publishers; "" = none."""
        camera = self._received
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
            if self._received is None:
                self._received = self._receive()
            return self._received

    def _receive(self) -> _Camera:
        settings = Settings(**dict(zip(PARAMETERS, self.parameters(*PARAMETERS), strict=True)))
        topics = self._topics()
        remaps = [word for name, topic in topics.items() for word in ("-r", f"{name}:={topic}")]
        node = self._node("sdvlm_pictures", "--ros-args", *remaps)
        return self._call(lambda: _Camera(node, settings))

    def _topics(self) -> dict[str, str]:
        """The names of the node's inputs -> its topics, from the diagnostics of an active node."""
        wanted = status_name(self._server, self.camera)
        found: dict[str, str] = {}

        def on_diagnostics(message: DiagnosticArray) -> None:
            for status in message.status:
                if status.name == wanted:
                    values = {one.key: one.value for one in status.values}
                    keys = {topic_key(kind): name for kind, (name, _) in TOPICS.items()}
                    found.update((name, values[key]) for key, name in keys.items() if key in values)

        subscription = self._call(
            lambda: self._finder.create_subscription(
                DiagnosticArray, "/diagnostics", on_diagnostics, 10
            )
        )
        deadline = time.monotonic() + PATIENCE_S
        try:
            while not found:
                self._check(
                    deadline, f"has named no topics on /diagnostics ({wanted}): is it active?"
                )
        finally:
            self._call(lambda: self._finder.destroy_subscription(subscription))
        return found

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
