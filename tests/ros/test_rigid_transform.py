"""Points, orientations and planes keep their relation in any other frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
from geometry_msgs.msg import Point, Quaternion, Transform, Vector3
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sdvlm_core.errors import TransformError
from sdvlm_ros.rigid_transform import RigidTransform

VECTORS = st.tuples(*[st.floats(-10, 10)] * 3)
ROTATIONS = (
    st.tuples(*[st.floats(-1, 1)] * 4)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(Rotation.from_quat)
)


def quaternion(rotation: Rotation) -> Quaternion:
    return Quaternion(**dict(zip("xyzw", rotation.as_quat().tolist(), strict=True)))


def transform(rotation: Rotation, translation: tuple[float, ...]) -> RigidTransform:
    moved = Vector3(**dict(zip("xyz", map(float, translation), strict=True)))
    return RigidTransform(Transform(rotation=quaternion(rotation), translation=moved))


def values(message: Point | Quaternion) -> np.ndarray:
    names = "xyzw" if isinstance(message, Quaternion) else "xyz"
    return np.array([getattr(message, name) for name in names])


@given(ROTATIONS, VECTORS, VECTORS)
def test_a_point_is_rotated_then_moved(rotation, translation, point):
    found = transform(rotation, translation).point(Point(**dict(zip("xyz", point, strict=True))))
    expected = rotation.as_matrix() @ point + translation
    np.testing.assert_allclose(values(found), expected, atol=1e-9)


@given(ROTATIONS, VECTORS, ROTATIONS, VECTORS)
def test_a_plane_keeps_its_height_below_a_point_and_its_unit_normal(
    rotation, translation, facing, point
):
    normal, offset = facing.apply((0, 0, 1)), 0.7
    moved = transform(rotation, translation)
    *other, d = moved.plane([*normal, offset])
    there = values(moved.point(Point(**dict(zip("xyz", point, strict=True)))))
    assert np.array(other) @ there + d == pytest.approx(normal @ point + offset, abs=1e-9)
    assert math.hypot(*other) == pytest.approx(1.0)


@given(ROTATIONS, VECTORS, ROTATIONS, VECTORS)
def test_a_point_of_a_box_stays_in_its_place_of_the_box(rotation, translation, own, point):
    moved = transform(rotation, translation)
    centre = Point(x=1.0, y=2.0, z=3.0)
    here = own.apply(point) + values(centre)
    there = values(moved.point(Point(**dict(zip("xyz", here.tolist(), strict=True)))))
    turned = Rotation.from_quat(values(moved.orientation(quaternion(own))))
    inside = turned.inv().apply(there - values(moved.point(centre)))
    np.testing.assert_allclose(inside, point, atol=1e-9)


def test_what_is_unknown_stays_unknown():
    moved = transform(Rotation.from_euler("x", 1.0), (1, 2, 3))
    nan = math.nan
    assert np.isnan(values(moved.point(Point(x=nan, y=nan, z=nan)))).all()
    assert np.isnan(values(moved.orientation(Quaternion(x=nan, y=nan, z=nan, w=nan)))).all()
    assert np.isnan(moved.plane([nan] * 4)).all()


@pytest.mark.parametrize(
    ("rotation", "translation", "text"),
    [
        (Quaternion(x=0.0, y=0.0, z=0.0, w=0.0), Vector3(), "no unit quaternion"),
        (Quaternion(x=math.nan), Vector3(), "no unit quaternion"),
        (Quaternion(), Vector3(y=math.inf), r"translation \(0.0, inf, 0.0\) is not finite"),
    ],
)
def test_a_transform_that_is_none_is_refused(rotation, translation, text):
    with pytest.raises(TransformError, match=text):
        RigidTransform(Transform(rotation=rotation, translation=translation))
