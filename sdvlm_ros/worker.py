"""Worker: one thread that owns a model or the geometry, behind bounded queues of tickets.

Decodes a ticket's frame, opens it (only if it is not the frame opened last), and runs the ticket
on it, alone or with others (`Runner`). The model has one worker, the geometry another; both share a
`FrameDecoder` for each camera. Cameras take turns, and each has its own places in the queue: one
that is asked a thousand times does not delay another. An exception ends its tickets; what is no
`Exception`, such as a panic of a tokenizer's Rust code, ends the worker too: all its tickets fail,
it accepts no more, and it reports its end. Does not know nodes, services, or clocks other than
`time.monotonic`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

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
from sdvlm_ros.ticket import Opened, Ticket, run_each

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


class Runner(Protocol):
    """How a worker runs its tickets."""

    def companions(
        self, head: Ticket[Any, Any], waiting: Sequence[Ticket[Any, Any]]
    ) -> list[Ticket[Any, Any]]:
        """The waiting tickets that run together with the first one."""

    def run(self, tickets: Sequence[Ticket[Any, Any]], opened: Any) -> None:
        """Run tickets on their opened frame, and end each."""


class OneByOne:
    """Runs every ticket alone, by its own request."""

    def companions(
        self, head: Ticket[Any, Any], waiting: Sequence[Ticket[Any, Any]]
    ) -> list[Ticket[Any, Any]]:
        """None."""
        return []

    def run(self, tickets: Sequence[Ticket[Any, Any]], opened: Any) -> None:
        """Run tickets one after the other."""
        run_each(tickets, opened)


class Worker(Generic[OpenedT_co]):
    """Runs tickets on a separate thread.

    Args:
        decode: function raw frame -> frame; called by this thread.
        open_frame: called only by this thread, whenever the frame changes, with the deadline and
            the cancellation of the ticket.
        name: name of the thread.
        capacity: largest number of waiting tickets of one camera.
        on_end: called by this thread with what ended it, unless it was closed.
        runner: how tickets run; None = one by one.
    """

    def __init__(
        self,
        decode: Callable[[RawFrame], RgbdFrame],
        open_frame: Callable[[RgbdFrame, Limits], OpenedT_co],
        name: str,
        capacity: int,
        on_end: Callable[[BaseException], None] = lambda _: None,
        runner: Runner | None = None,
    ) -> None:
        self._decode, self._open_frame = decode, open_frame
        self._on_end, self._runner = on_end, runner or OneByOne()
        self._ended: ModelNotReadyError | None = None
        self._capacity = capacity
        self._changed = threading.Condition()
        self._queue: deque[Ticket[Any, Any]] = deque()
        self._turns: dict[str, int] = {}  # camera -> number of its last turn
        self._running: list[Ticket[Any, Any]] = []
        self._closing = False
        self._opened: tuple[RawFrame, OpenedT_co] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Tickets in the queue, without the running ones."""
        return len(self._queue)

    @property
    def alive(self) -> bool:
        """Whether the thread runs tickets."""
        return self._ended is None and self._thread.is_alive()

    def submit(self, ticket: Ticket[Any, Any]) -> None:
        """Queue a ticket; canceled tickets leave the queue first.

        Raises:
            QueueFullError: the camera's places are taken; the ticket was not queued.
            ModelNotReadyError: the worker has ended.
        """
        with self._changed:
            if self._ended is not None:
                raise self._ended
            canceled = [waiting for waiting in self._queue if waiting.canceled.is_set()]
            for waiting in canceled:
                self._queue.remove(waiting)
            waiting_there = sum(other.camera == ticket.camera for other in self._queue)
            full = waiting_there >= self._capacity
            if not full:
                self._queue.append(ticket)
                self._changed.notify()
        for waiting in canceled:
            waiting.finish(QueryCanceled("canceled before it was answered"))
        if full:
            where = f" for camera {ticket.camera}" if ticket.camera else ""
            raise QueueFullError(
                f"{self._capacity} requests are waiting{where}, the limit (parameter queue_size); "
                "ask again later"
            )

    def cancel(self) -> None:
        """Cancel all tickets, without waiting; none may be submitted from now on."""
        with self._changed:
            self._closing = True
            for ticket in self._running:
                ticket.canceled.set()
            self._changed.notify()

    def close(self) -> None:
        """Cancel all tickets, wait for the thread to end, and release the opened frame."""
        self.cancel()
        self._thread.join()
        self._opened = None

    def _run(self) -> None:
        try:
            while tickets := self._next():
                self._process(tickets)
        except BaseException as failure:  # noqa: BLE001 - a thread must not end unnoticed
            self._end(failure)

    def _process(self, tickets: Sequence[Ticket[Any, Any]]) -> None:
        """Run tickets about one frame; an exception ends those that have not ended."""
        started = [ticket for ticket in tickets if _start(ticket)]
        while started:
            try:
                opened = self._open(started[0])
            except (QueryTimeout, QueryCanceled) as limit:  # of the first ticket alone
                started.pop(0).finish(limit)
                continue
            except Exception as failure:  # noqa: BLE001 - reported; the thread continues
                _finish(started, failure)
                return
            try:
                self._runner.run(started, opened)
            except Exception as failure:  # noqa: BLE001 - reported; the thread continues
                if not isinstance(failure, (QueryError, QueryTimeout, QueryCanceled)):
                    self._opened = None  # it may be the cause, and it takes memory
                _finish(started, failure)
            return

    def _end(self, failure: BaseException) -> None:
        """Fail all tickets and accept no more."""
        with self._changed:
            self._ended = ModelNotReadyError(worker_ended(self._thread.name, failure))
            left = [*self._running, *self._queue]
            self._running, self._opened = [], None
            self._queue.clear()
            closing = self._closing
        _finish(left, self._ended)
        if not closing:
            self._on_end(failure)

    def _next(self) -> list[Ticket[Any, Any]]:
        """Wait for the next tickets; [] = closed, and the queue is empty."""
        with self._changed:
            self._running = []
            self._changed.wait_for(lambda: self._queue or self._closing)
            if self._queue:
                head = self._turn()
                self._queue.remove(head)
                self._running = [head, *self._runner.companions(head, self._queue)]
                for ticket in self._running[1:]:
                    self._queue.remove(ticket)
            if self._closing:
                for ticket in self._running:
                    ticket.canceled.set()
            return self._running

    def _turn(self) -> Ticket[Any, Any]:
        """The first waiting ticket of the camera whose last turn was the longest ago."""
        first: dict[str, Ticket[Any, Any]] = {}
        for ticket in self._queue:
            first.setdefault(ticket.camera, ticket)
        camera = min(first, key=lambda name: self._turns.get(name, -1))
        self._turns[camera] = max(self._turns.values(), default=-1) + 1
        return first[camera]

    def _open(self, ticket: Ticket[Any, Any]) -> OpenedT_co:
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


def _start(ticket: Ticket[Any, Any]) -> bool:
    """Whether a ticket may run; otherwise it has ended."""
    try:
        ticket.start()
    except Exception as failure:  # noqa: BLE001 - a callback of the caller may fail, too
        ticket.finish(failure)
        return False
    return True


def _finish(tickets: Sequence[Ticket[Any, Any]], failure: Exception) -> None:
    for ticket in tickets:
        ticket.finish(failure)


def worker_ended(name: str, failure: BaseException) -> str:
    """Why a worker accepts no more requests."""
    return (
        f"the thread {name} has ended: {shown(f'{type(failure).__name__}: {failure}')}; configure "
        "and activate the node again"
    )
