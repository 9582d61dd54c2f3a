"""The part of tf2_ros that the node uses, for tests without ROS: one transform, for every stamp.

tf2_ros and tf2_msgs come with ROS and not as wheels. The transform is a latched
geometry_msgs/TransformStamped on /tf_stand_in. A node finds this module by PYTHONPATH.
"""

from __future__ import annotations

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.task import Future
from rclpy.time import Time

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TOPIC = "/tf_stand_in"


class Buffer:
    """Keeps the transform; a request for it waits until it has come."""

    def __init__(self, cache_time: Duration) -> None:
        self._found: TransformStamped | None = None
        self._waiting: list[tuple[str, str, Future]] = []

    def set_transform(self, transform: TransformStamped) -> None:
        """Keep the transform, and wake those who wait for it."""
        self._found = transform
        for target, source, future in self._waiting:
            if self.can_transform_core(target, source, None)[0]:
                future.set_result(True)

    def wait_for_transform_async(self, target: str, source: str, stamp: Time) -> Future:
        """A future that is done when there is the transform."""
        future = Future()
        if self.can_transform_core(target, source, stamp)[0]:
            future.set_result(True)
        else:
            self._waiting.append((target, source, future))
        return future

    def can_transform_core(self, target: str, source: str, _: Time | None) -> tuple[bool, str]:
        """Whether there is the transform, and why not."""
        found = self._found
        ready = found is not None and (found.header.frame_id, found.child_frame_id) == (
            target,
            source,
        )
        return ready, ""

    def lookup_transform_core(self, target: str, source: str, stamp: Time) -> TransformStamped:
        """The transform from `source` to `target`."""
        assert self._found is not None
        return self._found


class TransformListener:
    """Fills a buffer from the topic until it is unregistered."""

    def __init__(self, buffer: Buffer, node: Node) -> None:
        self._node = node
        self._subscription = node.create_subscription(
            TransformStamped, TOPIC, buffer.set_transform, LATCHED
        )

    def unregister(self) -> None:
        """Stop to listen."""
        self._node.destroy_subscription(self._subscription)
