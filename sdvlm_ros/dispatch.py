"""Dispatcher: requests to the workers and their outcomes back, while the node is active.

Chooses the frame a request is about, queues its job, and keeps the executor free meanwhile; turns
refusals into error codes and keeps count. Does not know what is asked or how replies look; nor the
life cycle, which starts and stops it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from builtin_interfaces.msg import Duration, Time
from rclpy.node import Node

from sdvlm.srv import SpatialQuery
from sdvlm_core.camera.decoding import nanoseconds, regions_from_messages
from sdvlm_core.errors import (
    ErrorCode,
    ModelNotReadyError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
    SdvlmError,
    error_code,
)
from sdvlm_core.geometry.measure import open_scene
from sdvlm_core.model.prompt import check_question
from sdvlm_ros import parameters
from sdvlm_ros.frame_buffer import Input, RawFrame, check_age
from sdvlm_ros.parameters import Settings
from sdvlm_ros.promise import Promise
from sdvlm_ros.subscriptions import Inputs
from sdvlm_ros.tasks import Question
from sdvlm_ros.visualization import Visualization
from sdvlm_ros.worker import Job, Reply, Worker

if TYPE_CHECKING:
    from sdvlm_core.engine import SpatialEngine


class AboutAFrame(Protocol):
    """A request or goal that says which frame it is about, and how long it may take."""

    stamp: Time
    max_age: Duration
    timeout: Duration


class Pending:
    """A job on its way: await `outcome`, or have it end with `cancel`."""

    def __init__(self, job: Job, promise: Promise[Reply]) -> None:
        self._job = job
        self._promise = promise

    def cancel(self) -> None:
        """The caller gets QueryCanceled at once; the worker stops within one token."""
        self._job.cancel.set()
        self._promise.settle(QueryCanceled("canceled by the caller"))

    async def outcome(self) -> Reply:
        """The worker's reply; raises what was wrong instead."""
        try:
            return await self._promise.outcome()
        finally:
            self._job.cancel.set()  # nobody listens any more, however it ended


class Dispatcher:
    """The way from the services and the action to the workers.

    Args:
        node: whose parameters, clock and executor are used.
        why_not: says in words why there is no model at work.
        visualization: shows what the workers measure.

    Attributes:
        inputs: of the active node; None = not active.
        answered, canceled, failed: requests since the node was started.
        last_error: code and text of the last request that failed; "" = none has.
        pending: requests that have not been replied to.
    """

    def __init__(
        self, node: Node, why_not: Callable[[], str], visualization: Visualization
    ) -> None:
        self._node = node
        self._why_not = why_not
        self.visualization = visualization
        self._model: Worker | None = None
        self._geometry: Worker | None = None
        self.inputs: Inputs | None = None
        self.answered = self.canceled = self.failed = self.pending = 0
        self.last_error = ""

    def start(self, engine: SpatialEngine, settings: Settings) -> None:
        """Subscribe to the inputs, and start the threads that own the model and geometry."""
        self.inputs = inputs = Inputs(self._node, settings)
        size, types = settings.queue_size, (inputs.color_type, inputs.depth_type)
        self._model = Worker(engine.open, "sdvlm_model", size, *types)
        # Geometry does not wait for the model.
        self._geometry = Worker(open_scene, "sdvlm_geometry", size, *types)

    def stop(self) -> None:
        """Unsubscribe, cancel what waits or runs, end the threads; may be called twice."""
        if self.inputs is not None:
            self.inputs.close()
        for worker in (self._model, self._geometry):
            if worker is not None:
                worker.close()
        self.visualization.close()
        self._model = self._geometry = self.inputs = None

    @property
    def waiting(self) -> int:
        """Requests in the model's queue."""
        return self._model.waiting if self._model is not None else 0

    def question(self, text: str, regions: Any, verify: bool) -> Question:
        """A question of a request, with the generation parameters of this moment.

        Raises:
            ModelNotReadyError: the node is not active.
            QueryError: it cannot be asked.
        """
        self._active_inputs()  # first: without torch there are no generation parameters either
        given = regions_from_messages(regions)
        if given and not verify:
            raise QueryError("regions say what to verify by: set verify too, or leave them out")
        return Question(
            check_question(text),
            given,
            self._node.get_parameter("sensor").value if verify else None,
            parameters.read_generation(self._node),
            self.visualization.show_checks,
        )

    def ask(
        self,
        work: Callable[[Any, Job], Any],
        request: AboutAFrame,
        arrived: float,
        turn: Callable[[], None] = lambda: None,
    ) -> Pending:
        """Have the model's worker do `work` on the frame that the request is about.

        Args:
            arrived: `time.monotonic()` of the request.
            turn: called by the worker's thread when the request is no longer waiting.

        Raises:
            SdvlmError: there is no such frame, no room in the queue, or the node is not active.
        """
        return self._submit(self._model, work, request, arrived, turn)

    def measure(
        self, work: Callable[[Any, Job], Any], request: AboutAFrame, arrived: float
    ) -> Pending:
        """As `ask`, by the worker for geometry; by the model's where that estimates the depth."""
        if Input.DEPTH in self._active_inputs().buffer.inputs:
            return self._submit(self._geometry, work, request, arrived, lambda: None)
        return self.ask(lambda session, job: work(open_scene(session.frame), job), request, arrived)

    def hold_frame(self) -> int:
        """Keep the newest frame for later questions; its stamp, nanoseconds.

        Raises:
            SdvlmError: there is no frame, it is too old, or the node is not active.
        """
        buffer = self._active_inputs().buffer
        frame = buffer.newest()
        self._check_age(frame, self._parameter("max_age"))
        buffer.hold(frame)
        return frame.color.stamp_ns

    @contextmanager
    def replying(self) -> Iterator[None]:
        """Around a request that will be replied to."""
        self.pending += 1
        try:
            yield
        finally:
            self.pending -= 1

    def refused(self, response: Any, error: Exception) -> Any:
        """The response or result with the code and the text of what went wrong."""
        response.error_code = int(error_code(error))
        response.error_msg = str(error) or type(error).__name__
        if isinstance(error, QueryCanceled):  # as somebody wished
            self.canceled += 1
            return response
        self.failed += 1
        self.last_error = f"{ErrorCode(response.error_code).name}: {response.error_msg}"
        logger = self._node.get_logger()
        # A planner that asks in a loop must not fill the log.
        logger.warning(f"request refused, {self.last_error}", throttle_duration_sec=1.0)
        if response.error_code == SpatialQuery.Response.UNKNOWN:
            logger.error("".join(traceback.format_exception(error)))
        return response

    def _active_inputs(self) -> Inputs:
        if self.inputs is None:
            raise ModelNotReadyError(self._why_not())
        return self.inputs

    def _submit(
        self,
        worker: Worker | None,
        work: Callable[[Any, Job], Any],
        request: AboutAFrame,
        arrived: float,
        turn: Callable[[], None],
    ) -> Pending:
        frame = self._frame(request)
        assert worker is not None  # as there are inputs
        timeout = _seconds(request.timeout, "timeout") or self._parameter("timeout")
        promise: Promise[Reply] = Promise(
            self._node,
            timeout,
            lambda: QueryTimeout(f"no answer within {timeout:g} s; {worker.waiting} are waiting"),
        )
        job = Job(work, frame, arrived + timeout, arrived, promise.settle, turn=turn)
        try:
            worker.submit(job)
        except SdvlmError as refusal:
            promise.settle(refusal)
        return Pending(job, promise)

    def _frame(self, request: AboutAFrame) -> RawFrame:
        buffer = self._active_inputs().buffer
        max_age = _seconds(request.max_age, "max_age")
        stamp_ns = nanoseconds(request.stamp)
        frame = buffer.at(stamp_ns) if stamp_ns else buffer.newest()
        # Whoever names a stamp knows how old it is.
        if max_age or not stamp_ns:
            self._check_age(frame, max_age or self._parameter("max_age"))
        return frame

    def _check_age(self, frame: RawFrame, limit: float) -> None:
        check_age(frame, self._node.get_clock().now().nanoseconds, round(limit * 1e9))

    def _parameter(self, name: str) -> float:
        return float(self._node.get_parameter(name).value)


def _seconds(duration: Duration, name: str) -> float:
    """A Duration of a request -> seconds; 0 = not given."""
    seconds = nanoseconds(duration) / 1e9
    if seconds < 0:
        raise QueryError(f"{name} is {seconds:g} s; it must not be negative")
    return seconds
