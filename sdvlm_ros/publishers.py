"""Publishes each answer, and its latency by stage.

Every message keeps the stamp of the image. Does not know the caller.
"""

from __future__ import annotations

from dataclasses import asdict

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from sdvlm.msg import Latency, SpatialAnswer
from sdvlm_core.answer import Timings
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_ros.conversions import latency_message

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Publishers:
    """Publishers of ~/answers, ~/last_answer and ~/latency, of one camera.

    ~/last_answer is latched: a subscriber that comes later gets the last answer. ~/answers is not,
    so that a planner that starts again does not take old answers for new ones.

    Args:
        prefix: before the names: "~/", or "~/left/" for the camera left.

    Attributes:
        latency: latency of the last answer, seconds by stage.
    """

    def __init__(self, node: Node, prefix: str = "~/") -> None:
        self._answers = node.create_publisher(SpatialAnswer, f"{prefix}answers", 10)
        self._last_answer = node.create_publisher(SpatialAnswer, f"{prefix}last_answer", _LATCHED)
        self._latencies = node.create_publisher(Latency, f"{prefix}latency", 10)
        self.latency: dict[str, float] = {}

    def publish(
        self, answer: SpatialAnswer, timings: Timings, total_s: float, frame_id: str
    ) -> None:
        """Publish an answer and its latency.

        Args:
            total_s: seconds from the request to its reply.
            frame_id: frame_id of the image; the answer's positions may be in another frame.
        """
        self.latency = {**asdict(timings), "total": total_s}
        self._answers.publish(answer)
        self._last_answer.publish(answer)
        stamp_ns = nanoseconds(answer.header.stamp)
        self._latencies.publish(latency_message(timings, total_s, stamp_ns, frame_id))
