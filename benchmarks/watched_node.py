"""The node in its own process, watched from outside: its log, its memory, its end.

Does not know requests or messages.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

# Sets the ROS domain and the Fast DDS profile before rclpy reads them.
from buffering import ROOT

#: Characters that no text from outside may bring into a log line or a reply.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\u202e]")
#: A line that begins with it was written by a peer, not by the node.
FORGED = "[ERROR] [0.0]"
_STOP_S = 30.0


class Log:
    """Reads a process's output in a thread.

    Attributes:
        last: the last lines.
        tracebacks: the last lines of every different traceback.
        forged: lines with control characters, or written by a peer.
        busiest: lines in the busiest minute.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.last: deque[str] = deque(maxlen=60)
        self.tracebacks: dict[str, None] = {}
        self.forged: list[str] = []
        self.busiest = 0
        self._minute: deque[float] = deque()
        self._traceback: list[str] | None = None
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for ended in self._process.stdout:
            line = ended.rstrip("\n")
            self.last.append(line)
            if line.startswith(FORGED) or CONTROL.search(line):
                self.forged.append(line[:200])
            self._note_traceback(line)
            now = time.monotonic()
            self._minute.append(now)
            while self._minute[0] < now - 60:
                self._minute.popleft()
            self.busiest = max(self.busiest, len(self._minute))

    def _note_traceback(self, line: str) -> None:
        if "Traceback (most recent call last)" in line:
            self._traceback = []
        elif self._traceback is not None:
            self._traceback.append(line)
            if line[:1] not in (" ", ""):  # the exception
                self.tracebacks["\n".join(self._traceback[-6:])] = None
                self._traceback = None

    def close(self) -> None:
        """Wait for the end of the output."""
        self._thread.join(5)


@contextmanager
def running_node(parameters: Mapping[str, object]) -> Iterator[tuple[subprocess.Popen[str], Log]]:
    """The node in its own process, with these parameters, and its log."""
    options = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    process = subprocess.Popen(
        [sys.executable, "-m", "sdvlm_ros.node", "--ros-args", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
    )
    log = Log(process)
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def memory_mb(pid: int, peak: bool = False) -> float:
    """Resident memory of a process, or its peak since `forget_peak`; from /proc (Linux)."""
    name = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1000 if found else 0.0


def forget_peak(pid: int) -> None:
    """The peak of the resident memory counts from here."""
    with suppress(OSError):  # not permitted in some containers: then since the start
        Path(f"/proc/{pid}/clear_refs").write_text("5")
