"""Positions move by the transform at the image's stamp, where tf2_ros is installed."""

from __future__ import annotations

import pytest
import rclpy
from geometry_msgs.msg import Point, TransformStamped
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Header

from sdvlm.msg import SpatialAnswer
from sdvlm_ros.conversions import time_message
from sdvlm_ros.error_codes import TransformError
from sdvlm_ros.transforms import Transforms

STAMP = 5_000_000_000


def apply(context: rclpy.Context, answer: SpatialAnswer, target: str, broadcast: bool) -> None:
    """Run Transforms.apply on an executor, with camera 2 m above and 1 m ahead of base."""
    node = rclpy.create_node("transforms", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    task = executor.create_task(Transforms(node).apply(answer, target, 5.0 if broadcast else 0.2))
    if broadcast:
        import tf2_ros

        transform = TransformStamped()
        transform.header.frame_id, transform.child_frame_id = "base", "optical"
        transform.transform.translation.x, transform.transform.translation.z = 1.0, 2.0
        broadcaster = tf2_ros.StaticTransformBroadcaster(node)
        broadcaster.sendTransform(transform)
    executor.spin_until_future_complete(task, timeout_sec=10.0)
    assert task.done()
    task.result()


@pytest.fixture
def answer() -> SpatialAnswer:
    header = Header(stamp=time_message(STAMP), frame_id="optical")
    return SpatialAnswer(header=header, positions=[Point(x=0.5, y=0.0, z=3.0)])


def test_positions_move_into_the_target_frame(
    context: rclpy.Context, answer: SpatialAnswer
) -> None:
    pytest.importorskip("tf2_ros", reason="tf2_ros comes with ROS and not as a wheel")
    pytest.importorskip("tf2_geometry_msgs", reason="it comes with ROS and not as a wheel")
    apply(context, answer, "base", broadcast=True)
    assert answer.header.frame_id == "base"
    assert answer.header.stamp.sec == 5
    assert (answer.positions[0].x, answer.positions[0].z) == (1.5, 5.0)


def test_a_missing_transform_is_an_error_and_the_answer_stays(
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
