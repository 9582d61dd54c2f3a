"""Positions of an answer -> another frame, at the image's stamp and never at another.

tf2_ros exists only where ROS is installed and is imported when a target frame is first asked for;
a missing transform, or a missing tf2, is a TransformError.
"""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import PointStamped, TransformStamped
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from sdvlm.msg import SpatialAnswer
from sdvlm.srv import MeasureRegions
from sdvlm_ros.error_codes import TransformError
from sdvlm_ros.promise import Promise


class Transforms:
    """Listens to /tf from its first use on, with the node's own executor."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer: Any = None
        self._listener: Any = None

    async def apply(self, answer: SpatialAnswer, target_frame: str, timeout: float) -> None:
        """Move the answer's positions into `target_frame`, in place; waits `timeout` seconds.

        Raises:
            TransformError: the answer is as it was, but for its status TF_UNAVAILABLE.
        """
        header = answer.header
        if target_frame == header.frame_id:
            return
        try:
            move = self._point_transform()
            transform = await self._lookup(target_frame, header, timeout)
        except TransformError:
            answer.status = SpatialAnswer.TF_UNAVAILABLE
            raise
        answer.positions = [
            move(PointStamped(header=header, point=point), transform).point
            for point in answer.positions
        ]
        answer.header = Header(stamp=header.stamp, frame_id=target_frame)

    async def apply_to_regions(
        self, response: MeasureRegions.Response, target_frame: str, timeout: float
    ) -> None:
        """Move the regions' positions into `target_frame`, in place; lengths stay what they are.

        Raises:
            TransformError: the response is as it was.
        """
        header = response.header
        if target_frame == header.frame_id:
            return
        move = self._point_transform()
        transform = await self._lookup(target_frame, header, timeout)
        for region in response.regions:
            moved = move(PointStamped(header=header, point=region.position), transform)
            region.position = moved.point
        response.header = Header(stamp=header.stamp, frame_id=target_frame)

    def _point_transform(self) -> Any:
        """tf2's own function for points; starts to listen at the first call."""
        try:
            import tf2_ros
            from tf2_geometry_msgs import do_transform_point
        except ImportError as error:
            raise TransformError(
                f"target_frame needs tf2_ros and tf2_geometry_msgs, which are not installed "
                f"({error}); leave target_frame empty for the colour optical frame, or "
                "install ros-$ROS_DISTRO-tf2-ros-py and ros-$ROS_DISTRO-tf2-geometry-msgs"
            ) from error
        if self._buffer is None:
            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, self._node)
        return do_transform_point

    async def _lookup(self, target: str, header: Header, timeout: float) -> TransformStamped:
        stamp = Time.from_msg(header.stamp)
        source = header.frame_id
        found = self._buffer.wait_for_transform_async(target, source, stamp)
        if not found.done():
            promise: Promise[bool] = Promise(
                self._node,
                timeout,
                lambda: TransformError(
                    f"no transform from {source!r} to {target!r} at the image's stamp "
                    f"{stamp.nanoseconds / 1e9:.3f} within {timeout:g} s (parameter tf_timeout); "
                    "is the frame published, and with the same clock?"
                ),
            )
            found.add_done_callback(lambda _: promise.settle(True))
            try:
                await promise.outcome()
            finally:
                found.cancel()  # also takes tf2's own callback off
        return self._buffer.lookup_transform_core(target, source, stamp)
