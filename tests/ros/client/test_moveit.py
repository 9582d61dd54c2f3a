"""A measured box becomes a collision object that contains the object, with MoveIt's field names."""

from __future__ import annotations

import math

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from sdvlm.msg import RegionMeasurement
from sdvlm_core.cautions import INFORMATIVE, UNFIT
from sdvlm_ros.client import NoMeasurement
from sdvlm_ros.client.moveit import BOX, collision_object, support_collision_object

BASE = Header(frame_id="base_link")
#: z up, x 30 degrees to the left of the base's x.
YAW_30 = Rotation.from_euler("z", 30, degrees=True)
ROTATIONS = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)
NO_ROTATION = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}


def quaternion(rotation: Rotation) -> Quaternion:
    return Quaternion(**dict(zip("xyzw", rotation.as_quat().tolist(), strict=True)))


def measured(**changed: object) -> RegionMeasurement:
    region = RegionMeasurement(label="box", length=0.4, width=0.3, height=0.2)
    at = region.pose.position
    at.x, at.y, at.z = 1.0, 2.0, 0.5
    region.pose.orientation = quaternion(YAW_30)
    region.support_plane = [0.0, 0.0, 1.0, -0.4]
    for name in ("position", "length", "width", "height"):
        setattr(region, f"{name}_std_dev", 0.01)
    for name, value in changed.items():
        setattr(region, name, value)
    return region


def test_the_box_has_the_measured_pose_size_header_and_label() -> None:
    BASE.stamp.sec, BASE.stamp.nanosec = 7, 8
    found = collision_object(measured(), BASE, std_devs=0.0)
    assert found["header"] == {"stamp": {"sec": 7, "nanosec": 8}, "frame_id": "base_link"}
    assert found["id"] == "box"
    assert found["primitives"] == [{"type": BOX, "dimensions": pytest.approx([0.4, 0.3, 0.2])}]
    assert found["pose"]["position"] == {"x": 1.0, "y": 2.0, "z": 0.5}
    turned = [found["pose"]["orientation"][name] for name in "xyzw"]
    assert turned == pytest.approx(YAW_30.as_quat())
    (relative,) = found["primitive_poses"]
    assert relative == {"position": {"x": 0.0, "y": 0.0, "z": 0.0}, "orientation": NO_ROTATION}


def test_every_side_grows_with_the_standard_deviations_of_size_and_position() -> None:
    exact = collision_object(measured(), BASE, std_devs=0.0)["primitives"][0]["dimensions"]
    wide = collision_object(measured(), BASE, std_devs=2.0)["primitives"][0]["dimensions"]
    assert wide == pytest.approx([side + 2 * 0.01 + 2 * 2 * 0.01 for side in exact])


@given(ROTATIONS, st.floats(0, 3))
def test_the_box_contains_the_object_at_any_orientation(
    values: tuple[float, ...], std_devs: float
) -> None:
    rotation = Rotation.from_quat(values)
    region = measured()
    region.pose.orientation = quaternion(rotation)
    found = collision_object(region, BASE, std_devs=std_devs)
    signs = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T
    corners = rotation.apply(signs * (0.4, 0.3, 0.2)) + np.array((1.0, 2.0, 0.5))
    pose = found["pose"]
    turned = Rotation.from_quat([pose["orientation"][name] for name in "xyzw"])
    inside = turned.inv().apply(corners - [pose["position"][name] for name in "xyz"])
    half = np.array(found["primitives"][0]["dimensions"]) / 2
    assert (np.abs(inside) <= half + 1e-9).all()


def test_a_box_in_an_optical_frame_needs_nothing_else() -> None:
    optical = Header(frame_id="camera_color_optical_frame")
    assert collision_object(measured(), optical)["header"]["frame_id"] == optical.frame_id


@pytest.mark.parametrize("name", ["position", "orientation"])
def test_an_unknown_pose_is_an_error(name: str) -> None:
    region = measured(warnings=["too_few_points"])
    getattr(region.pose, name).x = math.nan
    with pytest.raises(NoMeasurement, match="orientation is unknown: too_few_points"):
        collision_object(region, BASE)


def test_the_support_is_the_plane_with_the_measured_coefficients() -> None:
    found = support_collision_object(measured(), BASE)
    assert found["id"] == "support of box"
    assert found["header"]["frame_id"] == "base_link"
    assert found["planes"] == [{"coef": [0.0, 0.0, 1.0, -0.4]}]
    assert len(found["plane_poses"]) == 1
    assert found["pose"]["orientation"] == NO_ROTATION


def test_an_unknown_or_unfit_support_is_an_error() -> None:
    unseen = measured(support_plane=[math.nan] * 4, warnings=["no_support_plane"])
    with pytest.raises(NoMeasurement, match="support plane is unknown: no_support_plane"):
        support_collision_object(unseen, BASE)
    with pytest.raises(NoMeasurement, match="unfit to act on: up_uncertain"):
        support_collision_object(measured(warnings=["up_uncertain"]), BASE)


def test_an_unknown_side_is_an_error() -> None:
    unseen = measured(width=math.nan, warnings=["unseen_extent"])
    with pytest.raises(NoMeasurement, match="unseen_extent"):
        collision_object(unseen, BASE)


@pytest.mark.parametrize("code", sorted(code.value for code in UNFIT))
def test_a_measurement_that_is_unfit_to_act_on_is_an_error_with_its_code(code: str) -> None:
    with pytest.raises(NoMeasurement, match=f"unfit to act on: {code}"):
        collision_object(measured(warnings=["occluded", code]), BASE)


def test_a_warning_that_only_informs_is_accepted() -> None:
    informative = [code.value for code in INFORMATIVE]
    assert collision_object(measured(warnings=informative), BASE)
