"""The learning rates of every step: linear warm-up, then a cosine.

Knows optimisers; does not know models or losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch


def rate_factor(
    step: int, steps: int, warmup: int, *, floor: float = 0.0, decay_from: int = 0
) -> float:
    """Share of the full learning rate in a step: linear warm-up times a cosine.

    Args:
        step: from 0.
        warmup: steps until the full rate; 0 = none.
        floor: value of the cosine at `steps`.
        decay_from: step at which the cosine is 1.
    """
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    turn = math.pi * max(0, step - decay_from) / max(1, steps - decay_from)
    return rising * (floor + (1 - floor) * 0.5 * (1 + math.cos(turn)))


class RateSchedule:
    """Sets the learning rates of optimisers; the full rates are those at construction."""

    def __init__(
        self, optimizers: Iterable[torch.optim.Optimizer], factor: Callable[[int], float]
    ) -> None:
        """`factor`: step (from 0) -> share of the full rates."""
        self._optimizers = list(optimizers)
        self._full = [[group["lr"] for group in o.param_groups] for o in self._optimizers]
        self._factor = factor

    def set(self, step: int) -> float:
        """Set the rates of a step; returns their share of the full rates."""
        factor = self._factor(step)
        for optimizer, rates in zip(self._optimizers, self._full, strict=True):
            for group, full in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = factor * full
        return factor
