"""Reads recorded ROS 2 bags without ROS: opens them, streams and deserializes their messages.

Reads every bag that `rosbags` reads (sqlite3 and mcap, a directory or one file, compressed or not)
as a stream. Does not know what the messages are for (`camera.bag_topics`, `camera.bag_frames`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sdvlm_core.camera.bag_files import examine, repair_hint
from sdvlm_core.errors import BagError, FrameError, shown

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader
    from rosbags.typesys.store import Typestore

#: A deserialized message. Untyped, because `rosbags` creates the message classes at run time.
Message: TypeAlias = Any


@contextmanager
def open_bag(path: Path) -> Iterator[Reader]:
    """Open a bag for reading: the directory with metadata.yaml, or one .mcap or .db3 file.

    Raises:
        BagError: the bag cannot be read, is empty, or expands to more than the limits; says what
            the file is and what to do.
    """
    from sdvlm_core.camera.bag_reader import opened

    layout = examine(path)
    with ExitStack() as stack:
        try:
            reader = stack.enter_context(opened(path, layout))
        except BagError:
            raise
        except Exception as error:  # the type depends on which part of the file is damaged
            raise BagError(f"{path} cannot be read: {_reason(error)}{repair_hint(path)}") from error
        if not reader.message_count:
            raise BagError(
                f"{path} has no messages: nothing was recorded, or the recording was interrupted "
                f"(then: ros2 bag reindex {path})"
            )
        yield reader


def _reason(error: Exception) -> str:
    return shown(" ".join(str(error).split()) or type(error).__name__)


def stream(
    reader: Reader,
    topics: Collection[str],
    start_ns: int | None = None,
    stop_ns: int | None = None,
) -> Iterator[tuple[Connection, int, bytes | memoryview]]:
    """Connection, bag time in nanoseconds and message of these topics, in the order of the bag.

    Args:
        start_ns, stop_ns: bag times of the first message and after the last one; None = all.

    Raises:
        BagError: the rest of the bag cannot be read.
    """
    chosen = [c for c in reader.connections if c.topic in topics]
    try:
        if chosen:  # rosbags reads every topic if the list is empty
            yield from reader.messages(chosen, start_ns, stop_ns)
    except BagError:
        raise
    except Exception as error:  # the type depends on the damaged part, as in `open_bag`
        hint = repair_hint(Path(str(reader.path)))
        raise BagError(f"{reader.path} cannot be read further: {_reason(error)}{hint}") from error


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
