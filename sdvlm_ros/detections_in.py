"""Measures a detector's boxes without a request: topic `detections` -> ~/detections_3d.

A detector publishes vision_msgs/Detection2DArray with the stamp of the image that it saw. The boxes
are measured on that very frame, as ~/measure_regions measures them, at most `detections_rate` times
a second: a message that is not yet measured is replaced by the next one. What is malformed is
refused, with a reason, and counted. Works only while somebody subscribes to the result. Does not
know how boxes are measured, or how results are published.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from sdvlm.msg import Region
from sdvlm.srv import MeasureRegions
from sdvlm_core.camera.decoding import serialized_frame_id
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.errors import (
    FrameError,
    ModelNotReadyError,
    ParameterError,
    QueryCanceled,
    QueryError,
    SdvlmError,
    shown,
)
from sdvlm_ros import screening
from sdvlm_ros.backend import Backend
from sdvlm_ros.conversions import message_class, read_serialized, region_message
from sdvlm_ros.frame_buffer import RawFrame
from sdvlm_ros.parameters import Settings
from sdvlm_ros.throttle import Throttle
from sdvlm_ros.ticket import sleep
from sdvlm_ros.vision_messages import (
    DETECTIONS_2D,
    Named,
    is_fit,
    missing_package,
    reasons_text,
    region_of,
)

TOPIC = "detections"
# The newest message is enough; a best-effort subscription also matches reliable publishers.
_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# How long an image may arrive after its detections, and the time between two looks for it, seconds.
_IMAGE_LATE_S, _POLL_S = 0.3, 0.01
# Time between two warnings, seconds.
_REMINDER_S = 5.0


class DetectionsIn:
    """The subscription of an active node, with the parameter measure_detections, for one camera.

    Args:
        camera: the camera that the detector sees; its name is before that of the topic.

    Raises:
        ParameterError: the parameter is set, and vision_msgs is not installed.
    """

    def __init__(self, node: Node, backend: Backend, camera: str = "") -> None:
        self._node, self._backend = node, backend
        self._camera, self._outputs = camera, backend.outputs[camera]
        self._topic = f"{camera}/{TOPIC}" if camera else TOPIC
        self._subscription: Any = None
        self._waiting: bytes | None = None
        self._serving = False
        self._due_s = 0.0
        self._messages = dict.fromkeys(("received", "measured", "dropped", "refused"), 0)
        self._objects = dict.fromkeys(("measured", "unfit", "refused"), 0)
        self._reason = ""
        self._warned = Throttle(_REMINDER_S)
        if node.get_parameter("measure_detections").value and (missing := missing_package()):
            raise ParameterError(f"measure_detections is true, but {missing}")

    def listen(self, settings: Settings) -> None:
        """Subscribe, if the parameter is set."""
        self.close()
        if settings.measure_detections:
            kind = message_class(DETECTIONS_2D)
            self._subscription = self._node.create_subscription(
                kind, self._topic, self._on_message, _QOS, raw=True
            )

    def close(self) -> None:
        """Unsubscribe; may be called twice."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._waiting = None

    def counted(self) -> Mapping[str, str]:
        """Counters since the node was started, for the diagnostics; empty = not subscribed."""
        if self._subscription is None:
            return {}
        messages = {f"detection messages {name}": n for name, n in self._messages.items()}
        objects = {f"detections {name}": n for name, n in self._objects.items()}
        counters = {name: str(number) for name, number in {**messages, **objects}.items()}
        return {**counters, "last refused detections": self._reason or "none"}

    def _on_message(self, data: bytes) -> None:
        self._messages["received"] += 1
        if not self._outputs.watched:
            return
        limit = int(self._node.get_parameter("max_regions").value)
        if reason := screening.detections_reason(data, limit):
            self._refuse(reason)
            return
        self._messages["dropped"] += self._waiting is not None
        self._waiting = data
        executor = self._node.executor
        if not self._serving and executor is not None:
            self._serving = True
            executor.create_task(self._serve)

    async def _serve(self) -> None:
        """Measure the waiting message, and what has replaced it when the next one is due."""
        try:
            while True:
                if (early_s := self._due_s - time.monotonic()) > 0:
                    await sleep(self._node, early_s)
                data, self._waiting = self._waiting, None
                if data is None:
                    return
                # A message that comes a little early waits; the mean rate is kept nevertheless.
                period_s = 1.0 / float(self._node.get_parameter("detections_rate").value)
                self._due_s = max(self._due_s, time.monotonic() - period_s) + period_s
                await self._measure(data)
        finally:
            self._serving = False

    async def _measure(self, data: bytes) -> None:
        """What this raised would end the executor, and with it the node."""
        try:
            found = await self._measured(data)
        except (QueryCanceled, ModelNotReadyError):
            return  # the node leaves the active state
        except SdvlmError as error:
            self._refuse(str(error))
        except Exception as error:  # noqa: BLE001 - reported; the next message is measured
            self._refuse(f"{type(error).__name__}: {error}")
            self._backend.tally.log_traceback(error)
        else:
            self._messages["measured"] += 1
            fit = sum(found)
            self._objects["measured"] += fit
            self._objects["unfit"] += len(found) - fit

    async def _measured(self, data: bytes) -> list[bool]:
        """Measure the detections of a message; whether each one is fit to act on."""
        kind = message_class(DETECTIONS_2D)
        array: Any = read_serialized(data, kind, "a message of detections", FrameError)
        regions: list[Region] = []
        names: list[Named] = []
        reasons: list[str] = []
        for detection in array.detections:
            try:
                region, named = region_of(detection, [one.label for one in regions])
            except ValueError as error:
                reasons.append(str(error))
                continue
            regions.append(region)
            names.append(named)
        self._objects["refused"] += len(reasons)
        if reasons and not regions:  # an empty result would say that nothing was detected
            raise QueryError(reasons_text(reasons, len(array.detections)))
        if reasons:
            self._warn(reasons_text(reasons, len(array.detections)))
        frame = await self._frame(nanoseconds(array.header.stamp), array.header.frame_id)
        if not regions:
            stamp_ns, frame_id = frame.color.stamp_ns, serialized_frame_id(frame.color.data)
            self._outputs.detections.show_none(stamp_ns, frame_id)
            return []
        request = MeasureRegions.Request(regions=regions, camera=self._camera)
        ticket = self._backend.dispatcher.measure(request, lambda: frame, names)
        (measured,) = await ticket.wait()
        return [is_fit(region_message(one)) for one in measured.found]

    async def _frame(self, stamp_ns: int, frame_id: str) -> RawFrame:
        """The frame of the detections: of exactly their stamp, or within sync_slop of it.

        Raises:
            FrameError: there is none.
            QueryError: the detections have no stamp, or are of another camera.
        """
        if not stamp_ns:
            raise QueryError("header.stamp of detections is 0: it must be that of their image")
        until = time.monotonic() + _IMAGE_LATE_S
        while True:
            frame = self._arrived(stamp_ns, time.monotonic() > until)
            if frame is not None:
                break
            await sleep(self._node, _POLL_S)
        own = serialized_frame_id(frame.color.data)
        if frame_id and frame_id != own:
            raise QueryError(
                f"the detections are of frame_id '{shown(frame_id)}', the images of "
                f"'{shown(own)}': remap `{self._topic}` to the detector of this camera"
            )
        return frame

    def _arrived(self, stamp_ns: int, last: bool) -> RawFrame | None:
        """The frame; None = its messages may still arrive, unless this is the last try."""
        camera = self._backend.dispatcher.cameras.get(self._camera)
        if camera is None:
            raise QueryCanceled("the node is not active any more")
        buffer = camera.inputs.buffer
        try:
            frame = buffer.find(stamp_ns)
        except FrameError as error:
            if last:
                raise FrameError(
                    f"{error}. A detector that is slower than the buffer needs a larger buffer_size"
                ) from error
            return None
        # A neighbour within the slop is taken only if the image itself has been lost.
        arriving = buffer.newest_stamp_ns < stamp_ns and not last
        return None if frame.color.stamp_ns != stamp_ns and arriving else frame

    def _refuse(self, reason: str) -> None:
        self._messages["refused"] += 1
        self._warn(f"a message of {self._topic} is refused: {shown(reason, 500)}")

    def _warn(self, text: str) -> None:
        self._reason = text
        if self._warned.allows(""):  # not rclpy's throttle: it is for all cameras together
            self._node.get_logger().warning(text)
