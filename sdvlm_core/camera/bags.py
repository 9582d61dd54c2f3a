"""A recorded ROS 2 bag -> frames, without ROS: which topics, which messages belong together.

Reads what `rosbags` reads (sqlite3 and mcap, a directory or one file, any of its compressions) as
a stream: never more than a few dozen undecoded messages are held. Pairs by header stamp as the
node's FrameBuffer does: the nearest depth and camera info, and none that is too far. Does not know
questions or models.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdvlm_core.camera.decoding import (
    Message,
    frame_from_messages,
    is_color,
    is_depth,
    serialized_stamp_ns,
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

#: Names of the node's inputs, raw and as image_transport compresses them.
COLOR_NAMES = ("rgb/image_rect_color", "rgb/image_rect_color/compressed")
DEPTH_NAMES = ("depth_registered/image_rect", "depth_registered/image_rect/compressedDepth")
INFO_NAMES = ("rgb/camera_info",)

_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_INFO = "sensor_msgs/msg/CameraInfo"
# How long a colour image waits for what belongs to it: so many newer ones, as in the node.
_PATIENCE = 8
# In place of a stamp, where the message is too short to have one.
_NO_HEADER = -1
# Of depth and info each; about a second of a camera.
_KEPT = 32


class Input(Enum):
    """The three streams that make a frame."""

    COLOR = "colour"
    DEPTH = "depth"
    INFO = "camera_info"


@dataclass(frozen=True)
class Topics:
    """Where the three streams are; no depth where it is estimated."""

    color: str
    depth: str | None
    info: str


@dataclass(frozen=True, eq=False)
class Stamped:
    """A serialized message: header stamp and the bag's own time, nanoseconds."""

    stamp_ns: int
    bag_ns: int
    data: bytes
    msgtype: str


@dataclass(frozen=True, eq=False)
class BagFrame:
    """A colour image with what belongs to it, undecoded, or the reason why that is not there.

    Attributes:
        index: of the colour image among those of its topic, from 0.
        refusal: None = the frame is complete.
    """

    index: int
    color: Stamped
    depth: Stamped | None = None
    info: Stamped | None = None
    refusal: FrameError | None = None


@contextmanager
def open_bag(path: Path) -> Iterator[Reader]:
    """A bag for reading: the directory with metadata.yaml, or one .mcap or .db3 file.

    Raises:
        BagError: it cannot be read.
    """
    from rosbags.rosbag2 import Reader

    if not path.exists():
        raise BagError(f"{path} is not there")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise BagError(
            f"{path} is not the directory of a ROS 2 bag: it has no metadata.yaml "
            "(`ros2 bag reindex` writes one)"
        )
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:  # what a torn file leads to depends on where it is torn
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
        BagError: the bag cannot be read further.
    """
    chosen = [c for c in reader.connections if c.topic in topics]
    try:
        if chosen:  # none would mean all
            yield from reader.messages(chosen)
    except Exception as error:  # as above
        raise BagError(f"{reader.path} cannot be read further: {error}") from error


def find_topics(
    reader: Reader,
    color: str | None = None,
    depth: str | None = None,
    info: str | None = None,
    with_depth: bool = True,
) -> Topics:
    """The topics that were named; else those with the usual names; else the only ones there are.

    What an image topic holds is told by its first message (encoding or format), not by its name.

    Raises:
        BagError: one is missing or several would do; lists the bag's topics.
    """
    types = {
        c.topic: c.msgtype
        for c in reader.connections
        if c.msgcount and c.msgtype in (*_IMAGES, _INFO)
    }
    images = [topic for topic, kind in types.items() if kind in _IMAGES]
    peeked: dict[str, Message] | None = None

    def choose(kind: Input, given: str | None, names: tuple[str, ...], test: Any) -> str:
        nonlocal peeked
        if given is not None:
            name = "/" + given.lstrip("/")
            if name in images:
                return name
            raise _unclear(reader, kind, f"the bag has no images on {name}")
        for usual in names:
            found = [topic for topic in images if topic.endswith("/" + usual)]
            if len(found) == 1:
                return found[0]
        if peeked is None:
            peeked = _first_messages(reader, images)
        found = _without_copies([topic for topic in images if test(peeked.get(topic))])
        if len(found) != 1:
            raise _unclear(reader, kind, f"{_several(found)} could be {kind.value}")
        return found[0]

    color_topic = choose(Input.COLOR, color, COLOR_NAMES, is_color)
    depth_topic = choose(Input.DEPTH, depth, DEPTH_NAMES, is_depth) if with_depth else None
    infos = [topic for topic, kind in types.items() if kind == _INFO]
    return Topics(color_topic, depth_topic, _info_topic(reader, infos, info, color_topic))


def _info_topic(reader: Reader, infos: list[str], given: str | None, color: str) -> str:
    if given is not None:
        name = "/" + given.lstrip("/")
        if name in infos:
            return name
        raise _unclear(reader, Input.INFO, f"the bag has no camera info on {name}")
    # Drivers publish it beside the image, so it need not be the only one.
    image = color.removesuffix("/compressed")
    beside = image.rsplit("/", 1)[0] + "/camera_info"
    if beside in infos:
        return beside
    if len(infos) != 1:
        raise _unclear(reader, Input.INFO, f"{_several(infos)} could be the colour camera's info")
    return infos[0]


def _several(found: list[str]) -> str:
    return " and ".join(found) if found else "no topic"


def _without_copies(topics: list[str]) -> list[str]:
    """Without the compressed copies of topics that are there raw."""
    return [t for t in topics if not (t.count("/") > 1 and t.rsplit("/", 1)[0] in topics)]


def _unclear(reader: Reader, kind: Input, reason: str) -> BagError:
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
    """The first message of each topic that can be read."""
    first: dict[str, Message] = {}
    missing = set(topics)
    for connection, _, data in stream(reader, topics):
        if connection.topic in missing:
            missing.discard(connection.topic)
            try:
                first[connection.topic] = deserialize(data, connection.msgtype)
            except FrameError:
                continue  # cannot be told; named by the user, it is answered with errors
        if not missing:
            break
    return first


def frames(reader: Reader, topics: Topics, slop_ns: int) -> Iterator[BagFrame]:
    """Every colour image of a bag in the order of the bag, with what belongs to it.

    Args:
        slop_ns: how far apart the stamps of one frame may be, nanoseconds.
    """
    return pair(_messages(reader, topics), slop_ns, topics.depth is not None)


def _messages(reader: Reader, topics: Topics) -> Iterator[tuple[Input, Stamped]]:
    kinds = {topics.color: Input.COLOR, topics.info: Input.INFO}
    if topics.depth is not None:
        kinds[topics.depth] = Input.DEPTH
    for connection, bag_ns, view in stream(reader, kinds):
        kind, data = kinds[connection.topic], bytes(view)
        try:
            stamp_ns = serialized_stamp_ns(data)
        except FrameError:
            if kind is not Input.COLOR:
                continue  # belongs to nothing; the colour image will say what it lacks
            stamp_ns = _NO_HEADER
        yield kind, Stamped(stamp_ns, bag_ns, data, connection.msgtype)


def pair(
    messages: Iterable[tuple[Input, Stamped]], slop_ns: int, with_depth: bool = True
) -> Iterator[BagFrame]:
    """Colour images with their depth and info, nearest in stamp, each as soon as that is known.

    A colour image waits until nothing nearer can come, but for no more than eight newer ones: in a
    bag, what belongs to it may be logged before it or after it.
    """
    partners = (Input.DEPTH, Input.INFO) if with_depth else (Input.INFO,)
    rings: dict[Input, deque[Stamped]] = {kind: deque(maxlen=_KEPT) for kind in partners}
    waiting: deque[BagFrame] = deque()
    count = 0
    for kind, message in messages:
        if kind is Input.COLOR:
            waiting.append(BagFrame(count, message))
            count += 1
        else:
            rings[kind].append(message)
        while waiting and (len(waiting) > _PATIENCE or _settled(waiting[0], rings, slop_ns)):
            yield _completed(waiting.popleft(), rings, slop_ns)
    while waiting:
        yield _completed(waiting.popleft(), rings, slop_ns)


def nearest(messages: Iterable[Stamped], stamp_ns: int, slop_ns: int) -> Stamped | None:
    """Of messages in the order of arrival the nearest in stamp; of two equally near the newer."""
    best = min(reversed([*messages]), key=lambda m: abs(m.stamp_ns - stamp_ns), default=None)
    if best is None or abs(best.stamp_ns - stamp_ns) > slop_ns:
        return None
    return best


def _settled(frame: BagFrame, rings: dict[Input, deque[Stamped]], slop_ns: int) -> bool:
    """Whether no message that is still to come can be nearer than what is here."""
    stamp_ns = frame.color.stamp_ns
    return stamp_ns <= 0 or all(
        nearest(ring, stamp_ns, slop_ns) is not None and ring[-1].stamp_ns >= stamp_ns
        for ring in rings.values()
    )


def _completed(frame: BagFrame, rings: dict[Input, deque[Stamped]], slop_ns: int) -> BagFrame:
    color = frame.color
    if color.stamp_ns <= 0:
        refusal: FrameError = StaleFrameError(
            "the colour image's header.stamp is 0, so nobody knows what belongs to it: the driver "
            "did not set it"
        )
        if color.stamp_ns == _NO_HEADER:
            refusal = FrameError(f"a colour message of {len(color.data)} bytes holds no header")
        return BagFrame(frame.index, color, refusal=refusal)
    found = {kind: nearest(ring, color.stamp_ns, slop_ns) for kind, ring in rings.items()}
    for kind, refused in ((Input.DEPTH, DepthError), (Input.INFO, IntrinsicsError)):
        if kind in found and found[kind] is None:
            apart = min((abs(m.stamp_ns - color.stamp_ns) for m in rings[kind]), default=None)
            near = "none came before it or soon after"
            if apart is not None:
                near = f"the nearest is {apart / 1e9:.3f} s away"
            refusal = refused(
                f"no {kind.value} within {slop_ns / 1e9:g} s (--sync-slop) of the colour image: "
                f"{near}"
            )
            return BagFrame(frame.index, color, refusal=refusal)
    return BagFrame(frame.index, color, found.get(Input.DEPTH), found[Input.INFO])


def decode(frame: BagFrame) -> RgbdFrame:
    """The decoded frame.

    Raises:
        FrameError: it is incomplete, or one of its messages cannot be read or used.
        ModelMemoryError: out of memory.
    """
    if frame.refusal is not None:
        raise frame.refusal
    assert frame.info is not None
    try:
        return frame_from_messages(
            _read(frame.color, FrameError),
            frame.depth and _read(frame.depth, DepthError),
            _read(frame.info, IntrinsicsError),
        )
    except MemoryError as error:
        raise ModelMemoryError(
            f"out of memory while decoding an image of {len(frame.color.data)} bytes"
        ) from error


def _read(message: Stamped, refusal: type[FrameError]) -> Message:
    try:
        return deserialize(message.data, message.msgtype)
    except FrameError as error:
        raise refusal(str(error)) from error


def deserialize(data: bytes | memoryview, msgtype: str) -> Message:
    """A message of the standard packages.

    Raises:
        FrameError: the bytes are no such message.
    """
    from rosbags.serde import SerdeError

    try:
        return typestore().deserialize_cdr(data, msgtype)
    except (SerdeError, IndexError, AssertionError) as error:
        raise FrameError(f"a message of {len(data)} bytes is no {msgtype}: {error}") from error


@cache
def typestore() -> Typestore:
    """The standard messages; those used here are the same in every ROS 2 since Foxy."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)
