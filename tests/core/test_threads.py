"""The number of threads: what the user says, within what the machine allows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core import threads

SMALL, LARGE = 7_000_000, 7_000_000_000


@pytest.fixture
def machine(monkeypatch):
    """A machine of 16 usable cores, 8 of them physical."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 16)
    monkeypatch.setattr(threads, "_physical_cores", lambda: 8)
    return monkeypatch


@pytest.mark.parametrize(
    ("wanted", "parameters", "on_cpu", "count"),
    [
        (0, SMALL, True, 1),
        (0, LARGE, True, 7),
        (0, LARGE, False, 1),
        (4, SMALL, True, 4),
        (100, LARGE, True, 16),
    ],
)
def test_a_small_model_gets_one_thread_and_a_large_one_all_cores_but_one(
    machine, wanted, parameters, on_cpu, count
):
    assert threads.number(wanted, parameters, on_cpu) == count


def test_the_users_variable_is_kept_but_the_parameter_is_stronger(machine):
    machine.setenv("OMP_NUM_THREADS", "3")
    assert threads.number(0, LARGE, True) == 3
    assert threads.number(2, LARGE, True) == 2
    machine.setenv("OMP_NUM_THREADS", "many")
    assert threads.number(0, LARGE, True) == 7


@given(st.integers(0, 1000), st.integers(0, 10**12), st.booleans())
def test_the_number_is_never_more_than_the_usable_cores(wanted, parameters, on_cpu):
    assert 1 <= threads.number(wanted, parameters, on_cpu) <= threads.usable_cores()


def groups(root: Path, line: str, **files: str) -> float | None:
    own = root / "cgroup"
    own.write_text(line + "\n")
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return threads._quota(root, own)


def test_the_quota_of_a_control_group_bounds_the_cores(tmp_path):
    line = "0::/robot/node"
    assert groups(tmp_path, line) is None
    assert groups(tmp_path, line, cpu_dot_max="max 100000\n") is None
    assert groups(tmp_path, line, robot__node__cpu_dot_max="400000 100000\n") == 4
    assert groups(tmp_path, line, robot__cpu_dot_max="150000 100000\n") == 1.5


def test_the_quota_of_the_first_version_of_control_groups_is_read_too(tmp_path):
    line = "3:cpu,cpuacct:/docker/a1"
    period = {"cpu__cpu_dot_cfs_period_us": "100000\n"}
    assert groups(tmp_path, line, cpu__cpu_dot_cfs_quota_us="-1\n", **period) is None
    assert groups(tmp_path, line, cpu__cpu_dot_cfs_quota_us="250000\n", **period) == 2.5


def test_a_system_without_control_groups_has_no_quota(tmp_path):
    assert threads._quota(tmp_path, tmp_path / "absent") is None


def test_importing_the_package_changes_no_thread_and_the_owner_changes_both_libraries():
    """In a process of its own: the numbers of torch and OpenCV are global."""
    code = (
        "import cv2, torch; before = torch.get_num_threads(), cv2.getNumThreads()\n"
        "import sdvlm_core.engine\n"
        "assert (torch.get_num_threads(), cv2.getNumThreads()) == before\n"
        "from sdvlm_core import threads\n"
        "count = threads.use(1, 10**9, True)\n"
        "assert (torch.get_num_threads(), cv2.getNumThreads()) == (count, count) == (1, 1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})
