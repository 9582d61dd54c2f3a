"""Publishes measurements as ~/markers (for RViz and Foxglove) and as ~/annotated_image.

Works only while there are subscribers, and does not delay answers: a thread, started by the first
result with a subscriber, draws; it keeps only the newest result. Both outputs have the stamp and
the optical frame of the image, also when an answer was requested in another frame: RViz transforms
them. Does not measure, and does not draw (`sdvlm_core.geometry.drawing`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from sdvlm_core.answer import Quantity
from sdvlm_core.camera import messages
from sdvlm_core.camera.messages import Rgb, Shape, Vector
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.drawing import (
    AXES,
    PAIR,
    SUPPORT,
    draw_measurements,
    pair_texts,
    shown_pairs,
    size_texts,
    supports,
)
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair, measure_pair
from sdvlm_core.geometry.point_cloud import Cloud
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.geometry.support_plane import plane_outline, points_on
from sdvlm_core.geometry.upright_box import UprightBox
from sdvlm_ros.conversions import header_message, image_message, make_message
from sdvlm_ros.tally import TRACEBACK_PERIOD_S, traceback_text
from sdvlm_ros.throttle import Throttle

if TYPE_CHECKING:  # it imports torch
    from sdvlm_core.verification import Check

#: Markers disappear after this time without a new measurement: the scene may have changed.
LIFETIME_S = 30.0
# Line width and text height as fractions of the camera distance: constant size in the image.
_LINE_FRACTION, _TEXT_FRACTION = 0.004, 0.03
_MIN_BOX_SIDE_M = 0.001  # RViz does not show a flat box
_WHITE = (255, 255, 255)
_OF_PAIRS = (Quantity.DISTANCE, Quantity.GAP)
_Result = tuple[RgbdFrame, tuple[Measured, ...], tuple[Pair, ...]]


class Visualization:
    """Publishes ~/markers (visualization_msgs/MarkerArray) and ~/annotated_image (rgb8 Image).

    Args:
        prefix: before the topics' names, as in `Publishers`.
    """

    def __init__(self, node: Node, prefix: str = "~/") -> None:
        self._log = node.get_logger()
        self._failed = Throttle(TRACEBACK_PERIOD_S)
        self._markers = node.create_publisher(MarkerArray, f"{prefix}markers", 1)
        self._images = node.create_publisher(Image, f"{prefix}annotated_image", 1)
        self._changed = threading.Condition()
        self._waiting: _Result | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def wanted(self) -> bool:
        """Whether one of the two topics has a subscriber."""
        publishers = (self._markers, self._images)
        return any(publisher.get_subscription_count() for publisher in publishers)

    def show(self, frame: RgbdFrame, found: Sequence[Measured], pairs: Sequence[Pair]) -> None:
        """Draw a result if there is a subscriber; returns at once, from any thread."""
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
        """As `show`, for the objects that verified an answer."""
        if not self.wanted:
            return
        found = {one.label: one for check in checks for one in check.objects}
        pairs = [check for check in checks if check.claim.kind in _OF_PAIRS]
        joined = dict.fromkeys(check.objects for check in pairs if len(check.objects) == 2)
        if found:
            self.show(frame, tuple(found.values()), [measure_pair(a, b) for a, b in joined])

    def close(self) -> None:
        """End the thread and drop the waiting result; `show` restarts the thread."""
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
            except Exception as error:  # noqa: BLE001 - the thread must survive a failed drawing
                if self._failed.allows(type(error).__name__):
                    self._log.error(f"cannot draw the measurements: {traceback_text(error)}")

    def _publish(
        self, frame: RgbdFrame, found: tuple[Measured, ...], pairs: tuple[Pair, ...]
    ) -> None:
        scene = open_scene(frame)  # cached: the frame was measured
        if self._markers.get_subscription_count():
            header = header_message(frame.stamp_ns, frame.frame_id)
            self._markers.publish(marker_array(header, scene.cloud, found, pairs))
        if self._images.get_subscription_count():
            drawn = draw_measurements(scene, found, pairs)
            self._images.publish(image_message(drawn, "rgb8", frame.stamp_ns, frame.frame_id))


def marker_array(
    header: Header, cloud: Cloud, found: Sequence[Measured], pairs: Sequence[Pair]
) -> MarkerArray:
    """Markers that replace all earlier ones; objects without a box have none.

    Namespaces, with an object's index in `found` as the id: `support` (outlines of the support
    planes), `boxes` (translucent), `sizes` (edges: length red, width green, height blue), `labels`
    (texts, with standard deviation and warnings), `distances` (of a single pair, with the same).
    """
    markers = [messages.delete_all_marker(make_message, header)]
    outlines = [
        points_on(cloud, plane, outline)
        for plane in supports(found)
        for outline in plane_outline(cloud, plane)
    ]
    for number, outline in enumerate(outlines):
        width = _LINE_FRACTION * float(outline[:, 2].mean())
        points = [*outline, outline[0]]
        markers.append(_line(header, "support", number, Shape.LINE_STRIP, SUPPORT, width, points))
    for number, one in enumerate(found):
        if one.box is not None:
            markers += _object_markers(header, number, one, one.box)
    by_label = {one.label: one for one in found}
    for number, pair in enumerate(shown_pairs(pairs)):
        ends = [by_label[label].position_m for label in (pair.a, pair.b)]
        middle = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
        width = _LINE_FRACTION * middle[2]
        text = "\n".join(pair_texts(pair))
        markers += [
            _line(header, "distances", 2 * number, Shape.LINE_LIST, PAIR, width, ends),
            _text(header, "distances", 2 * number + 1, text, middle, PAIR),
        ]
    return MarkerArray(markers=markers)


def _object_markers(header: Header, number: int, one: Measured, box: UprightBox) -> list[Marker]:
    sides_m = [max(float(size), _MIN_BOX_SIDE_M) for size in box.size]
    solid = messages.marker(
        make_message,
        header,
        "boxes",
        number,
        Shape.CUBE,
        rgb=_WHITE,
        alpha=0.25,
        position=box.centre,
        orientation=box.orientation,
        scale=sides_m,
        lifetime_s=LIFETIME_S,
    )
    nearest = box.nearest_corner
    corners = [nearest ^ bit for axis in range(3) for bit in (0, 1 << axis)]
    edges = _line(
        header,
        "sizes",
        number,
        Shape.LINE_LIST,
        _WHITE,
        _LINE_FRACTION * one.camera_distance_m,
        [box.corners[corner] for corner in corners],
        [color for color in AXES for _ in range(2)],
    )
    lines = [one.label, *size_texts(one), *(code.value.replace("_", " ") for code in one.warnings)]
    text_height = len(lines) * _TEXT_FRACTION * one.camera_distance_m
    above = box.centre + box.axes[2] * (sides_m[2] / 2 + text_height)
    return [solid, edges, _text(header, "labels", number, "\n".join(lines), above, _WHITE)]


def _line(
    header: Header,
    namespace: str,
    number: int,
    shape: Shape,
    rgb: Rgb,
    width: float,
    points: Sequence[Vector],
    point_colors: Sequence[Rgb] = (),
) -> Marker:
    return messages.marker(
        make_message,
        header,
        namespace,
        number,
        shape,
        rgb=rgb,
        scale=(width, 0.0, 0.0),
        points=points,
        point_colors=point_colors,
        lifetime_s=LIFETIME_S,
    )


def _text(
    header: Header, namespace: str, number: int, text: str, position: Vector, rgb: Rgb
) -> Marker:
    x, y, z = (float(value) for value in position)
    return messages.marker(
        make_message,
        header,
        namespace,
        number,
        Shape.TEXT_VIEW_FACING,
        rgb=rgb,
        position=(x, y, z),
        scale=(0.0, 0.0, _TEXT_FRACTION * z),
        text=text,
        lifetime_s=LIFETIME_S,
    )
