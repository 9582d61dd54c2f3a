"""`sdvlm view` as a process of its own, for tests that need a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
TABLE = ROOT / "docs" / "table"
FILES = ("--rgb", "rgb.png", "--depth", "depth.png", "--intrinsics", "intrinsics.json")
_STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Served:
    """A running page: its address, and its process, which is stopped at the end."""

    url: str
    process: subprocess.Popen[str]

    def stop(self, number: int) -> tuple[int, str]:
        """Send a signal; the exit status and the output on stderr."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=_STOP_TIMEOUT_S)
        return self.process.returncode, errors


@contextmanager
def serving(*options: str) -> Iterator[Served]:
    """Run `sdvlm view` in docs/table until the block ends."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sdvlm_core.cli", "view", *options],
        cwd=TABLE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("sdvlm view: "):
            raise AssertionError(f"sdvlm view did not start: {process.communicate()}")
        yield Served(line.removeprefix("sdvlm view: ").strip(), process)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=_STOP_TIMEOUT_S)
