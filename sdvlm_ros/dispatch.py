"""Dispatcher: creates a ticket for each request, queues it for a worker, and counts the outcomes.

Chooses the frame that a request is about and the worker that runs it, while the node is active;
turns exceptions into error codes. Does not know how replies are built, or the life cycle that
starts and stops it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from builtin_interfaces.msg import Duration, Time
from rclpy.node import Node

from sdvlm.msg import Region
from sdvlm.srv import SpatialQuery
from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.camera.pairing import Input
from sdvlm_core.camera.regions import regions_from_messages
from sdvlm_core.errors import (
    ErrorCode,
    ModelNotReadyError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
    error_code,
)
from sdvlm_core.geometry.scene import Scene, open_scene
from sdvlm_core.model.prompt import check_question
from sdvlm_ros import parameters
from sdvlm_ros.frame_buffer import RawFrame, check_age
from sdvlm_ros.parameters import Settings
from sdvlm_ros.publishers import Publishers
from sdvlm_ros.subscriptions import Subscriptions
from sdvlm_ros.ticket import (
    Opened,
    Outcome,
    ProgressCallback,
    QuestionRequest,
    RegionMeasurements,
    RegionRequest,
    Request,
    Stage,
    Ticket,
)
from sdvlm_ros.transforms import Transforms
from sdvlm_ros.visualization import Visualization
from sdvlm_ros.worker import FrameDecoder, Worker

if TYPE_CHECKING:
    from sdvlm_core.engine import FrameSession, SpatialEngine


class FrameRequest(Protocol):
    """The fields of a request or goal that name its frame and its time limit."""

    stamp: Time
    max_age: Duration
    timeout: Duration
    regions: Sequence[Region]


class VerifiableRequest(FrameRequest, Protocol):
    """The fields of a request or goal whose answers may be verified."""

    verify: bool


class Reply(Protocol):
    """The fields of a response or result that report an error."""

    error_code: int
    error_msg: str


OpenedT = TypeVar("OpenedT", bound=Opened)
ResultT = TypeVar("ResultT")
ReplyT = TypeVar("ReplyT", bound=Reply)


class Dispatcher:
    """Connects the services and the action to the workers.

    Args:
        node: the node whose parameters, clock and executor are used.
        why_not_ready: describes why the node does not accept requests.
        visualization: draws the measurements of the workers.

    Attributes:
        subscriptions: subscriptions of the active node; None = not active.
        answered, canceled, failed: requests since the node was started.
        in_flight: requests without a reply.
        last_error: code and text of the last request that failed; "" = none.
    """

    def __init__(
        self, node: Node, why_not_ready: Callable[[], str], visualization: Visualization
    ) -> None:
        self._node = node
        self._why_not_ready = why_not_ready
        self._visualization = visualization
        self._model: Worker[FrameSession] | None = None
        self._geometry: Worker[Scene] | None = None
        self.subscriptions: Subscriptions | None = None
        self.answered = self.canceled = self.failed = self.in_flight = 0
        self.last_error = ""

    def start(self, engine: SpatialEngine, settings: Settings) -> None:
        """Subscribe, and start the threads that own the model and the geometry."""
        self.subscriptions = Subscriptions(self._node, settings)
        decode = FrameDecoder(self.subscriptions.color_type, self.subscriptions.depth_type).decode
        capacity = settings.queue_size
        self._model = Worker(decode, engine.open, "sdvlm_model", capacity)
        # A separate thread, so that measuring does not wait for the model.
        self._geometry = Worker(
            decode, lambda frame, _: open_scene(frame), "sdvlm_geometry", capacity
        )

    def stop(self) -> None:
        """Unsubscribe, cancel all tickets, end the threads; may be called twice."""
        if self.subscriptions is not None:
            self.subscriptions.close()
        for worker in (self._model, self._geometry):
            if worker is not None:
                worker.close()
        self._visualization.close()
        self._model = self._geometry = self.subscriptions = None

    @property
    def waiting(self) -> int:
        """Tickets in the model's queue."""
        return self._model.waiting if self._model is not None else 0

    def ask(
        self,
        request: VerifiableRequest,
        questions: Sequence[str],
        on_progress: ProgressCallback | None = None,
    ) -> Ticket[FrameSession, SpatialAnswer]:
        """A ticket for questions about one frame, queued for the model.

        Args:
            on_progress: called from the worker's thread; None = the text is not streamed.

        Raises:
            SdvlmError: a question is invalid, there is no such frame, the queue is full, or the
                node is not active.
        """
        arrived = time.monotonic()
        self._active_subscriptions()  # checked first: an inactive node is the most useful reason
        regions = regions_from_messages(request.regions)
        if regions and not request.verify:
            raise QueryError(
                "regions are used for verification only: set verify, or leave the regions out"
            )
        work = QuestionRequest(
            tuple(check_question(question) for question in questions),
            regions,
            self._sensor() if request.verify else None,
            parameters.read_generation(self._node),
            self._visualization.show_checks,
        )
        return self._submit(self._model, work, request, arrived, on_progress)

    def measure(self, request: FrameRequest) -> Ticket[Opened, RegionMeasurements]:
        """A ticket for measuring regions, queued for the geometry.

        If depth is estimated, the model's worker measures, because it has the estimated depth.

        Raises:
            SdvlmError: a region is invalid, there is no such frame, the queue is full, or the node
                is not active.
        """
        arrived = time.monotonic()
        subscriptions = self._active_subscriptions()
        regions = regions_from_messages(request.regions)
        if not regions:
            raise QueryError("no regions to measure")
        work = RegionRequest(regions, self._sensor(), self._visualization.show)
        if Input.DEPTH in subscriptions.buffer.inputs:
            return self._submit(self._geometry, work, request, arrived)
        return self._submit(self._model, work, request, arrived)

    def hold_frame(self) -> int:
        """Keep the newest frame for later questions; its stamp, nanoseconds.

        Raises:
            SdvlmError: there is no frame, it is too old, or the node is not active.
        """
        buffer = self._active_subscriptions().buffer
        frame = buffer.newest()
        self._check_age(frame, self._parameter("max_age"))
        buffer.hold(frame)
        return frame.color.stamp_ns

    @contextmanager
    def request_in_flight(self) -> Iterator[None]:
        """Count a request as in flight until its reply is complete."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def count_answers(self, number: int) -> None:
        """Count answers that are being delivered."""
        self.answered += number

    def refuse(self, reply: ReplyT, error: Exception) -> ReplyT:
        """Write the error's code and text into the reply, log it, and count it."""
        reply.error_code = int(error_code(error))
        reply.error_msg = str(error) or type(error).__name__
        if isinstance(error, QueryCanceled):
            self.canceled += 1
            return reply
        self.failed += 1
        self.last_error = f"{ErrorCode(reply.error_code).name}: {reply.error_msg}"
        logger = self._node.get_logger()
        # Throttled: a planner may ask in a loop.
        logger.warning(f"request refused, {self.last_error}", throttle_duration_sec=1.0)
        if reply.error_code == SpatialQuery.Response.UNKNOWN:
            logger.error("".join(traceback.format_exception(error)))
        return reply

    def _active_subscriptions(self) -> Subscriptions:
        if self.subscriptions is None:
            raise ModelNotReadyError(self._why_not_ready())
        return self.subscriptions

    def _submit(
        self,
        worker: Worker[OpenedT] | None,
        work: Request[OpenedT, ResultT],
        request: FrameRequest,
        arrived: float,
        on_progress: ProgressCallback | None = None,
    ) -> Ticket[OpenedT, ResultT]:
        frame = self._frame(request)
        assert worker is not None  # both exist while there are subscriptions
        queue = worker
        timeout_s = _seconds(request.timeout, "timeout") or self._parameter("timeout")
        outcome: Outcome[None] = Outcome(
            self._node,
            timeout_s,
            lambda: QueryTimeout(
                f"no answer within {timeout_s:g} s; {queue.waiting} requests are waiting"
            ),
        )
        ticket = Ticket(work, frame, arrived, arrived + timeout_s, outcome, on_progress)
        ticket.report(Stage.WAITING, 0, "")
        worker.submit(ticket)
        return ticket

    def _frame(self, request: FrameRequest) -> RawFrame:
        buffer = self._active_subscriptions().buffer
        max_age = _seconds(request.max_age, "max_age")
        stamp_ns = nanoseconds(request.stamp)
        frame = buffer.at(stamp_ns) if stamp_ns else buffer.newest()
        # A caller that requests a stamp accepts the age of that frame.
        if max_age or not stamp_ns:
            self._check_age(frame, max_age or self._parameter("max_age"))
        return frame

    def _check_age(self, frame: RawFrame, limit_s: float) -> None:
        check_age(frame, self._node.get_clock().now().nanoseconds, round(limit_s * 1e9))

    def _parameter(self, name: str) -> float:
        return float(self._node.get_parameter(name).value)

    def _sensor(self) -> str:
        return str(self._node.get_parameter("sensor").value)


@dataclass(frozen=True, eq=False)
class Backend:
    """The parts of a node that its services and its action share."""

    dispatcher: Dispatcher
    publishers: Publishers
    transforms: Transforms


def _seconds(duration: Duration, name: str) -> float:
    """A Duration of a request -> seconds; 0 = not given."""
    seconds = nanoseconds(duration) / 1e9
    if seconds < 0:
        raise QueryError(f"{name} is {seconds:g} s; it must not be negative")
    return seconds
