"""Answers of a replay as a bag (mcap) that opens in Foxglove, RViz and `ros2 bag play`.

Same clock as the bag that was replayed, so the two can be looked at together:
    /spatial_query/answers                     sdvlm/msg/SpatialAnswer
    /spatial_query/markers                     visualization_msgs/msg/MarkerArray
    /spatial_query/annotated_image/compressed  sensor_msgs/msg/CompressedImage
    /rosout                                    rcl_interfaces/msg/Log: why there is no answer
    /tf, /tf_static                            as recorded, so that markers have a place
Builds messages of `rosbags`; knows entries of answers.jsonl, but neither models nor ROS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdvlm_core.answer import Kind, Source, Status, Verdict
from sdvlm_core.camera.decoding import Message
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
_SPHERE_METRES = 0.05
_TEXT_METRES = 0.05


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
        # Markers stay until they are taken away, by the next frame that is asked about.
        if markers or (self._marked and entries[0]["frame"] is not None):
            self._write(
                MARKERS,
                bag_ns,
                _make(
                    "visualization_msgs/msg/MarkerArray",
                    markers=[_marker(header, 0, action=3), *markers],
                ),
            )
            self._marked = bool(markers)

    def picture(self, bag_ns: int, header: Message, jpeg: bytes) -> None:
        """Write an annotated picture."""
        data = np.frombuffer(jpeg, np.uint8)
        message = _make(_TYPES[PICTURES], header=header, format="jpeg", data=data)
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
    answer = entry["answer"]
    timings = answer["timings"]
    return _make(
        _TYPES[ANSWERS],
        header=header,
        id=f"replay-{entry['entry']}",
        question=answer["question"],
        status=Status[answer["status"]].value,
        text=answer["text"],
        measurements=[
            _make(
                "sdvlm/msg/Measurement",
                kind=Kind[m["kind"]].value,
                value=_number(m["value"]),
                std_dev=_number(m["std_dev"]),
                source=Source[m["source"]].value,
                label=m["label"],
                text=m["text"],
            )
            for m in answer["measurements"]
        ],
        positions=[_point(p["x"], p["y"], p["z"]) for p in answer["positions"]],
        position_labels=[p["label"] for p in answer["positions"]],
        verdict=Verdict[answer["verdict"]].value,
        confidence=_number(answer["confidence"]),
        model_id=answer["model_id"],
        depth_source=answer["depth_source"],
        queue_time=_duration(timings["queue"]),
        encode_time=_duration(timings["encode"]),
        generate_time=_duration(timings["prefill"] + timings["decode"] + timings["measure"]),
    )


def _make(kind: str, /, **fields: Any) -> Message:
    return typestore().types[kind](**fields)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _duration(seconds: float) -> Message:
    whole, nanosec = divmod(round(seconds * 1e9), 1_000_000_000)
    return _make("builtin_interfaces/msg/Duration", sec=whole, nanosec=nanosec)


def _time(stamp_ns: int) -> Message:
    seconds, nanosec = divmod(stamp_ns, 1_000_000_000)
    return _make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanosec)


def _point(x: float, y: float, z: float) -> Message:
    return _make("geometry_msgs/msg/Point", x=x, y=y, z=z)


def _log(entry: dict[str, Any], bag_ns: int) -> Message:
    error = entry["error"] or {"name": "UNKNOWN", "message": "the colour image cannot be read"}
    return _make(
        _TYPES[LOG],
        stamp=_time(bag_ns),
        level=40,  # ERROR
        name="sdvlm.replay",
        msg=f"{entry['question']} {error['name']}: {error['message']}",
        file="",
        function="",
        line=0,
    )


def _markers(entries: Sequence[dict[str, Any]], header: Message) -> list[Message]:
    """A sphere and words for each 3-D position."""
    markers: list[Message] = []
    for entry in entries:
        for position in (entry["answer"] or {}).get("positions", ()):
            x, y, z = position["x"], position["y"], position["z"]
            words = f"{position['label'] or entry['question']}\n{x:.2f} {y:.2f} {z:.2f} m"
            at = len(markers)
            markers.append(_marker(header, at, 2, _point(x, y, z), _SPHERE_METRES))
            above = _point(x, y - 1.5 * _SPHERE_METRES, z)  # Y is down
            markers.append(_marker(header, at + 1, 9, above, _TEXT_METRES, words))
    return markers


def _marker(
    header: Message | None,
    number: int,
    kind: int = 0,
    point: Message | None = None,
    size: float = 0.0,
    text: str = "",
    action: int = 0,
) -> Message:
    empty = _make("std_msgs/msg/Header", stamp=_time(0), frame_id="")
    red, green, blue = (1.0, 1.0, 1.0) if text else (1.0, 0.18, 0.47)
    return _make(
        "visualization_msgs/msg/Marker",
        header=header or empty,
        ns="sdvlm",
        id=number,
        type=kind,
        action=action,
        pose=_make(
            "geometry_msgs/msg/Pose",
            position=point or _point(0.0, 0.0, 0.0),
            orientation=_make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        ),
        scale=_make("geometry_msgs/msg/Vector3", x=size, y=size, z=size),
        color=_make("std_msgs/msg/ColorRGBA", r=red, g=green, b=blue, a=1.0),
        lifetime=_duration(0.0),
        frame_locked=False,
        points=[],
        colors=[],
        texture_resource="",
        texture=_make(
            "sensor_msgs/msg/CompressedImage",
            header=empty,
            format="",
            data=np.empty(0, np.uint8),
        ),
        uv_coordinates=[],
        text=text,
        mesh_resource="",
        mesh_file=_make("visualization_msgs/msg/MeshFile", filename="", data=np.empty(0, np.uint8)),
        mesh_use_embedded_materials=False,
    )
