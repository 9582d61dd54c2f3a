"""The step loop: set the rates, run a step, log it, write a checkpoint every so often.

Does not know what a step computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from training.loop.metrics import MetricsLogger
from training.loop.schedule import RateSchedule


class Checkpoints(Protocol):
    """Where a training saves its state; see `training.loop.checkpoints`."""

    def save(self, step: int) -> None:
        """Write the state after `step` steps."""


@dataclass(frozen=True, eq=False)
class Loop:
    """The steps of one training.

    Attributes:
        steps: number of steps of the whole run.
        save_every: steps between checkpoints; the last step always writes one.
        rates: learning rates by step.
        checkpoints: receives the state.
        logger: receives the metrics.
    """

    steps: int
    save_every: int
    rates: RateSchedule
    checkpoints: Checkpoints
    logger: MetricsLogger

    def run(self, done: int, step: Callable[[int, float], Mapping[str, float] | None]) -> None:
        """Run the steps after the first `done`.

        Args:
            step: (number from 0, rate factor) -> the entry to log, None = none for this step.
        """
        with self.logger:
            for number in range(done, self.steps):
                entry = step(number, self.rates.set(number))
                self.logger.log(number + 1, entry)
                if (number + 1) % self.save_every == 0 or number + 1 == self.steps:
                    self.checkpoints.save(number + 1)
