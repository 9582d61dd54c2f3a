"""FrameBuffer: the newest undecoded messages, paired by stamp when somebody asks.

Keeps a short ring of serialized colour, depth and camera info each, and the few frames used last;
counts what passes, and can say which input is missing. Knows neither rclpy nor what is inside a
message: it is handed stamps and bytes. Not thread-safe: it lives where the executor's callbacks
run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sdvlm_core.errors import DepthError, FrameError, IntrinsicsError, StaleFrameError

# Frames that outlive the rings because somebody used them and may come back with their stamps.
USED = 4


class NoImageError(FrameError):
    """No colour image has arrived, or none near the stamp that was asked for."""


class Input(Enum):
    """The three streams that make a frame."""

    COLOR = "colour"
    DEPTH = "depth"
    INFO = "camera_info"


@dataclass(frozen=True, eq=False)
class Stamped:
    """A serialized message: header stamp, nanoseconds; arrival, monotonic seconds."""

    stamp_ns: int
    arrived: float
    data: bytes


@dataclass(frozen=True, eq=False)
class RawFrame:
    """Undecoded messages of one frame; `depth` is None where depth is estimated."""

    color: Stamped
    depth: Stamped | None
    info: Stamped

    def same_messages(self, other: RawFrame) -> bool:
        """Whether both hold the same messages; equal stamps do not suffice, they may be 0."""
        return self.color is other.color and self.depth is other.depth and self.info is other.info


@dataclass
class Counters:
    """Since activation: arrived, used in a frame, and lost by the middleware on the way."""

    received: int = 0
    paired: int = 0
    dropped: int = 0


class FrameBuffer:
    """Rings of the newest messages.

    Args:
        capacity: messages kept for each input.
        slop_ns: how far apart the stamps of one frame may be, nanoseconds.
        offers: says in words what is offered for an input (topic, publishers, QoS); used in
            refusals only.
        inputs: what a frame is made of; without depth, depth is estimated by somebody else.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        capacity: int,
        slop_ns: int,
        offers: Callable[[Input], str],
        inputs: tuple[Input, ...] = tuple(Input),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.slop_ns = slop_ns
        self.inputs = inputs
        self.counters = {kind: Counters() for kind in inputs}
        self._rings: dict[Input, deque[Stamped]] = {kind: deque(maxlen=capacity) for kind in inputs}
        #: Colour images that stayed without depth or info while half a ring passed.
        self.unpaired = 0
        self._held: RawFrame | None = None
        self._used: list[RawFrame] = []
        self._judged = max(1, capacity // 2)
        self._offers = offers
        self._clock = clock

    def add(self, kind: Input, stamp_ns: int, data: bytes) -> None:
        """Store one message; this is all that happens at 30 Hz."""
        self.counters[kind].received += 1
        ring = self._rings[kind]
        if kind is Input.COLOR and ring and stamp_ns < ring[0].stamp_ns:
            self._used = []  # time has begun again, and these stamps will be other images'
        ring.append(Stamped(stamp_ns, self._clock(), data))
        if kind is Input.COLOR and len(ring) > self._judged:
            # Whatever belongs to this one is here by now, and has not left its ring yet.
            self.unpaired += self._pair(ring[-1 - self._judged]) is None

    def newest(self) -> RawFrame:
        """The newest colour image with the depth and info that belong to it.

        Newest by arrival: a bag that starts again jumps back in stamps. Of the images within the
        slop of the newest that pairs, the one that pairs most closely: at 30 Hz the newest colour
        may be here before its own depth, and the depth before it must not stand in for that.

        Raises:
            NoImageError, DepthError, IntrinsicsError: an input is missing; says which and why.
        """
        return self._use(self.peek())

    def peek(self) -> RawFrame:
        """As `newest`, but nobody uses the frame, so it is not counted."""
        colors = self._rings[Input.COLOR]
        if not colors:
            raise NoImageError(self._missing(Input.COLOR))
        best: tuple[int, RawFrame] | None = None
        for color in reversed(colors):
            if best is not None and abs(best[1].color.stamp_ns - color.stamp_ns) > self.slop_ns:
                break
            found = self._pair(color)
            if found is not None and (best is None or found[0] < best[0]):
                best = found
        if best is None:
            raise self._unpaired(colors[-1])
        return best[1]

    def at(self, stamp_ns: int) -> RawFrame:
        """The frame whose colour image is nearest to a stamp: held, used lately, or in the rings.

        A frame that was held or used is the same frame again, whatever has arrived since.

        Raises:
            NoImageError: there is none within the slop.
            DepthError, IntrinsicsError: its depth or info is missing.
        """
        kept = [frame for frame in (self._held, *self._used) if frame is not None]
        colors = [*(frame.color for frame in kept), *reversed(self._rings[Input.COLOR])]
        if not colors:
            raise NoImageError(self._missing(Input.COLOR))
        # Of those with one stamp the first: what is kept, else what came last (a bag in a loop).
        color = min(colors, key=lambda candidate: abs(candidate.stamp_ns - stamp_ns))
        if abs(color.stamp_ns - stamp_ns) > self.slop_ns:
            raise NoImageError(
                f"no colour image within {self.slop_ns / 1e9:g} s of stamp {stamp_ns / 1e9:.3f}; "
                f"the buffer has {min(c.stamp_ns for c in colors) / 1e9:.3f} to "
                f"{max(c.stamp_ns for c in colors) / 1e9:.3f}; call ~/capture to hold a frame"
            )
        same = next((frame for frame in kept if frame.color is color), None)
        if same is not None:
            return self._use(same)
        found = self._pair(color)
        if found is None:
            raise self._unpaired(color)
        return self._use(found[1])

    def hold(self, frame: RawFrame) -> None:
        """Keep a frame until another one is held, so that later questions can name its stamp.

        Raises:
            StaleFrameError: it has no stamp to be named by.
        """
        if frame.color.stamp_ns == 0:
            raise StaleFrameError(
                "an image whose header.stamp is 0 cannot be held: 0 asks for the newest"
            )
        self._held = frame

    def rate(self, kind: Input) -> float:
        """Arrivals per second over the ring; 0 with fewer than two."""
        ring = self._rings[kind]
        if len(ring) < 2 or ring[-1].arrived <= ring[0].arrived:
            return 0.0
        return (len(ring) - 1) / (ring[-1].arrived - ring[0].arrived)

    def silence(self, kind: Input) -> float | None:
        """Seconds since the last arrival; None = nothing has arrived."""
        ring = self._rings[kind]
        return self._clock() - ring[-1].arrived if ring else None

    def problem(self, patience: float) -> str:
        """Why no frame can be made now; "" = one can, and every input came within `patience` s."""
        try:
            self.peek()
        except FrameError as error:
            return str(error)
        silent = [kind for kind in self.inputs if (self.silence(kind) or 0.0) > patience]
        described = "; ".join(self.describe(kind) for kind in silent)
        return f"has the driver stopped? {described}" if silent else ""

    def describe(self, kind: Input) -> str:
        """One input in words: rate, silence, and what is offered."""
        silence = self.silence(kind)
        if silence is None:
            return f"{kind.value}: nothing has arrived; {self._offers(kind)}"
        return (
            f"{kind.value}: {self.rate(kind):.1f} Hz, last {silence:.2f} s ago; "
            f"{self._offers(kind)}"
        )

    def _pair(self, color: Stamped) -> tuple[int, RawFrame] | None:
        """The frame of a colour image and how far apart its stamps are; None = incomplete."""
        info = self._nearest(Input.INFO, color.stamp_ns)
        if info is None:
            return None
        apart = abs(info.stamp_ns - color.stamp_ns)
        if Input.DEPTH not in self.inputs:
            return apart, RawFrame(color, None, info)
        depth = self._nearest(Input.DEPTH, color.stamp_ns)
        if depth is None:
            return None
        return apart + abs(depth.stamp_ns - color.stamp_ns), RawFrame(color, depth, info)

    def _nearest(self, kind: Input, stamp_ns: int) -> Stamped | None:
        ring = self._rings[kind]
        # Reversed, so that of two with one stamp (a bag in a loop) the newer is taken.
        best = min(reversed(ring), key=lambda m: abs(m.stamp_ns - stamp_ns), default=None)
        if best is None or abs(best.stamp_ns - stamp_ns) > self.slop_ns:
            return None
        return best

    def _use(self, frame: RawFrame) -> RawFrame:
        """Count the frame, and keep it among the few used last."""
        for kind in self.inputs:
            self.counters[kind].paired += 1
        others = [used for used in self._used if used.color is not frame.color]
        self._used = [*others, frame][-USED:]
        return frame

    def _missing(self, kind: Input) -> str:
        others = "; ".join(self.describe(other) for other in self.inputs if other is not kind)
        return f"no {kind.value} to answer from. {self.describe(kind)}. Else: {others}"

    def _unpaired(self, color: Stamped) -> FrameError:
        """Why a colour image has no partner: nothing there, or nothing near its stamp."""
        for kind, refusal in ((Input.DEPTH, DepthError), (Input.INFO, IntrinsicsError)):
            if kind not in self.inputs:
                continue
            ring = self._rings[kind]
            if not ring:
                return refusal(self._missing(kind))
            apart = min(abs(message.stamp_ns - color.stamp_ns) for message in ring)
            if apart > self.slop_ns:
                return refusal(
                    f"no {kind.value} within {self.slop_ns / 1e9:g} s (parameter sync_slop) of the "
                    f"colour image: the nearest is {apart / 1e9:.3f} s away. {self.describe(kind)}"
                )
        return NoImageError("the newest colour image has depth and info, but not of one moment")


def check_age(frame: RawFrame, now_ns: int, max_age_ns: int) -> None:
    """Refuse a frame that is older than `max_age_ns` at `now_ns`, or as far in the future.

    Raises:
        StaleFrameError: says the age, and what usually makes it so.
    """
    age_ns = now_ns - frame.color.stamp_ns
    if abs(age_ns) <= max_age_ns:
        return
    limit = f"max_age is {max_age_ns / 1e9:g} s"
    if frame.color.stamp_ns == 0:
        reason = "its header.stamp is 0: the driver does not set it"
    elif age_ns < 0:
        reason = f"it is {-age_ns / 1e9:.3f} s in the future: compare the clocks, use_sim_time"
    else:
        reason = (
            f"it is {age_ns / 1e9:.3f} s old: has the camera stopped, or is use_sim_time wrong?"
        )
    raise StaleFrameError(f"the newest image cannot be used, {reason} ({limit})")
