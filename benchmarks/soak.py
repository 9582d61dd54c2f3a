"""Thousands of questions on a 30 Hz stream, and fifty life cycles: memory, threads, latency.

A camera in this process publishes 640x480 frames at 30 Hz while the node in its own process is
asked, one question after the other, each about the newest frame. Resident memory, threads and file
descriptors are read from /proc (Linux). Then the node runs through its life cycle repeatedly, with
questions in flight. Checks the bounds below and reports the violated ones (exit status 1). Prints
a table, and one JSON line last.

    python benchmarks/soak.py [--questions 2000] [--cycles 50] [--model nano]

The bounds: after the first 200 questions memory grows by less than 2 %, and threads and file
descriptors do not increase; the 99th percentile of the last 200 questions is at most 1.5 times that
of the first 200; every question has an answer, or, in a life cycle, an error code; exit status 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Sets the ROS domain and the Fast DDS profile before rclpy reads them.
from buffering import Camera, node_and_camera

# isort: split
import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from sdvlm.srv import SpatialQuery
from sdvlm_core.errors import ErrorCode

BLOCK = 200
MAX_GROWTH, MAX_CYCLE_GROWTH, MAX_SLOWDOWN = 1.02, 1.1, 1.5
_TIMEOUT_S = 60.0
QUESTIONS = ("How far is the wall?", "How tall is the red mug?", "How many boxes are there?")


@dataclass(frozen=True)
class Resources:
    """Resources of a process: resident bytes, threads, open file descriptors."""

    resident: int
    threads: int
    descriptors: int


def resources(pid: int) -> Resources:
    """Read from /proc."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Resources(pages * os.sysconf("SC_PAGE_SIZE"), threads, descriptors)


def ask(camera: Camera, question: str) -> tuple[float, Any]:
    """Seconds until the response, and the response; the camera keeps publishing."""
    asked = time.monotonic()
    future = camera.client.call_async(SpatialQuery.Request(question=question))
    while not future.done():
        if time.monotonic() - asked > _TIMEOUT_S:
            raise RuntimeError(f"a question had no response within {_TIMEOUT_S:g} s")
        camera.spin()
    return time.monotonic() - asked, future.result()


def questions(camera: Camera, pid: int, count: int) -> dict[str, Any]:
    """Ask `count` questions; the figures by name."""
    seconds: list[float] = []
    codes: Counter[str] = Counter()
    early = late = resources(pid)
    for index in range(count):
        trip, response = ask(camera, QUESTIONS[index % len(QUESTIONS)])
        seconds.append(trip)
        codes[ErrorCode(response.error_code).name] += 1
        if index + 1 == BLOCK:
            early = resources(pid)
        if (index + 1) % BLOCK == 0:
            late = resources(pid)
            p99 = 1e3 * float(np.percentile(seconds[-BLOCK:], 99))
            print(f"{index + 1} questions, p99 {p99:.0f} ms, {late}", file=sys.stderr)
    first, last = (1e3 * float(np.percentile(s, 99)) for s in (seconds[:BLOCK], seconds[-BLOCK:]))
    return {
        "questions": dict(codes),
        "resident_mb": [round(early.resident / 1e6, 1), round(late.resident / 1e6, 1)],
        "threads": [early.threads, late.threads],
        "descriptors": [early.descriptors, late.descriptors],
        "p50_ms": round(1e3 * float(np.median(seconds)), 1),
        "p99_ms": [round(first, 1), round(last, 1)],
    }


def cycles(camera: Camera, pid: int, count: int) -> dict[str, Any]:
    """Deactivate, clean up, configure and activate, each time with questions in flight."""
    client = camera.node.create_client(ChangeState, "/spatial_query/change_state")
    codes: Counter[str] = Counter()
    failed = 0
    early = late = resources(pid)
    for cycle in range(count):
        futures = [
            camera.client.call_async(SpatialQuery.Request(question=QUESTIONS[0])) for _ in range(4)
        ]
        for _ in range(3):  # the questions are sent
            camera.spin()
        for transition in (
            Transition.TRANSITION_DEACTIVATE,
            Transition.TRANSITION_CLEANUP,
            Transition.TRANSITION_CONFIGURE,
            Transition.TRANSITION_ACTIVATE,
        ):
            change = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
            _until(camera, change.done, f"transition {transition}")
            failed += not change.result().success
        _until(camera, lambda f=futures: all(one.done() for one in f), "every response")
        codes.update(ErrorCode(future.result().error_code).name for future in futures)
        _until(camera, lambda: ask(camera, QUESTIONS[0])[1].error_code == 0, "an answer again")
        late = resources(pid)
        if cycle == 4:  # libraries have allocated their caches before this point
            early = late
    return {
        "cycles": count,
        "transitions_failed": failed,
        "cycle_questions": dict(codes),
        "cycle_resident_mb": [round(early.resident / 1e6, 1), round(late.resident / 1e6, 1)],
        "cycle_threads": [early.threads, late.threads],
        "cycle_descriptors": [early.descriptors, late.descriptors],
    }


def _until(camera: Camera, condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not happen within {_TIMEOUT_S:g} s")
        camera.spin()


def violations(figures: dict[str, Any]) -> list[str]:
    """Descriptions of the violated bounds."""
    memory, p99 = figures["resident_mb"], figures["p99_ms"]
    bounds = {
        f"memory grew from {memory[0]} to {memory[1]} MB": memory[1] > MAX_GROWTH * memory[0],
        f"p99 went from {p99[0]} to {p99[1]} ms": p99[1] > MAX_SLOWDOWN * p99[0],
        f"not every question was answered: {figures['questions']}": (
            set(figures["questions"]) != {"NONE"}
        ),
        f"the node ended with status {figures['exit_status']}": figures["exit_status"] != 0,
        f"{figures['transitions_failed']} transitions failed": figures["transitions_failed"] > 0,
        "a question in a life cycle was neither answered nor canceled nor refused": not (
            set(figures["cycle_questions"]) <= {"NONE", "CANCELED", "MODEL_NOT_READY"}
        ),
    }
    for name in ("threads", "descriptors", "cycle_threads", "cycle_descriptors"):
        before, after = figures[name]
        bounds[f"{name} went from {before} to {after}"] = after > before
    before, after = figures["cycle_resident_mb"]
    bounds[f"memory grew from {before} to {after} MB in life cycles"] = (
        after > MAX_CYCLE_GROWTH * before
    )
    return [text for text, violated in bounds.items() if violated]


def main() -> int:
    """Start the node, load it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--model", default="nano")
    chosen = parser.parse_args()
    figures: dict[str, Any] = {"benchmark": "soak", "model": chosen.model}
    try:
        with node_and_camera(chosen.model) as (node, camera):
            for _ in range(60):
                camera.spin()
            figures |= questions(camera, node.pid, chosen.questions)
            figures |= cycles(camera, node.pid, chosen.cycles)
    except RuntimeError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    figures["exit_status"] = node.returncode
    figures["load_average"] = round(os.getloadavg()[0], 2)
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):24}{value!s:>40}")
    violated = violations(figures)
    for text in violated:
        print(f"soak: {text}", file=sys.stderr)
    print(json.dumps({**figures, "violations": violated}))
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
