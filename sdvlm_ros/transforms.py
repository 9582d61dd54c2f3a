"""Transforms at the image's stamp: results into another frame, and the direction against gravity.

tf2_ros exists only where ROS is installed, so it is imported when the node starts to listen. A
missing transform, or a missing tf2, is a TransformError for results, and the reason why "up" is
unknown for gravity. Does not compute with transforms (`rigid_transform`), and does not know the
objects at the positions.
"""

from __future__ import annotations

import time
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from sdvlm.msg import SpatialAnswer
from sdvlm.srv import MeasureRegions
from sdvlm_core.errors import TransformError, shown
from sdvlm_ros.conversions import cloud_points, point_cloud_message
from sdvlm_ros.rigid_transform import RigidTransform, rotated_z
from sdvlm_ros.ticket import Outcome
from sdvlm_ros.worker import Gravity

# The transform at the image's stamp is needed when the answer is complete, which may take minutes;
# tf2's default of 10 s is too short.
_CACHE_TIME_S = 180.0
# Time between two looks for a transform from a worker's thread, seconds.
_POLL_S = 0.01


class Transforms:
    """Listens to /tf while the node is active, on the node's own executor.

    Waits for a transform for at most the node's parameter `tf_timeout`.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer: Any = None
        self._listener: Any = None

    def listen(self) -> None:
        """Start to listen now: the first answer needs earlier transforms."""
        self.close()
        try:
            import tf2_ros
        except ImportError as error:
            self._node.get_logger().debug(f"no transforms, tf2_ros is missing: {error}")
            return
        self._buffer = tf2_ros.Buffer(cache_time=Duration(seconds=_CACHE_TIME_S))
        self._listener = tf2_ros.TransformListener(self._buffer, self._node)

    def close(self) -> None:
        """Stop listening; the received transforms are kept for pending answers. Idempotent."""
        if self._listener is not None:
            self._listener.unregister()
        self._listener = None

    def target(self, requested: str, frame_id: str) -> str:
        """The frame of a result: the requested one, else the parameter `target_frame`.

        Args:
            requested: of the request; "" = none.
            frame_id: the colour optical frame, used if neither names one.
        """
        return requested or str(self._node.get_parameter("target_frame").value) or frame_id

    async def apply(self, answer: SpatialAnswer, requested: str) -> None:
        """Transform the answer's positions into the target frame, in place.

        Args:
            requested: as in `target`.

        Raises:
            TransformError: the answer is unchanged, except for its status TF_UNAVAILABLE.
        """
        header = answer.header
        target_frame = self.target(requested, header.frame_id)
        if target_frame == header.frame_id:
            return
        try:
            transform = await self._lookup(target_frame, header)
        except TransformError:
            answer.status = SpatialAnswer.TF_UNAVAILABLE
            raise
        answer.positions = [transform.point(point) for point in answer.positions]
        answer.header = Header(stamp=header.stamp, frame_id=target_frame)

    async def apply_to_regions(self, response: MeasureRegions.Response, requested: str) -> None:
        """Transform boxes, support planes and points into the target frame, in place.

        Lengths do not change; neither do standard deviations, because that of the transform is not
        known.

        Args:
            requested: as in `target`.

        Raises:
            TransformError: the response is unchanged.
        """
        header = response.header
        target_frame = self.target(requested, header.frame_id)
        if target_frame == header.frame_id:
            return
        transform = await self._lookup(target_frame, header)
        for region in response.regions:
            region.pose = transform.pose(region.pose)
            region.support_plane = transform.plane(region.support_plane)
        response.header = Header(stamp=header.stamp, frame_id=target_frame)
        response.points = [
            point_cloud_message(transform.points(cloud_points(cloud)), response.header)
            for cloud in response.points
        ]

    def gravity(self, frame_id: str, stamp_ns: int) -> Gravity:
        """What is up in a frame at a stamp: the +Z axis of the parameter `gravity_frame`.

        Called by a worker's thread, which waits here while the executor receives the transform.
        """
        source = str(self._node.get_parameter("gravity_frame").value)
        try:
            return Gravity(self._z_axis(source, frame_id, stamp_ns))
        except TransformError as error:
            return Gravity(None, str(error))

    def _z_axis(self, source: str, target: str, stamp_ns: int) -> tuple[float, float, float]:
        """The +Z axis of `source` as a unit vector in `target`; raises TransformError."""
        if source == target:
            return (0.0, 0.0, 1.0)
        buffer = self._buffer  # `listen` replaces it at the next activation
        if buffer is None:
            raise TransformError(
                f"gravity_frame is '{shown(source)}' but tf2_ros is not installed; install "
                "ros-$ROS_DISTRO-tf2-ros-py"
            )
        timeout_s = float(self._node.get_parameter("tf_timeout").value)
        deadline, stamp = time.monotonic() + timeout_s, Time(nanoseconds=stamp_ns)
        # The core's functions are thread-safe; those with a timeout use the node's clock, which may
        # stand still.
        while not buffer.can_transform_core(target, source, stamp)[0]:
            if time.monotonic() > deadline:
                raise TransformError(
                    f"no transform from gravity_frame '{shown(source)}' to '{shown(target)}' at "
                    f"the image's stamp {stamp_ns / 1e9:.3f} within {timeout_s:g} s (parameter "
                    "tf_timeout); is the frame published, and with the same clock?"
                )
            time.sleep(_POLL_S)
        try:
            found = buffer.lookup_transform_core(target, source, stamp)
        except Exception as error:
            raise TransformError(shown(f"{type(error).__name__}: {error}")) from error
        rotation = found.transform.rotation
        return rotated_z((rotation.x, rotation.y, rotation.z, rotation.w))

    async def _lookup(self, target: str, header: Header) -> RigidTransform:
        """The transform at a header's stamp from its frame into another; raises TransformError."""
        buffer = self._buffer  # `listen` replaces it at the next activation
        if buffer is None:
            raise TransformError(
                f"target_frame '{shown(target)}' needs tf2_ros, which is not installed; leave "
                "target_frame (of the request and of the node) empty for the colour optical frame, "
                "or install ros-$ROS_DISTRO-tf2-ros-py"
            )
        timeout_s = float(self._node.get_parameter("tf_timeout").value)
        stamp = Time.from_msg(header.stamp)
        source = header.frame_id
        found = buffer.wait_for_transform_async(target, source, stamp)
        if not found.done():
            outcome: Outcome[None] = Outcome(
                self._node,
                timeout_s,
                lambda: TransformError(
                    f"no transform from '{shown(source)}' to '{shown(target)}' at the image's "
                    f"stamp {stamp.nanoseconds / 1e9:.3f} within {timeout_s:g} s (parameter "
                    "tf_timeout); is the frame published, and with the same clock?"
                ),
            )
            found.add_done_callback(lambda _: outcome.settle(None))
            try:
                await outcome.wait()
            finally:
                found.cancel()  # removes tf2's callback too
        stamped: TransformStamped = buffer.lookup_transform_core(target, source, stamp)
        return RigidTransform(stamped.transform)
