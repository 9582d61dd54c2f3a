"""What was measured, shown: ~/markers for RViz and Foxglove, ~/annotated_image for people.

Works only while somebody subscribes, and off the answers' path: on a thread of its own, started
by the first result that somebody wants to see, which holds one result at most; the newest wins.
Both outputs have the stamp and the optical frame of the image they are about, whatever frame was
asked for: RViz transforms them. Measures nothing, and draws by `sdvlm_core.geometry.drawing` alone.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.drawing import (
    AXES,
    PAIR,
    SUPPORT,
    draw_measurements,
    length_text,
    shown_pairs,
    size_texts,
    supports,
)
from sdvlm_core.geometry.measure import Measured, Pair, measure_pair
from sdvlm_core.geometry.point_cloud import Cloud
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.geometry.support_plane import plane_outline, points_on
from sdvlm_core.geometry.upright_box import UprightBox
from sdvlm_ros.conversions import duration_message, image_message, time_message

if TYPE_CHECKING:  # it brings torch
    from sdvlm_core.verification import Check

#: Seconds: what nobody has asked about for so long is no longer the scene.
LIFETIME = 30.0
# As parts of the camera's distance: as thick and as tall in the picture wherever a thing stands.
_LINE, _TEXT = 0.004, 0.03
_WHITE = (255, 255, 255)
_Result = tuple[RgbdFrame, tuple[Measured, ...], tuple[Pair, ...]]


class Visualization:
    """Publishes ~/markers (visualization_msgs/MarkerArray) and ~/annotated_image (rgb8 Image)."""

    def __init__(self, node: Node) -> None:
        self._log = node.get_logger()
        self._markers = node.create_publisher(MarkerArray, "~/markers", 1)
        self._images = node.create_publisher(Image, "~/annotated_image", 1)
        self._changed = threading.Condition()
        self._waiting: _Result | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def wanted(self) -> bool:
        """Somebody subscribes to one of the two."""
        publishers = (self._markers, self._images)
        return any(publisher.get_subscription_count() for publisher in publishers)

    def show(self, frame: RgbdFrame, found: Sequence[Measured], pairs: Sequence[Pair]) -> None:
        """Have it drawn if somebody wants to see it; returns at once, from any thread."""
        if not self.wanted:
            return
        with self._changed:
            self._waiting = (frame, tuple(found), tuple(pairs))
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(
                    target=self._run, name="sdvlm_visualization", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def show_checks(self, frame: RgbdFrame, checks: Sequence[Check]) -> None:
        """The same for the objects by which an answer was verified."""
        if not self.wanted:
            return
        found = {one.label: one for check in checks for one in check.objects}
        joined = dict.fromkeys(check.objects for check in checks if len(check.objects) == 2)
        if found:
            self.show(frame, tuple(found.values()), [measure_pair(a, b) for a, b in joined])

    def close(self) -> None:
        """End the thread and drop what waits; `show` starts it again."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._closing, self._waiting = True, None
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waiting is not None)
                result, self._waiting = self._waiting, None
                if self._closing or result is None:
                    return
            try:
                self._publish(*result)
            except Exception:  # noqa: BLE001 - a picture that fails must not end those to come
                self._log.error(f"cannot show what was measured:\n{traceback.format_exc()}")

    def _publish(
        self, frame: RgbdFrame, found: tuple[Measured, ...], pairs: tuple[Pair, ...]
    ) -> None:
        scene = open_scene(frame)  # cached: the frame was measured
        if self._markers.get_subscription_count():
            header = Header(stamp=time_message(frame.stamp_ns), frame_id=frame.frame_id)
            self._markers.publish(marker_array(header, scene.cloud, found, pairs))
        if self._images.get_subscription_count():
            drawn = draw_measurements(scene, found, pairs)
            self._images.publish(image_message(drawn, "rgb8", frame.stamp_ns, frame.frame_id))


def marker_array(
    header: Header, cloud: Cloud, found: Sequence[Measured], pairs: Sequence[Pair]
) -> MarkerArray:
    """Markers that replace all earlier ones; objects that were not measured have no place.

    Namespaces, with an object's place in `found` as the id: `support` (outlines of the planes
    that things stand on), `boxes` (translucent), `sizes` (their length red, width green, height
    blue), `labels` (words, with uncertainty and warnings), `distances` (of a single pair).
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    outlines = [
        points_on(cloud, plane, outline)
        for plane in supports(found)
        for outline in plane_outline(cloud, plane)
    ]
    for number, outline in enumerate(outlines):
        line = _marker(header, "support", number, Marker.LINE_STRIP, SUPPORT)
        line.points = [_point(point) for point in (*outline, outline[0])]
        line.scale.x = _LINE * float(outline[:, 2].mean())
        markers.append(line)
    for number, one in enumerate(found):
        if one.box is not None:
            markers += _object_markers(header, number, one, one.box)
    by_label = {one.label: one for one in found}
    for number, pair in enumerate(shown_pairs(pairs)):
        ends = [by_label[label].position_m for label in (pair.a, pair.b)]
        middle = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
        line = _marker(header, "distances", 2 * number, Marker.LINE_LIST, PAIR)
        line.points = [_point(end) for end in ends]
        line.scale.x = _LINE * middle[2]
        words = length_text(pair.distance_m, pair.std_dev_m)
        markers += [line, _words(header, "distances", 2 * number + 1, words, middle, PAIR)]
    return MarkerArray(markers=markers)


def _object_markers(header: Header, number: int, one: Measured, box: UprightBox) -> list[Marker]:
    solid = _marker(header, "boxes", number, Marker.CUBE, _WHITE, 0.25)
    x, y, z, w = box.orientation
    solid.pose = Pose(position=_point(box.centre), orientation=Quaternion(x=x, y=y, z=z, w=w))
    # RViz does not show what is flat.
    length, width, height = (max(float(size), 0.001) for size in box.size)
    solid.scale = Vector3(x=length, y=width, z=height)
    sizes = _marker(header, "sizes", number, Marker.LINE_LIST, _WHITE)
    sizes.scale.x = _LINE * one.camera_distance_m
    nearest = box.nearest_corner
    for axis, colour in enumerate(AXES):
        sizes.points += [_point(box.corners[corner]) for corner in (nearest, nearest ^ (1 << axis))]
        sizes.colors += [_colour(colour)] * 2
    lines = [one.label, *size_texts(one), *(code.value.replace("_", " ") for code in one.warnings)]
    above = box.centre + box.axes[2] * (height / 2 + len(lines) * _TEXT * one.camera_distance_m)
    return [solid, sizes, _words(header, "labels", number, "\n".join(lines), above, _WHITE)]


def _words(
    header: Header, namespace: str, number: int, text: str, at: Any, colour: tuple[int, int, int]
) -> Marker:
    marker = _marker(header, namespace, number, Marker.TEXT_VIEW_FACING, colour)
    marker.pose.position = _point(at)
    marker.scale.z = _TEXT * marker.pose.position.z
    marker.text = text
    return marker


def _marker(
    header: Header,
    namespace: str,
    number: int,
    kind: int,
    colour: tuple[int, int, int],
    alpha: float = 1.0,
) -> Marker:
    return Marker(
        header=header,
        ns=namespace,
        id=number,
        type=kind,
        action=Marker.ADD,
        pose=Pose(orientation=Quaternion(w=1.0)),
        color=_colour(colour, alpha),
        lifetime=duration_message(LIFETIME),
    )


def _colour(rgb: tuple[int, int, int], alpha: float = 1.0) -> ColorRGBA:
    red, green, blue = (channel / 255 for channel in rgb)
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)


def _point(xyz: Any) -> Point:
    x, y, z = (float(value) for value in xyz)
    return Point(x=x, y=y, z=z)
