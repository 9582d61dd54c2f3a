"""Boxes, points and masks measured over DDS: everything that geometry knows, in the target frame.

The camera's pose in the world of `tests.blocks` is known exactly, so the world is the target frame.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import TransformStamped
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import RegionOfInterest

from sdvlm.msg import Region, RegionMeasurement
from sdvlm.srv import MeasureRegions, SpatialQuery
from sdvlm_core.geometry.measure import measure
from sdvlm_ros.client.moveit import collision_object, support_collision_object
from sdvlm_ros.conversions import (
    camera_info_message,
    cloud_points,
    image_message,
    pair_message,
    region_message,
    time_message,
)
from tests import blocks
from tests.blocks import FOCAL, POSES, SIZE, box_around, middle_of, pinhole_rays, room_frame
from tests.paths import ROOT
from tests.ros.conftest import running
from tests.ros.peer import DEPTH, INFO, RGB, Peer

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
QUANTITIES = ("camera_distance", "length", "width", "height")
#: Around what the image shows of `blocks.CUT`.
CUT_BOX = {"x_offset": 0, "y_offset": 75, "width": 40, "height": 100}
#: The objects by label: the shape of the region, and the block. Beside them `cut` is measured.
ASKED = {"box": blocks.RED, "point": blocks.BLUE, "mask": blocks.TABLE}


def visible_pixels(block: blocks.Block) -> np.ndarray:
    """(H, W) bool: where `room_frame` shows a block."""
    rays = pinhole_rays(np.array([[FOCAL, 0, 160], [0, FOCAL, 120], [0, 0, 1]]), *SIZE)
    world = [other for other in blocks.WORLD if other is not block]
    depth = [blocks.picture(POSES[0], rays, some)[1] for some in (blocks.WORLD, world)]
    return depth[0] != depth[1]


def regions() -> list[Region]:
    """One region of each shape, for ASKED, and a sofa that the image's border cuts."""
    x1, y1, x2, y2 = (round(side) for side in box_around(blocks.RED))
    u, v = (round(value) for value in middle_of(blocks.BLUE))
    mask = Region(label="mask")
    mask.mask = image_message(visible_pixels(blocks.TABLE).astype(np.uint8) * 255, "mono8")
    box = RegionOfInterest(x_offset=x1, y_offset=y1, width=x2 - x1, height=y2 - y1)
    return [
        Region(label="box", roi=box),
        Region(label="point", roi=RegionOfInterest(x_offset=u, y_offset=v)),
        mask,
        Region(label="cut", roi=RegionOfInterest(**CUT_BOX)),
    ]


def whole(response: MeasureRegions.Response) -> list[RegionMeasurement]:
    """The objects of ASKED."""
    return [one for one in response.regions if one.label in ASKED]


def camera_transform() -> TransformStamped:
    """The world from the optical frame, exactly."""
    stamped = TransformStamped()
    stamped.header.frame_id, stamped.child_frame_id = "world", "optical"
    translation, rotation = stamped.transform.translation, stamped.transform.rotation
    translation.x, translation.y, translation.z = POSES[0][:3, 3].tolist()
    turned = Rotation.from_matrix(POSES[0][:3, :3]).as_quat().tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = turned
    return stamped


@pytest.fixture(scope="module")
def responses() -> Iterator[dict[str, MeasureRegions.Response]]:
    """The response in the optical frame, "", and in the frame "world"; both with points.

    Then the node has target_frame "world": "node" names no frame, "named" names the optical one.
    """
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    path = os.pathsep.join([str(ROOT / "tests/ros/tf_stand_in"), os.environ.get("PYTHONPATH", "")])
    options = ("--ros-args", "-p", "sensor:=simulated")
    with running("tests.ros.stub_node", *options, PYTHONPATH=path):  # geometry needs no model
        peer = Peer(context)
        peer.connect()
        publisher = peer.node.create_publisher(TransformStamped, "/tf_stand_in", LATCHED)
        publisher.publish(camera_transform())
        frame, stamp_ns = room_frame(), time.time_ns()
        depth = np.nan_to_num(frame.depth, nan=0.0).astype(np.float32)
        messages = {
            RGB: image_message(frame.rgb, "rgb8", stamp_ns, "optical"),
            DEPTH: image_message(depth, "32FC1", stamp_ns, "optical"),
            INFO: camera_info_message(frame.intrinsics, stamp_ns, "optical"),
        }
        assert peer.ask_about(messages, stamp_ns).error_code == SpatialQuery.Response.NONE
        caller = peer.client(MeasureRegions, "measure_regions")

        def measured(target: str, points: bool = False) -> MeasureRegions.Response:
            request = MeasureRegions.Request(
                regions=regions(), target_frame=target, points=points, stamp=time_message(stamp_ns)
            )
            future = caller.call_async(request)
            peer.spin_until(future.done, "a response")
            assert future.result().error_code == 0, future.result().error_msg
            return future.result()

        found = {target: measured(target, points=True) for target in ("", "world")}
        changed = Parameter("target_frame", value="world").to_parameter_msg()
        setting = peer.client(SetParameters, "set_parameters")
        future = setting.call_async(SetParameters.Request(parameters=[changed]))
        peer.spin_until(future.done, "the parameter")
        assert future.result().results[0].successful
        yield {**found, "node": measured(""), "named": measured("optical")}
    context.try_shutdown()


def axes(one: RegionMeasurement) -> np.ndarray:
    """(3, 3): length, width and up as columns, in the frame of the response."""
    q = one.pose.orientation
    return Rotation.from_quat((q.x, q.y, q.z, q.w)).as_matrix()


def position(one: RegionMeasurement) -> np.ndarray:
    at = one.pose.position
    return np.array([at.x, at.y, at.z])


def test_without_a_target_frame_the_response_is_what_the_core_measures(responses):
    from sdvlm_core.frame import Region as CoreRegion

    asked = [
        CoreRegion("box", box=tuple(float(round(side)) for side in box_around(blocks.RED))),
        CoreRegion("point", point=tuple(float(round(x)) for x in middle_of(blocks.BLUE))),
        CoreRegion("mask", mask=visible_pixels(blocks.TABLE)),
        CoreRegion("cut", box=(0.0, 75.0, 40.0, 175.0)),
    ]
    found, pairs = measure(room_frame(), asked, "simulated")
    response = responses[""]
    assert response.header.frame_id == "optical"
    assert list(response.regions) == [region_message(one) for one in found]
    assert list(response.pairs) == [pair_message(pair) for pair in pairs]


def test_boxes_stand_in_the_world_as_the_blocks_do(responses):
    response = responses["world"]
    assert response.header.frame_id == "world"
    for one in whole(response):
        block = ASKED[one.label]
        np.testing.assert_allclose(position(one), block.centre, atol=0.06)
        np.testing.assert_allclose(axes(one)[:, 2], (0, 0, 1), atol=0.01)
        assert one.height == pytest.approx(block.sides[2], rel=0.08)
    (table,) = (one for one in response.regions if one.label == "mask")
    # The sign of an axis is arbitrary for a box; x points away from the camera.
    along = axes(table)[:, 0]
    assert abs(along @ blocks.TABLE.turn[:, 0]) == pytest.approx(1.0, abs=0.02)
    assert along[1] >= -0.01


def test_the_support_plane_is_the_floor_and_the_top_is_above_it(responses):
    for one in whole(responses["world"]):
        a, b, c, d = one.support_plane
        np.testing.assert_allclose((a, b, c), (0, 0, 1), atol=0.01)
        # Extrapolated over 3 m from the camera's height: the plane is refined near the object.
        assert d + (a, b, c) @ (position(one) * (1, 1, 0)) == pytest.approx(0.0, abs=0.02)
        top = position(one) + axes(one)[:, 2] * one.height / 2
        assert (a, b, c) @ top + d == pytest.approx(one.top_above_support, abs=0.005)


def test_a_target_frame_changes_poses_and_planes_alone(responses):
    moved = {"pose", "support_plane"}
    for one, same in zip(responses[""].regions, responses["world"].regions, strict=True):
        for name in RegionMeasurement.get_fields_and_field_types():
            equal = np.array_equal(getattr(one, name), getattr(same, name))
            assert equal == (name not in moved), name
        world = Rotation.from_matrix(POSES[0][:3, :3])
        np.testing.assert_allclose(axes(same), world.as_matrix() @ axes(one), atol=1e-9)
    assert responses[""].pairs == responses["world"].pairs


def test_intervals_and_standard_deviations_of_all_quantities_arrive(responses):
    response = responses["world"]
    named = [(one, QUANTITIES) for one in response.regions]
    named += [(pair, ("distance", "gap")) for pair in response.pairs]
    for message, names in named:
        for name in names:
            low, high = getattr(message, f"{name}_interval")
            assert low <= getattr(message, name) <= high, name
            assert 0 < getattr(message, f"{name}_std_dev") < 1, name


def test_a_pair_has_the_warnings_that_concern_it(responses):
    warned = {one.label: list(one.warnings) for one in responses["world"].regions}
    assert "truncated" in warned["cut"]
    assert not any("truncated" in warned[label] for label in ASKED)
    assert len(responses["world"].pairs) == 6
    for pair in responses["world"].pairs:
        assert ("truncated" in pair.warnings) == ("cut" in (pair.a, pair.b))


def test_the_collision_box_and_plane_are_in_the_target_frame(responses):
    response = responses["world"]
    box = response.regions[0]
    found = collision_object(box, response.header, std_devs=0.0)
    assert found["header"]["frame_id"] == "world"
    assert found["primitives"][0]["dimensions"] == [box.length, box.width, box.height]
    (plane,) = support_collision_object(box, response.header)["planes"]
    assert plane["coef"] == list(box.support_plane)
    assert math.hypot(*plane["coef"][:3]) == pytest.approx(1.0)


def test_the_nodes_target_frame_holds_for_requests_that_name_none(responses):
    node, named = responses["node"], responses["named"]
    assert node.header == responses["world"].header
    assert node.regions == responses["world"].regions
    assert named.header == responses[""].header
    assert named.regions == responses[""].regions
    assert not node.points  # none were requested


def test_each_region_has_the_points_of_its_object_in_the_frame_of_the_response(responses):
    world = responses["world"]
    assert len(world.points) == len(world.regions)
    for one, cloud, own in zip(world.regions, world.points, responses[""].points, strict=True):
        assert cloud.header == world.header
        assert [field.name for field in cloud.fields] == ["x", "y", "z"]
        assert (cloud.height, cloud.point_step, cloud.is_dense) == (1, 12, True)
        points, optical = cloud_points(cloud), cloud_points(own)
        assert len(points) == cloud.width > 200
        moved = Rotation.from_matrix(POSES[0][:3, :3]).apply(optical) + POSES[0][:3, 3]
        np.testing.assert_allclose(points, moved, atol=1e-5)
        if one.label in ASKED:  # inside its box, but for noise
            half = np.array([one.length, one.width, one.height]) / 2
            inside = np.abs((points - position(one)) @ axes(one)) < half + 0.05
            assert inside.all(axis=1).mean() > 0.95


def test_points_are_bounded_and_those_of_an_unmeasured_region_are_none():
    from sdvlm_core.frame import Region as CoreRegion
    from sdvlm_core.geometry.measure import measure_in, object_points
    from sdvlm_core.geometry.scene import open_scene

    scene = open_scene(room_frame())
    asked = [CoreRegion("box", box=box_around(blocks.RED)), CoreRegion("far", point=(5e3, 5.0))]
    (box, far), _ = measure_in(scene, asked, "simulated")
    every = object_points(scene.cloud, box, 10**6)
    few = object_points(scene.cloud, box, 100)
    assert 50 < len(few) <= 100 < len(every)
    assert {tuple(point) for point in few} <= {tuple(point) for point in every}
    assert every.dtype == np.float32
    assert object_points(scene.cloud, far, 100).shape == (0, 3)
