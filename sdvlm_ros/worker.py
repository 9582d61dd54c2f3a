"""Worker: one thread that owns a model or the geometry, behind a bounded queue of tickets.

Decodes a ticket's frame, opens it (only if it is not the frame opened last), and runs the ticket
on it. The model has one worker, the geometry another; both share a `FrameDecoder`. An exception
ends its ticket; what is no `Exception`, such as a panic of a tokenizer's Rust code, ends the worker
too: all its tickets fail, it accepts no more, and it reports its end. Does not know nodes,
services, or clocks other than `time.monotonic`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sdvlm_core.camera.assembly import frame_from_messages
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import (
    DepthError,
    FrameError,
    IntrinsicsError,
    ModelMemoryError,
    ModelNotReadyError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
    QueueFullError,
    shown,
)
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.model.generation_options import Limits
from sdvlm_ros.conversions import read_serialized
from sdvlm_ros.frame_buffer import RawFrame
from sdvlm_ros.ticket import Opened, Ticket

OpenedT_co = TypeVar("OpenedT_co", bound=Opened, covariant=True)

# Two workers and the inspection use at most three frames at a time.
_KEPT_FRAMES = 3


@dataclass(frozen=True)
class Gravity:
    """The direction against gravity of one image.

    Attributes:
        up: unit vector in the colour optical frame; None = unknown.
        reason: why it is unknown; "" = it is known.
    """

    up: tuple[float, float, float] | None
    reason: str = ""


class FrameDecoder:
    """Decodes each raw frame once, for all workers; keeps the last ones. Thread-safe.

    Args:
        color_type, depth_type: types of the serialized messages.
        settings: how the messages become a frame.
        color_topic, depth_topic: resolved names of the image topics.
        depth_info: returns the newest serialized camera_info of the depth camera; None = unknown.
        gravity: looks up what is up for a frame_id and a stamp, nanoseconds, and may wait; None =
            nobody knows, so the image and its planes decide.
    """

    def __init__(
        self,
        color_type: type[Image] | type[CompressedImage] = Image,
        depth_type: type[Image] | type[CompressedImage] = Image,
        settings: CameraSettings = DEFAULT_SETTINGS,
        *,
        color_topic: str = "",
        depth_topic: str = "",
        depth_info: Callable[[], bytes | None] = lambda: None,
        gravity: Callable[[str, int], Gravity] | None = None,
    ) -> None:
        self._color_type, self._depth_type = color_type, depth_type
        self._settings = settings
        self._topics = {"color_topic": color_topic, "depth_topic": depth_topic}
        self._depth_info, self._gravity = depth_info, gravity
        self._lock = threading.Lock()
        self._decoded: deque[tuple[RawFrame, RgbdFrame]] = deque(maxlen=_KEPT_FRAMES)

    def decode(self, raw: RawFrame) -> RgbdFrame:
        """The decoded frame. If two threads request the same frame, the second one waits.

        Raises:
            FrameError: the messages cannot be decoded, or do not make a frame.
            ModelMemoryError: out of memory.
        """
        with self._lock:
            for known, frame in self._decoded:
                if known.same_messages(raw):
                    return frame
            frame = self._decode(raw)
            self._decoded.append((raw, frame))
            return frame

    def _decode(self, raw: RawFrame) -> RgbdFrame:
        try:
            color = read_serialized(raw.color.data, self._color_type, "a colour image", FrameError)
            depth = (
                None
                if raw.depth is None
                else read_serialized(raw.depth.data, self._depth_type, "a depth image", DepthError)
            )
            info = read_serialized(raw.info.data, CameraInfo, "camera_info", IntrinsicsError)
            gravity = self._up(color)
            frame = frame_from_messages(
                color,
                depth,
                info,
                self._settings,
                **self._topics,
                depth_info=self._read_depth_info(),
                up=gravity.up if gravity is not None else None,
            )
        except (MemoryError, TypeError) as error:
            # rclpy's C++ turns a MemoryError into the cause of a TypeError.
            if not isinstance(error, MemoryError) and not isinstance(error.__cause__, MemoryError):
                raise
            raise ModelMemoryError(
                f"out of memory while decoding an image of {len(raw.color.data)} bytes"
            ) from error
        if gravity is None or gravity.up is not None:
            return frame
        # The user asked for up from TF: a guess instead of it must not pass for it.
        cautions = dict.fromkeys((*frame.cautions, Caution.UP_UNCERTAIN))
        return replace(frame, cautions=tuple(cautions), reasons=(*frame.reasons, gravity.reason))

    def _up(self, color: Image | CompressedImage) -> Gravity | None:
        if self._gravity is None:
            return None
        return self._gravity(color.header.frame_id, nanoseconds(color.header.stamp))

    def _read_depth_info(self) -> CameraInfo | None:
        data = self._depth_info()
        if data is None:
            return None
        with suppress(IntrinsicsError):  # it is optional
            return read_serialized(data, CameraInfo, "camera_info of depth", IntrinsicsError)
        return None


class Worker(Generic[OpenedT_co]):
    """Runs tickets one after the other on a separate thread.

    Args:
        decode: function raw frame -> frame; called by this thread.
        open_frame: called only by this thread, whenever the frame changes, with the deadline and
            the cancellation of the ticket.
        name: name of the thread.
        capacity: largest number of waiting tickets.
        on_end: called by this thread with what ended it, unless it was closed.
    """

    def __init__(
        self,
        decode: Callable[[RawFrame], RgbdFrame],
        open_frame: Callable[[RgbdFrame, Limits], OpenedT_co],
        name: str,
        capacity: int,
        on_end: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._decode, self._open_frame = decode, open_frame
        self._on_end = on_end
        self._ended: ModelNotReadyError | None = None
        self._capacity = capacity
        self._changed = threading.Condition()
        self._queue: deque[Ticket[OpenedT_co, object]] = deque()
        self._running: Ticket[OpenedT_co, object] | None = None
        self._closing = False
        self._opened: tuple[RawFrame, OpenedT_co] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Tickets in the queue, without the running one."""
        return len(self._queue)

    @property
    def alive(self) -> bool:
        """Whether the thread runs tickets."""
        return self._ended is None and self._thread.is_alive()

    def submit(self, ticket: Ticket[OpenedT_co, object]) -> None:
        """Queue a ticket; canceled tickets leave the queue first.

        Raises:
            QueueFullError: the queue is at capacity; the ticket was not queued.
            ModelNotReadyError: the worker has ended.
        """
        with self._changed:
            if self._ended is not None:
                raise self._ended
            canceled = [waiting for waiting in self._queue if waiting.canceled.is_set()]
            for waiting in canceled:
                self._queue.remove(waiting)
            full = len(self._queue) >= self._capacity
            if not full:
                self._queue.append(ticket)
                self._changed.notify()
        for waiting in canceled:
            waiting.finish(QueryCanceled("canceled before it was answered"))
        if full:
            raise QueueFullError(
                f"{self._capacity} requests are waiting, the limit (parameter queue_size); "
                "ask again later"
            )

    def close(self) -> None:
        """Cancel all tickets, wait for the thread to end, and release the opened frame."""
        with self._changed:
            self._closing = True
            if self._running is not None:
                self._running.canceled.set()
            self._changed.notify()
        self._thread.join()
        self._opened = None

    def _run(self) -> None:
        try:
            while (ticket := self._next()) is not None:
                ticket.finish(self._failure(ticket))
        except BaseException as failure:  # noqa: BLE001 - a thread must not end unnoticed
            self._end(failure)

    def _failure(self, ticket: Ticket[OpenedT_co, object]) -> Exception | None:
        """Run a ticket; the exception that ended it, or None."""
        try:
            ticket.start()
            ticket.run(self._open(ticket))
        except Exception as failure:  # noqa: BLE001 - reported; the thread continues
            if not isinstance(failure, (QueryError, QueryTimeout, QueryCanceled)):
                self._opened = None  # its cache may be inconsistent
            return failure
        return None

    def _end(self, failure: BaseException) -> None:
        """Fail all tickets and accept no more."""
        with self._changed:
            self._ended = ModelNotReadyError(worker_ended(self._thread.name, failure))
            left = [*([] if self._running is None else [self._running]), *self._queue]
            self._running, self._opened = None, None
            self._queue.clear()
            closing = self._closing
        for ticket in left:
            ticket.finish(self._ended)
        if not closing:
            self._on_end(failure)

    def _next(self) -> Ticket[OpenedT_co, object] | None:
        """Wait for the next ticket; None = closed, and the queue is empty."""
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._queue or self._closing)
            self._running = self._queue.popleft() if self._queue else None
            if self._running is not None and self._closing:
                self._running.canceled.set()
            return self._running

    def _open(self, ticket: Ticket[OpenedT_co, object]) -> OpenedT_co:
        """The frame opened last if it has the same messages, else the newly opened frame."""
        raw = ticket.frame
        assert raw is not None  # queued tickets have one
        if self._opened is not None and self._opened[0].same_messages(raw):
            return self._opened[1]
        self._opened = None  # free the old cache before the new one is made
        limits = Limits(ticket.deadline, ticket.canceled)
        opened = self._open_frame(self._decode(raw), limits)
        self._opened = (raw, opened)
        return opened


def worker_ended(name: str, failure: BaseException) -> str:
    """Why a worker accepts no more requests."""
    return (
        f"the thread {name} has ended: {shown(f'{type(failure).__name__}: {failure}')}; configure "
        "and activate the node again"
    )
