"""FrameBuffer: the newest undecoded messages, paired by stamp when a frame is requested.

Keeps a ring buffer of serialized messages for each input (colour, depth, camera info), and the few
frames used last, both limited in bytes. Counts messages and describes missing inputs. Pairs
messages with the rule that bags use (`camera.pairing`). A refused message keeps its place without
its data, so that a request for it gets the reason. Does not know rclpy or the content of a message:
it stores stamps and bytes. Not thread-safe: only the executor's callbacks use it.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sdvlm_core.camera.pairing import (
    PARTNER_ERRORS,
    Input,
    StampedMessage,
    missing_partner,
    nearest,
    partner,
)
from sdvlm_core.errors import DepthError, FrameError, StaleFrameError

#: Frames that are kept after their use, because a later request may name their stamps.
USED_FRAMES = 8
#: Largest size of one input's ring, and of the frames that were used last, bytes. Large images
#: leave fewer of them.
MAX_BYTES = 256 * 2**20
#: A /clock that does not advance for this time, seconds, has stopped.
CLOCK_STOPPED_S = 2.0
# An image takes less than this from its stamp to its arrival, seconds.
_TRANSPORT_S = 1.0
# 2001-09-09: an earlier stamp is no time of day, nanoseconds.
_EARLIEST_NS = 10**18
_SLOP_OPTION = "parameter sync_slop"


class NoImageError(FrameError):
    """No colour image has arrived, or none near the requested stamp."""


@dataclass(frozen=True, eq=False)
class BufferedMessage(StampedMessage):
    """A serialized message with its time of arrival, monotonic seconds.

    Attributes:
        refusal: why its data were not stored; None = they were.
    """

    arrived: float
    refusal: FrameError | None = None


@dataclass(frozen=True, eq=False)
class RawFrame:
    """Undecoded messages of one frame of a camera; `depth` is None where depth is estimated."""

    color: BufferedMessage
    depth: BufferedMessage | None
    info: BufferedMessage
    camera: str = ""

    def same_messages(self, other: RawFrame) -> bool:
        """Whether both hold the same messages; equal stamps do not suffice, they may be 0."""
        return self.color is other.color and self.depth is other.depth and self.info is other.info

    @property
    def messages(self) -> tuple[BufferedMessage, ...]:
        """Colour, depth if there is one, and info."""
        return (
            (self.color, self.info) if self.depth is None else (self.color, self.depth, self.info)
        )

    @property
    def size(self) -> int:
        """Bytes of its messages."""
        return sum(len(message.data) for message in self.messages)


@dataclass
class Counters:
    """Messages since activation: received, used in a frame, dropped by the middleware, refused."""

    received: int = 0
    paired: int = 0
    dropped: int = 0
    refused: int = 0


class FrameBuffer:
    """Rings of the newest messages.

    Args:
        capacity: messages kept for each input.
        slop_ns: largest difference of the stamps in one frame, nanoseconds.
        describe_publishers: describes the topic, publishers and QoS of an input, for error
            messages.
        inputs: the messages of a frame; no DEPTH = depth is estimated elsewhere.
        clock: monotonic seconds.
        camera: name of the camera, for its frames.
    """

    def __init__(
        self,
        capacity: int,
        slop_ns: int,
        describe_publishers: Callable[[Input], str],
        inputs: tuple[Input, ...] = tuple(Input),
        clock: Callable[[], float] = time.monotonic,
        camera: str = "",
    ) -> None:
        self.slop_ns = slop_ns
        self.inputs = inputs
        self.counters = {kind: Counters() for kind in inputs}
        self._rings: dict[Input, deque[BufferedMessage]] = {
            kind: deque(maxlen=capacity) for kind in inputs
        }
        #: Number of colour images without depth or info after half a ring of newer colour images.
        self.unpaired = 0
        #: Whether a complete frame has been found since activation.
        self.complete = False
        self._held: RawFrame | None = None
        self._used: list[RawFrame] = []
        self._unpaired_after = max(1, capacity // 2)
        self._describe_publishers = describe_publishers
        self._clock, self._camera = clock, camera

    def add(
        self, kind: Input, stamp_ns: int, data: bytes, refusal: FrameError | None = None
    ) -> None:
        """Store one message, or the reason why it is refused; the only work at camera rate."""
        self.counters[kind].received += 1
        ring = self._rings[kind]
        if kind is Input.COLOR and ring and stamp_ns < ring[0].stamp_ns:
            # The bag has restarted: its stamps now belong to other images.
            self._used, self._held = [], None
        if refusal is not None:
            self.counters[kind].refused += 1
            data = b""
        ring.append(BufferedMessage(stamp_ns, data, self._clock(), refusal))
        while len(ring) > 1 and sum(len(message.data) for message in ring) > MAX_BYTES:
            ring.popleft()
        if kind is Input.COLOR and len(ring) > self._unpaired_after:
            # Matching messages have arrived by now, and are still in their ring buffers.
            self.unpaired += self._pair(ring[-1 - self._unpaired_after]) is None

    def newest(self) -> RawFrame:
        """The newest colour image with its depth and info.

        "Newest" is by arrival, because the stamps of a bag jump back when it restarts. Returns the
        image with the closest depth and info among the images within the slop of the newest
        complete one. The newest colour image may arrive before its own depth, and must not be
        paired with the depth of the previous image.

        Raises:
            NoImageError, DepthError, IntrinsicsError: an input is missing or was refused; states
                the reason.
        """
        return self._use(self.peek())

    def peek(self) -> RawFrame:
        """As `newest`, but the frame is not counted as used."""
        return _accepted(self._newest())

    def _newest(self) -> RawFrame:
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
        self.complete = True
        return best[1]

    def at(self, stamp_ns: int) -> RawFrame:
        """The frame whose colour image is nearest to a stamp: held, recently used, or in the rings.

        A held or recently used frame keeps its messages, even if closer ones have arrived since.

        Raises:
            NoImageError, FrameError, DepthError, IntrinsicsError: as `find`.
        """
        return self._use(self.find(stamp_ns))

    def find(self, stamp_ns: int) -> RawFrame:
        """As `at`, but the frame is not counted as used.

        Raises:
            NoImageError: no colour image is within the slop.
            DepthError: its depth has not arrived yet; an older one is not taken for it.
            FrameError, DepthError, IntrinsicsError: one of its messages is missing or was refused.
        """
        kept = [frame for frame in (self._held, *self._used) if frame is not None]
        # For equal stamps `nearest` returns the last one: a kept frame, else the newest arrival.
        colors = [*self._rings[Input.COLOR], *(frame.color for frame in reversed(kept))]
        if not colors:
            raise NoImageError(self._missing(Input.COLOR))
        color = nearest(colors, stamp_ns, self.slop_ns)
        if color is None:
            raise NoImageError(
                f"no colour image within {self.slop_ns / 1e9:g} s of stamp {stamp_ns / 1e9:.3f}; "
                f"the buffer has {min(c.stamp_ns for c in colors) / 1e9:.3f} to "
                f"{max(c.stamp_ns for c in colors) / 1e9:.3f}; call ~/capture to hold a frame"
            )
        same = next((frame for frame in kept if frame.color is color), None)
        if same is not None:
            return same
        found = self._pair(color)
        if found is None:
            raise self._unpaired(color)
        self._check_depth(found[1])
        return _accepted(found[1])

    def hold(self, frame: RawFrame) -> None:
        """Keep a frame until another one is held, so that later questions can name its stamp.

        Raises:
            StaleFrameError: the frame has no stamp.
        """
        if frame.color.stamp_ns == 0:
            raise StaleFrameError(
                "an image whose header.stamp is 0 cannot be held: stamp 0 requests the newest image"
            )
        self._held = frame

    @property
    def newest_stamp_ns(self) -> int:
        """Stamp of the colour image that arrived last; 0 = none."""
        ring = self._rings[Input.COLOR]
        return ring[-1].stamp_ns if ring else 0

    @property
    def stored_bytes(self) -> int:
        """Bytes of all messages in the rings and in the frames that are kept longer."""
        kept = [frame for frame in (self._held, *self._used) if frame is not None]
        messages = {m for frame in kept for m in frame.messages}
        return sum(len(m.data) for m in messages.union(*self._rings.values()))

    def stamps(self, kind: Input) -> list[int]:
        """Stamps of the messages in an input's ring, nanoseconds, in the order of arrival."""
        return [message.stamp_ns for message in self._rings[kind]]

    def rate(self, kind: Input) -> float:
        """Messages per second in the ring buffer; 0 with fewer than two messages."""
        ring = self._rings[kind]
        if len(ring) < 2 or ring[-1].arrived <= ring[0].arrived:
            return 0.0
        return (len(ring) - 1) / (ring[-1].arrived - ring[0].arrived)

    def silence(self, kind: Input) -> float | None:
        """Seconds since the last message; None = no message yet."""
        ring = self._rings[kind]
        return self._clock() - ring[-1].arrived if ring else None

    def problem(self, silence_s: float) -> str:
        """Why no complete frame is available, or an input is silent for `silence_s`; "" = none."""
        try:
            self.peek()
        except FrameError as error:
            return str(error)
        # A camera_info may be published only once.
        streams = [kind for kind in self.inputs if kind is not Input.INFO]
        silent = [kind for kind in streams if (self.silence(kind) or 0.0) > silence_s]
        described = "; ".join(self.describe(kind) for kind in silent)
        return f"has the driver stopped? {described}" if silent else ""

    def describe(self, kind: Input) -> str:
        """Rate and silence of one input, and its publishers."""
        silence = self.silence(kind)
        if silence is None:
            return f"{kind.value}: nothing has arrived; {self._describe_publishers(kind)}"
        return (
            f"{kind.value}: {self.rate(kind):.1f} Hz until {silence:.2f} s ago; "
            f"{self._describe_publishers(kind)}"
        )

    def _pair(self, color: BufferedMessage) -> tuple[int, RawFrame] | None:
        """(sum of the stamp differences, frame) of a colour image; None = incomplete."""
        info = partner(Input.INFO, self._rings[Input.INFO], color.stamp_ns, self.slop_ns)
        if info is None:
            return None
        difference_ns = abs(info.stamp_ns - color.stamp_ns)
        if difference_ns > self.slop_ns:  # static: it says nothing about which image is complete
            difference_ns = 0
        if Input.DEPTH not in self.inputs:
            return difference_ns, RawFrame(color, None, info, self._camera)
        depth = partner(Input.DEPTH, self._rings[Input.DEPTH], color.stamp_ns, self.slop_ns)
        if depth is None:
            return None
        difference_ns += abs(depth.stamp_ns - color.stamp_ns)
        return difference_ns, RawFrame(color, depth, info, self._camera)

    def _check_depth(self, frame: RawFrame) -> None:
        """Raises DepthError if the depth may be of the image before, because its own has not come.

        Depth is some constant time before or after colour, less than half of its period.
        """
        stamps = self.stamps(Input.DEPTH) if frame.depth is not None else []
        periods = sorted(b - a for a, b in itertools.pairwise(stamps) if b > a)
        if frame.depth is None or not periods:
            return
        late_ns = frame.color.stamp_ns - max(stamps)
        if late_ns > periods[len(periods) // 2] / 2:
            raise DepthError(
                f"the depth of the image of stamp {frame.color.stamp_ns / 1e9:.3f} has not arrived;"
                f" the newest is {late_ns / 1e9:.3f} s older: ask again"
            )

    def _use(self, frame: RawFrame) -> RawFrame:
        """Count the frame, and keep it among the last used ones."""
        for kind in self.inputs:
            self.counters[kind].paired += 1
        others = [used for used in self._used if used.color is not frame.color]
        self._used = [*others, frame][-USED_FRAMES:]
        while len(self._used) > 1 and sum(used.size for used in self._used) > MAX_BYTES:
            del self._used[0]
        return frame

    def _missing(self, kind: Input) -> str:
        others = "; ".join(self.describe(other) for other in self.inputs if other is not kind)
        return f"no {kind.value} message. {self.describe(kind)}. Other inputs: {others}"

    def _unpaired(self, color: BufferedMessage) -> FrameError:
        """Why a colour image is incomplete: an input has no message near its stamp, or none."""
        for kind, error in PARTNER_ERRORS.items():
            if kind not in self.inputs:
                continue
            ring = self._rings[kind]
            if not ring:
                return error(self._missing(kind))
            if partner(kind, ring, color.stamp_ns, self.slop_ns) is None:
                reason = missing_partner(kind, ring, color.stamp_ns, self.slop_ns, _SLOP_OPTION)
                return error(f"{reason}. {self.describe(kind)}")
        return NoImageError(f"the colour image of stamp {color.stamp_ns} is incomplete")


def _accepted(frame: RawFrame) -> RawFrame:
    """The frame; raises the reason why one of its messages was refused."""
    for message in frame.messages:
        if message.refusal is not None:
            raise message.refusal
    return frame


@dataclass(frozen=True)
class ClockState:
    """The node's clock, for the cause of an image's age.

    Attributes:
        now_ns: the node's time, nanoseconds.
        monotonic_s: monotonic seconds at the same moment; None = the time of arrival is unknown.
        sim_time: the node's time is that of /clock; `now_ns` is 0 before its first message.
        stopped_s: seconds for which /clock has not advanced.
    """

    now_ns: int
    monotonic_s: float | None = None
    sim_time: bool = False
    stopped_s: float = 0.0


def check_age(frame: RawFrame, clock: ClockState, max_age_ns: int) -> None:
    """Reject an image that is older than `max_age_ns` by its stamp or by its arrival.

    Arrival counts too, because a stopped /clock keeps every stamp young. While /clock advances,
    only stamps count, because a bag may be played slowly. A stamp in the future is as wrong as one
    in the past: the clocks differ.

    Raises:
        StaleFrameError: states the age and the likely cause.
    """
    age_ns = clock.now_ns - frame.color.stamp_ns
    waited_s = 0.0 if clock.monotonic_s is None else clock.monotonic_s - frame.color.arrived
    late = min(waited_s, clock.stopped_s if clock.sim_time else waited_s) * 1e9 > max_age_ns
    if abs(age_ns) <= max_age_ns and not late:
        return
    raise StaleFrameError(
        f"the newest image cannot be used: {_stale_reason(frame, clock, waited_s, late)} (max_age "
        f"is {max_age_ns / 1e9:g} s)"
    )


def _stale_reason(frame: RawFrame, clock: ClockState, waited_s: float, late: bool) -> str:
    """Age and likely cause of an image that is not fresh; `late` = it arrived too long ago."""
    age_s = (clock.now_ns - frame.color.stamp_ns) / 1e9
    if clock.sim_time and clock.now_ns == 0:
        return (
            "use_sim_time is true but nothing has arrived on /clock: start the simulator or the "
            "bag's player with its clock, or set use_sim_time to false"
        )
    if clock.sim_time and clock.stopped_s > CLOCK_STOPPED_S:
        return (
            f"/clock stopped {clock.stopped_s:.1f} s ago, and the image arrived {waited_s:.1f} s "
            "ago: is the simulator or the bag paused?"
        )
    if frame.color.stamp_ns == 0:
        return "its header.stamp is 0: the driver does not set it"
    if late and abs(age_s) <= waited_s + _TRANSPORT_S:
        return f"it is {max(age_s, waited_s):.3f} s old: has the camera stopped?"
    if frame.color.stamp_ns < _EARLIEST_NS <= clock.now_ns:
        return (
            f"it is {age_s:.3f} s old by its stamp {frame.color.stamp_ns / 1e9:.3f}, which looks "
            "like the time since boot: set the driver to stamp with the system's time"
        )
    age = f"{-age_s:.3f} s in the future" if age_s < 0 else f"{age_s:.3f} s old"
    other = "/clock" if clock.sim_time else "this host's clock"
    hint = "is use_sim_time wrong?" if clock.sim_time else "for a bag set use_sim_time to true"
    return (
        f"it is {age}, but arrived {waited_s:.1f} s ago: the camera's clock and {other} differ; "
        f"synchronise them (chrony, PTP), or {hint}"
    )
