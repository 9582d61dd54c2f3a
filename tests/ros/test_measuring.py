"""~/measure_regions and verified questions of the real node over real DDS."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, RegionOfInterest
from visualization_msgs.msg import MarkerArray

from sdvlm.msg import Measurement, Region, SpatialAnswer
from sdvlm.srv import MeasureRegions
from sdvlm_core.geometry.measure import measure
from sdvlm_ros.client import SpatialClient, SpatialQueryFailed
from sdvlm_ros.conversions import camera_info_message, image_message
from tests import blocks
from tests.blocks import SIZE, box_around, room_frame
from tests.ros.conftest import running
from tests.ros.peer import DEPTH, INFO, RGB, Peer, Response
from tests.waiting import PATIENCE_S

_stamps = itertools.count(1)
BLUE_BOX = [round(side) for side in box_around(blocks.BLUE)]
RED_BOX = [round(side) for side in box_around(blocks.RED)]


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    with running("sdvlm_ros.node", "--ros-args", "-p", "model:=nano", "-p", "sensor:=simulated"):
        peer = Peer(context)
        peer.connect()
        yield peer
    context.try_shutdown()


@pytest.fixture
def shown(peer: Peer) -> int:
    """The stamp of a frame that the node has."""
    frame = room_frame()
    stamp_ns = time.time_ns() + next(_stamps)
    depth = np.nan_to_num(frame.depth, nan=0.0).astype(np.float32)
    messages = {
        RGB: image_message(frame.rgb, "rgb8", stamp_ns, "optical"),
        DEPTH: image_message(depth, "32FC1", stamp_ns, "optical"),
        INFO: camera_info_message(frame.intrinsics, stamp_ns, "optical"),
    }
    assert peer.ask_about(messages, stamp_ns).error_code == Response.NONE
    return stamp_ns


@pytest.fixture(scope="module")
def client() -> Iterator[SpatialClient]:
    with SpatialClient() as client:
        client.wait_for_node()
        yield client


def test_regions_are_measured_as_the_core_measures_them(peer, client, shown):
    response = client.measure({"red": RED_BOX, "blue": BLUE_BOX}, stamp_ns=shown)
    assert response.header.frame_id == "optical"
    assert response.header.stamp.sec * 10**9 + response.header.stamp.nanosec == shown
    from sdvlm_core.frame import Region as CoreRegion

    regions = [
        CoreRegion(label, box=tuple(map(float, box)))
        for label, box in (("red", RED_BOX), ("blue", BLUE_BOX))
    ]
    found, pairs = measure(room_frame(), regions, "simulated")
    for one, other in zip(response.regions, found, strict=True):
        assert (one.label, one.height, one.length) == (other.label, other.height_m, other.length_m)
        assert one.height_std_dev == other.std_dev["height_m"]
        assert list(one.warnings) == [code.value for code in other.warnings]
    assert response.regions[0].height == pytest.approx(blocks.RED.sides[2], rel=0.05)
    assert (response.pairs[0].a, response.pairs[0].distance) == ("red", pairs[0].distance_m)


def test_a_point_and_a_mask_are_regions_too(peer, client, shown):
    x1, y1, x2, y2 = RED_BOX
    point = Region(label="red")
    point.roi = RegionOfInterest(x_offset=(x1 + x2) // 2, y_offset=(y1 + y2) // 2)
    mask = Region(label="mask")
    pixels = np.zeros(SIZE[::-1], np.uint8)
    pixels[y1:y2, x1:x2] = 255
    mask.mask = Image(
        height=SIZE[1], width=SIZE[0], encoding="mono8", step=SIZE[0], data=pixels.tobytes()
    )
    request = MeasureRegions.Request(regions=[point, mask])
    request.stamp.sec, request.stamp.nanosec = divmod(shown, 10**9)
    future = peer.client(MeasureRegions, "measure_regions").call_async(request)
    peer.spin_until(future.done, "a response")
    response = future.result()
    assert response.error_code == Response.NONE, response.error_msg
    assert response.regions[0].height == pytest.approx(blocks.RED.sides[2], rel=0.1)


@pytest.mark.parametrize(
    ("regions", "text"),
    [
        ({}, "no regions"),
        ({"a": (9, 9)} | {str(n): (1, 1) for n in range(80)}, "at most 64"),
    ],
)
def test_regions_that_cannot_be_measured_are_refused_by_name(client, shown, regions, text):
    with pytest.raises(SpatialQueryFailed, match=text) as refused:
        client.measure(regions, stamp_ns=shown)
    assert refused.value.code == Response.INVALID_QUERY
    assert client.measure({"red": RED_BOX}, stamp_ns=shown).regions[0].label == "red"


def test_a_region_outside_the_image_does_not_fail_the_others(client, shown):
    regions = {"far": (5000, 10, 5100, 50), "red": RED_BOX}
    far, red = client.measure(regions, stamp_ns=shown).regions
    assert list(far.warnings) == ["outside_image"]
    assert math.isnan(far.height)
    assert math.isnan(far.pose.position.x)
    assert red.height == pytest.approx(blocks.RED.sides[2], rel=0.05)


def test_a_verified_answer_has_the_values_of_model_and_geometry(client, shown):
    answer = client.ask(
        "How tall is the red box?", verify=True, regions={"red box": RED_BOX}, stamp_ns=shown
    )
    said, seen = answer.measurements[:2]
    assert (said.source, seen.source) == (Measurement.LANGUAGE, Measurement.GEOMETRY)
    assert seen.value == pytest.approx(blocks.RED.sides[2], rel=0.05)
    factor = max(said.value / seen.value, seen.value / said.value)
    assert answer.status == (SpatialAnswer.OK if factor < 1.25 else SpatialAnswer.DISAGREEMENT)
    # Close to the factor of 1.25 the measurement's interval does not decide: nothing is fused.
    assert len(answer.measurements) == (3 if factor < 1.2 else 2)


def test_without_regions_the_model_locates_the_object(client, shown):
    answer = client.ask("How tall is the red box?", verify=True, stamp_ns=shown)
    assert answer.measurements[0].source == Measurement.LANGUAGE


def test_regions_without_verify_are_refused(client, shown):
    with pytest.raises(SpatialQueryFailed, match="set verify"):
        client.ask("How tall is it?", regions={"it": RED_BOX}, stamp_ns=shown)


@pytest.fixture
def answer_by(peer: Peer) -> Iterator[Callable[[str], bool]]:
    """Sets the parameter of the running node; the default again at the end."""
    caller = peer.client(SetParameters, "set_parameters")

    def change(value: str) -> bool:
        parameter = Parameter("answer_by", value=value).to_parameter_msg()
        future = caller.call_async(SetParameters.Request(parameters=[parameter]))
        peer.spin_until(future.done, "the parameter")
        return bool(future.result().results[0].successful)

    yield change
    assert change("both")


def test_the_node_answers_by_geometry_alone_with_and_without_verify(client, shown, answer_by):
    assert answer_by("geometry")
    for verify in (False, True):
        answer = client.ask(
            "How tall is the red box?",
            verify=verify,
            regions={"red box": RED_BOX},
            stamp_ns=shown,
        )
        (number,) = answer.measurements
        assert number.source == Measurement.GEOMETRY
        assert number.value == pytest.approx(blocks.RED.sides[2], rel=0.05)
        assert (answer.status, math.isnan(answer.confidence)) == (SpatialAnswer.OK, True)
    counted = client.ask("How many chairs are there?", stamp_ns=shown)
    assert (counted.status, list(counted.measurements)) == (SpatialAnswer.NO_ANSWER, [])
    assert "COUNT" in counted.why_none


def test_a_node_that_answers_by_language_refuses_to_verify(client, shown, answer_by):
    assert answer_by("language")
    with pytest.raises(SpatialQueryFailed, match="answer_by is language"):
        client.ask("How tall is the red box?", verify=True, stamp_ns=shown)
    answer = client.ask("How tall is the red box?", stamp_ns=shown)
    assert {one.source for one in answer.measurements} <= {Measurement.LANGUAGE}
    assert not answer_by("guessing")


def test_measured_and_verified_objects_are_published_for_subscribers(peer, client, shown):
    received: dict[type, list] = {MarkerArray: [], Image: []}
    topics = {MarkerArray: "spatial_query/markers", Image: "spatial_query/annotated_image"}
    subscriptions = [
        peer.node.create_subscription(kind, topics[kind], received[kind].append, 5)
        for kind in received
    ]
    peer.spin_until(
        lambda: all(peer.node.count_publishers(topic) for topic in topics.values()), "topics"
    )

    def show(ask: Callable[[], object]) -> None:
        # The node draws only after it has discovered the subscriptions.
        for messages in received.values():
            messages.clear()
        deadline = time.monotonic() + PATIENCE_S
        while not all(received.values()):
            assert time.monotonic() < deadline, "nothing was shown"
            ask()
            until = time.monotonic() + 1.0
            while not all(received.values()) and time.monotonic() < until:
                peer.executor.spin_once(timeout_sec=0.05)
        headers = [message.header for message in received[Image]]
        headers += [m.header for message in received[MarkerArray] for m in message.markers]
        for header in headers:
            assert header.stamp.sec * 10**9 + header.stamp.nanosec == shown
            assert header.frame_id == "optical"

    show(lambda: client.measure({"red": RED_BOX, "blue": BLUE_BOX}, stamp_ns=shown))
    boxes = [m for m in received[MarkerArray][-1].markers if m.ns == "boxes"]
    assert len(boxes) == 2
    show(
        lambda: client.ask(
            "How tall is the red box?", verify=True, regions={"red box": RED_BOX}, stamp_ns=shown
        )
    )
    (box,) = [m for m in received[MarkerArray][-1].markers if m.ns == "boxes"]
    assert box.scale.z == pytest.approx(blocks.RED.sides[2], rel=0.05)
    for subscription in subscriptions:
        peer.node.destroy_subscription(subscription)
