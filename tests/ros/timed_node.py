"""The node with a 1 kHz timer in the same process, for tests: how late is the executor?

    python -m tests.ros.timed_node --ros-args -p model:=nano

~/ticks (std_srvs/srv/Trigger) tells the periods since its last call as JSON: ticks, and the 50th
and 99th percentile and maximum of how far a period was from 1 ms, in milliseconds.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from std_srvs.srv import Trigger

from sdvlm_ros import process
from sdvlm_ros.node import SpatialQueryNode

PERIOD = 0.001


def off_period(ticks: list[float]) -> dict[str, float]:
    """Of the times of ticks, seconds: how many, and how far from the period, milliseconds."""
    off = 1e3 * np.abs(np.diff(ticks) - PERIOD) if len(ticks) > 1 else np.array([np.inf])
    p50, p99 = np.percentile(off, (50, 99))
    return {"ticks": len(ticks), "p50": float(p50), "p99": float(p99), "max": float(off.max())}


class TimedNode(SpatialQueryNode):
    """SpatialQueryNode and a timer."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: list[float] = []
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(PERIOD, lambda: self.ticks.append(time.perf_counter()), clock=steady)
        self.create_service(Trigger, "~/ticks", self._on_ticks)

    def _on_ticks(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        response.message = json.dumps(off_period(self.ticks))
        self.ticks = []
        return response


if __name__ == "__main__":
    process.run(TimedNode, sys.argv)
