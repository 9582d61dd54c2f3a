"""Machines with a folder each resume from the same checkpoint: that of process 0."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.paths import ROOT


def _checkpoint(out: Path, step: int, content: bytes) -> dict[str, bytes]:
    folder = out / f"state-{step:08d}"
    folder.mkdir(parents=True)
    files = {"state.json": b"{}", "state.safetensors": content}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return files


def _resume(folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.loop.machines_process", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return sorted(done.stdout.splitlines())


def test_a_machine_that_lacks_the_checkpoint_or_has_another_one_of_its_name_gets_it(tmp_path):
    content = np.random.default_rng(0).bytes(100_001)
    files = _checkpoint(tmp_path / "machine0", 8, content)
    _checkpoint(tmp_path / "machine1", 8, content[:-1] + b"x")
    assert _resume(tmp_path) == ["0 state-00000008", "1 state-00000008"]
    received = tmp_path / "machine1" / "state-00000008"
    assert {file.name: file.read_bytes() for file in received.iterdir()} == files
    assert [file.name for file in (tmp_path / "machine1").iterdir()] == ["state-00000008"]


def test_without_a_checkpoint_of_process_0_the_run_starts_anew_everywhere(tmp_path):
    _checkpoint(tmp_path / "machine1", 8, b"stale")
    assert _resume(tmp_path) == ["0 None", "1 None"]
