"""Camera: one RGB-D camera of an active node, from its messages to its frames.

Holds its subscriptions, its decoder, the requests that wait for its first frame, and the inspection
of its newest frame. One rule decides whether a frame is fresh, for requests and for the
diagnostics. Does not know the other cameras, the workers, or what is asked about a frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rclpy.node import Node

from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.camera.pairing import Input
from sdvlm_core.errors import FrameError, QueryCanceled, QueryError
from sdvlm_ros.first_frame import FirstFrame, Waiter
from sdvlm_ros.frame_buffer import ClockState, RawFrame, check_age
from sdvlm_ros.inspection import Finding, Inspection
from sdvlm_ros.parameters import Settings
from sdvlm_ros.requests import FrameRequest, seconds
from sdvlm_ros.subscriptions import Subscriptions
from sdvlm_ros.worker import FrameDecoder, Gravity


def named(name: str, cameras: Sequence[str]) -> str:
    """The camera that a request means: no name means the only one.

    Args:
        name: field `camera` of the request.
        cameras: names of the node's cameras; "" = one without a name.

    Raises:
        QueryError: there is no such camera, or a node with several was given no name.
    """
    if name in cameras:
        return name
    if not name and len(cameras) == 1:
        return cameras[0]
    if cameras == [""]:
        raise QueryError(
            f"camera is {name!r}, but the node's only camera has no name: leave it empty, or set "
            "the node's parameter cameras"
        )
    asked = f"camera is {name!r}" if name else "camera is empty"
    raise QueryError(f"{asked}; it must be one of this node's cameras: {', '.join(cameras)}")


def decoder_of(
    inputs: Subscriptions, gravity: Callable[[str, int], Gravity] | None = None
) -> FrameDecoder:
    """The decoder of what some subscriptions receive; `gravity` as of `FrameDecoder`."""
    return FrameDecoder(
        inputs.color_type,
        inputs.depth_type,
        inputs.camera,
        color_topic=inputs.topic(Input.COLOR),
        depth_topic=inputs.topic(Input.DEPTH),
        depth_info=lambda: inputs.depth_info,
        gravity=gravity,
    )


class Camera:
    """One camera of the active node.

    Args:
        node: the node whose parameters, clock and executor are used.
        name: prefix of its topics; "" = none.
        gravity: looks up what is up, see `FrameDecoder`; used with the parameter gravity_frame.
        on_worker_end: called by a thread that has failed, with the exception.

    Raises:
        RuntimeError: a QoS override has an invalid value. Nothing is subscribed then.

    Attributes:
        inputs: its subscriptions.
        decode: function raw frame -> frame; thread-safe.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        settings: Settings,
        gravity: Callable[[str, int], Gravity] | None,
        on_worker_end: Callable[[BaseException], None],
    ) -> None:
        self._node, self.name = node, name
        inputs = self.inputs = Subscriptions(node, settings, self._on_message, name)
        self.decode = decoder_of(inputs, gravity if settings.gravity_frame else None).decode
        self._first_frame = FirstFrame(inputs.frame_expected, settings.queue_size)
        self._inspection = Inspection(node, self.decode, on_worker_end)
        self._clock_moved = (0, time.monotonic())

    def cancel(self) -> None:
        """Unsubscribe and end the waiting requests, without waiting; may be called twice."""
        self._first_frame.close(QueryCanceled("canceled before the first frame"))
        self.inputs.close()
        self._inspection.cancel()

    def close(self) -> None:
        """End the thread, after `cancel`."""
        self._inspection.close()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._inspection.alive

    @property
    def waiting(self) -> int:
        """Requests that wait for its first frame."""
        return len(self._first_frame)

    @property
    def finding(self) -> Finding:
        """The cautions of the last inspected frame, or why it is refused."""
        return self._inspection.finding

    @property
    def has_depth(self) -> bool:
        """Whether depth arrives, and is not estimated."""
        return Input.DEPTH in self.inputs.buffer.inputs

    def refusal(self) -> str:
        """Why a question about the newest frame would be refused now; "" = it would be answered."""
        try:
            self._check_age(self.inputs.buffer.peek(), self._parameter("max_age"))
        except FrameError as error:
            return str(error)
        return self.finding.refusal

    def monitor(self) -> None:
        """Once a second: inspect the newest frame, and refuse who waits in vain for the first."""
        self._clock_state()
        self.inputs.look_for_latched_info()
        self._first_frame.poll()
        try:
            self._inspection.inspect(self.inputs.buffer.peek())
        except FrameError:
            return  # `refusal` reports it

    def serve(self, waiter: Waiter) -> None:
        """Use the frame of a request now, or let it wait for the first frame; see `FirstFrame`."""
        self._first_frame.serve(waiter)

    def frame_source(self, request: FrameRequest) -> Callable[[], RawFrame]:
        """Finds the frame of a request; only the newest frame is worth waiting for.

        Raises:
            FrameError: there is no frame of the requested stamp.
        """
        max_age = seconds(request.max_age, "max_age")
        stamp_ns = nanoseconds(request.stamp)
        if not stamp_ns:
            return lambda: self.newest(max_age)
        frame = self.inputs.buffer.at(stamp_ns)
        # A caller that requests a stamp accepts the age of that frame.
        if max_age:
            self._check_age(frame, max_age)
        return lambda: frame

    def newest(self, max_age_s: float) -> RawFrame:
        """The newest frame; raises FrameError if there is none, or if it is too old.

        Args:
            max_age_s: 0 = the parameter max_age.
        """
        frame = self.inputs.buffer.newest()
        self._check_age(frame, max_age_s or self._parameter("max_age"))
        return frame

    def _on_message(self) -> None:
        self._first_frame.poll()

    def _check_age(self, frame: RawFrame, limit_s: float) -> None:
        check_age(frame, self._clock_state(), round(limit_s * 1e9))

    def _clock_state(self) -> ClockState:
        """The node's clock, and for how long it has not advanced."""
        now_ns, monotonic_s = self._node.get_clock().now().nanoseconds, time.monotonic()
        if now_ns != self._clock_moved[0]:
            self._clock_moved = (now_ns, monotonic_s)
        sim_time = bool(self._node.get_parameter("use_sim_time").value)
        return ClockState(now_ns, monotonic_s, sim_time, monotonic_s - self._clock_moved[1])

    def _parameter(self, name: str) -> float:
        return float(self._node.get_parameter(name).value)
