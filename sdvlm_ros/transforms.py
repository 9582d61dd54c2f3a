"""Positions of an answer -> another frame, at the image's stamp and never at another.

tf2_ros exists only where ROS is installed and is imported when the node begins to listen; a missing
transform, or a missing tf2, is a TransformError.
"""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import PointStamped, TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from sdvlm.msg import SpatialAnswer
from sdvlm.srv import MeasureRegions
from sdvlm_core.errors import TransformError
from sdvlm_ros.promise import Promise

# An answer may take as long as its caller's patience, and the transform of its image's moment must
# still be there; tf2's own 10 s are for answers at once. Seconds.
KEPT = 180.0


class Transforms:
    """Listens to /tf while the node is active, with the node's own executor."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer: Any = None
        self._listener: Any = None

    def listen(self) -> None:
        """Hear transforms from now on: what is sent before the first answer is its image's."""
        self.close()
        try:
            import tf2_ros
        except ImportError as error:
            self._node.get_logger().debug(f"transforms are not listened to: {error}")
            return
        self._buffer = tf2_ros.Buffer(cache_time=Duration(seconds=KEPT))
        self._listener = tf2_ros.TransformListener(self._buffer, self._node)

    def close(self) -> None:
        """Hear no more; what was heard stays for the last answers. May be called twice."""
        if self._listener is not None:
            self._listener.unregister()
        self._listener = None

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
        """tf2's own function for points."""
        try:
            import tf2_ros  # noqa: F401 - without it there is no buffer
            from tf2_geometry_msgs import do_transform_point
        except ImportError as error:
            raise TransformError(
                f"target_frame needs tf2_ros and tf2_geometry_msgs, which are not installed "
                f"({error}); leave target_frame empty for the colour optical frame, or "
                "install ros-$ROS_DISTRO-tf2-ros-py and ros-$ROS_DISTRO-tf2-geometry-msgs"
            ) from error
        return do_transform_point

    async def _lookup(self, target: str, header: Header, timeout: float) -> TransformStamped:
        stamp = Time.from_msg(header.stamp)
        source = header.frame_id
        buffer = self._buffer  # of this activation, whatever comes while it is waited for
        found = buffer.wait_for_transform_async(target, source, stamp)
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
        return buffer.lookup_transform_core(target, source, stamp)
