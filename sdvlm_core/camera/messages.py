"""Builds ROS messages through a factory: the same fields with rclpy's and with rosbags' classes.

A factory makes one message of a type name and its fields. Every field is given, because the classes
of `rosbags` have no defaults. The one message that is also read here is a typed question. Does not
know topics, which library makes the messages, or whether a question is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Protocol, TypeVar

from sdvlm_core.answer import Asked, Quantity, SpatialAnswer
from sdvlm_core.errors import QueryError

MessageT_co = TypeVar("MessageT_co", covariant=True)
MessageT = TypeVar("MessageT")

_NANOSECONDS_PER_S = 1_000_000_000
#: x, y, z; metres, or a scale.
Vector = Iterable[float]
#: Red, green, blue in [0, 255].
Rgb = tuple[int, int, int]


class MessageFactory(Protocol[MessageT_co]):
    """Makes messages of one library."""

    def __call__(self, type_name: str, /, **fields: object) -> MessageT_co:
        """A message, e.g. of `geometry_msgs/msg/Point`; `bytes` stand for a uint8[] field."""


class TimeLike(Protocol):
    """A builtin_interfaces Time or Duration of any library."""

    @property
    def sec(self) -> int: ...

    @property
    def nanosec(self) -> int: ...


class AskedLike(Protocol):
    """sdvlm/Asked of any library."""

    @property
    def quantity(self) -> int: ...
    @property
    def objects(self) -> Sequence[str]: ...
    @property
    def relation(self) -> str: ...
    @property
    def which(self) -> bool: ...
    @property
    def unit(self) -> str: ...
    @property
    def reference(self) -> str: ...


class Shape(IntEnum):
    """Marker types; the numbers are those of visualization_msgs/Marker."""

    ARROW = 0
    CUBE = 1
    SPHERE = 2
    LINE_STRIP = 4
    LINE_LIST = 5
    TEXT_VIEW_FACING = 9


class Action(IntEnum):
    """Marker actions; the numbers are those of visualization_msgs/Marker."""

    ADD = 0
    DELETE_ALL = 3


def nanoseconds(time: TimeLike) -> int:
    """Time or Duration -> nanoseconds."""
    return int(time.sec) * _NANOSECONDS_PER_S + int(time.nanosec)


def sec_nanosec(time_ns: int) -> tuple[int, int]:
    """Nanoseconds -> the fields sec and nanosec, 0 <= nanosec < 1e9."""
    return divmod(time_ns, _NANOSECONDS_PER_S)


def time_message(make: MessageFactory[MessageT], stamp_ns: int) -> MessageT:
    """Nanoseconds -> builtin_interfaces/Time."""
    sec, nanosec = sec_nanosec(stamp_ns)
    return make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)


def duration_message(make: MessageFactory[MessageT], seconds: float) -> MessageT:
    """Seconds >= 0 -> builtin_interfaces/Duration."""
    sec, nanosec = sec_nanosec(round(seconds * _NANOSECONDS_PER_S))
    return make("builtin_interfaces/msg/Duration", sec=sec, nanosec=nanosec)


def header_message(make: MessageFactory[MessageT], stamp_ns: int, frame_id: str) -> MessageT:
    """A std_msgs/Header."""
    return make("std_msgs/msg/Header", stamp=time_message(make, stamp_ns), frame_id=frame_id)


def point_message(make: MessageFactory[MessageT], xyz: Vector) -> MessageT:
    """A geometry_msgs/Point."""
    x, y, z = (float(value) for value in xyz)
    return make("geometry_msgs/msg/Point", x=x, y=y, z=z)


def pose_message(
    make: MessageFactory[MessageT], position: Vector, orientation: Iterable[float]
) -> MessageT:
    """A geometry_msgs/Pose of x, y, z in metres and a quaternion x, y, z, w."""
    quaternion = dict(zip("xyzw", map(float, orientation), strict=True))
    return make(
        "geometry_msgs/msg/Pose",
        position=point_message(make, position),
        orientation=make("geometry_msgs/msg/Quaternion", **quaternion),
    )


def answer_message(
    make: MessageFactory[MessageT],
    answer: SpatialAnswer,
    header: object,
    answer_id: str,
    camera: str = "",
) -> MessageT:
    """SpatialAnswer -> sdvlm/SpatialAnswer.

    Args:
        header: message with the stamp and frame_id of the image.
        answer_id: unique.
        camera: name of the camera; "" = the only one.
    """
    timings = answer.timings
    return make(
        "sdvlm/msg/SpatialAnswer",
        header=header,
        camera=camera,
        id=answer_id,
        question=answer.question,
        asked=asked_message(make, answer.asked),
        status=int(answer.status),
        text=answer.text,
        measurements=[
            make(
                "sdvlm/msg/Measurement",
                kind=int(measurement.kind),
                value=float(measurement.value),
                std_dev=float(measurement.std_dev),
                source=int(measurement.source),
                objects=list(measurement.objects),
                text=measurement.text,
            )
            for measurement in answer.measurements
        ],
        why_none=answer.why_none,
        image_points=[
            make("sdvlm/msg/ImagePoint", u=float(u), v=float(v)) for u, v in answer.image_points
        ],
        positions=[point_message(make, (p.x, p.y, p.z)) for p in answer.positions],
        position_labels=[position.label for position in answer.positions],
        verdict=int(answer.verdict),
        chosen=answer.chosen,
        confidence=float(answer.confidence),
        model_id=answer.model_id,
        depth_source=answer.depth_source,
        cautions=[code.value for code in answer.cautions],
        queue_time=duration_message(make, timings.queue),
        encode_time=duration_message(make, timings.encode),
        generate_time=duration_message(make, timings.prefill + timings.decode + timings.measure),
    )


def asked_message(make: MessageFactory[MessageT], asked: Asked) -> MessageT:
    """Asked -> sdvlm/Asked."""
    return make(
        "sdvlm/msg/Asked",
        quantity=int(asked.quantity),
        objects=list(asked.objects),
        relation=asked.relation,
        which=asked.which,
        unit=asked.unit,
        reference=asked.reference,
    )


def asked_from_message(message: AskedLike) -> Asked:
    """sdvlm/Asked -> Asked, which may be incomplete (`language.question.check`).

    Raises:
        QueryError: the quantity is no constant of msg/Asked.
    """
    try:
        quantity = Quantity(message.quantity)
    except ValueError as error:
        known = ", ".join(f"{one.value} {one.name}" for one in Quantity)
        raise QueryError(f"asked.quantity is {message.quantity}; known are {known}") from error
    return Asked(
        quantity=quantity,
        objects=tuple(message.objects),
        relation=message.relation,
        which=bool(message.which),
        unit=message.unit,
        reference=message.reference,
    )


def delete_all_marker(make: MessageFactory[MessageT], header: object) -> MessageT:
    """A marker that removes all earlier markers of its topic."""
    return marker(make, header, "", 0, Shape.ARROW, rgb=(0, 0, 0), action=Action.DELETE_ALL)


def marker(
    make: MessageFactory[MessageT],
    header: object,
    namespace: str,
    number: int,
    shape: Shape,
    *,
    rgb: Rgb,
    alpha: float = 1.0,
    position: Vector = (0.0, 0.0, 0.0),
    orientation: Iterable[float] = (0.0, 0.0, 0.0, 1.0),
    scale: Vector = (0.0, 0.0, 0.0),
    points: Iterable[Vector] = (),
    point_colors: Iterable[Rgb] = (),
    text: str = "",
    lifetime_s: float = 0.0,
    action: Action = Action.ADD,
) -> MessageT:
    """A visualization_msgs/Marker.

    Args:
        namespace, number: identify the marker; the next one with both replaces it.
        orientation: quaternion x, y, z, w.
        points: vertices of a LINE_STRIP or LINE_LIST, metres in the header's frame.
        point_colors: one for each point, or none.
        lifetime_s: 0 = until it is replaced or removed.
    """
    size = dict(zip("xyz", map(float, scale), strict=True))
    return make(
        "visualization_msgs/msg/Marker",
        header=header,
        ns=namespace,
        id=number,
        type=int(shape),
        action=int(action),
        pose=pose_message(make, position, orientation),
        scale=make("geometry_msgs/msg/Vector3", **size),
        color=_color_message(make, rgb, alpha),
        lifetime=duration_message(make, lifetime_s),
        frame_locked=False,
        points=[point_message(make, point) for point in points],
        colors=[_color_message(make, color) for color in point_colors],
        texture_resource="",
        texture=make(
            "sensor_msgs/msg/CompressedImage",
            header=header_message(make, 0, ""),
            format="",
            data=b"",
        ),
        uv_coordinates=[],
        text=text,
        mesh_resource="",
        mesh_file=make("visualization_msgs/msg/MeshFile", filename="", data=b""),
        mesh_use_embedded_materials=False,
    )


def _color_message(make: MessageFactory[MessageT], rgb: Rgb, alpha: float = 1.0) -> MessageT:
    red, green, blue = (channel / 255 for channel in rgb)
    return make("std_msgs/msg/ColorRGBA", r=red, g=green, b=blue, a=alpha)
