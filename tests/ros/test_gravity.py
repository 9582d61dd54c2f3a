"""Up from TF at the image's stamp; without a transform an answer says that up is uncertain."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.node import Node
from rclpy.time import Time
from scipy.spatial.transform import Rotation

from sdvlm_core.cautions import Caution
from sdvlm_core.errors import TransformError
from sdvlm_ros.rigid_transform import rotated_z
from sdvlm_ros.transforms import Transforms
from sdvlm_ros.worker import FrameDecoder, Gravity
from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, frame
from tests.ros.test_worker import raw_frame
from tests.ros.watch import Watched

# Optical axes (X right, Y down, Z forward) of a level camera that looks along X of its base.
LEVEL = (-0.5, 0.5, -0.5, 0.5)


def optical_from_base(quaternion: tuple[float, ...]) -> tuple[float, ...]:
    """The inverse of a rotation optical -> base."""
    return tuple(Rotation.from_quat(quaternion).inv().as_quat())


def test_up_of_a_level_camera_is_minus_y_and_of_an_upside_down_one_plus_y() -> None:
    assert rotated_z(optical_from_base(LEVEL)) == pytest.approx((0, -1, 0), abs=1e-9)
    turned = Rotation.from_euler("x", 180, degrees=True) * Rotation.from_quat(LEVEL)
    assert rotated_z(tuple(turned.inv().as_quat())) == pytest.approx((0, 1, 0), abs=1e-9)


@given(st.tuples(*[st.floats(-1e3, 1e3)] * 4).filter(lambda q: np.linalg.norm(q) > 1e-3))
def test_the_rotated_axis_is_that_of_the_rotation_matrix(q: tuple[float, ...]) -> None:
    up = rotated_z(q)
    assert up == pytest.approx(Rotation.from_quat(q).as_matrix()[:, 2], abs=1e-9)
    assert np.linalg.norm(up) == pytest.approx(1.0)


@pytest.mark.parametrize("q", [(0.0,) * 4, (float("nan"), 0, 0, 1), (float("inf"), 0, 0, 1)])
def test_a_quaternion_that_is_no_rotation_is_refused(q: tuple[float, ...]) -> None:
    with pytest.raises(TransformError, match="no unit quaternion"):
        rotated_z(q)


class Buffer:
    """The part of tf2's buffer that the lookup uses; a test sets the transform."""

    def __init__(self, cache_time: object) -> None:
        self.found: dict[int, tuple[float, ...]] = {}
        Buffer.last = self

    last: Buffer

    def can_transform_core(self, target: str, source: str, stamp: Time) -> tuple[bool, str]:
        return (target, source) == ("optical", "base") and stamp.nanoseconds in self.found, ""

    def lookup_transform_core(self, target: str, source: str, stamp: Time) -> TransformStamped:
        message = TransformStamped()
        rotation = message.transform.rotation
        rotation.x, rotation.y, rotation.z, rotation.w = self.found[stamp.nanoseconds]
        return message


@pytest.fixture
def node(context: rclpy.Context) -> Node:
    node = rclpy.create_node("gravity", context=context)
    node.declare_parameter("tf_timeout", 0.05)
    node.declare_parameter("gravity_frame", "base")
    return node


@pytest.fixture
def transforms(node: Node, monkeypatch: pytest.MonkeyPatch) -> Transforms:
    listener = SimpleNamespace(unregister=lambda: None)
    tf2_ros = SimpleNamespace(Buffer=Buffer, TransformListener=lambda buffer, node: listener)
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2_ros)
    transforms = Transforms(node)
    transforms.listen()
    return transforms


def test_up_is_looked_up_at_the_images_stamp(transforms: Transforms) -> None:
    turned = Rotation.from_euler("x", 180, degrees=True) * Rotation.from_quat(LEVEL)
    Buffer.last.found = {1: optical_from_base(LEVEL), 2: tuple(turned.inv().as_quat())}
    assert transforms.gravity("optical", 1).up == pytest.approx((0, -1, 0), abs=1e-9)
    assert transforms.gravity("optical", 2).up == pytest.approx((0, 1, 0), abs=1e-9)
    assert transforms.gravity("base", 7).up == (0.0, 0.0, 1.0)


def test_a_transform_that_arrives_in_time_is_waited_for(transforms: Transforms, node: Node) -> None:
    node.set_parameters([rclpy.Parameter("tf_timeout", value=60.0)])
    found: list[Gravity] = []
    asking = threading.Thread(target=lambda: found.append(transforms.gravity("optical", 1)))
    asking.start()
    time.sleep(0.05)
    Buffer.last.found = {1: optical_from_base(LEVEL)}
    asking.join()
    assert found[0].up == pytest.approx((0, -1, 0), abs=1e-9)


def test_a_missing_transform_names_both_frames_and_the_stamp(transforms: Transforms) -> None:
    found = transforms.gravity("optical", 5 * 10**9)
    assert found.up is None
    assert "from gravity_frame 'base' to 'optical' at the image's stamp 5.000" in found.reason


def test_a_frame_whose_up_was_not_found_says_so_and_one_whose_up_was_found_has_it() -> None:
    known = FrameDecoder(gravity=lambda frame_id, stamp: Gravity((0.0, 0.0, 1.0)))
    decoded = known.decode(raw_frame())
    assert decoded.up == (0.0, 0.0, 1.0)
    assert Caution.UP_UNCERTAIN not in decoded.cautions
    unknown = FrameDecoder(gravity=lambda frame_id, stamp: Gravity(None, "no transform"))
    decoded = unknown.decode(raw_frame())
    assert decoded.up is None
    assert Caution.UP_UNCERTAIN in decoded.cautions
    assert "no transform" in decoded.reasons


def test_without_tf2_an_answer_is_uncertain_and_the_diagnostics_say_why(
    context: rclpy.Context, tiny_model: object
) -> None:
    arguments = ("-p", "gravity_frame:=base_link", "-p", f"model:={tiny_model}")
    with running("sdvlm_ros.node", "--ros-args", *arguments, "-r", "__ns:=/gravity"):
        peer = Peer(context, "/gravity")
        peer.connect()
        watched = Watched(peer)
        watched.publish_until(frame, lambda: "up_uncertain" in watched.status.message)
        assert watched.status.level == DiagnosticStatus.WARN
        assert "'base_link'" in watched.status.message
        stamp_ns = time.time_ns()
        response = peer.ask_about(frame(stamp_ns), stamp_ns)
        assert response.error_code == Response.NONE, response.error_msg
        assert "up_uncertain" in response.answer.cautions
