"""Markers and annotated images over real DDS: right frame, replaced, only for subscribers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from sdvlm_core.answer import Measurement, Quantity
from sdvlm_core.cautions import Caution
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.drawing import draw_measurements
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.verification import Check
from sdvlm_ros import visualization
from sdvlm_ros.visualization import LIFETIME_S, Visualization
from tests.core.geometry.test_measure import table
from tests.waiting import PATIENCE_S

Result = tuple[RgbdFrame, tuple[Measured, ...], tuple[Pair, ...]]
STAMP_NS = 1_700_000_000_123_456_789


class Screen:
    """A viewer: subscribes to the given message types and keeps what it receives."""

    def __init__(self, context: rclpy.Context, *kinds: type) -> None:
        self.node = rclpy.create_node("screen", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.markers: list[MarkerArray] = []
        self.pictures: list[Image] = []
        topics = {MarkerArray: ("markers", self.markers), Image: ("annotated_image", self.pictures)}
        for kind in kinds:
            topic, received = topics[kind]
            self.node.create_subscription(kind, f"shown/{topic}", received.append, 5)

    def wait(self, condition, what: str) -> None:
        """Spin until the condition is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE_S} s"
            self.executor.spin_once(timeout_sec=0.05)


@pytest.fixture(scope="module")
def result() -> Result:
    frame, regions = table(width=640, noise=0.001)
    frame = replace(frame, stamp_ns=STAMP_NS, frame_id="optical")
    return frame, *measure(frame, regions)


@pytest.fixture
def shown(context: rclpy.Context) -> Iterator[Visualization]:
    """The publishers under test, in a separate node."""
    shown = Visualization(rclpy.create_node("shown", context=context))
    yield shown
    shown.close()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[RgbdFrame]:
    """The drawn frames."""
    opened: list[RgbdFrame] = []

    def recorded(frame: RgbdFrame):
        opened.append(frame)
        return open_scene(frame)

    monkeypatch.setattr(visualization, "open_scene", recorded)
    return opened


def by_namespace(message: MarkerArray) -> dict[str, list[Marker]]:
    found: dict[str, list[Marker]] = {}
    for marker in message.markers[1:]:
        found.setdefault(marker.ns, []).append(marker)
    return found


def test_a_viewer_receives_markers_and_image_with_the_frames_stamp(context, shown, result):
    frame, found, pairs = result
    screen = Screen(context, MarkerArray, Image)
    screen.wait(
        lambda: all(p.get_subscription_count() for p in (shown._markers, shown._images)),
        "discovery",
    )
    shown.show(*result)
    screen.wait(lambda: screen.markers and screen.pictures, "a message on both topics")
    (message,), (picture,) = screen.markers, screen.pictures
    for header in (picture.header, *(marker.header for marker in message.markers)):
        assert header.stamp.sec * 10**9 + header.stamp.nanosec == STAMP_NS
        assert header.frame_id == "optical"
    assert message.markers[0].action == Marker.DELETEALL
    assert all(marker.action == Marker.ADD for marker in message.markers[1:])
    assert all(marker.lifetime.sec == LIFETIME_S for marker in message.markers[1:])
    names = [(marker.ns, marker.id) for marker in message.markers[1:]]
    assert len(set(names)) == len(names)
    assert {ns for ns, _ in names} == {"support", "boxes", "sizes", "labels", "distances"}
    assert (picture.encoding, picture.width, picture.height) == ("rgb8", 640, 480)
    pixels = np.frombuffer(picture.data, np.uint8).reshape(480, 640, 3)
    drawing = draw_measurements(open_scene(frame), found, pairs)
    np.testing.assert_array_equal(pixels, drawing)
    assert (drawing != frame.rgb).any()


def test_markers_have_the_measured_positions(result):
    frame, found, pairs = result
    message = visualization.marker_array(Image().header, open_scene(frame).cloud, found, pairs)
    markers = by_namespace(message)
    for one, solid, sizes, label in zip(
        found, markers["boxes"], markers["sizes"], markers["labels"], strict=True
    ):
        at = solid.pose.position
        np.testing.assert_allclose((at.x, at.y, at.z), one.position_m)
        lengths = (one.length_m, one.width_m, one.height_m)
        np.testing.assert_allclose((solid.scale.x, solid.scale.y, solid.scale.z), lengths)
        points = np.array([(p.x, p.y, p.z) for p in sizes.points]).reshape(3, 2, 3)
        np.testing.assert_allclose(np.linalg.norm(np.diff(points, axis=1)[:, 0], axis=1), lengths)
        # The box's own axes, turned by the marker's quaternion, run along the three sizes.
        q = solid.pose.orientation
        x, y, z, w = q.x, q.y, q.z, q.w
        up = (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y))
        np.testing.assert_allclose(up, one.box.axes[2], atol=1e-9)
        words = label.text.split("\n")
        assert words[0] == one.label
        assert words[3].startswith(f"H {1000 * one.height_m:.0f} ")
    plane = found[0].pixels.plane
    outline = np.array([(p.x, p.y, p.z) for p in markers["support"][0].points])
    assert np.abs(plane.heights(outline)).max() < 1e-9
    line, words = markers["distances"]
    assert len(line.points) == 2
    assert words.text.startswith(f"{1000 * pairs[0].distance_m:.0f} ")


def test_a_marker_of_a_pair_has_its_warnings(result):
    frame, found, (pair,) = result
    doubtful = replace(pair, warnings=(Caution.AMBIGUOUS_EXTENT,))
    cloud = open_scene(frame).cloud
    message = visualization.marker_array(Image().header, cloud, found, [doubtful])
    _, words = by_namespace(message)["distances"]
    assert words.text.split("\n")[1:] == ["ambiguous extent"]


def test_an_unmeasured_object_has_no_marker_but_is_drawn_in_the_image(result):
    frame, _, _ = result
    depth = np.full_like(frame.depth, np.nan)
    depth[:40] = 1.0
    empty = replace(frame, depth=depth)
    found, pairs = measure(empty, [Region("it", box=(200.0, 200.0, 300.0, 300.0))])
    message = visualization.marker_array(Image().header, open_scene(empty).cloud, found, pairs)
    assert "boxes" not in by_namespace(message)
    assert message.markers[0].action == Marker.DELETEALL
    assert (draw_measurements(open_scene(empty), found) != frame.rgb).any()


def test_nothing_is_drawn_without_a_subscriber(context, shown, result, drawn):
    shown.show(*result)
    checks = [Check(Measurement(Quantity.HEIGHT, 0.1), None, None, "", objects=(result[1][0],))]
    shown.show_checks(result[0], checks)
    assert not [thread for thread in threading.enumerate() if "visualization" in thread.name]
    assert drawn == []
    screen = Screen(context, MarkerArray)
    screen.wait(lambda: shown.wanted, "discovery")
    shown.show(*result)
    screen.wait(lambda: screen.markers, "markers")
    assert drawn == [result[0]]
    screen.node.destroy_node()
    screen.wait(lambda: not shown.wanted, "the viewer's leaving")
    shown.show(*result)
    shown.close()  # waits for the running drawing
    assert drawn == [result[0]]


def test_objects_that_verified_an_answer_are_shown_once_each_with_their_distance(
    context, shown, result
):
    frame, found, _ = result
    screen = Screen(context, MarkerArray)
    screen.wait(lambda: shown.wanted, "discovery")
    said = Measurement(Quantity.DISTANCE, 0.3)
    checks = [
        Check(said, None, None, "", objects=(found[0], found[1])),
        Check(said, None, None, "", objects=(found[0],)),
    ]
    shown.show_checks(frame, checks)
    screen.wait(lambda: screen.markers, "markers")
    markers = by_namespace(screen.markers[0])
    assert len(markers["boxes"]) == 2
    assert markers["distances"]


def test_a_result_that_cannot_be_drawn_is_logged_and_the_next_one_is_shown(
    context, shown, result, monkeypatch
):
    screen = Screen(context, MarkerArray)
    screen.wait(lambda: shown.wanted, "discovery")
    failed = threading.Event()
    monkeypatch.setattr(shown, "_log", type("Log", (), {"error": lambda *_: failed.set()})())
    shown.show(replace(result[0], depth=None), *result[1:])
    assert failed.wait(PATIENCE_S)
    shown.show(*result)
    screen.wait(lambda: screen.markers, "markers")


def test_a_closed_visualization_draws_again_on_the_next_show(context, shown, result):
    screen = Screen(context, MarkerArray)
    screen.wait(lambda: shown.wanted, "discovery")
    for number in (1, 2):
        shown.show(*result)
        screen.wait(lambda number=number: len(screen.markers) == number, "markers")
        shown.close()
