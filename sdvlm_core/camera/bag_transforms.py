"""A bag's recorded transforms -> the direction against gravity in the camera's optical frame.

Reads the rotations of /tf_static and /tf; a rotation between two stamps is interpolated and never
extrapolated, as tf2 does. Does not know which frame is aligned with gravity: the user names it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.bags import Message, deserialize, stream
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.errors import BagError, FrameError, TransformError, shown

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

#: (topic, whether its transforms hold at all times).
TOPICS = {"/tf": False, "/tf_static": True}
#: Frames that are usually aligned with gravity; named as a hint, never assumed.
USUAL_GRAVITY_FRAMES = ("base_footprint", "base_link", "odom", "map", "world")
_TYPE = "tf2_msgs/msg/TFMessage"
_MAX_SAMPLES = 5_000_000  # rotations in memory, 40 bytes each
_MAX_FRAMES = 10_000
_MAX_LISTED = 20
# tf2's tolerance of a quaternion's squared length.
_LENGTH_TOLERANCE = 0.01
# Two static transforms of one frame are equal up to this, in components of the quaternion.
_EQUAL_ROTATION = 1e-6

Rotation = npt.NDArray[np.float64]


@dataclass
class _Edge:
    """The rotation of a frame in its parent over time: stamps, nanoseconds; quaternions x,y,z,w."""

    parent: str
    static: bool
    stamps: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, stamp_ns: int, quaternion: Sequence[float]) -> None:
        self.stamps.append(stamp_ns)
        self.values.extend(quaternion)


class BagTransforms:
    """The rotations of a bag's transforms; made by `read_transforms`."""

    def __init__(self, edges: dict[str, _Edge]) -> None:
        self._edges = edges

    @property
    def frames(self) -> list[str]:
        """The names of all frames, sorted."""
        return sorted({*self._edges, *(edge.parent for edge in self._edges.values())})

    def up(self, frame_id: str, gravity_frame: str, stamp_ns: int) -> tuple[float, float, float]:
        """The z axis of `gravity_frame` in the frame `frame_id` at a stamp, a unit vector.

        Raises:
            TransformError: the transforms do not connect the two frames, or do not cover the stamp.
        """
        try:
            down, up = self.chains(frame_id, gravity_frame)
        except BagError as error:
            raise TransformError(str(error)) from error
        vector = np.array([0.0, 0.0, 1.0])
        for name in up:
            vector = self._rotation(name, stamp_ns) @ vector
        for name in reversed(down):
            vector = self._rotation(name, stamp_ns).T @ vector
        x, y, z = vector / np.linalg.norm(vector)
        return float(x), float(y), float(z)

    def chains(self, frame_id: str, gravity_frame: str) -> tuple[list[str], list[str]]:
        """The frames from each of the two up to their common ancestor, without it.

        Raises:
            BagError: the transforms do not connect the two frames.
        """
        source, target = frame_id.removeprefix("/"), gravity_frame.removeprefix("/")
        for name, what in ((target, "--gravity-frame"), (source, "the colour image's frame_id")):
            if name not in self.frames:
                raise BagError(
                    f"{what} {shown(name)!r} is not a frame of the bag's transforms; "
                    f"{self._listed()}"
                )
        from_source, from_target = self._ancestors(source), self._ancestors(target)
        common = next((name for name in from_source if name in set(from_target)), None)
        if common is None:
            raise BagError(
                f"the bag's transforms do not connect {shown(source)!r} (under "
                f"{shown(from_source[-1])!r}) with {shown(target)!r} (under "
                f"{shown(from_target[-1])!r}); {self._listed()}"
            )
        return from_source[: from_source.index(common)], from_target[: from_target.index(common)]

    def _ancestors(self, name: str) -> list[str]:
        """The frame and its ancestors up to the root."""
        found = [name]
        while (edge := self._edges.get(found[-1])) is not None:
            if edge.parent in found:
                cycle = " -> ".join(map(shown, [*found[-5:], edge.parent]))
                raise BagError(f"the bag's transforms form a cycle: {cycle}")
            found.append(edge.parent)
        return found

    def _rotation(self, name: str, stamp_ns: int) -> Rotation:
        """Rotation matrix from the frame to its parent at a stamp."""
        edge = self._edges[name]
        values = np.frombuffer(edge.values, np.float64).reshape(-1, 4)
        if edge.static:
            return _matrix(values[-1])
        stamps = np.frombuffer(edge.stamps, np.int64)
        after = int(np.searchsorted(stamps, stamp_ns))
        if after < len(stamps) and stamps[after] == stamp_ns:
            return _matrix(values[after])
        if not 0 < after < len(stamps):
            raise TransformError(
                f"the transform {shown(edge.parent)!r} -> {shown(name)!r} is recorded from "
                f"{stamps[0] / 1e9:.3f} to {stamps[-1] / 1e9:.3f} s; the image's stamp is "
                f"{stamp_ns / 1e9:.3f} s"
            )
        before = after - 1
        part = (stamp_ns - stamps[before]) / (stamps[after] - stamps[before])
        return _matrix(_slerp(values[before], values[after], float(part)))

    def _listed(self) -> str:
        names = [shown(name, 60) for name in self.frames]
        if not names:
            return "there are none; give the option --up x,y,z instead"
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        return f"its frames are {', '.join(names[:_MAX_LISTED])}{more}"


def read_transforms(reader: Reader) -> BagTransforms:
    """All rotations of /tf_static and /tf.

    Raises:
        BagError: a transform is not usable, or there are too many.
    """
    edges: dict[str, _Edge] = {}
    count = 0
    for connection, _, data in stream(reader, TOPICS):
        if connection.msgtype != _TYPE:
            continue
        try:
            message = deserialize(data, _TYPE)
        except FrameError as error:
            raise BagError(f"{connection.topic}: {error}") from error
        for transform in message.transforms:
            _add(edges, transform, TOPICS[connection.topic])
            count += 1
            if count > _MAX_SAMPLES or len(edges) > _MAX_FRAMES:
                raise BagError(
                    f"the bag has more than {_MAX_SAMPLES} transforms or {_MAX_FRAMES} frames; "
                    "give --up x,y,z instead of --gravity-frame"
                )
    for edge in edges.values():
        _sort(edge)
    return BagTransforms(edges)


def gravity_hint(reader: Reader) -> str:
    """Frames of /tf_static that are usually aligned with gravity, as a line; "" = none."""
    names = set()
    for connection, _, data in stream(reader, ("/tf_static",)):
        with suppress(FrameError):
            for transform in getattr(deserialize(data, connection.msgtype), "transforms", ()):
                names |= {transform.header.frame_id, transform.child_frame_id}
    usual = [name for name in USUAL_GRAVITY_FRAMES if {name, f"/{name}"} & names]
    if not usual:
        return ""
    return (
        f"the bag has transforms to {', '.join(usual)}; if its z axis points against gravity, "
        f"--gravity-frame {usual[0]} states which way is up"
    )


def _add(edges: dict[str, _Edge], transform: Message, static: bool) -> None:
    child = transform.child_frame_id.removeprefix("/")
    parent = transform.header.frame_id.removeprefix("/")
    q = transform.transform.rotation
    quaternion = (q.x, q.y, q.z, q.w)
    squared = sum(value * value for value in quaternion)
    edge = edges.setdefault(child, _Edge(parent, static))
    what = f"the transform {shown(parent)!r} -> {shown(child)!r}"
    if not abs(squared - 1) < _LENGTH_TOLERANCE:  # also NaN
        raise BagError(f"{what} has the quaternion {quaternion}, which is not of length 1")
    if edge.parent != parent:
        raise BagError(f"{what} contradicts the earlier parent {shown(edge.parent)!r} of the frame")
    if edge.static != static:
        raise BagError(f"{what} is on /tf and on /tf_static; give --up x,y,z")
    if static and edge.stamps:
        if (
            min(
                _distance(edge.values, quaternion), _distance(edge.values, [-v for v in quaternion])
            )
            > _EQUAL_ROTATION
        ):
            raise BagError(f"{what} is static, but has two values in the bag; give --up x,y,z")
        return
    edge.add(nanoseconds(transform.header.stamp), quaternion)


def _distance(values: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(values, other, strict=True))


def _sort(edge: _Edge) -> None:
    """By stamp; of equal stamps the last one remains, as in a bag that was recorded in a loop."""
    stamps = np.frombuffer(edge.stamps, np.int64)
    order = np.argsort(stamps, kind="stable")
    last = np.append(np.diff(stamps[order]) > 0, True)
    order = order[last]
    values = np.frombuffer(edge.values, np.float64).reshape(-1, 4)[order]
    edge.stamps = array("q", stamps[order].tobytes())
    edge.values = array("d", values.tobytes())


def _matrix(quaternion: Rotation) -> Rotation:
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _slerp(first: Rotation, second: Rotation, part: float) -> Rotation:
    """The rotation at `part` (0 to 1) of the shorter way between two quaternions."""
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    cosine = float(first @ second)
    if cosine < 0:
        second, cosine = -second, -cosine
    angle = math.acos(min(1.0, cosine))
    if angle < 1e-6:  # the sine is too small to divide by
        return first + part * (second - first)
    return (math.sin((1 - part) * angle) * first + math.sin(part * angle) * second) / math.sin(
        angle
    )
