"""Reads frames from a recorded ROS 2 bag, without ROS: finds the topics and pairs the messages.

Reads every bag that `rosbags` reads (sqlite3 and mcap, a directory or one file, compressed or not)
as a stream, with at most a few dozen undecoded messages in memory. Pairs messages by header stamp
as `camera.pairing` defines. Does not know questions or models.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sdvlm_core.camera.assembly import frame_from_messages
from sdvlm_core.camera.decoding import (
    is_color,
    is_depth,
    serialized_stamp_ns,
)
from sdvlm_core.camera.pairing import (
    PARTNER_ERRORS,
    Input,
    StampedMessage,
    missing_partner,
    nearest,
)
from sdvlm_core.errors import (
    BagError,
    DepthError,
    FrameError,
    IntrinsicsError,
    ModelMemoryError,
    StaleFrameError,
)
from sdvlm_core.frame import RgbdFrame

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader
    from rosbags.typesys.store import Typestore

#: A deserialized message. Untyped, because `rosbags` creates the message classes at run time.
Message: TypeAlias = Any

#: Names of the node's inputs, raw and as image_transport compresses them.
COLOR_NAMES = ("rgb/image_rect_color", "rgb/image_rect_color/compressed")
DEPTH_NAMES = ("depth_registered/image_rect", "depth_registered/image_rect/compressedDepth")
INFO_NAMES = ("rgb/camera_info",)

_IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
_SLOP_OPTION = "--sync-slop"
# A colour image waits for its depth and camera info for at most this many newer colour images.
_MAX_WAITING_IMAGES = 8
# Capacity of the depth and of the camera info buffer: about one second at 30 Hz.
_MAX_BUFFERED_MESSAGES = 32
# Stands for the stamp of a colour message that is too short to have a header.
_NO_HEADER_NS = -1


@dataclass(frozen=True)
class Topics:
    """Topics of colour, depth and camera info; `depth` is None if depth is estimated."""

    color: str
    depth: str | None
    info: str


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


@contextmanager
def open_bag(path: Path) -> Iterator[Reader]:
    """Open a bag for reading: the directory with metadata.yaml, or one .mcap or .db3 file.

    Raises:
        BagError: the bag cannot be read.
    """
    from rosbags.rosbag2 import Reader

    if not path.exists():
        raise BagError(f"{path} does not exist")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise BagError(
            f"{path} is not the directory of a ROS 2 bag: it has no metadata.yaml "
            "(`ros2 bag reindex` writes one)"
        )
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:  # the type depends on which part of the file is damaged
        raise BagError(f"{path} cannot be read: {error}") from error
    try:
        yield reader
    finally:
        reader.close()


def stream(
    reader: Reader, topics: Collection[str]
) -> Iterator[tuple[Connection, int, bytes | memoryview]]:
    """Connection, bag time in nanoseconds and message of these topics, in the order of the bag.

    Raises:
        BagError: the rest of the bag cannot be read.
    """
    chosen = [c for c in reader.connections if c.topic in topics]
    try:
        if chosen:  # rosbags reads every topic if the list is empty
            yield from reader.messages(chosen)
    except Exception as error:  # the type depends on the damaged part, as in `open_bag`
        raise BagError(f"{reader.path} cannot be read further: {error}") from error


def find_topics(
    reader: Reader,
    color: str | None = None,
    depth: str | None = None,
    info: str | None = None,
    with_depth: bool = True,
) -> Topics:
    """Select the topics of colour, depth and camera info.

    Uses the given topic; otherwise a topic with a usual name; otherwise the only topic with
    matching content. The encoding or format of an image topic's first message is its content.

    Raises:
        BagError: a topic is missing or ambiguous; lists the bag's topics.
    """
    types = {
        c.topic: c.msgtype
        for c in reader.connections
        if c.msgcount and c.msgtype in (*_IMAGE_TYPES, _INFO_TYPE)
    }
    images = [topic for topic, msgtype in types.items() if msgtype in _IMAGE_TYPES]
    infos = [topic for topic, msgtype in types.items() if msgtype == _INFO_TYPE]
    first = cache(lambda: _first_messages(reader, images))
    color_topic = _image_topic(reader, images, Input.COLOR, color, COLOR_NAMES, is_color, first)
    depth_topic = None
    if with_depth:
        depth_topic = _image_topic(reader, images, Input.DEPTH, depth, DEPTH_NAMES, is_depth, first)
    return Topics(color_topic, depth_topic, _info_topic(reader, infos, info, color_topic))


def _image_topic(
    reader: Reader,
    images: list[str],
    kind: Input,
    given: str | None,
    usual_names: tuple[str, ...],
    fits: Callable[[Message], bool],
    first_messages: Callable[[], dict[str, Message]],
) -> str:
    if given is not None:
        name = "/" + given.lstrip("/")
        if name in images:
            return name
        raise _ambiguous(reader, kind, f"the bag has no images on {name}")
    for usual in usual_names:
        found = [topic for topic in images if topic.endswith("/" + usual)]
        if len(found) == 1:
            return found[0]
    found = [topic for topic, message in first_messages().items() if fits(message)]
    found = _without_copies(found)
    if len(found) != 1:
        raise _ambiguous(reader, kind, f"{_listed(found)} could be {kind.value}")
    return found[0]


def _info_topic(reader: Reader, infos: list[str], given: str | None, color: str) -> str:
    if given is not None:
        name = "/" + given.lstrip("/")
        if name in infos:
            return name
        raise _ambiguous(reader, Input.INFO, f"the bag has no camera info on {name}")
    # Drivers publish camera_info in the image's namespace; it may not be the only camera_info.
    image = color.removesuffix("/compressed")
    beside = image.rsplit("/", 1)[0] + "/camera_info"
    if beside in infos:
        return beside
    if len(infos) != 1:
        reason = f"{_listed(infos)} could be the colour camera's info"
        raise _ambiguous(reader, Input.INFO, reason)
    return infos[0]


def _listed(found: list[str]) -> str:
    return " and ".join(found) if found else "no topic"


def _without_copies(topics: list[str]) -> list[str]:
    """The topics except compressed copies of raw topics in the same list."""
    return [t for t in topics if not (t.count("/") > 1 and t.rsplit("/", 1)[0] in topics)]


def _ambiguous(reader: Reader, kind: Input, reason: str) -> BagError:
    option = {Input.COLOR: "--color", Input.DEPTH: "--depth", Input.INFO: "--info"}[kind]
    estimate = ", or --estimate-depth" if kind is Input.DEPTH else ""
    listing = "".join(
        f"\n  {topic} ({info.msgtype}, {info.msgcount} messages)"
        for topic, info in sorted(reader.topics.items())
    )
    return BagError(
        f"{reason}; choose with {option} TOPIC{estimate}. The bag has:{listing or ' no topics'}"
    )


def _first_messages(reader: Reader, topics: list[str]) -> dict[str, Message]:
    """The first message of each topic, in the order of `topics`; unreadable ones are left out."""
    first: dict[str, Message | None] = dict.fromkeys(topics)
    pending = set(topics)
    for connection, _, data in stream(reader, topics):
        if connection.topic in pending:
            pending.discard(connection.topic)
            # The user can still select an unreadable topic. Its frames are then errors.
            with suppress(FrameError):
                first[connection.topic] = deserialize(data, connection.msgtype)
        if not pending:
            break
    return {topic: message for topic, message in first.items() if message is not None}


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
    found = {kind: nearest(buffer, color.stamp_ns, slop_ns) for kind, buffer in buffers.items()}
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


def deserialize(data: bytes | memoryview, msgtype: str) -> Message:
    """Deserialize a message of the standard packages.

    Raises:
        FrameError: the bytes are not a message of this type.
    """
    from rosbags.serde import SerdeError

    try:
        return typestore().deserialize_cdr(data, msgtype)
    except (SerdeError, IndexError, AssertionError) as error:
        raise FrameError(f"a message of {len(data)} bytes is not a {msgtype}: {error}") from error


@cache
def typestore() -> Typestore:
    """The standard messages; the ones used here have not changed since ROS 2 Foxy."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)
