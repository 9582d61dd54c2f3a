"""The examples against a node whose model is a stub: only depth and error codes matter here.

`test_client.py` runs the pick planner with nano, `core/front/test_agents.py` the agent.
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future

from sdvlm_core.errors import ErrorCode
from sdvlm_core.tabletop import TABLE, boxes, to_camera
from sdvlm_ros.client import UNFIT, SpatialClient, SpatialQueryFailed
from tests.paths import ROOT
from tests.ros.conftest import running
from tests.ros.stub_node import RAISE
from tests.waiting import PATIENCE_S

EXAMPLES = ROOT / "examples"
SERVER = "/shown/spatial_query"
INSIDE = ("-r", "__ns:=/shown")
NODE = ("tests.ros.stub_node", "--ros-args", *INSIDE, "-p", "sensor:=simulated")


@contextmanager
def ready(name: str = "spatial_query") -> Iterator[None]:
    """A node that answers questions about the simulated table."""
    with running(*NODE, "-p", "max_age:=60.0", "-r", f"__node:={name}"):
        with SpatialClient(f"/shown/{name}") as client:
            client.wait_for_node(PATIENCE_S)
            deadline = time.monotonic() + PATIENCE_S
            while True:  # the first frame
                try:
                    client.capture()
                    break
                except SpatialQueryFailed:
                    assert time.monotonic() < deadline
        yield


@pytest.fixture(scope="module")
def camera() -> Iterator[None]:
    with running("sdvlm_ros.simulated_camera", "--ros-args", *INSIDE, "-p", "rate:=2.0"):
        yield


@pytest.fixture(scope="module")
def node(camera: None) -> Iterator[None]:
    with ready():
        yield


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def command(name: str, *words: str, server: str = SERVER) -> list[str]:
    return [sys.executable, str(EXAMPLES / f"{name}.py"), *words, "--server", server]


def run(name: str, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(name, *words),
        input=given,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_every_example_is_listed_and_installed() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    installed = (ROOT / "CMakeLists.txt").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"({path.name})" in readme
        assert f"examples/{path.name}" in installed
        assert path.read_text().startswith("#!/usr/bin/env python3\n")


def test_boxes_of_a_detector_become_boxes_in_space(node) -> None:
    detections = [
        {
            "bbox": {
                "center": {"position": {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2}, "theta": 0},
                "size_x": x2 - x1,
                "size_y": y2 - y1,
            },
            "results": [
                {"hypothesis": {"class_id": "thing", "score": 0.2}},
                {"hypothesis": {"class_id": name, "score": 0.7}},
            ],
        }
        for name, (x1, y1, x2, y2) in boxes().items()
    ]
    lines = [json.dumps({"detections": one}) for one in (detections, [])]
    done = run("detector_to_3d", given="\n".join(lines))
    assert done.returncode == 0, done.stderr
    found, none = map(json.loads, done.stdout.splitlines())
    assert none == {"detections": []}
    for one, thing in zip(found["detections"], TABLE, strict=True):
        assert one["results"][0]["hypothesis"] == {"class_id": thing.name, "score": 0.7}
        at, size = one["bbox"]["center"]["position"], one["bbox"]["size"]
        assert [at[x] for x in "xyz"] == pytest.approx(to_camera(thing.centre), abs=0.01)
        assert [size[x] for x in "xyz"] == pytest.approx(thing.size, abs=0.01)
        assert one["unfit"] == []


def test_a_line_that_is_no_detection_array_is_refused_and_the_next_is_answered(node) -> None:
    done = run("detector_to_3d", given='nonsense\n{"boxes": []}\n{"detections": []}\n')
    assert done.returncode == 1
    assert done.stderr.count("is no Detection2DArray") == 2
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout) == {"detections": []}


def test_the_patrol_knows_every_error_code() -> None:
    assert module("patrol").REACTIONS.keys() == {code.value for code in ErrorCode}


def test_the_patrol_survives_a_restart_of_the_node(camera) -> None:
    words = ("How far?", "--every", "0.5", "--timeout", "5")
    patrol: subprocess.Popen[str] | None = None

    def until(key: str) -> dict[str, Any]:
        assert patrol is not None
        assert patrol.stdout is not None
        deadline = time.monotonic() + PATIENCE_S
        for line in patrol.stdout:
            if key in (found := json.loads(line)):
                return found
            assert time.monotonic() < deadline, line
        pytest.fail(f"the patrol ended with {patrol.wait()}")

    # Its own name: a second node of the fixture's name would go on answering.
    try:
        with ready("patrolled"):
            line = command("patrol", *words, server="/shown/patrolled")
            patrol = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert until("text")["text"] == "an answer"
        assert "reaction" in until("error")
        with ready("patrolled"):
            assert until("text")["text"] == "an answer"
            patrol.send_signal(signal.SIGTERM)
            assert patrol.wait(PATIENCE_S) == 0
    finally:
        if patrol is not None:
            patrol.kill()
            patrol.communicate()


def test_the_patrol_stops_where_a_person_is_needed(node) -> None:
    done = run("patrol", RAISE, "--every", "0.5")  # it would go on without end
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["error"].startswith("UNKNOWN")


def test_the_leaf_runs_and_succeeds_or_fails(node) -> None:
    done = run("behaviour_tree", "How far?")
    assert done.returncode == 0, done.stderr
    *ticks, last, answer = done.stdout.splitlines()
    assert {*ticks} == {"running"}
    assert (last, answer) == ("success", "an answer")
    failed = run("behaviour_tree", RAISE)
    assert failed.returncode == 1
    assert failed.stdout.splitlines()[-1] == "failure"
    assert "UNKNOWN" in failed.stderr


def test_a_halted_leaf_cancels_and_begins_anew(context) -> None:
    example = module("behaviour_tree")
    executor = SingleThreadedExecutor(context=context)
    waits: list[Future[str]] = []
    accepted = False

    async def work() -> str:
        waits.append(Future(executor=executor))
        return await waits[-1]

    def cancel() -> None:
        if accepted:
            waits[-1].set_exception(SpatialQueryFailed(ErrorCode.CANCELED, "canceled"))

    leaf = example.SpatialLeaf(executor, work, cancel)
    running_, success = example.Status.RUNNING, example.Status.SUCCESS
    assert leaf.tick() is running_
    executor.spin_once(timeout_sec=1.0)
    leaf.halt()  # the node has not accepted it yet
    assert leaf.tick() is running_
    assert len(waits) == 1
    accepted = True
    while leaf.ending:
        executor.spin_once(timeout_sec=1.0)
    assert leaf.tick() is running_
    while len(waits) < 2:
        executor.spin_once(timeout_sec=1.0)
    waits[1].set_result("an answer")
    while (status := leaf.tick()) is running_:
        executor.spin_once(timeout_sec=1.0)
    assert (status, leaf.result) == (success, "an answer")


def test_the_cpp_example_refuses_what_the_python_client_refuses() -> None:
    source = (EXAMPLES / "cpp" / "main.cpp").read_text()
    listed = re.search(r"kUnfit\{([^}]*)\}", source)
    assert listed is not None
    assert {*re.findall(r'"(\w+)"', listed[1])} == {code.value for code in UNFIT}
    assert f"<const char *, {len(UNFIT)}>" in source
