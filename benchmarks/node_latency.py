"""Measures the node's latency overhead over the engine: same frame and question, with and without
ROS.

A 640x480 frame is published, the node in its own process is asked about it, and the engine in this
process is asked the same, alternately. Three cases: a new frame each time, a frame that is already
open, and new frames of a stream at 30 Hz. Overhead is the node's percentile
minus the engine's. Does not measure the model or the idle node (`buffering.py`). Prints the time
of each stage, and one JSON line last.

    python benchmarks/node_latency.py [--questions 200] [--model nano]

A busy machine raises the percentiles: the load average is printed with them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

# One thread for torch here and in the node, else their threads compete for the cores.
# Set before torch reads it.
os.environ["OMP_NUM_THREADS"] = "1"

# Sets the ROS domain and the Fast DDS profile before rclpy reads them.
from buffering import HEIGHT, WIDTH, Camera, node_and_camera

# isort: split
import numpy as np

from sdvlm.msg import SpatialAnswer
from sdvlm.srv import SpatialQuery
from sdvlm_core.camera.assembly import frame_from_messages
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.engine import LoadOptions, SpatialEngine, load_engine
from sdvlm_ros.conversions import time_message

QUESTION = "How far is the wall?"
# The first questions fill caches and allocators on both sides.
WARM_UP = 10


class Asked:
    """Round trips and their parts, and the engine's times for the same; seconds."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {
            name: [] for name in ("round trip", "queue", "encode", "generate", "rest", "engine")
        }

    def add(self, trip: float, answer: SpatialAnswer, engine: float) -> None:
        """One question's times."""
        spent = [
            nanoseconds(duration) / 1e9
            for duration in (answer.queue_time, answer.encode_time, answer.generate_time)
        ]
        times = (trip, *spent, trip - sum(spent), engine)
        for name, seconds in zip(self.parts, times, strict=True):
            self.parts[name].append(seconds)

    def milliseconds(self, name: str, percentile: int) -> float:
        """A percentile of a part, without the warm-up."""
        return 1e3 * float(np.percentile(self.parts[name][WARM_UP:], percentile))

    def overhead(self, percentile: int) -> float:
        """The node's percentile less the engine's, milliseconds."""
        return self.milliseconds("round trip", percentile) - self.milliseconds("engine", percentile)


def ask(camera: Camera, stamp_ns: int, spin: Callable[[], None]) -> tuple[float, SpatialAnswer]:
    """Seconds of a round trip, and the answer; `spin` is called until it arrives."""
    request = SpatialQuery.Request(question=QUESTION, stamp=time_message(stamp_ns))
    started = time.perf_counter()
    future = camera.client.call_async(request)
    while not future.done():
        spin()
    trip = time.perf_counter() - started
    response = future.result()
    assert response.error_code == 0, response.error_msg
    return trip, response.answer


def engine_seconds(engine: SpatialEngine, camera: Camera, again: bool) -> float:
    """The engine's time for the same frame and question, opened before or not."""
    frame = frame_from_messages(*camera.messages)
    started = time.perf_counter()
    session = engine.open(frame)
    if again:
        session.ask(QUESTION)
        started = time.perf_counter()
    session.ask(QUESTION)
    return time.perf_counter() - started


def quiet(camera: Camera, engine: SpatialEngine, questions: int, again: bool) -> Asked:
    """One frame at a time, without other messages."""
    asked = Asked()

    def spin() -> None:
        camera.executor.spin_once(timeout_sec=0.1)

    for _ in range(questions + WARM_UP):
        stamp_ns = camera.publish()
        until = time.perf_counter() + 0.05  # the frame has arrived by then
        while (remaining := until - time.perf_counter()) > 0:
            camera.executor.spin_once(timeout_sec=remaining)
        if again:
            ask(camera, stamp_ns, spin)
        asked.add(*ask(camera, stamp_ns, spin), engine_seconds(engine, camera, again))
    return asked


def streaming(camera: Camera, engine: SpatialEngine, questions: int) -> Asked:
    """The newest frame of a stream; this process publishes while it waits."""
    asked = Asked()
    for _ in range(questions + WARM_UP):
        until = time.perf_counter() + 0.1
        while time.perf_counter() < until:
            camera.spin()
        asked.add(*ask(camera, 0, camera.spin), engine_seconds(engine, camera, False))
    return asked


def main() -> int:
    """Start the node, ask both, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--model", default="nano")
    chosen = parser.parse_args()
    try:
        with node_and_camera(chosen.model) as (_, camera):
            engine = load_engine(LoadOptions(chosen.model))
            for _ in range(30):
                camera.spin()
            ways = {
                "new frame": quiet(camera, engine, chosen.questions, again=False),
                "same frame": quiet(camera, engine, chosen.questions, again=True),
                "stream 30 Hz": streaming(camera, engine, chosen.questions),
            }
    except RuntimeError as error:
        print(f"node_latency: {error}", file=sys.stderr)
        return 1
    load_average = os.getloadavg()[0]
    print(f"{WIDTH}x{HEIGHT}, {chosen.questions} questions, load average {load_average:.1f}; ms")
    print(f"{'':14}" + "".join(f"{part:>20}" for part in ways["new frame"].parts))
    for way, asked in ways.items():
        cells = (
            f"{asked.milliseconds(part, 50):.2f} / {asked.milliseconds(part, 99):.2f}"
            for part in asked.parts
        )
        print(f"{way:14}" + "".join(f"{cell:>20}" for cell in cells))
    figures: dict[str, float] = {}
    for way, asked in ways.items():
        name = way.replace(" ", "_").lower()
        figures[f"overhead_{name}_p50_ms"] = round(asked.overhead(50), 2)
        figures[f"overhead_{name}_p99_ms"] = round(asked.overhead(99), 2)
    print(
        json.dumps(
            {
                "benchmark": "node_latency",
                "model": chosen.model,
                "questions": chosen.questions,
                "load_average": round(load_average, 2),
                **figures,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
