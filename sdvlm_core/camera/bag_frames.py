"""A bag's colour images, each with its depth and camera info, paired by stamp and then decoded.

Streams the bag with a bounded number of undecoded messages in memory. Pairs messages by header
stamp as `camera.pairing` defines. Does not know questions or models.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sdvlm_core.camera.assembly import frame_from_messages
from sdvlm_core.camera.bag_topics import Topics
from sdvlm_core.camera.bags import Message, deserialize, stream
from sdvlm_core.camera.decoding import serialized_stamp_ns
from sdvlm_core.camera.pairing import (
    PARTNER_ERRORS,
    Input,
    StampedMessage,
    missing_partner,
    nearest,
    partner,
)
from sdvlm_core.errors import (
    DepthError,
    FrameError,
    IntrinsicsError,
    ModelMemoryError,
    StaleFrameError,
)
from sdvlm_core.frame import RgbdFrame

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

_SLOP_OPTION = "--sync-slop"
# A colour image waits for its depth and camera info for at most this many newer colour images.
_MAX_WAITING_IMAGES = 8
# Capacity of the depth and of the camera info buffer: about one second at 30 Hz.
_MAX_BUFFERED_MESSAGES = 32
# Stands for the stamp of a colour message that is too short to have a header.
_NO_HEADER_NS = -1


@dataclass(frozen=True, eq=False)
class BagMessage(StampedMessage):
    """A message of a bag; `bag_ns` is the time at which it was recorded, nanoseconds."""

    bag_ns: int
    msgtype: str


@dataclass(frozen=True, eq=False)
class BagFrame:
    """An undecoded colour image with its depth and camera info, or the error if one is missing.

    Attributes:
        index: number of the colour image on its topic, from 0.
        refusal: the error that `decode` raises; None = the frame is complete.
    """

    index: int
    color: BagMessage
    depth: BagMessage | None = None
    info: BagMessage | None = None
    refusal: FrameError | None = None


_Buffers: TypeAlias = dict[Input, deque[BagMessage]]


def frames(reader: Reader, topics: Topics, slop_ns: int) -> Iterator[BagFrame]:
    """Every colour image of a bag, in the order of the bag, with its depth and camera info.

    Args:
        slop_ns: largest difference of the stamps of one frame, nanoseconds.
    """
    return pair(_messages(reader, topics), slop_ns, topics.depth is not None)


def _messages(reader: Reader, topics: Topics) -> Iterator[tuple[Input, BagMessage]]:
    kinds = {topics.color: Input.COLOR, topics.info: Input.INFO}
    if topics.depth is not None:
        kinds[topics.depth] = Input.DEPTH
    for connection, bag_ns, view in stream(reader, kinds):
        kind, data = kinds[connection.topic], bytes(view)
        try:
            stamp_ns = serialized_stamp_ns(data)
        except FrameError:
            if kind is not Input.COLOR:
                continue  # cannot be paired without a stamp; its colour image reports it as missing
            stamp_ns = _NO_HEADER_NS
        yield kind, BagMessage(stamp_ns, data, bag_ns, connection.msgtype)


def pair(
    messages: Iterable[tuple[Input, BagMessage]], slop_ns: int, with_depth: bool = True
) -> Iterator[BagFrame]:
    """Yield each colour image with the nearest depth and camera info.

    A matching message may be recorded before or after its colour image. A colour image is yielded
    when no nearer message can follow, or after eight newer colour images.
    """
    partners = (Input.DEPTH, Input.INFO) if with_depth else (Input.INFO,)
    buffers: _Buffers = {kind: deque(maxlen=_MAX_BUFFERED_MESSAGES) for kind in partners}
    waiting: deque[tuple[int, BagMessage]] = deque()
    count = 0
    for kind, message in messages:
        if kind is Input.COLOR:
            waiting.append((count, message))
            count += 1
        else:
            buffers[kind].append(message)
        while waiting and (
            len(waiting) > _MAX_WAITING_IMAGES or _is_certain(waiting[0][1], buffers, slop_ns)
        ):
            yield _complete(*waiting.popleft(), buffers, slop_ns)
    while waiting:
        yield _complete(*waiting.popleft(), buffers, slop_ns)


def _is_certain(color: BagMessage, buffers: _Buffers, slop_ns: int) -> bool:
    """Whether no later message can be nearer than the buffered ones."""
    return color.stamp_ns <= 0 or all(
        nearest(buffer, color.stamp_ns, slop_ns) is not None
        and buffer[-1].stamp_ns >= color.stamp_ns
        for buffer in buffers.values()
    )


def _complete(index: int, color: BagMessage, buffers: _Buffers, slop_ns: int) -> BagFrame:
    if color.stamp_ns == _NO_HEADER_NS:
        reason = f"a colour message of {len(color.data)} bytes has no header"
        return BagFrame(index, color, refusal=FrameError(reason))
    if color.stamp_ns <= 0:
        reason = (
            "the colour image's header.stamp is 0, so it cannot be paired with depth: the driver "
            "does not set it"
        )
        return BagFrame(index, color, refusal=StaleFrameError(reason))
    found = {
        kind: partner(kind, buffer, color.stamp_ns, slop_ns) for kind, buffer in buffers.items()
    }
    for kind, error in PARTNER_ERRORS.items():
        if kind in found and found[kind] is None:
            reason = missing_partner(kind, buffers[kind], color.stamp_ns, slop_ns, _SLOP_OPTION)
            return BagFrame(index, color, refusal=error(reason))
    return BagFrame(index, color, found.get(Input.DEPTH), found[Input.INFO])


def decode(frame: BagFrame) -> RgbdFrame:
    """The decoded frame.

    Raises:
        FrameError: the frame is incomplete, or one of its messages cannot be read or used.
        ModelMemoryError: out of memory.
    """
    if frame.refusal is not None:
        raise frame.refusal
    assert frame.info is not None
    try:
        return frame_from_messages(
            _deserialized(frame.color, FrameError),
            None if frame.depth is None else _deserialized(frame.depth, DepthError),
            _deserialized(frame.info, IntrinsicsError),
        )
    except MemoryError as error:
        raise ModelMemoryError(
            f"out of memory while decoding an image of {len(frame.color.data)} bytes"
        ) from error


def _deserialized(message: BagMessage, refusal: type[FrameError]) -> Message:
    try:
        return deserialize(message.data, message.msgtype)
    except FrameError as error:
        raise refusal(str(error)) from error
