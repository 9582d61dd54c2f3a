"""A bag's colour images, each with its depth and camera info, paired by stamp and then decoded.

Streams the bag with a bounded number of undecoded messages in memory. Pairs messages by header
stamp as `camera.pairing` defines. Does not know questions or models.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from sdvlm_core.camera.assembly import frame_from_messages
from sdvlm_core.camera.bag_topics import Topics, find_topics
from sdvlm_core.camera.bag_transforms import BagTransforms, read_transforms
from sdvlm_core.camera.bags import Message, deserialize, stream
from sdvlm_core.camera.decoding import serialized_frame_id, serialized_stamp_ns
from sdvlm_core.camera.pairing import (
    PARTNER_ERRORS,
    Input,
    StampedMessage,
    missing_partner,
    partner,
)
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import (
    DepthError,
    FrameError,
    IntrinsicsError,
    ModelMemoryError,
    StaleFrameError,
    TransformError,
)
from sdvlm_core.frame import RgbdFrame

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader

Vector: TypeAlias = tuple[float, float, float]

_SLOP_OPTION = "--sync-slop"
# A colour image waits for its depth and camera info for at most this many newer colour images.
_MAX_WAITING_IMAGES = 8
# Capacity of the depth and of the camera info buffer: about one second at 30 Hz.
_MAX_BUFFERED_MESSAGES = 32
# Largest memory of each of these buffers.
_MAX_BUFFERED_BYTES = 512 << 20
# The first span of a search backwards; a camera's info is published with each image.
_FIRST_LOOK_BACK_NS = 200_000_000
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
        index: number of the colour image on its topic, from 0 or from the first one read.
        depth_info: the newest info of the depth camera; None = not recorded.
        refusal: the error that `decode` raises; None = the frame is complete.
    """

    index: int
    color: BagMessage
    depth: BagMessage | None = None
    info: BagMessage | None = None
    depth_info: BagMessage | None = None
    refusal: FrameError | None = None


@dataclass(frozen=True)
class CameraOptions:
    """What a user says about the camera of a bag.

    Attributes:
        color, depth, info: topics; None = find them.
        with_depth: False = depth is estimated.
        up: constant unit vector against gravity in the optical frame; None = unknown.
        gravity_frame: frame of the bag's transforms whose z axis points against gravity; "" = none.
    """

    color: str | None = None
    depth: str | None = None
    info: str | None = None
    with_depth: bool = True
    settings: CameraSettings = DEFAULT_SETTINGS
    up: Vector | None = None
    gravity_frame: str = ""


@dataclass(frozen=True)
class BagCamera:
    """The camera of a bag: what its frames are made of, and how; see `CameraOptions`.

    Attributes:
        transforms: needed with `gravity_frame`.
    """

    topics: Topics
    settings: CameraSettings = DEFAULT_SETTINGS
    up: Vector | None = None
    gravity_frame: str = ""
    transforms: BagTransforms | None = None

    def upward(self, frame_id: str, stamp_ns: int) -> Vector | None:
        """Unit vector against gravity in an optical frame at a stamp; None = unknown.

        Raises:
            TransformError: as `BagTransforms.up`.
        """
        if self.transforms is None:
            return self.up
        return self.transforms.up(frame_id, self.gravity_frame, stamp_ns)

    def describe(self) -> dict[str, Any]:
        """All that changes an answer, as JSON values."""
        return {
            "topics": asdict(self.topics),
            "settings": asdict(self.settings) | {"range_m": [*self.settings.range_m]},
            "up": None if self.up is None else [*self.up],
            "gravity_frame": self.gravity_frame,
        }


def open_camera(reader: Reader, options: CameraOptions) -> BagCamera:
    """Find the topics of a camera, and read the transforms if `gravity_frame` needs them.

    Raises:
        BagError: a topic is missing or ambiguous, or the transforms do not connect the first colour
            image with `gravity_frame`.
    """
    topics = find_topics(
        reader, options.color, options.depth, options.info, with_depth=options.with_depth
    )
    transforms = None
    if options.gravity_frame:
        transforms = read_transforms(reader)
        first = _first(reader, topics.color)
        if first is not None:
            # An image outside the recorded time is the caution of its frame alone.
            with suppress(FrameError):
                transforms.chains(serialized_frame_id(first.data), options.gravity_frame)
    return BagCamera(topics, options.settings, options.up, options.gravity_frame, transforms)


_Buffers: TypeAlias = dict[Input, deque[BagMessage]]


def frames(
    reader: Reader, topics: Topics, slop_ns: int, start_ns: int | None = None
) -> Iterator[BagFrame]:
    """The colour images of a bag, in the order of the bag, with their depth and camera info.

    Args:
        slop_ns: largest difference of the stamps of one frame, nanoseconds.
        start_ns: bag time; earlier images are left out, and so is their depth. None = all.
    """
    info = None if start_ns is None else _newest(reader, topics.info, start_ns)
    depth_info = None if start_ns is None else _newest(reader, topics.depth_info, start_ns)
    # Its first message may follow the first images, and holds for them as well.
    depth_info = depth_info or _first(reader, topics.depth_info)

    def paired_messages() -> Iterator[tuple[Input, BagMessage]]:
        nonlocal depth_info
        if info is not None:
            yield Input.INFO, info
        for kind, message in _messages(reader, topics, start_ns):
            if kind is None:
                depth_info = message
            else:
                yield kind, message

    for frame in pair(paired_messages(), slop_ns, topics.depth is not None):
        yield frame if depth_info is None else replace(frame, depth_info=depth_info)


def _first(reader: Reader, topic: str | None) -> BagMessage | None:
    """The first message of a topic."""
    messages = stream(reader, () if topic is None else (topic,))
    return next((_message(*one) for one in messages), None)


def _newest(reader: Reader, topic: str | None, bag_ns: int) -> BagMessage | None:
    """The newest message of a topic before a time. Looks back further and further: a camera may
    publish its info with each image, or once.
    """
    stop_ns, span_ns = bag_ns, _FIRST_LOOK_BACK_NS
    while topic is not None and stop_ns > reader.start_time:
        newest = deque(stream(reader, (topic,), stop_ns - span_ns, stop_ns), maxlen=1)
        if newest:
            return _message(*newest[0])
        stop_ns, span_ns = stop_ns - span_ns, span_ns * 8
    return None


def _message(connection: Connection, bag_ns: int, data: bytes | memoryview) -> BagMessage:
    stamp_ns = 0
    with suppress(FrameError):
        stamp_ns = serialized_stamp_ns(bytes(data[:12]))
    return BagMessage(stamp_ns, bytes(data), bag_ns, connection.msgtype)


def _messages(
    reader: Reader, topics: Topics, start_ns: int | None
) -> Iterator[tuple[Input | None, BagMessage]]:
    """The messages that form frames; None = info of the depth camera."""
    kinds: dict[str, Input | None] = {topics.color: Input.COLOR, topics.info: Input.INFO}
    if topics.depth is not None:
        kinds[topics.depth] = Input.DEPTH
    if topics.depth_info is not None:
        kinds[topics.depth_info] = None
    for connection, bag_ns, view in stream(reader, kinds, start_ns):
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
            while len(buffers[kind]) > 1 and _bytes(buffers[kind]) > _MAX_BUFFERED_BYTES:
                buffers[kind].popleft()
        while waiting and (
            len(waiting) > _MAX_WAITING_IMAGES
            or sum(len(color.data) for _, color in waiting) > _MAX_BUFFERED_BYTES
            or _is_certain(waiting[0][1], buffers, slop_ns)
        ):
            yield _complete(*waiting.popleft(), buffers, slop_ns)
    while waiting:
        yield _complete(*waiting.popleft(), buffers, slop_ns)


def _bytes(messages: Iterable[BagMessage]) -> int:
    return sum(len(message.data) for message in messages)


def _is_certain(color: BagMessage, buffers: _Buffers, slop_ns: int) -> bool:
    """Whether no later message can be nearer than the buffered ones."""
    return color.stamp_ns <= 0 or all(
        partner(kind, buffer, color.stamp_ns, slop_ns) is not None
        and buffer[-1].stamp_ns >= color.stamp_ns
        for kind, buffer in buffers.items()
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


def decode(frame: BagFrame, camera: BagCamera) -> RgbdFrame:
    """The decoded frame, as the node decodes it.

    Raises:
        FrameError: the frame is incomplete, or one of its messages cannot be read or used.
        ModelMemoryError: out of memory.
    """
    if frame.refusal is not None:
        raise frame.refusal
    assert frame.info is not None
    try:
        color = _deserialized(frame.color, FrameError)
        up, unknown = None, ""
        try:
            up = camera.upward(color.header.frame_id, frame.color.stamp_ns)
        except TransformError as error:
            unknown = str(error)
        decoded = frame_from_messages(
            color,
            None if frame.depth is None else _deserialized(frame.depth, DepthError),
            _deserialized(frame.info, IntrinsicsError),
            camera.settings,
            color_topic=camera.topics.color,
            depth_topic=camera.topics.depth or "",
            depth_info=_depth_info(frame),
            up=up,
        )
    except MemoryError as error:
        raise ModelMemoryError(
            f"out of memory while decoding an image of {len(frame.color.data)} bytes"
        ) from error
    if not unknown:
        return decoded
    # The user asked for up from the transforms: a guess instead of it must not pass for it.
    cautions = tuple(dict.fromkeys((*decoded.cautions, Caution.UP_UNCERTAIN)))
    return replace(decoded, cautions=cautions, reasons=(*decoded.reasons, unknown))


def _depth_info(frame: BagFrame) -> Message | None:
    """The info of the depth camera, which is optional; None also if it cannot be read."""
    with suppress(FrameError):
        if frame.depth_info is not None:
            return _deserialized(frame.depth_info, IntrinsicsError)
    return None


def _deserialized(message: BagMessage, refusal: type[FrameError]) -> Message:
    try:
        return deserialize(message.data, message.msgtype)
    except FrameError as error:
        raise refusal(str(error)) from error
