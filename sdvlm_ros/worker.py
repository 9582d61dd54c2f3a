"""Worker: one thread that owns what frames are opened with, behind a queue that is bounded.

Decodes the messages, opens the frame (again only if it is another one), does the job's work on it,
and hands the outcome to the job's `done`. The model has one worker, geometry another. Knows
conversions; does not know nodes, services or clocks other than `time.monotonic`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sdvlm_core.errors import (
    ModelMemoryError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
    SdvlmError,
)
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_ros.conversions import frame_from_messages
from sdvlm_ros.frame_buffer import RawFrame

if TYPE_CHECKING:
    from sdvlm_core.engine import SpatialEngine


class QueueFullError(SdvlmError):
    """More requests are waiting than the node accepts."""


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
    """

    work: Callable[[Any, Job], Any]
    frame: RawFrame
    deadline: float
    arrived: float
    done: Callable[[Reply | Exception], None]
    cancel: threading.Event = field(default_factory=threading.Event)


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
        self._jobs: queue.Queue[Job | None] = queue.Queue(maxsize=capacity)
        self._closing = threading.Event()
        self._running: Job | None = None
        self._opened: tuple[RawFrame, Opened] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs in the queue, without the one that runs."""
        return self._jobs.qsize()

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            QueueFullError: at capacity; nothing was queued.
        """
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise QueueFullError(
                f"{self._jobs.maxsize} requests are waiting already (parameter queue_size); "
                "ask again later"
            ) from None

    def close(self) -> None:
        """Cancel everything, wait for the thread, and let go of what it owns."""
        self._closing.set()
        running = self._running
        if running is not None:
            running.cancel.set()
        self._jobs.put(None)  # waits for room, which the canceled jobs make
        self._thread.join()
        self._opened = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._running = job
            # Any failure belongs to the one who asked, and the thread lives on.
            try:
                outcome: Reply | Exception = self._work(job)
            except Exception as error:  # noqa: BLE001
                if not isinstance(error, (QueryError, QueryTimeout, QueryCanceled)):
                    self._opened = None  # nobody knows what state its cache is in
                outcome = error
            self._running = None
            job.done(outcome)

    def _work(self, job: Job) -> Reply:
        started = time.monotonic()
        if job.cancel.is_set() or self._closing.is_set():
            raise QueryCanceled("canceled before it was answered")
        if started > job.deadline:
            raise QueryTimeout("the deadline passed while it was waiting")
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
                deserialize_message(raw.color.data, self._color_type),
                raw.depth and deserialize_message(raw.depth.data, self._depth_type),
                deserialize_message(raw.info.data, CameraInfo),
            )
        except (MemoryError, TypeError) as error:
            # rclpy's C++ turns a MemoryError into the cause of a TypeError.
            if not isinstance(error, MemoryError) and not isinstance(error.__cause__, MemoryError):
                raise
            raise ModelMemoryError(
                f"out of memory while decoding an image of {len(raw.color.data)} bytes"
            ) from error


def warm_up(engine: SpatialEngine) -> None:
    """Answer once about an empty scene, so that the first real question does not pay for it."""
    frame = RgbdFrame(
        rgb=np.full((48, 64, 3), 128, np.uint8),
        depth=np.full((48, 64), 1.0, np.float32) if engine.estimator is None else None,
        intrinsics=CameraIntrinsics(60.0, 60.0, 31.5, 23.5, 64, 48),
    )
    engine.open(frame).ask("How far is the wall?", max_new_tokens=2)


def _same(one: RawFrame, other: RawFrame) -> bool:
    """The same messages, not merely the same stamps: a driver may leave those at zero."""
    return one.color is other.color and one.depth is other.depth and one.info is other.info
