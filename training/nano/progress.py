"""What a long training tells: a progress bar, and a JSON line of averages every few steps."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import TextIO

import torch
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 50


def _behind(path: Path, done: int) -> TextIO:
    """The journal open for what comes after step `done`."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= done]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(path)
    return path.open("a", encoding="utf-8")


class Journal:
    """Averages losses and writes them to a JSON-lines file; use as a context manager.

    What the file tells of steps after `done` is dropped: they were not kept and are done again.

    `quiet`: of the processes that train together all but the first only look out for bad values.
    Seconds are those of one process; CPU seconds too.
    """

    def __init__(
        self, path: Path, name: str, steps: int, done: int = 0, *, quiet: bool = False
    ) -> None:
        self._file = None if quiet else _behind(path, done)
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._done = self._told = done
        self._since, self._cpu = time.perf_counter(), time.process_time()
        self._progress = Progress(
            TextColumn(name),
            *Progress.get_default_columns()[1:2],
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            disable=quiet,
        )
        self._task = self._progress.add_task(name, total=steps, completed=done, note="")

    def __enter__(self) -> Journal:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        if self._file is not None:
            self._file.close()

    def step(self, values: dict[str, torch.Tensor]) -> None:
        """Record one step's values; a value that is not finite stops the training."""
        self._done += 1
        for name, value in values.items():
            number = float(value.detach())
            if number != number or abs(number) == float("inf"):
                raise FloatingPointError(f"step {self._done}: {name} is {number}")
            self._sums[name] += number
            self._counts[name] += 1
        if self._done % EVERY == 0:
            means = {name: round(self._sums[name] / self._counts[name], 4) for name in self._sums}
            count = self._done - self._told
            seconds = (time.perf_counter() - self._since) / count
            busy = (time.process_time() - self._cpu) / count
            line = {
                "step": self._done,
                "seconds_per_step": round(seconds, 3),
                "cpu_seconds_per_step": round(busy, 3),
                **means,
            }
            if self._file is not None:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
            self._sums.clear()
            self._counts.clear()
            self._told = self._done
            self._since, self._cpu = time.perf_counter(), time.process_time()
            self._progress.update(
                self._task, note=" ".join(f"{k} {v:.3g}" for k, v in means.items())
            )
        self._progress.update(self._task, completed=self._done)
