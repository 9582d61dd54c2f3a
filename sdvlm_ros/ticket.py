"""Ticket: one request, from the service callback to the reply; can be canceled at any time.

A ticket holds the request (questions, `answering`, or regions), the frame it is about, its deadline
and its outcome. It records how long the request waited and how long opening its frame took. A
worker's thread runs it; the callback that made it awaits it. Does not know how frames are found,
decoded or queued, and does not know messages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future

from sdvlm_core.camera.rectification import rectified_regions
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import QueryCanceled, QueryTimeout
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.measure import measure_in, object_points
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair
from sdvlm_core.geometry.scene import open_scene
from sdvlm_ros.frame_buffer import RawFrame

#: Largest number of points in one response, as srv/MeasureRegions has it; 2.4 MB.
MAX_POINTS = 200_000


class Opened(Protocol):
    """A frame that is ready for requests: a FrameSession or a Scene."""

    @property
    def frame(self) -> RgbdFrame: ...


T = TypeVar("T")
OpenedT_contra = TypeVar("OpenedT_contra", bound=Opened, contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)
RequestT_co = TypeVar("RequestT_co", covariant=True)


@dataclass(frozen=True)
class RegionMeasurements:
    """Objects of all regions, every pair of them, and the frame's cautions.

    `points` has (N, 3) float32 of each object, optical frame, metres; empty = not requested.
    """

    found: tuple[Measured, ...]
    pairs: tuple[Pair, ...]
    cautions: tuple[Caution, ...]
    points: tuple[npt.NDArray[np.float32], ...] = ()


class Stage(IntEnum):
    """Progress of a ticket; the numbers are those of action/SpatialReasoning."""

    WAITING = 0
    ENCODING = 1
    ANSWERING = 2
    VERIFYING = 3


#: Called with the stage, the index of the question, and the text of its answer so far.
ProgressCallback = Callable[[Stage, int, str], None]


class Outcome(Generic[T]):
    """A result that any thread delivers and one callback awaits; the first result wins.

    Args:
        node: the node whose executor runs the waiting callback. It is never blocked.
        timeout_s: real time, from `wait` on, after which `on_timeout` makes the exception; None =
            no time limit.
    """

    def __init__(
        self,
        node: Node,
        timeout_s: float | None = None,
        on_timeout: Callable[[], Exception] = QueryTimeout,
    ) -> None:
        self._node = node
        self._timeout_s = timeout_s
        self._on_timeout = on_timeout
        self._lock = threading.Lock()
        self._future: Future[tuple[T | Exception]] = Future(executor=node.executor)

    def settle(self, result: T | Exception) -> None:
        """Deliver the result or an exception, from any thread; later results are ignored."""
        with self._lock:
            if self._future.done():
                return
            self._future.set_result((result,))
            # It may refer to the request and its frame, and they to this outcome: a cycle keeps
            # megabytes until the garbage collector runs.
            self._on_timeout = QueryTimeout
        executor = self._node.executor
        if executor is not None:
            executor.wake()

    async def wait(self) -> T:
        """The result; raises the exception that was delivered instead."""
        timer = None
        if self._timeout_s is not None:
            timer = self._node.create_timer(
                max(self._timeout_s, 0.0),
                lambda: self.settle(self._on_timeout()),
                callback_group=ReentrantCallbackGroup(),
                clock=Clock(clock_type=ClockType.STEADY_TIME),
            )
        try:
            settled = await self._future
        finally:
            if timer is not None:
                self._node.destroy_timer(timer)
        if settled is None:
            raise QueryCanceled("the executor was shut down")
        (result,) = settled
        if isinstance(result, Exception):
            raise result
        return result


async def sleep(node: Node, seconds: float) -> None:
    """Wait without blocking the executor of the node."""
    with suppress(TimeoutError):
        await Outcome[None](node, seconds, TimeoutError).wait()


class Control:
    """Limits, timings and progress of a running request.

    Args:
        arrived, deadline: `time.monotonic()` seconds.
        on_progress: called from the worker's thread; None = the answer's text is not streamed.

    Attributes:
        canceled: set = the request stops before its next token.
        queue_s, open_s: seconds in the queue and seconds to open the frame (about 0 = the frame
            was already open), set when they have passed.
    """

    def __init__(
        self, arrived: float, deadline: float, on_progress: ProgressCallback | None
    ) -> None:
        self.arrived, self.deadline = arrived, deadline
        self.canceled = threading.Event()
        self.queue_s = self.open_s = 0.0
        self.on_progress = on_progress

    def report(self, stage: Stage, index: int, text: str) -> None:
        """Report progress if there is a progress callback."""
        if self.on_progress is not None:
            self.on_progress(stage, index, text)


class Request(Protocol[OpenedT_contra, ResultT_co]):
    """A request about a frame that runs alone."""

    def run(self, opened: OpenedT_contra, control: Control) -> Iterator[ResultT_co]:
        """The results, one after the other; observes the deadline and the cancellation."""


class Ticket(Control, Generic[RequestT_co, ResultT_co]):
    """One request about one frame; see `Control` for its limits and timings.

    Args:
        request: what is wanted of the frame.
        frame: the undecoded frame; None = not known yet, it is set before the ticket is queued.
        outcome: settled when the ticket ends: None, or the exception that ended it.

    Attributes:
        results: the complete results, also if the ticket was canceled or failed later.
        stamp_ns, frame_id: stamp and frame_id of the image; set when the frame is opened.
    """

    def __init__(
        self,
        request: RequestT_co,
        frame: RawFrame | None,
        arrived: float,
        deadline: float,
        outcome: Outcome[None],
        on_progress: ProgressCallback | None = None,
    ) -> None:
        super().__init__(arrived, deadline, on_progress)
        self.frame = frame
        self.results: list[ResultT_co] = []
        self.stamp_ns, self.frame_id = 0, ""
        self.request = request
        self._outcome = outcome
        self._started = arrived

    @property
    def camera(self) -> str:
        """Name of the camera of the frame; "" also while the frame is not known."""
        return self.frame.camera if self.frame is not None else ""

    # The callback that made the ticket.

    def cancel(self) -> None:
        """End the wait with QueryCanceled at once; the worker stops within one token."""
        self.canceled.set()
        self._outcome.settle(QueryCanceled("canceled by the caller"))

    async def wait(self) -> Sequence[ResultT_co]:
        """The results. Raises the exception that ended the ticket; `results` keeps earlier ones."""
        try:
            await self._outcome.wait()
        finally:
            self.canceled.set()  # after a timeout the worker must stop too
        return self.results

    def elapsed_s(self) -> float:
        """Seconds since the request arrived."""
        return time.monotonic() - self.arrived

    # The worker.

    def start(self) -> None:
        """The request has left the queue.

        Raises:
            QueryCanceled, QueryTimeout: the request must not run any more.
        """
        self._started = time.monotonic()
        self.queue_s = self._started - self.arrived
        if self.canceled.is_set():
            raise QueryCanceled("canceled before it was answered")
        if self._started > self.deadline:
            raise QueryTimeout("the deadline passed while the request was waiting")
        self.report(Stage.ENCODING, 0, "")

    def begin(self, opened: Opened) -> None:
        """Its frame is opened: the request runs from now on."""
        self.open_s = time.monotonic() - self._started
        self.stamp_ns, self.frame_id = opened.frame.stamp_ns, opened.frame.frame_id

    def finish(self, error: Exception | None = None) -> None:
        """End the ticket, from any thread; after a cancellation or timeout without effect."""
        self._outcome.settle(error)


def run_each(tickets: Sequence[Ticket[Request[OpenedT_contra, Any], Any]], opened: Any) -> None:
    """Run tickets one after the other on their opened frame, and end each."""
    for ticket in tickets:
        ticket.begin(opened)
        ticket.results += ticket.request.run(opened, ticket)
        ticket.finish()


@dataclass(frozen=True)
class RegionRequest:
    """Regions to measure from depth alone.

    Attributes:
        regions: at least one.
        sensor: noise model of the depth camera.
        points: whether the objects' points are wanted.
        on_measured: called with the measurements.
    """

    regions: tuple[Region, ...]
    sensor: str
    points: bool
    on_measured: Callable[[RgbdFrame, Sequence[Measured], Sequence[Pair]], None]

    def run(self, opened: Opened, control: Control) -> Iterator[RegionMeasurements]:
        """One result for all regions. A FrameSession supplies the depth that it estimated."""
        scene = open_scene(opened.frame)
        regions = rectified_regions(scene.frame, self.regions)
        found, pairs = measure_in(scene, regions, self.sensor)
        self.on_measured(scene.frame, found, pairs)
        points: tuple[npt.NDArray[np.float32], ...] = ()
        if self.points:
            limit = MAX_POINTS // len(found)
            points = tuple(object_points(scene.cloud, one, limit) for one in found)
        yield RegionMeasurements(found, pairs, scene.cautions, points)
