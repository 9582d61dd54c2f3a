"""Measures the timing error of a 1 kHz timer in the node's process, idle and during answers.

The node and a timer share one executor in a separate process; a camera in this
process publishes at 30 Hz. Counts the timer's ticks and how far each period is from 1 ms, first
without a question, then with one question after the other. Does not measure the model. Prints a
table, and one JSON line last.

    python benchmarks/executor_timer.py [--seconds 10] [--model nano]

A loaded machine delays the timer without a question too: compare the two rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

# One thread for torch, to measure whether the executor waits, not whether cores are free.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Sets the ROS domain and the Fast DDS profile before rclpy reads them.
from buffering import Camera, node_and_camera

# isort: split
import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from std_srvs.srv import Trigger

from sdvlm.srv import SpatialQuery
from sdvlm_ros import process
from sdvlm_ros.node import SpatialQueryNode

PERIOD_S = 0.001


def off_period(ticks: list[float]) -> dict[str, float]:
    """Times of ticks, seconds -> how many, and percentiles of the period's error, milliseconds."""
    if len(ticks) < 2:
        return {"ticks": len(ticks), "p50": np.nan, "p99": np.nan, "max": np.nan}
    off = 1e3 * np.abs(np.diff(ticks) - PERIOD_S)
    p50, p99 = np.percentile(off, (50, 99))
    return {"ticks": len(ticks), "p50": float(p50), "p99": float(p99), "max": float(off.max())}


class TimedNode(SpatialQueryNode):
    """The node with a timer, and ~/ticks: `off_period` since its last call, as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: list[float] = []
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(PERIOD_S, lambda: self.ticks.append(time.perf_counter()), clock=steady)
        self.create_service(Trigger, "~/ticks", self._on_ticks)

    def _on_ticks(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        response.message = json.dumps(off_period(self.ticks))
        self.ticks = []
        return response


def measure(camera: Camera, seconds: float) -> dict[str, dict[str, float]]:
    """The timer's figures without a question and with one after the other, and the questions."""
    caller = camera.node.create_client(Trigger, "/spatial_query/ticks")

    def ticks() -> dict[str, float]:
        future = caller.call_async(Trigger.Request())
        while not future.done():
            camera.spin()
        return json.loads(future.result().message)

    def ask() -> None:
        future = camera.client.call_async(SpatialQuery.Request(question="How far is the wall?"))
        while not future.done():
            camera.spin()
        assert future.result().error_code == 0, future.result().error_msg

    def during(work: Callable[[], None]) -> dict[str, float]:
        ticks()
        until, done = time.perf_counter() + seconds, 0
        while time.perf_counter() < until:
            work()
            done += 1
        return ticks() | {"turns": done}

    for _ in range(30):
        camera.spin()
    ask()  # the first question fills caches
    return {"idle": during(camera.spin), "answering": during(ask)}


def main() -> int:
    """Start the node, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--model", default="nano")
    chosen = parser.parse_args()
    try:
        with node_and_camera(chosen.model, [str(Path(__file__)), "--node"]) as (_, camera):
            figures = measure(camera, chosen.seconds)
    except RuntimeError as error:
        print(f"executor_timer: {error}", file=sys.stderr)
        return 1
    load_average = os.getloadavg()[0]
    print(f"period {1e3 * PERIOD_S:.0f} ms, load average {load_average:.1f}; error in ms")
    print(f"{'':12}" + "".join(f"{name:>10}" for name in ("ticks/s", "p50", "p99", "max")))
    for name, row in figures.items():
        cells = (row["ticks"] / chosen.seconds, row["p50"], row["p99"], row["max"])
        print(f"{name:12}" + "".join(f"{cell:10.2f}" for cell in cells))
    summary = {
        f"{name}_{key}": round(row[key], 3)
        for name, row in figures.items()
        for key in ("ticks", "p50", "p99", "max")
    }
    print(
        json.dumps(
            {
                "benchmark": "executor_timer",
                "model": chosen.model,
                "seconds": chosen.seconds,
                "questions": figures["answering"]["turns"],
                "load_average": round(load_average, 2),
                **summary,
            }
        )
    )
    return 0


if __name__ == "__main__":
    if "--node" in sys.argv:
        sys.argv.remove("--node")
        process.run(TimedNode, sys.argv)
    else:
        sys.exit(main())
