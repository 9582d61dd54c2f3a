"""A detector's boxes over DDS: measured on the very frame of their stamp, or refused with a reason.

vision_msgs is built from its field lists (`tests.ros.vision_msgs`), so that a real node runs here.
"""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import RegionOfInterest

from sdvlm.msg import Asked, Region
from sdvlm.srv import MeasureRegions, SpatialQuery
from sdvlm_ros import vision_messages
from sdvlm_ros.conversions import (
    camera_info_message,
    header_message,
    image_message,
    message_class,
    time_message,
)
from tests import blocks
from tests.blocks import box_around, room_frame
from tests.paths import ROOT
from tests.ros import vision_msgs
from tests.ros.conftest import running
from tests.ros.peer import DEPTH, INFO, RGB, Peer
from tests.waiting import PATIENCE_S

BOXES = {
    name: tuple(round(side) for side in box_around(block))
    for name, block in (("chair", blocks.RED), ("armchair", blocks.BLUE), ("table", blocks.TABLE))
}
RATE_HZ = 10.0


@pytest.fixture(scope="module")
def vision() -> Iterator[dict[str, str]]:
    """vision_msgs can be imported here; the environment for a process that imports it, too."""
    if vision_msgs.is_installed():
        yield {}
        return
    prefix = vision_msgs.build()
    vision_msgs.load_libraries(prefix)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(vision_msgs.packages(prefix))
        yield vision_msgs.environment(prefix)


def detection(
    box: tuple[float, ...], *names: str, score: float = 0.75, theta: float = 0.0, name: str = ""
) -> Any:
    """A vision_msgs/Detection2D of a box (x1, y1, x2, y2)."""
    found = message_class("vision_msgs/msg/Detection2D")(id=name)
    x1, y1, x2, y2 = map(float, box)
    centre = found.bbox.center
    centre.position.x, centre.position.y, centre.theta = (x1 + x2) / 2, (y1 + y2) / 2, theta
    found.bbox.size_x, found.bbox.size_y = x2 - x1, y2 - y1
    for class_id in names:
        result = message_class("vision_msgs/msg/ObjectHypothesisWithPose")()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        found.results.append(result)
    return found


class Detector:
    """A detector beside the camera of `peer`, and a subscriber of the result."""

    def __init__(self, peer: Peer) -> None:
        self.peer, self.received, self.diagnostics = peer, [], {}
        node, below = peer.node, f"{peer.camera}/" if peer.camera else ""
        self.publisher = node.create_publisher(
            message_class(vision_messages.DETECTIONS_2D), f"{below}detections", 10
        )
        node.create_subscription(
            message_class(vision_messages.DETECTIONS_3D),
            f"spatial_query/{below}detections_3d",
            self.received.append,
            10,
        )
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.measure = peer.client(MeasureRegions, "measure_regions")
        self.parameters = peer.client(SetParameters, "set_parameters")
        self.stamp_ns = 0
        peer.connect()
        peer.spin_until(
            lambda: (
                self.publisher.get_subscription_count()
                and node.count_publishers(f"spatial_query/{below}detections_3d")
            ),
            "the node's topics",
        )

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        name = f"camera {self.peer.camera}" if self.peer.camera else "questions"
        full = f"{self.peer.node.get_namespace().rstrip('/')}/spatial_query: {name}"
        for status in array.status:
            if status.name == full:
                self.diagnostics = {pair.key: pair.value for pair in status.values}

    def set_rate(self, rate_hz: float) -> None:
        """Set detections_rate."""
        changed = Parameter("detections_rate", value=rate_hz).to_parameter_msg()
        future = self.parameters.call_async(SetParameters.Request(parameters=[changed]))
        self.peer.spin_until(future.done, "the parameter")
        assert future.result().results[0].successful

    def show_frame(self) -> None:
        """A new frame of the room is in the node's buffer."""
        room, self.stamp_ns = room_frame(), time.time_ns()
        depth = np.nan_to_num(room.depth, nan=0.0).astype(np.float32)
        messages = {
            RGB: image_message(room.rgb, "rgb8", self.stamp_ns, "optical"),
            DEPTH: image_message(depth, "32FC1", self.stamp_ns, "optical"),
            INFO: camera_info_message(room.intrinsics, self.stamp_ns, "optical"),
        }
        response = self.peer.ask_about(messages, self.stamp_ns)
        assert response.error_code == SpatialQuery.Response.NONE, response.error_msg

    def array(self, *found: Any, frame_id: str = "optical", stamp_ns: int | None = None) -> Any:
        header = header_message(self.stamp_ns if stamp_ns is None else stamp_ns, frame_id)
        kind = message_class(vision_messages.DETECTIONS_2D)
        return kind(header=header, detections=list(found))

    def results(self) -> list[Any]:
        """The results about the newest frame; those of an earlier one may come late."""
        stamp = time_message(self.stamp_ns)
        return [array for array in self.received if array.header.stamp == stamp]

    def next_result(self) -> Any:
        return self.peer.spin_until(self.results, "a result")[-1]

    def result(self, array: Any, accepted: Callable[[Any], Any] = lambda _: True) -> Any:
        """Publish until an accepted result has come: best effort may lose a message."""
        next_s = 0.0

        def published() -> Any:
            nonlocal next_s
            if time.monotonic() > next_s:
                self.publisher.publish(array)
                next_s = time.monotonic() + 2.0
            return next(filter(accepted, self.results()), None)

        return self.peer.spin_until(published, "a result of the detections")

    def reason(self, array: Any, text: str) -> str:
        """Publish until the diagnostics have a refusal with a text; nothing must be measured."""
        next_s = 0.0

        def refused() -> str:
            nonlocal next_s
            if time.monotonic() > next_s:
                self.publisher.publish(array)
                next_s = time.monotonic() + 2.0
            reason = self.diagnostics.get("last refused detections", "")
            return reason if text in reason else ""

        found = self.peer.spin_until(refused, f"a refusal with {text!r}")
        assert not self.results()
        return str(found)


@pytest.fixture(scope="module")
def detector(vision: dict[str, str]) -> Iterator[Detector]:
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    options = (
        *("-p", "sensor:=simulated", "-p", "measure_detections:=true"),
        *("-p", f"detections_rate:={RATE_HZ}"),
    )
    with running("tests.ros.stub_node", "--ros-args", *options, **vision):
        detector = Detector(Peer(context))
        detector.show_frame()
        yield detector
    context.try_shutdown()


def test_boxes_equal_those_of_measure_regions_of_the_same_frame(detector: Detector) -> None:
    detector.show_frame()
    given = [detection(box, name, "furniture", name=f"track {name}") for name, box in BOXES.items()]
    array = detector.result(detector.array(*given), lambda one: len(one.detections) == 3)
    assert array.header == header_message(detector.stamp_ns, "optical")
    regions = [
        Region(
            label=name,
            roi=RegionOfInterest(x_offset=x1, y_offset=y1, width=x2 - x1, height=y2 - y1),
        )
        for name, (x1, y1, x2, y2) in BOXES.items()
    ]
    request = MeasureRegions.Request(regions=regions, stamp=time_message(detector.stamp_ns))
    future = detector.measure.call_async(request)
    detector.peer.spin_until(future.done, "the measurement")
    assert future.result().error_code == 0, future.result().error_msg
    for found, same in zip(array.detections, future.result().regions, strict=True):
        assert found.header == array.header
        assert found.id == f"track {same.label}"
        assert found.bbox.center == same.pose
        size = found.bbox.size
        assert (size.x, size.y, size.z) == (same.length, same.width, same.height)
        assert [one.hypothesis.class_id for one in found.results] == [same.label, "furniture"]
        for one in found.results:
            assert one.hypothesis.score == 0.75
            assert one.pose.pose == same.pose
            covariance = np.asarray(one.pose.covariance).reshape(6, 6)
            np.testing.assert_allclose(np.diag(covariance)[:3], same.position_std_dev**2)
            assert np.count_nonzero(covariance) == 6


def test_each_camera_has_its_own_detector(vision: dict[str, str], context: rclpy.Context) -> None:
    options = (
        *("-r", "__ns:=/two", "-p", "cameras:=[left, right]"),
        *("-p", "sensor:=simulated", "-p", "measure_detections:=true"),
    )
    with running("tests.ros.stub_node", "--ros-args", *options, **vision):
        left, right = (Detector(Peer(context, "/two", name)) for name in ("left", "right"))
        for detector, name in ((left, "chair"), (right, "table")):
            detector.show_frame()
            given = detection(BOXES[name], name, name=name)
            array = detector.result(detector.array(given), lambda one: len(one.detections))
            assert [one.id for one in array.detections] == [name]
        shown = {one.id for array in left.received for one in array.detections}
        assert shown == {"chair"}
        right.show_frame()
        reason = right.reason(right.array(stamp_ns=0), "header.stamp of detections is 0")
        assert "right/detections" in reason


def test_a_frame_without_detections_has_an_empty_result(detector: Detector) -> None:
    detector.show_frame()
    array = detector.result(detector.array(), lambda one: not one.detections)
    assert array.header == header_message(detector.stamp_ns, "optical")


def test_malformed_detections_are_left_out_and_the_others_are_measured(detector: Detector) -> None:
    detector.show_frame()
    box, nan = BOXES["chair"], math.nan
    bad = [
        detection((nan, nan, nan, nan), "nothing"),
        detection((10.0, 10.0, math.inf, 20.0), "endless"),
        detection((-50.0, -50.0, -10.0, -10.0), "outside"),
        detection((1e9, 1e9, 2e9, 2e9), "far outside"),
        detection((10.0, 10.0, 10.0, 20.0), "empty"),
        detection(box, "turned", theta=0.5),
        detection(box, "x" * 101),
        detection(box, "named", name="x" * 101),
        detection(box, *["many"] * 21),
    ]
    good = detection(box, "chair", name="good")
    array = detector.result(detector.array(*bad, good), lambda one: len(one.detections))
    assert [one.id for one in array.detections] == ["good"]
    detector.show_frame()
    assert detector.reason(detector.array(*bad), "9 of 9 detections are refused")


def test_what_is_unfit_to_act_on_is_not_published(detector: Detector) -> None:
    """A Detection3D has no place for the warning `truncated`, or for an object that has no size."""
    detector.show_frame()
    cut = detection((0.0, 75.0, 40.0, 175.0), "sofa", name="cut")
    outside = detection((5_000.0, 10.0, 5_010.0, 20.0), "beyond the right border", name="beyond")
    good = detection(BOXES["chair"], "chair", name="good")
    array = detector.result(detector.array(cut, outside, good), lambda one: len(one.detections))
    assert [one.id for one in array.detections] == ["good"]
    detector.peer.spin_until(
        lambda: int(detector.diagnostics.get("detections unfit", "0")) >= 2, "the counter"
    )


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"stamp_ns": 0}, "header.stamp of detections is 0"),
        ({"stamp_ns": 10**18}, "no colour image within 0.03 s"),
        ({"frame_id": "left_camera\n[ERROR] forged"}, "are of frame_id 'left_camera"),
    ],
)
def test_detections_of_no_known_frame_are_refused(
    detector: Detector, changed: dict[str, Any], text: str
) -> None:
    detector.show_frame()
    given = detector.array(detection(BOXES["chair"], "chair"), **changed)
    assert "\n" not in detector.reason(given, text)


def test_what_is_too_large_is_refused_before_it_is_read(detector: Detector) -> None:
    detector.show_frame()
    box = BOXES["chair"]
    many = detector.array(*[detection(box) for _ in range(65)])
    detector.reason(many, "65 detections in one message; at most 64")
    flood = detector.array(*[detection(box)] * 10_000)
    detector.reason(flood, "bytes is refused")
    long = detector.array(detection(box, "x" * 1_000_000))
    detector.reason(long, "a message of 1000")
    good = detection(box, "chair", name="after")
    array = detector.result(detector.array(good), lambda one: len(one.detections))
    assert [one.id for one in array.detections] == ["after"]


def test_a_message_that_is_not_measured_in_time_is_replaced_by_the_newest(
    detector: Detector,
) -> None:
    detector.set_rate(0.5)
    detector.show_frame()
    dropped = int(detector.diagnostics["detection messages dropped"])
    sent = itertools.count()

    def measured() -> list[int]:
        box = detection(BOXES["chair"], "chair", name=str(next(sent)))
        detector.publisher.publish(detector.array(box))
        return [int(one.id) for array in detector.results() for one in array.detections]

    numbers = detector.peer.spin_until(lambda: len(found := measured()) > 2 and found, "results")
    # The first may be the message before the rate changed; each later one had 2 s of others before.
    assert all(later > earlier + 1 for earlier, later in itertools.pairwise(numbers[1:]))
    detector.peer.spin_until(
        lambda: int(detector.diagnostics["detection messages dropped"]) > dropped, "the counter"
    )
    detector.set_rate(RATE_HZ)


def test_regions_of_a_request_and_of_a_verified_answer_are_published(detector: Detector) -> None:
    detector.show_frame()
    x1, y1, x2, y2 = BOXES["chair"]
    roi = RegionOfInterest(x_offset=x1, y_offset=y1, width=x2 - x1, height=y2 - y1)
    stamp = time_message(detector.stamp_ns)
    regions = [Region(label="red chair", roi=roi)]
    future = detector.measure.call_async(MeasureRegions.Request(regions=regions, stamp=stamp))
    array = detector.next_result()
    detector.peer.spin_until(future.done, "the measurement")
    (found,) = array.detections
    (result,) = found.results
    assert (result.hypothesis.class_id, found.id) == ("red chair", "")
    assert math.isnan(result.hypothesis.score)  # nobody knows it, and it is not 0
    detector.received.clear()
    asked = Asked(quantity=Asked.HEIGHT, objects=["red chair"])
    response = detector.peer.ask(
        "", asked=asked, stamp_ns=detector.stamp_ns, regions=regions, verify=True
    )
    assert response.error_code == 0, response.error_msg
    array = detector.next_result()
    assert array.detections[0].bbox == found.bbox


def test_without_vision_msgs_the_node_names_the_package_and_ends(vision: dict[str, str]) -> None:
    if not vision:
        pytest.skip("ROS has vision_msgs here")
    command = [sys.executable, "-m", "sdvlm_ros.node", "--ros-args", "-p"]
    result = subprocess.run(
        [*command, "measure_detections:=true"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 2
    assert "apt install ros-$ROS_DISTRO-vision-msgs" in result.stderr
    assert "Traceback" not in result.stderr


def simple(**changed: Any) -> Any:
    """A Detection2D without the package."""
    box = {"x": 20.0, "y": 30.0, "theta": 0.0, "size_x": 10.0, "size_y": 20.0} | changed
    centre = SimpleNamespace(position=SimpleNamespace(x=box["x"], y=box["y"]), theta=box["theta"])
    bbox = SimpleNamespace(center=centre, size_x=box["size_x"], size_y=box["size_y"])
    hypothesis = SimpleNamespace(class_id="mug", score=0.5)
    return SimpleNamespace(bbox=bbox, id="7", results=[SimpleNamespace(hypothesis=hypothesis)])


def test_a_box_becomes_whole_pixels_and_ends_at_the_border() -> None:
    region, named = vision_messages.region_of(simple(x=4.4, size_x=11.0), [])
    assert region.roi == RegionOfInterest(x_offset=0, y_offset=20, width=10, height=20)
    assert (region.label, named.id, named.hypotheses) == ("mug", "7", (("mug", 0.5),))


def test_labels_of_one_class_differ() -> None:
    taken: list[str] = []
    for _ in range(3):
        taken.append(vision_messages.region_of(simple(), taken)[0].label)
    assert taken == ["mug", "mug 2", "mug 3"]


@pytest.mark.parametrize("field", ["x", "y", "theta", "size_x", "size_y"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1e30])
def test_a_box_with_an_impossible_number_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=r"not finite|no box|empty|turned"):
        vision_messages.region_of(simple(**{field: value}), [])
