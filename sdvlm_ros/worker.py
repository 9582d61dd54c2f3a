"""Worker: one thread that owns a model or the geometry, behind a bounded queue of tickets.

Decodes a ticket's frame, opens it (only if it is not the frame opened last), and runs the ticket
on it. The model has one worker, the geometry another; both share a `FrameDecoder`. Does not know
nodes, services, or clocks other than `time.monotonic`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sdvlm_core.camera.assembly import frame_from_messages
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
from sdvlm_core.model.generation_options import Limits
from sdvlm_ros.conversions import read_serialized
from sdvlm_ros.frame_buffer import RawFrame
from sdvlm_ros.ticket import Opened, Ticket

OpenedT_co = TypeVar("OpenedT_co", bound=Opened, covariant=True)

# Two workers use at most two frames at a time.
_KEPT_FRAMES = 2


class FrameDecoder:
    """Decodes each raw frame once, for all workers; keeps the last two. Thread-safe.

    Args:
        color_type, depth_type: types of the serialized messages.
    """

    def __init__(
        self,
        color_type: type[Image] | type[CompressedImage] = Image,
        depth_type: type[Image] | type[CompressedImage] = Image,
    ) -> None:
        self._color_type, self._depth_type = color_type, depth_type
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
            return frame_from_messages(color, depth, info)
        except (MemoryError, TypeError) as error:
            # rclpy's C++ turns a MemoryError into the cause of a TypeError.
            if not isinstance(error, MemoryError) and not isinstance(error.__cause__, MemoryError):
                raise
            raise ModelMemoryError(
                f"out of memory while decoding an image of {len(raw.color.data)} bytes"
            ) from error


class Worker(Generic[OpenedT_co]):
    """Runs tickets one after the other on a separate thread.

    Args:
        decode: function raw frame -> frame; called by this thread.
        open_frame: called only by this thread, whenever the frame changes, with the deadline and
            the cancellation of the ticket.
        name: name of the thread.
        capacity: largest number of waiting tickets.
    """

    def __init__(
        self,
        decode: Callable[[RawFrame], RgbdFrame],
        open_frame: Callable[[RgbdFrame, Limits], OpenedT_co],
        name: str,
        capacity: int,
    ) -> None:
        self._decode, self._open_frame = decode, open_frame
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

    def submit(self, ticket: Ticket[OpenedT_co, object]) -> None:
        """Queue a ticket; canceled tickets leave the queue first.

        Raises:
            QueueFullError: the queue is at capacity; the ticket was not queued.
        """
        with self._changed:
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
        while (ticket := self._next()) is not None:
            error: Exception | None = None
            try:
                ticket.start()
                ticket.run(self._open(ticket))
            except Exception as failure:  # noqa: BLE001 - reported; the thread continues
                if not isinstance(failure, (QueryError, QueryTimeout, QueryCanceled)):
                    self._opened = None  # its cache may be inconsistent
                error = failure
            ticket.finish(error)

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
        if self._opened is not None and self._opened[0].same_messages(raw):
            return self._opened[1]
        self._opened = None  # free the old cache before the new one is made
        limits = Limits(ticket.deadline, ticket.canceled)
        opened = self._open_frame(self._decode(raw), limits)
        self._opened = (raw, opened)
        return opened
