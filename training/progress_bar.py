"""A progress bar with a rate on stderr, for runs of many scenes.

Knows rich. Does not know what is counted.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)


class ProgressBar:
    """Counts to a total; shown while the context is open."""

    def __init__(self, label: str, total: int, completed: int = 0) -> None:
        """Not shown yet.

        Args:
            label: what is counted.
            total: the count at the end.
            completed: the count of earlier runs, which does not affect the speed.
        """
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(label, total=total, completed=completed, rate="")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @property
    def speed(self) -> float | None:
        """Steps per second; None = unknown yet."""
        return self._progress.tasks[0].speed

    @property
    def elapsed_s(self) -> float:
        """Seconds since the bar was created."""
        return self._progress.tasks[0].elapsed or 0.0

    def advance(self, steps: int) -> None:
        """Count `steps` more."""
        self._progress.advance(self._task, steps)

    def show_rate(self, text: str) -> None:
        """Show a rate beside the bar."""
        self._progress.update(self._task, rate=text)
