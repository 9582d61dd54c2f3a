"""Metrics of a training: JSON lines, TensorBoard and a progress bar; refusal of non-finite values.

Knows numbers and files; does not know what is trained.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sdvlm_core.files import write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

#: Steps of one entry of `Averages`.
STEPS_PER_ENTRY = 50


def non_finite(values: Mapping[str, float]) -> str:
    """The first NaN or infinity among named values, for an error message; "" = all are finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            return f"non-finite {name} ({value})"
    return ""


class Averages:
    """Means of the metrics over `STEPS_PER_ENTRY` steps, with the seconds of a step.

    Seconds and CPU seconds are those of this process.
    """

    def __init__(self, done: int = 0) -> None:
        """`done`: steps before the first one that is added."""
        self._step = self._emitted = done
        self._start()

    def _start(self) -> None:
        self._names: list[str] = []
        self._sums = self._counts = torch.zeros(0)
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def add(self, values: Mapping[str, torch.Tensor | float]) -> dict[str, float] | None:
        """Add the values of a step; the entry when the step completes one, else None.

        Args:
            values: the same names in every step of an entry; NaN = none in this step. Tensors are
                added up on their device, which the host waits for once an entry.
        """
        self._step += 1
        found = torch.stack([torch.as_tensor(value).detach().double() for value in values.values()])
        there = ~found.isnan()
        if not self._names:
            self._names = list(values)
            self._sums, self._counts = torch.zeros_like(found), torch.zeros_like(found)
        assert self._names == list(values)
        self._sums += torch.where(there, found, 0.0)
        self._counts += there
        if self._step % STEPS_PER_ENTRY:
            return None
        count = self._step - self._emitted
        means = zip(self._names, self._sums.tolist(), self._counts.tolist(), strict=True)
        entry = {
            "seconds_per_step": round((time.perf_counter() - self._wall) / count, 3),
            "cpu_seconds_per_step": round((time.process_time() - self._cpu) / count, 3),
            **{name: round(total / steps, 4) for name, total, steps in means if steps},
        }
        self._emitted = self._step
        self._start()
        return entry


class MetricsLogger:
    """Writes entries as JSON lines and to TensorBoard, and shows progress; a context manager.

    Entries of steps after the checkpoint are removed first: those steps run again and rewrite them.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        steps: int,
        done: int = 0,
        *,
        active: bool = True,
        board: Path | None = None,
    ) -> None:
        """Prepare the file.

        Args:
            path: file of the JSON lines.
            name: label of the progress bar.
            steps, done: number of steps of the whole run, and of its checkpoint.
            active: False = write and show nothing (all processes but the first).
            board: folder of TensorBoard's events; None = none.
        """
        self._file = _truncated(path, done) if active else None
        self._board = _summary_writer(board, done) if active and board is not None else None
        self._progress = Progress(
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not active,
        )
        self._name, self._steps = name, steps
        # A terminal shows the progress bar; a file gets a line for each entry.
        self._lines = active and not self._progress.console.is_terminal
        self._task = self._progress.add_task(name, total=steps, completed=done, note="")

    def __enter__(self) -> MetricsLogger:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def log(self, step: int, entry: Mapping[str, float] | None) -> None:
        """Record that `step` steps are done, with the entry to write, if there is one."""
        if entry is not None and self._file is not None:
            self._file.write(json.dumps({"step": step, **entry}) + "\n")
            self._file.flush()
            if self._board is not None:
                for key, value in entry.items():
                    self._board.add_scalar(key, value, step)
            note = " ".join(f"{key} {value:.4g}" for key, value in entry.items())
            self._progress.update(self._task, note=note)
            if self._lines and "seconds_per_step" in entry:
                left = (self._steps - step) * entry["seconds_per_step"] / 60
                print(
                    f"{self._name} {step}/{self._steps}, {left:.0f} minutes left: {note}",
                    file=sys.stderr,
                    flush=True,
                )
        self._progress.update(self._task, completed=step)


def _truncated(path: Path, done: int) -> TextIO:
    """The file, open for appending, with the whole lines of the first `done` steps."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= done]
        write_text(path, "".join(kept))
    return path.open("a", encoding="utf-8")


def _summary_writer(board: Path, done: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        print(f"no metrics for TensorBoard: {error} (requirements/train.txt)", file=sys.stderr)
        return None
    return SummaryWriter(str(board), purge_step=done + 1)
