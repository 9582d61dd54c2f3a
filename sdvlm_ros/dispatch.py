"""Dispatcher: creates a ticket for each request and queues it for a worker.

Chooses the camera and the frame that a request is about and the worker that runs it, while the node
is active; all cameras share the two workers. Does not know how replies are built, or the life cycle
that starts and stops it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from rclpy.node import Node

from sdvlm.msg import Asked
from sdvlm_core.answer import AnswerBy, answered_by
from sdvlm_core.answer import Asked as CoreAsked
from sdvlm_core.camera.decoding import serialized_frame_id
from sdvlm_core.camera.regions import regions_from_messages
from sdvlm_core.errors import ModelNotReadyError, QueryError, QueryTimeout
from sdvlm_core.frame import Region as CoreRegion
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair
from sdvlm_core.geometry.scene import Scene, open_scene
from sdvlm_ros import parameters
from sdvlm_ros.answering import QuestionRequest, QuestionTicket, Together
from sdvlm_ros.camera import Camera, named
from sdvlm_ros.first_frame import Waiter
from sdvlm_ros.frame_buffer import RawFrame
from sdvlm_ros.outputs import Outputs
from sdvlm_ros.parameters import MAX_FRAME_CHARS, Settings
from sdvlm_ros.questions import read_questions
from sdvlm_ros.requests import (
    FrameRequest,
    MeasuringRequest,
    NewestFrameRequest,
    VerifiableRequest,
    seconds,
)
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
from sdvlm_ros.worker import Gravity, Worker

if TYPE_CHECKING:
    from sdvlm_core.engine import SpatialEngine
    from sdvlm_core.session import FrameSession


OpenedT = TypeVar("OpenedT", bound=Opened)
RequestT = TypeVar("RequestT")


class Dispatcher:
    """Connects the services and the action to the workers.

    Args:
        node: the node whose parameters, clock and executor are used.
        why_not_ready: describes why the node does not accept requests.
        outputs: publish the measurements of the workers, by camera.
        gravity: looks up what is up, see `FrameDecoder`; used with the parameter gravity_frame.
        on_worker_end: called by the thread of a worker that has failed, with the exception.

    Attributes:
        cameras: those of the active node by name; empty = not active.
    """

    def __init__(
        self,
        node: Node,
        why_not_ready: Callable[[], str],
        outputs: Mapping[str, Outputs],
        gravity: Callable[[str, int], Gravity] | None = None,
        on_worker_end: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._node = node
        self._why_not_ready = why_not_ready
        self._outputs = outputs
        self._gravity, self._on_worker_end = gravity, on_worker_end
        self._model: Worker[FrameSession] | None = None
        self._geometry: Worker[Scene] | None = None
        self._stopping: list[Camera] = []
        self.cameras: dict[str, Camera] = {}

    def start(self, engine: SpatialEngine, settings: Settings) -> None:
        """Subscribe, and start the threads that own the model and the geometry."""
        cameras, on_end = self.cameras, self._on_worker_end
        for name in self._outputs:
            cameras[name] = Camera(self._node, name, settings, self._gravity, on_end)
        own = dict(cameras)

        def decode(raw: RawFrame) -> RgbdFrame:
            return own[raw.camera].decode(raw)

        together = Together(settings.max_rows)
        self._model = Worker(
            decode, engine.open, "sdvlm_model", settings.queue_size, on_end, together
        )
        # A separate thread, so that measuring does not wait for the model.
        self._geometry = Worker(
            decode,
            lambda frame, _: open_scene(frame),
            "sdvlm_geometry",
            settings.queue_size,
            on_end,
        )

    def cancel(self) -> None:
        """Unsubscribe and cancel all tickets, without waiting; may be called twice."""
        self._stopping += self.cameras.values()
        self.cameras.clear()
        for part in self._parts:
            part.cancel()

    def stop(self) -> None:
        """`cancel`, and end the threads; may be called twice, and after `cancel` on any thread."""
        self.cancel()
        for part in self._parts:
            part.close()
        for output in self._outputs.values():
            output.close()
        self._model = self._geometry = None
        self._stopping = []

    @property
    def active(self) -> bool:
        """Whether requests are accepted."""
        return bool(self.cameras)

    @property
    def alive(self) -> bool:
        """Whether every thread of the active node runs."""
        return all(part.alive for part in (*self._parts, *self.cameras.values()))

    @property
    def _parts(self) -> list[Worker[Any] | Camera]:
        workers = (self._model, self._geometry)
        return [*(worker for worker in workers if worker is not None), *self._stopping]

    def monitor(self) -> None:
        """Once a second, see `Camera.monitor`."""
        for camera in self.cameras.values():
            with suppress(ModelNotReadyError):  # a thread has ended: the node leaves this state
                camera.monitor()

    @property
    def waiting(self) -> int:
        """Tickets in the model's queue, or without a first frame."""
        queued = self._model.waiting if self._model is not None else 0
        return queued + sum(camera.waiting for camera in self.cameras.values())

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
        # First: that the node is not active is the most useful reason.
        camera = self._camera(request)
        work = QuestionRequest(
            *checked(self._node, request, words, typed),
            self._choice("sensor"),
            parameters.read_generation(self._node),
            self._outputs[camera.name].show_checks,
        )
        pick = camera.frame_source(request)
        return self._submit(camera, self._model, work, request, pick, arrived, on_progress)

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
        camera = self._camera(request)
        regions = self._regions(request, camera)
        if not regions:
            raise QueryError("no regions to measure")
        outputs = self._outputs[camera.name]

        def show(image: RgbdFrame, found: Sequence[Measured], pairs: Sequence[Pair]) -> None:
            outputs.show(image, found, pairs, names)

        work = RegionRequest(regions, self._choice("sensor"), request.points, show)
        pick = pick or camera.frame_source(request)
        if camera.has_depth:
            return self._submit(camera, self._geometry, work, request, pick, arrived)
        return self._submit(camera, self._model, work, request, pick, arrived)

    def hold_frame(self, request: NewestFrameRequest) -> Outcome[tuple[int, str]]:
        """Keep the newest frame for later questions; its stamp, nanoseconds, and frame_id.

        Waits for the first frame as a question does.

        Raises:
            SdvlmError: there is no frame, it is too old, or the node is not active.
        """
        camera = self._camera(request)
        max_age_s = seconds(request.max_age, "max_age")
        timeout_s = seconds(request.timeout, "timeout") or self._parameter("timeout")
        ended_at = time.monotonic() + timeout_s
        outcome: Outcome[tuple[int, str]] = Outcome(
            self._node, timeout_s, lambda: _overdue(waiter, timeout_s)
        )

        def hold(frame: RawFrame) -> None:
            camera.inputs.buffer.hold(frame)
            outcome.settle((frame.color.stamp_ns, serialized_frame_id(frame.color.data)))

        waiter = Waiter(
            lambda: camera.newest(max_age_s),
            hold,
            outcome.settle,
            lambda: time.monotonic() > ended_at,
        )
        camera.serve(waiter)
        return outcome

    def _camera(self, request: NewestFrameRequest) -> Camera:
        if not self.cameras:
            raise ModelNotReadyError(self._why_not_ready())
        return self.cameras[named(request.camera, [*self.cameras])]

    def _submit(
        self,
        camera: Camera,
        worker: Worker[OpenedT] | None,
        work: RequestT,
        request: FrameRequest,
        pick: Callable[[], RawFrame],
        arrived: float,
        on_progress: ProgressCallback | None = None,
    ) -> Ticket[RequestT, Any]:
        _check_target(request)
        assert worker is not None  # both exist while there are cameras
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
        camera.serve(waiter)
        return ticket

    def _regions(self, request: FrameRequest, camera: Camera) -> tuple[CoreRegion, ...]:
        limit = int(self._parameter("max_regions"))
        return regions_from_messages(request.regions, limit, camera.inputs.camera)

    def _parameter(self, name: str) -> float:
        return float(self._node.get_parameter(name).value)

    def _choice(self, name: str) -> str:
        return str(self._node.get_parameter(name).value)


def checked(
    node: Node, request: VerifiableRequest, words: Sequence[str], typed: Sequence[Asked] = ()
) -> tuple[tuple[str | CoreAsked, ...], tuple[CoreRegion, ...], AnswerBy]:
    """Questions, regions, and whose numbers answer: all of a request but its frame.

    Raises:
        QueryError: the request would be refused whatever the frame.
    """
    _check_target(request)
    settings = parameters.read(node)
    regions = regions_from_messages(
        request.regions, settings.max_regions, parameters.camera_settings(settings)
    )
    by = answered_by(AnswerBy(settings.answer_by), request.verify)
    if regions and by is AnswerBy.LANGUAGE:
        raise QueryError(
            "regions are used for verification only: set verify, or leave the regions out"
        )
    return read_questions(words, typed, [region.label for region in regions]), regions, by


def _check_target(request: FrameRequest) -> None:
    if len(request.target_frame) > MAX_FRAME_CHARS:
        raise QueryError(
            f"target_frame has {len(request.target_frame)} characters; at most "
            f"{MAX_FRAME_CHARS} are accepted"
        )


def _overdue(waiter: Waiter, timeout_s: float, waiting: int = 0) -> Exception:
    """The error of a request after its time limit: why there is no frame, or TIMEOUT."""
    if waiter.error is not None:
        return waiter.error
    return QueryTimeout(f"no answer within {timeout_s:g} s; {waiting} requests are waiting")
