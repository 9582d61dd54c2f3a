"""Programs end with status 0 on a signal, also on a second one while they shut down; help."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import rclpy

from tests.ros.conftest import ROOT
from tests.ros.peer import RGB
from tests.waiting import PATIENCE_S


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_as_from_launch_and_the_terminal_end_the_camera_with_status_0(
    context: rclpy.Context, number: signal.Signals
) -> None:
    namespace = f"/twice_{number.name.lower()}"
    command = [sys.executable, "-m", "sdvlm_ros.simulated_camera"]
    camera = subprocess.Popen(
        [*command, "--ros-args", "-r", f"__ns:={namespace}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    watcher = rclpy.create_node("watcher", context=context)
    try:
        while not watcher.count_publishers(f"{namespace}/{RGB}"):
            assert camera.poll() is None
        camera.send_signal(number)
        while camera.poll() is None:
            camera.send_signal(number)
        _, errors = camera.communicate(timeout=PATIENCE_S)
    finally:
        camera.kill()
    assert camera.returncode == 0, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("module", ["sdvlm_ros.node", "sdvlm_ros.simulated_camera"])
def test_help_prints_an_example_and_starts_nothing(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert printed.returncode == 0
    assert "ros2 run sdvlm" in printed.stdout
