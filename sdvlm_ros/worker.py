"""Worker: one thread that owns what frames are opened with, behind a queue that is bounded.

Decodes the messages, opens the frame (again only if it is another one), does the job's work on it,
and hands the outcome to the job's `done`. The model has one worker, geometry another. Knows
conversions; does not know nodes, services or clocks other than `time.monotonic`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sdvlm_core.errors import (
    DepthError,
    FrameError,
    IntrinsicsError,
    ModelMemoryError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
    QueueFullError,
)
from sdvlm_core.frame import RgbdFrame
from sdvlm_ros.conversions import frame_from_messages, read_serialized
from sdvlm_ros.frame_buffer import RawFrame


class Opened(Protocol):
    """A frame made ready: a FrameSession, or a geometry.Scene."""

    @property
    def frame(self) -> RgbdFrame: ...


@dataclass(frozen=True)
class Reply:
    """What a job's work gave, and the frame it is about; seconds of waiting and of opening it."""

    result: Any
    stamp_ns: int
    frame_id: str
    queue: float
    encode: float


@dataclass(frozen=True, eq=False)
class Job:
    """One piece of work on its way.

    Attributes:
        work: what to do with the opened frame; it minds the job's deadline and cancel itself.
        deadline, arrived: `time.monotonic()` seconds.
        done: called once, from the worker's thread, with the reply or the reason for none.
        cancel: set it to have the job dropped, even in the middle of its work.
        turn: called by the worker's thread when the job is no longer waiting.
    """

    work: Callable[[Any, Job], Any]
    frame: RawFrame
    deadline: float
    arrived: float
    done: Callable[[Reply | Exception], None]
    cancel: threading.Event = field(default_factory=threading.Event)
    turn: Callable[[], None] = lambda: None


class Worker:
    """Runs jobs one after the other on a thread of its own.

    Args:
        open_frame: called by this thread only, from now on, for every other frame.
        name: of the thread.
        capacity: jobs that may wait.
        color_type, depth_type: of the serialized messages.
    """

    def __init__(
        self,
        open_frame: Callable[[RgbdFrame], Opened],
        name: str,
        capacity: int,
        color_type: type[Image] | type[CompressedImage] = Image,
        depth_type: type[Image] | type[CompressedImage] = Image,
    ) -> None:
        self._open_frame = open_frame
        self._color_type, self._depth_type = color_type, depth_type
        self._capacity = capacity
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._closing = False
        self._opened: tuple[RawFrame, Opened] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs in the queue, without the one that runs."""
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        """Queue a job; canceled ones make room.

        Raises:
            QueueFullError: at capacity; nothing was queued.
        """
        with self._changed:
            canceled = [waiting for waiting in self._waiting if waiting.cancel.is_set()]
            for waiting in canceled:
                self._waiting.remove(waiting)
            full = len(self._waiting) >= self._capacity
            if not full:
                self._waiting.append(job)
                self._changed.notify()
        for waiting in canceled:
            waiting.done(_canceled())
        if full:
            raise QueueFullError(
                f"{self._capacity} requests are waiting already (parameter queue_size); "
                "ask again later"
            )

    def close(self) -> None:
        """Cancel everything, wait for the thread, and let go of what it owns."""
        with self._changed:
            self._closing = True
            if self._running is not None:
                self._running.cancel.set()
            self._changed.notify()
        self._thread.join()
        self._opened = None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            # Any failure belongs to the one who asked, and the thread lives on.
            try:
                outcome: Reply | Exception = self._work(job)
            except Exception as error:  # noqa: BLE001
                if not isinstance(error, (QueryError, QueryTimeout, QueryCanceled)):
                    self._opened = None  # nobody knows what state its cache is in
                outcome = error
            job.done(outcome)

    def _next(self) -> Job | None:
        """The job whose turn it is, when there is one; None = closed, and nothing is left."""
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._running = self._waiting.popleft() if self._waiting else None
            return self._running

    def _work(self, job: Job) -> Reply:
        started = time.monotonic()
        if job.cancel.is_set() or self._closing:
            raise _canceled()
        if started > job.deadline:
            raise QueryTimeout("the deadline passed while it was waiting")
        job.turn()
        opened = self._open(job.frame)
        # Next to nothing for a second request about a frame: the first one paid.
        ready = time.monotonic()
        result = job.work(opened, job)
        frame = opened.frame
        waited, encode = started - job.arrived, ready - started
        return Reply(result, frame.stamp_ns, frame.frame_id, waited, encode)

    def _open(self, raw: RawFrame) -> Opened:
        """This very frame as it was opened last, else opened anew."""
        if self._opened is not None and _same(self._opened[0], raw):
            return self._opened[1]
        self._opened = None  # free the old cache before the new one is made
        opened = self._open_frame(self._decode(raw))
        self._opened = (raw, opened)
        return opened

    def _decode(self, raw: RawFrame) -> RgbdFrame:
        try:
            return frame_from_messages(
                read_serialized(raw.color.data, self._color_type, "a colour image", FrameError),
                raw.depth
                and read_serialized(raw.depth.data, self._depth_type, "a depth image", DepthError),
                read_serialized(raw.info.data, CameraInfo, "camera_info", IntrinsicsError),
            )
        except (MemoryError, TypeError) as error:
            # rclpy's C++ turns a MemoryError into the cause of a TypeError.
            if not isinstance(error, MemoryError) and not isinstance(error.__cause__, MemoryError):
                raise
            raise ModelMemoryError(
                f"out of memory while decoding an image of {len(raw.color.data)} bytes"
            ) from error


def _canceled() -> QueryCanceled:
    return QueryCanceled("canceled before it was answered")


def _same(one: RawFrame, other: RawFrame) -> bool:
    """The same messages, not merely the same stamps: a driver may leave those at zero."""
    return one.color is other.color and one.depth is other.depth and one.info is other.info
