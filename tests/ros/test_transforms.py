"""Positions move by the transform at the image's stamp, where tf2_ros is installed."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest
import rclpy
from geometry_msgs.msg import Point, TransformStamped
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Header

from sdvlm.msg import SpatialAnswer
from sdvlm_core.errors import TransformError
from sdvlm_ros.conversions import time_message
from sdvlm_ros.transforms import Transforms
from tests.waiting import PATIENCE_S

STAMP = 5_000_000_000


def apply(context: rclpy.Context, answer: SpatialAnswer, target: str, broadcast: bool) -> None:
    """Run Transforms.apply on an executor, with camera 2 m above and 1 m ahead of base."""
    node = rclpy.create_node("transforms", context=context)
    node.declare_parameter("tf_timeout", PATIENCE_S if broadcast else 0.2)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    transforms = Transforms(node)
    transforms.listen()
    task = executor.create_task(transforms.apply(answer, target))
    if broadcast:
        import tf2_ros

        transform = TransformStamped()
        transform.header.frame_id, transform.child_frame_id = "base", "optical"
        transform.transform.translation.x, transform.transform.translation.z = 1.0, 2.0
        broadcaster = tf2_ros.StaticTransformBroadcaster(node)
        broadcaster.sendTransform(transform)
    executor.spin_until_future_complete(task, timeout_sec=PATIENCE_S)
    assert task.done()
    transforms.close()
    task.result()


def test_a_transform_sent_before_the_answer_is_kept_for_it_until_after_the_deactivation(
    context: rclpy.Context, answer: SpatialAnswer
) -> None:
    tf2_ros = pytest.importorskip("tf2_ros", reason="tf2_ros comes with ROS and not as a wheel")
    node = rclpy.create_node("transforms", context=context)
    node.declare_parameter("tf_timeout", PATIENCE_S)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    transforms = Transforms(node)
    transforms.listen()
    broadcaster = tf2_ros.TransformBroadcaster(node)
    deadline = time.monotonic() + PATIENCE_S
    while not broadcaster.pub_tf.get_subscription_count() and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    # The image's stamp, and two minutes of generation after it.
    for seconds in (0, 60, 120):
        transform = TransformStamped()
        transform.header.stamp = time_message(STAMP + seconds * 10**9)
        transform.header.frame_id, transform.child_frame_id = "base", "optical"
        transform.transform.translation.x = 1.0 + seconds
        broadcaster.sendTransform(transform)
    for _ in range(20):
        executor.spin_once(timeout_sec=0.05)
    transforms.close()
    task = executor.create_task(transforms.apply(answer, "base"))
    executor.spin_until_future_complete(task, timeout_sec=PATIENCE_S)
    task.result()
    assert answer.positions[0].x == 1.5
    node.destroy_node()


class Listener:
    """The part of tf2_ros.TransformListener that works without ROS."""

    open = 0

    def __init__(self, buffer: object, node: object) -> None:
        Listener.open += 1

    def unregister(self) -> None:
        Listener.open -= 1


def test_transforms_are_received_while_active_and_kept_longer_than_answers_take(
    context: rclpy.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[float] = []
    tf2_ros = SimpleNamespace(
        Buffer=lambda cache_time: kept.append(cache_time.nanoseconds / 1e9),
        TransformListener=Listener,
    )
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2_ros)
    node = rclpy.create_node("transforms", context=context)
    transforms = Transforms(node)
    for _ in range(2):
        transforms.listen()
        assert Listener.open == 1
        transforms.close()
        transforms.close()
        assert Listener.open == 0
    assert min(kept) > 120.0
    node.destroy_node()


@pytest.fixture
def answer() -> SpatialAnswer:
    header = Header(stamp=time_message(STAMP), frame_id="optical")
    return SpatialAnswer(header=header, positions=[Point(x=0.5, y=0.0, z=3.0)])


def test_positions_are_transformed_into_the_target_frame(
    context: rclpy.Context, answer: SpatialAnswer
) -> None:
    pytest.importorskip("tf2_ros", reason="tf2_ros comes with ROS and not as a wheel")
    apply(context, answer, "base", broadcast=True)
    assert answer.header.frame_id == "base"
    assert answer.header.stamp.sec == 5
    assert (answer.positions[0].x, answer.positions[0].z) == (1.5, 5.0)


def test_a_missing_transform_is_an_error_and_the_answer_is_unchanged(
    context: rclpy.Context, answer: SpatialAnswer
) -> None:
    with pytest.raises(TransformError):
        apply(context, answer, "base", broadcast=False)
    assert answer.status == SpatialAnswer.TF_UNAVAILABLE
    assert answer.header.frame_id == "optical"
    assert answer.positions[0].x == 0.5


def test_the_images_own_frame_needs_no_tf2(context: rclpy.Context, answer: SpatialAnswer) -> None:
    apply(context, answer, "optical", broadcast=False)
    assert answer.status == SpatialAnswer.OK
