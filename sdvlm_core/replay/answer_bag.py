"""Answers of a replay as a bag (mcap) that opens in Foxglove, RViz and `ros2 bag play`.

Same clock as the replayed bag, so both can be viewed together:
    /spatial_query/answers                     sdvlm/msg/SpatialAnswer
    /spatial_query/markers                     visualization_msgs/msg/MarkerArray
    /spatial_query/annotated_image/compressed  sensor_msgs/msg/CompressedImage
    /rosout                                    rcl_interfaces/msg/Log: why an answer is missing
    /tf, /tf_static                            as recorded, so that viewers can place the markers
Builds messages with `rosbags` from the entries of answers.jsonl; does not know models or ROS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdvlm_core.answer import answer_from_document
from sdvlm_core.camera import messages
from sdvlm_core.camera.bags import Message
from sdvlm_core.camera.definitions import DEFINITIONS

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Writer
    from rosbags.typesys.store import Typestore

ANSWERS = "/spatial_query/answers"
MARKERS = "/spatial_query/markers"
PICTURES = "/spatial_query/annotated_image/compressed"
LOG = "/rosout"
TRANSFORMS = ("/tf", "/tf_static")

_TYPES = {
    ANSWERS: "sdvlm/msg/SpatialAnswer",
    MARKERS: "visualization_msgs/msg/MarkerArray",
    PICTURES: "sensor_msgs/msg/CompressedImage",
    LOG: "rcl_interfaces/msg/Log",
}
_SPHERE_M = 0.05
_TEXT_M = 0.05
_PINK, _WHITE = (255, 46, 120), (255, 255, 255)


@cache
def typestore() -> Typestore:
    """The standard messages and those of the package `sdvlm`."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    types = get_typestore(Stores.ROS2_JAZZY)
    for name, text in DEFINITIONS.items():
        types.register(get_types_from_msg(text, name))
    return types


class AnswerBag:
    """Writes the topics above; made by `open_answer_bag`. Times are the bag's, nanoseconds."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._connections = {
            topic: writer.add_connection(topic, kind, typestore=typestore())
            for topic, kind in _TYPES.items()
        }
        self._marked = False

    def transform(self, connection: Connection, bag_ns: int, data: bytes | memoryview) -> None:
        """Copy a recorded /tf or /tf_static message."""
        if connection.topic not in self._connections:
            self._connections[connection.topic] = self._writer.add_connection(
                connection.topic,
                connection.msgtype,
                typestore=typestore(),
                offered_qos_profiles=getattr(connection.ext, "offered_qos_profiles", ()),
            )
        self._writer.write(self._connections[connection.topic], bag_ns, data)

    def frame(self, bag_ns: int, header: Message | None, entries: Sequence[dict[str, Any]]) -> None:
        """Write the answers and errors about one frame; `header` is the colour image's."""
        for entry in entries:
            if entry["answer"] is None or header is None:
                self._write(LOG, bag_ns, _log(entry, bag_ns))
            else:
                self._write(ANSWERS, bag_ns, answer_message(entry, header))
        markers = _markers(entries, header) if header is not None else []
        # Markers have no lifetime: the next frame with questions removes them.
        if markers or (self._marked and entries[0]["frame"] is not None):
            remove = messages.delete_all_marker(
                make_message, header or messages.header_message(make_message, 0, "")
            )
            array = make_message(_TYPES[MARKERS], markers=[remove, *markers])
            self._write(MARKERS, bag_ns, array)
            self._marked = bool(markers)

    def picture(self, bag_ns: int, header: Message, jpeg: bytes) -> None:
        """Write an annotated image."""
        message = make_message(_TYPES[PICTURES], header=header, format="jpeg", data=jpeg)
        self._write(PICTURES, bag_ns, message)

    def _write(self, topic: str, bag_ns: int, message: Message) -> None:
        data = typestore().serialize_cdr(message, _TYPES[topic])
        self._writer.write(self._connections[topic], bag_ns, data)


@contextmanager
def open_answer_bag(path: Path) -> Iterator[AnswerBag]:
    """A new bag in the directory `path`, new or empty; complete when the block ends."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    if path.is_dir():
        path.rmdir()  # rosbags creates it and refuses an existing one
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        yield AnswerBag(writer)


def answer_message(entry: dict[str, Any], header: Message) -> Message:
    """An entry with an answer -> SpatialAnswer, as the node publishes it."""
    answer = answer_from_document(entry["answer"])
    return messages.answer_message(make_message, answer, header, f"replay-{entry['entry']}")


def make_message(type_name: str, /, **fields: object) -> Message:
    """A message of `rosbags`; see `camera.messages.MessageFactory`."""
    arrays: dict[str, Any] = {
        name: np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
        for name, value in fields.items()
    }
    return typestore().types[type_name](**arrays)


def _log(entry: dict[str, Any], bag_ns: int) -> Message:
    error = entry["error"] or {"name": "UNKNOWN", "message": "the colour image cannot be read"}
    return make_message(
        _TYPES[LOG],
        stamp=messages.time_message(make_message, bag_ns),
        level=40,  # ERROR
        name="sdvlm.replay",
        msg=f"{entry['question']} {error['name']}: {error['message']}",
        file="",
        function="",
        line=0,
    )


def _markers(entries: Sequence[dict[str, Any]], header: Message) -> list[Message]:
    """A sphere and a text for each 3-D position."""
    markers: list[Message] = []
    for entry in entries:
        for position in (entry["answer"] or {}).get("positions", ()):
            x, y, z = position["x"], position["y"], position["z"]
            text = f"{position['label'] or entry['question']}\n{x:.2f} {y:.2f} {z:.2f} m"
            text += "".join(f"\n{code}" for code in entry["answer"]["cautions"])
            number = len(markers)
            markers.append(
                messages.marker(
                    make_message,
                    header,
                    "sdvlm",
                    number,
                    messages.Shape.SPHERE,
                    rgb=_PINK,
                    position=(x, y, z),
                    scale=(_SPHERE_M,) * 3,
                )
            )
            markers.append(
                messages.marker(
                    make_message,
                    header,
                    "sdvlm",
                    number + 1,
                    messages.Shape.TEXT_VIEW_FACING,
                    rgb=_WHITE,
                    position=(x, y - 1.5 * _SPHERE_M, z),  # Y points down
                    scale=(_TEXT_M,) * 3,
                    text=text,
                )
            )
    return markers
