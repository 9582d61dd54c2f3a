"""What the node publishes about each answer: the answer itself, and where its time went.

Every message keeps the stamp of the image that was looked at. Does not know who asked.
"""

from __future__ import annotations

from dataclasses import asdict

from rclpy.node import Node

from sdvlm.msg import Latency, SpatialAnswer
from sdvlm_core.answer import Timings
from sdvlm_ros.conversions import latency_message, nanoseconds


class Outputs:
    """Publishers of ~/answers and ~/latency.

    Attributes:
        latency: of the last answer, seconds by stage.
    """

    def __init__(self, node: Node) -> None:
        self._answers = node.create_publisher(SpatialAnswer, "~/answers", 10)
        self._latencies = node.create_publisher(Latency, "~/latency", 10)
        self.latency: dict[str, float] = {}

    def publish(self, answer: SpatialAnswer, timings: Timings, total: float, frame_id: str) -> None:
        """Tell everyone who listens.

        Args:
            total: seconds from the request to its reply.
            frame_id: of the image; the answer's positions may be in another frame by now.
        """
        self.latency = {**asdict(timings), "total": total}
        self._answers.publish(answer)
        stamp_ns = nanoseconds(answer.header.stamp)
        self._latencies.publish(latency_message(timings, total, stamp_ns, frame_id))
