"""A process is found by its identity, and not another one that has its PID."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sdvlm_ros import alive

PRINT = "from sdvlm_ros import alive; print(alive.process_id(), flush=True); input()"


def test_a_process_runs_until_it_has_ended_even_if_its_parent_has_not_collected_it() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PRINT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    identity = child.stdout.readline().strip()
    assert alive.runs_here(identity)
    child.kill()
    while alive.runs_here(identity):
        pass
    assert child.returncode is None  # a zombie
    child.communicate()
    assert not alive.runs_here(identity)


def test_this_process_runs_and_one_with_its_pid_but_another_start_boot_or_namespace_does_not() -> (
    None
):
    boot, namespace, pid, start = alive.process_id().split()
    assert alive.runs_here(f"{boot} {namespace} {pid} {start}")
    assert not alive.runs_here(f"{boot} {namespace} {pid} {int(start) + 1}")
    assert not alive.runs_here(f"{boot[::-1]} {namespace} {pid} {start}")
    assert not alive.runs_here(f"{boot} pid:[1] {pid} {start}")


@pytest.mark.parametrize("text", ["", "unknown", "a b ../../etc 1", "a b 1 2 3", "x" * 10_000])
def test_text_that_names_no_process_is_not_running(text: str) -> None:
    assert not alive.runs_here(text)
