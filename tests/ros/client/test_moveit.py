"""A measured box becomes a collision object that contains the object, with MoveIt's field names."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from std_msgs.msg import Header

from sdvlm.msg import RegionMeasurement
from sdvlm_core.cautions import INFORMATIVE, UNFIT
from sdvlm_ros.client import NoMeasurement
from sdvlm_ros.client.moveit import BOX, collision_object

BASE = Header(frame_id="base_link")


def measured(**changed: object) -> RegionMeasurement:
    region = RegionMeasurement(label="box", length=0.4, width=0.3, height=0.2)
    region.position.x, region.position.y, region.position.z = 1.0, 2.0, 0.5
    for name in ("position", "length", "width", "height"):
        setattr(region, f"{name}_std_dev", 0.01)
    for name, value in changed.items():
        setattr(region, name, value)
    return region


def test_the_box_has_the_measured_position_header_and_label() -> None:
    BASE.stamp.sec, BASE.stamp.nanosec = 7, 8
    found = collision_object(measured(), BASE, std_devs=0.0)
    assert found["header"] == {"stamp": {"sec": 7, "nanosec": 8}, "frame_id": "base_link"}
    assert found["id"] == "box"
    assert found["primitives"] == [{"type": BOX, "dimensions": pytest.approx([0.5, 0.5, 0.2])}]
    assert found["pose"]["position"] == {"x": 1.0, "y": 2.0, "z": 0.5}
    assert found["pose"]["orientation"] == {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
    assert len(found["primitive_poses"]) == 1


def test_the_box_grows_with_the_standard_deviations() -> None:
    exact = collision_object(measured(), BASE, std_devs=0.0)["primitives"][0]["dimensions"]
    wide = collision_object(measured(), BASE, std_devs=2.0)["primitives"][0]["dimensions"]
    assert wide[2] == pytest.approx(exact[2] + 2 * 0.01 + 2 * 2 * 0.01)


@given(st.floats(0, 2 * math.pi))
def test_the_box_contains_the_object_at_any_yaw(yaw: float) -> None:
    across, deep, _ = collision_object(measured(), BASE, std_devs=0.0)["primitives"][0][
        "dimensions"
    ]
    c, s = math.cos(yaw), math.sin(yaw)
    corners = [(c * x - s * y, s * x + c * y) for x in (-0.2, 0.2) for y in (-0.15, 0.15)]
    assert all(abs(x) <= across / 2 + 1e-9 and abs(y) <= deep / 2 + 1e-9 for x, y in corners)


@example((0.0, 2e-313, -1.0))
@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: math.hypot(*v) > 1e-3))
def test_the_z_axis_of_the_box_points_up(up: tuple[float, float, float]) -> None:
    header = Header(frame_id="map")
    turned = collision_object(measured(), header, up=up)["pose"]["orientation"]
    x, y, z, w = (turned[name] for name in "xyzw")
    axis = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
    np.testing.assert_allclose(axis, np.array(up) / math.hypot(*up), atol=1e-6)
    assert x * x + y * y + z * z + w * w == pytest.approx(1.0)


def test_an_optical_frame_without_a_direction_is_refused() -> None:
    optical = Header(frame_id="camera_color_optical_frame")
    with pytest.raises(ValueError, match="target_frame='base_link'"):
        collision_object(measured(), optical)
    assert collision_object(measured(), optical, up=(0.0, -1.0, 0.0))


def test_a_direction_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a direction"):
        collision_object(measured(), BASE, up=(0.0, 0.0, 0.0))


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
