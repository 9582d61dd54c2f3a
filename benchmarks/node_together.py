"""Measures questions about one frame through the node, one after the other and decoded together.

A 640x480 frame is published, and the node in its own process is asked: one question, twenty
concurrent calls of ~/query, and a goal of ~/reason with ten questions, all about this frame and
answered with the frame open. The node runs twice, with max_rows 1 (one question at a time, as
before batches) and with its default. Prints a table and one JSON line last.

    python benchmarks/node_together.py [--rounds 20] [--model nano]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time

# Sets the ROS domain and the Fast DDS profile before rclpy reads them.
from buffering import Camera, node_and_camera

# isort: split
from rclpy.action.client import ActionClient

from sdvlm.action import SpatialReasoning
from sdvlm.srv import SpatialQuery
from sdvlm_ros.conversions import time_message

QUERIES, QUESTIONS = 20, 10
COLOURS = ("red", "green", "blue", "white", "black", "orange", "yellow", "purple", "brown", "pink")
WORDS = [f"How tall is the {colour} box?" for colour in COLOURS]
WARM_UP = 3


def wait(camera: Camera, futures: list[object]) -> list[float]:
    """Seconds until each future is done."""
    started = time.perf_counter()
    done: dict[int, float] = {}
    while len(done) < len(futures):
        camera.executor.spin_once(timeout_sec=0.1)
        for index, future in enumerate(futures):
            if index not in done and future.done():
                done[index] = time.perf_counter() - started
    return [done[index] for index in range(len(futures))]


def queries(camera: Camera, stamp_ns: int, count: int) -> list[float]:
    """Concurrent calls of ~/query."""
    calls = [
        camera.client.call_async(
            SpatialQuery.Request(question=WORDS[n % len(WORDS)], stamp=time_message(stamp_ns))
        )
        for n in range(count)
    ]
    seconds = wait(camera, calls)
    for call in calls:
        assert call.result().error_code == 0, call.result().error_msg
    return seconds


def goal(camera: Camera, client: ActionClient, stamp_ns: int) -> float:
    """One goal of ~/reason with ten questions."""
    asked = SpatialReasoning.Goal(questions=WORDS[:QUESTIONS], stamp=time_message(stamp_ns))
    started = time.perf_counter()
    sent = client.send_goal_async(asked)
    wait(camera, [sent])
    result = sent.result().get_result_async()
    wait(camera, [result])
    answer = result.result().result
    assert answer.error_code == 0, answer.error_msg
    assert len(answer.answers) == QUESTIONS
    return time.perf_counter() - started


def measured(model: str, max_rows: int, rounds: int) -> dict[str, float]:
    """Medians in milliseconds."""
    times: dict[str, list[float]] = {"one": [], "first of 20": [], "20 queries": [], "goal": []}
    with node_and_camera(model, max_rows=max_rows, queue_size=64) as (_, camera):
        client = ActionClient(camera.node, SpatialReasoning, "/spatial_query/reason")
        assert client.wait_for_server(30)
        for _ in range(30):
            camera.spin()
        for _ in range(rounds + WARM_UP):
            stamp_ns = camera.publish()
            until = time.perf_counter() + 0.1  # the frame has arrived by then
            while (remaining := until - time.perf_counter()) > 0:
                camera.executor.spin_once(timeout_sec=remaining)
            queries(camera, stamp_ns, 1)  # opens the frame
            times["one"] += queries(camera, stamp_ns, 1)
            several = queries(camera, stamp_ns, QUERIES)
            times["first of 20"].append(min(several))
            times["20 queries"].append(max(several))
            times["goal"].append(goal(camera, client, stamp_ns))
    return {name: 1e3 * statistics.median(values[WARM_UP:]) for name, values in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", default="nano")
    chosen = parser.parse_args()
    try:
        found = {rows: measured(chosen.model, rows, chosen.rounds) for rows in (1, 16)}
    except RuntimeError as error:
        print(f"node_together: {error}", file=sys.stderr)
        return 1
    load = os.getloadavg()[0]
    print(f"{chosen.model}, frame open, load average {load:.1f}; ms (times one question)")
    print(f"{'max_rows':>9}" + "".join(f"{name:>20}" for name in found[1]))
    for rows, times in found.items():
        cells = (f"{value:.1f} ({value / times['one']:.1f})" for value in times.values())
        print(f"{rows:>9}" + "".join(f"{cell:>20}" for cell in cells))
    figures = {
        f"{name.replace(' ', '_')}_{rows}_ms": round(value, 2)
        for rows, times in found.items()
        for name, value in times.items()
    }
    print(
        json.dumps(
            {"benchmark": "node_together", "model": chosen.model, "load_average": load, **figures}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
