"""Publishes measured objects as vision_msgs/Detection3DArray on ~/detections_3d.

Everything that was measured and is fit to act on: regions of a request, what verified an answer, a
detector's boxes. Works only while the topic has a subscriber, and does not delay a reply. The frame
is the node's `target_frame`, whatever a request names, so that one topic has one frame. Does not
measure; does not know where the objects come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rclpy.node import Node

from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.errors import TransformError, shown
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.measured import Measured
from sdvlm_ros.conversions import measured_response, message_class
from sdvlm_ros.tally import TRACEBACK_PERIOD_S, traceback_text
from sdvlm_ros.throttle import Throttle
from sdvlm_ros.ticket import RegionMeasurements
from sdvlm_ros.transforms import Transforms
from sdvlm_ros.vision_messages import (
    DETECTIONS_3D,
    Named,
    detections_message,
    missing_package,
)

if TYPE_CHECKING:  # it imports torch
    from sdvlm_core.verification import Check

# Time between two warnings, seconds.
_REMINDER_S = 5.0


class DetectionsOut:
    """The publisher of one camera; without vision_msgs there is none, and the log says so.

    Args:
        prefix: before the topic's name, as in `Publishers`.
    """

    def __init__(self, node: Node, transforms: Transforms, prefix: str = "~/") -> None:
        self._node, self._transforms = node, transforms
        self._topic = topic = f"{prefix}detections_3d"
        self._warned = Throttle(_REMINDER_S)
        self._failed = Throttle(TRACEBACK_PERIOD_S)
        missing = missing_package()
        if missing:
            node.get_logger().info(f"there is no {topic}: {missing}", once=True)
        self._publisher: Any = (
            None if missing else node.create_publisher(message_class(DETECTIONS_3D), topic, 10)
        )

    @property
    def wanted(self) -> bool:
        """Whether the topic has a subscriber."""
        return self._publisher is not None and self._publisher.get_subscription_count() > 0

    def show(
        self, frame: RgbdFrame, found: Sequence[Measured], names: Sequence[Named] | None = None
    ) -> None:
        """Publish measured objects if there is a subscriber; returns at once, from any thread.

        Args:
            names: one for each object; None = its label, and no known score.
        """
        if names is None:
            names = [Named("", ((one.label, math.nan),)) for one in found]
        self._send(frame.stamp_ns, frame.frame_id, tuple(found), names)

    def show_none(self, stamp_ns: int, frame_id: str) -> None:
        """As `show`, for an image in which nothing was detected."""
        self._send(stamp_ns, frame_id, (), ())

    def show_checks(self, frame: RgbdFrame, answer: SpatialAnswer, checks: Sequence[Check]) -> None:
        """As `show`, for the objects that verified an answer; its confidence is their score."""
        found = {one.label: one for check in checks for one in check.objects}
        if found:
            names = [Named("", ((label, answer.confidence),)) for label in found]
            self.show(frame, tuple(found.values()), names)

    def _send(self, *arguments: Any) -> None:
        executor = self._node.executor
        if self.wanted and executor is not None:
            executor.create_task(self._publish, *arguments)

    async def _publish(
        self, stamp_ns: int, frame_id: str, found: tuple[Measured, ...], names: Sequence[Named]
    ) -> None:
        """On the executor: where the transforms are. What it raises would end the node."""
        response = measured_response(RegionMeasurements(found, (), ()), stamp_ns, frame_id)
        try:
            await self._transforms.apply_to_regions(response, "")
            self._publisher.publish(detections_message(response.regions, names, response.header))
        except TransformError as error:
            self._warn(f"{self._topic} leaves out a frame: {shown(str(error), 500)}")
        except Exception as error:  # noqa: BLE001 - the executor must survive
            if self._failed.allows(type(error).__name__):
                self._node.get_logger().error(
                    f"{self._topic} cannot be published: {traceback_text(error)}"
                )

    def _warn(self, text: str) -> None:
        if self._warned.allows(""):  # not rclpy's throttle: it is for all cameras together
            self._node.get_logger().warning(text)
