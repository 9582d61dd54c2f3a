"""Dispatcher: creates a ticket for each request and queues it for a worker.

Chooses the frame that a request is about and the worker that runs it, while the node is active. One
rule decides whether a frame is fresh, for requests and for the diagnostics. Does not know how
replies are built, or the life cycle that starts and stops it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rclpy.node import Node

from sdvlm.msg import Asked
from sdvlm_core.answer import AnswerBy, SpatialAnswer, answered_by
from sdvlm_core.camera.decoding import serialized_frame_id
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.camera.pairing import Input
from sdvlm_core.camera.regions import regions_from_messages
from sdvlm_core.errors import (
    FrameError,
    ModelNotReadyError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
)
from sdvlm_core.frame import Region as CoreRegion
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair
from sdvlm_core.geometry.scene import Scene, open_scene
from sdvlm_ros import parameters
from sdvlm_ros.answering import QuestionRequest, QuestionTicket, Together
from sdvlm_ros.detections_out import DetectionsOut
from sdvlm_ros.first_frame import FirstFrame, Waiter
from sdvlm_ros.frame_buffer import ClockState, RawFrame, check_age
from sdvlm_ros.inspection import Finding, Inspection
from sdvlm_ros.parameters import MAX_FRAME_CHARS, Settings
from sdvlm_ros.questions import read_questions
from sdvlm_ros.requests import (
    FrameRequest,
    MeasuringRequest,
    NewestFrameRequest,
    VerifiableRequest,
    seconds,
)
from sdvlm_ros.subscriptions import Subscriptions
from sdvlm_ros.ticket import (
    Opened,
    Outcome,
    ProgressCallback,
    RegionMeasurements,
    RegionRequest,
    Stage,
    Ticket,
)
from sdvlm_ros.vision_messages import Named
from sdvlm_ros.visualization import Visualization
from sdvlm_ros.worker import FrameDecoder, Gravity, Worker

if TYPE_CHECKING:
    from sdvlm_core.engine import SpatialEngine
    from sdvlm_core.session import FrameSession
    from sdvlm_core.verification import Check


OpenedT = TypeVar("OpenedT", bound=Opened)
RequestT = TypeVar("RequestT")


class Dispatcher:
    """Connects the services and the action to the workers.

    Args:
        node: the node whose parameters, clock and executor are used.
        why_not_ready: describes why the node does not accept requests.
        visualization, detections: publish the measurements of the workers.
        gravity: looks up what is up, see `FrameDecoder`; used with the parameter gravity_frame.
        on_worker_end: called by the thread of a worker that has failed, with the exception.

    Attributes:
        subscriptions: subscriptions of the active node; None = not active.
    """

    def __init__(
        self,
        node: Node,
        why_not_ready: Callable[[], str],
        visualization: Visualization,
        detections: DetectionsOut,
        gravity: Callable[[str, int], Gravity] | None = None,
        on_worker_end: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._node = node
        self._why_not_ready = why_not_ready
        self._visualization, self._detections = visualization, detections
        self._gravity, self._on_worker_end = gravity, on_worker_end
        self._model: Worker[FrameSession] | None = None
        self._geometry: Worker[Scene] | None = None
        self._inspection: Inspection | None = None
        self._first_frame: FirstFrame | None = None
        self._clock_moved = (0, time.monotonic())
        self.subscriptions: Subscriptions | None = None

    def start(self, engine: SpatialEngine, settings: Settings) -> None:
        """Subscribe, and start the threads that own the model and the geometry."""
        inputs = self.subscriptions = Subscriptions(self._node, settings, self._on_message)
        decode = FrameDecoder(
            inputs.color_type,
            inputs.depth_type,
            inputs.camera,
            color_topic=inputs.topic(Input.COLOR),
            depth_topic=inputs.topic(Input.DEPTH),
            depth_info=lambda: inputs.depth_info,
            gravity=self._gravity if settings.gravity_frame else None,
        ).decode
        capacity, on_end = settings.queue_size, self._on_worker_end
        self._first_frame = FirstFrame(inputs.frame_expected, capacity)
        together = Together(settings.max_rows)
        self._model = Worker(decode, engine.open, "sdvlm_model", capacity, on_end, together)
        # A separate thread, so that measuring does not wait for the model.
        self._geometry = Worker(
            decode, lambda frame, _: open_scene(frame), "sdvlm_geometry", capacity, on_end
        )
        self._inspection = Inspection(self._node, decode, on_end)

    def cancel(self) -> None:
        """Unsubscribe and cancel all tickets, without waiting; may be called twice."""
        if self._first_frame is not None:
            self._first_frame.close(QueryCanceled("canceled before the first frame"))
        if self.subscriptions is not None:
            self.subscriptions.close()
        self._first_frame = self.subscriptions = None
        for part in self._parts:
            part.cancel()

    def stop(self) -> None:
        """`cancel`, and end the threads; may be called twice, and after `cancel` on any thread."""
        self.cancel()
        for part in self._parts:
            part.close()
        self._visualization.close()
        self._model = self._geometry = self._inspection = None

    @property
    def alive(self) -> bool:
        """Whether every thread of the active node runs."""
        return all(part.alive for part in self._parts)

    @property
    def _parts(self) -> list[Worker[Any] | Inspection]:
        return list(filter(None, (self._model, self._geometry, self._inspection)))

    def refusal(self) -> str:
        """Why a question about the newest frame would be refused now; "" = it would be answered."""
        if self.subscriptions is None:
            return self._why_not_ready()
        try:
            frame = self.subscriptions.buffer.peek()
            self._check_age(frame, self._parameter("max_age"))
        except FrameError as error:
            return str(error)
        return self.finding().refusal

    def finding(self) -> Finding:
        """The cautions of the last inspected frame, or why it is refused."""
        return self._inspection.finding if self._inspection is not None else Finding()

    def monitor(self) -> None:
        """Once a second: inspect the newest frame, and refuse who waits in vain for the first."""
        self._clock_state()
        if self._inspection is None or self._first_frame is None or self.subscriptions is None:
            return
        self.subscriptions.look_for_latched_info()
        self._first_frame.poll()
        try:
            self._inspection.inspect(self.subscriptions.buffer.peek())
        except (FrameError, ModelNotReadyError):
            return  # `refusal` reports it

    @property
    def watched(self) -> bool:
        """Whether somebody subscribes to measured objects."""
        return self._visualization.wanted or self._detections.wanted

    @property
    def waiting(self) -> int:
        """Tickets in the model's queue, or without a first frame."""
        queued = self._model.waiting if self._model is not None else 0
        return queued + (len(self._first_frame) if self._first_frame is not None else 0)

    def ask(
        self,
        request: VerifiableRequest,
        words: Sequence[str],
        typed: Sequence[Asked] = (),
        on_progress: ProgressCallback | None = None,
    ) -> QuestionTicket:
        """A ticket for questions about one frame, queued for the model.

        Args:
            words, typed: the questions in one of the two forms; the other is empty.
            on_progress: called from the worker's thread; None = the text is not streamed.

        Raises:
            SdvlmError: a question is invalid, there is no such frame, the queue is full, or the
                node is not active.
        """
        arrived = time.monotonic()
        self._active_subscriptions()  # checked first: an inactive node is the most useful reason
        regions = self._regions(request)
        by = answered_by(AnswerBy(self._choice("answer_by")), request.verify)
        if regions and by is AnswerBy.LANGUAGE:
            raise QueryError(
                "regions are used for verification only: set verify, or leave the regions out"
            )
        work = QuestionRequest(
            read_questions(words, typed, [region.label for region in regions]),
            regions,
            by,
            self._choice("sensor"),
            parameters.read_generation(self._node),
            self._show_checks,
        )
        pick = self._frame_source(request)
        return self._submit(self._model, work, request, pick, arrived, on_progress)

    def _show_checks(
        self, frame: RgbdFrame, answer: SpatialAnswer, checks: Sequence[Check]
    ) -> None:
        self._visualization.show_checks(frame, checks)
        self._detections.show_checks(frame, answer, checks)

    def measure(
        self,
        request: MeasuringRequest,
        pick: Callable[[], RawFrame] | None = None,
        names: Sequence[Named] | None = None,
    ) -> Ticket[RegionRequest, RegionMeasurements]:
        """A ticket for measuring regions, queued for the geometry.

        If depth is estimated, the model's worker measures, because it has the estimated depth.

        Args:
            pick: finds the frame to measure; None = the one that the request names.
            names: what ~/detections_3d calls the objects; None = by their labels.

        Raises:
            SdvlmError: a region is invalid, there is no such frame, the queue is full, or the node
                is not active.
        """
        arrived = time.monotonic()
        subscriptions = self._active_subscriptions()
        regions = self._regions(request)
        if not regions:
            raise QueryError("no regions to measure")

        def show(image: RgbdFrame, found: Sequence[Measured], pairs: Sequence[Pair]) -> None:
            self._visualization.show(image, found, pairs)
            self._detections.show(image, found, names)

        work = RegionRequest(regions, self._choice("sensor"), request.points, show)
        pick = pick or self._frame_source(request)
        if Input.DEPTH in subscriptions.buffer.inputs:
            return self._submit(self._geometry, work, request, pick, arrived)
        return self._submit(self._model, work, request, pick, arrived)

    def hold_frame(self, request: NewestFrameRequest) -> Outcome[tuple[int, str]]:
        """Keep the newest frame for later questions; its stamp, nanoseconds, and frame_id.

        Waits for the first frame as a question does.

        Raises:
            SdvlmError: there is no frame, it is too old, or the node is not active.
        """
        buffer = self._active_subscriptions().buffer
        max_age_s = seconds(request.max_age, "max_age") or self._parameter("max_age")
        timeout_s = seconds(request.timeout, "timeout") or self._parameter("timeout")
        ended_at = time.monotonic() + timeout_s
        outcome: Outcome[tuple[int, str]] = Outcome(
            self._node, timeout_s, lambda: _overdue(waiter, timeout_s)
        )

        def hold(frame: RawFrame) -> None:
            buffer.hold(frame)
            outcome.settle((frame.color.stamp_ns, serialized_frame_id(frame.color.data)))

        waiter = Waiter(
            lambda: self._newest(max_age_s),
            hold,
            outcome.settle,
            lambda: time.monotonic() > ended_at,
        )
        self._serve(waiter)
        return outcome

    def _active_subscriptions(self) -> Subscriptions:
        if self.subscriptions is None:
            raise ModelNotReadyError(self._why_not_ready())
        return self.subscriptions

    def _submit(
        self,
        worker: Worker[OpenedT] | None,
        work: RequestT,
        request: FrameRequest,
        pick: Callable[[], RawFrame],
        arrived: float,
        on_progress: ProgressCallback | None = None,
    ) -> Ticket[RequestT, Any]:
        if len(request.target_frame) > MAX_FRAME_CHARS:
            raise QueryError(
                f"target_frame has {len(request.target_frame)} characters; at most "
                f"{MAX_FRAME_CHARS} are accepted"
            )
        assert worker is not None  # both exist while there are subscriptions
        queue = worker
        timeout_s = seconds(request.timeout, "timeout") or self._parameter("timeout")
        outcome: Outcome[None] = Outcome(
            self._node, timeout_s, lambda: _overdue(waiter, timeout_s, queue.waiting)
        )
        ticket: Ticket[RequestT, Any] = Ticket(
            work, None, arrived, arrived + timeout_s, outcome, on_progress
        )

        def submit(frame: RawFrame) -> None:
            ticket.frame = frame
            queue.submit(ticket)

        waiter = Waiter(pick, submit, ticket.finish, ticket.canceled.is_set)
        ticket.report(Stage.WAITING, 0, "")
        self._serve(waiter)
        return ticket

    def _serve(self, waiter: Waiter) -> None:
        assert self._first_frame is not None  # it exists while there are subscriptions
        self._first_frame.serve(waiter)

    def _on_message(self) -> None:
        if self._first_frame:
            self._first_frame.poll()

    def _frame_source(self, request: FrameRequest) -> Callable[[], RawFrame]:
        """Finds the frame of a request; only the newest frame is worth waiting for."""
        max_age = seconds(request.max_age, "max_age")
        stamp_ns = nanoseconds(request.stamp)
        if not stamp_ns:
            return lambda: self._newest(max_age or self._parameter("max_age"))
        frame = self._active_subscriptions().buffer.at(stamp_ns)
        # A caller that requests a stamp accepts the age of that frame.
        if max_age:
            self._check_age(frame, max_age)
        return lambda: frame

    def _newest(self, max_age_s: float) -> RawFrame:
        frame = self._active_subscriptions().buffer.newest()
        self._check_age(frame, max_age_s)
        return frame

    def _check_age(self, frame: RawFrame, limit_s: float) -> None:
        check_age(frame, self._clock_state(), round(limit_s * 1e9))

    def _clock_state(self) -> ClockState:
        """The node's clock, and for how long it has not advanced."""
        now_ns, monotonic_s = self._node.get_clock().now().nanoseconds, time.monotonic()
        if now_ns != self._clock_moved[0]:
            self._clock_moved = (now_ns, monotonic_s)
        sim_time = bool(self._node.get_parameter("use_sim_time").value)
        return ClockState(now_ns, monotonic_s, sim_time, monotonic_s - self._clock_moved[1])

    def _regions(self, request: FrameRequest) -> tuple[CoreRegion, ...]:
        settings = self._active_subscriptions().camera
        limit = int(self._parameter("max_regions"))
        return regions_from_messages(request.regions, limit, settings)

    def _parameter(self, name: str) -> float:
        return float(self._node.get_parameter(name).value)

    def _choice(self, name: str) -> str:
        return str(self._node.get_parameter(name).value)


def _overdue(waiter: Waiter, timeout_s: float, waiting: int = 0) -> Exception:
    """The error of a request after its time limit: why there is no frame, or TIMEOUT."""
    if waiter.error is not None:
        return waiter.error
    return QueryTimeout(f"no answer within {timeout_s:g} s; {waiting} requests are waiting")
