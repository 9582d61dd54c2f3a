"""Simulated camera: publishes `sdvlm_core.tabletop` like an RGB-D camera.

    ros2 run sdvlm sdvlm_camera --ros-args -p rate:=30.0

The scene is static and rendered once. Does not know the objects of the scene.
"""

from __future__ import annotations

import numpy as np
import rclpy
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from sdvlm_core.tabletop import INTRINSICS, render, sensor_depth_mm
from sdvlm_ros import process
from sdvlm_ros.conversions import camera_info_message, image_message

FRAME_ID = "camera_color_optical_frame"


class SimulatedCamera(Node):
    """Publishes rgb/image_rect_color, depth_registered/image_rect (16UC1) and rgb/camera_info."""

    def __init__(self) -> None:
        super().__init__("simulated_camera")
        rate = ParameterDescriptor(
            description="Frames per second.",
            read_only=True,
            floating_point_range=[FloatingPointRange(from_value=0.1, to_value=60.0)],
        )
        self._color = self.create_publisher(Image, "rgb/image_rect_color", 10)
        self._depth = self.create_publisher(Image, "depth_registered/image_rect", 10)
        self._info = self.create_publisher(CameraInfo, "rgb/camera_info", 10)
        self._rgb, self._metres, _ = render()
        self._random = np.random.default_rng(0)
        self.create_timer(1 / self.declare_parameter("rate", 10.0, rate).value, self._publish)

    def _publish(self) -> None:
        stamp_ns = self.get_clock().now().nanoseconds
        millimetres = sensor_depth_mm(self._metres, self._random)
        self._info.publish(camera_info_message(INTRINSICS, stamp_ns, FRAME_ID))
        self._depth.publish(image_message(millimetres, "16UC1", stamp_ns, FRAME_ID))
        self._color.publish(image_message(self._rgb, "rgb8", stamp_ns, FRAME_ID))


def main(args: list[str] | None = None) -> None:
    """Publish until SIGINT or SIGTERM; both end it with exit status 0."""
    if process.helped(__doc__, args):
        return
    rclpy.init(args=args)
    with process.until_signal():
        rclpy.spin(SimulatedCamera())


if __name__ == "__main__":
    main()
