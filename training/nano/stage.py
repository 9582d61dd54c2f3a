"""One stage of nano's training: losses -> gradients over all processes -> Muon and AdamW.

No step waits for the device: losses are added up there, and a loss that is not finite stops the
optimisers there; the host hears of it with the next log entry or checkpoint. Knows optimisers,
checkpoints and logs of a stage; does not know what its losses mean.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training.loop.checkpoints import StageCheckpoint
from training.loop.metrics import Averages, MetricsLogger, non_finite
from training.loop.parallel import average_gradients, rank_and_world
from training.loop.schedule import RateSchedule, rate_factor
from training.loop.steps import Loop
from training.nano.muon import optimizers_of

SAVE_EVERY = 250
WARMUP = 100
#: Share of the full learning rates that is left at the last step.
_FLOOR = 0.02
_MATRIX_RATE, _RATE = 2e-3, 1e-3
_MAX_NORM = 1.0


@dataclass(frozen=True, eq=False)
class Stage:
    """What one stage trains.

    Attributes:
        name: NAME in its files OUT/NAME.state and OUT/NAME.jsonl.
        modules: all that its checkpoint holds, by prefix.
        matrices, others: parameters for Muon and for AdamW.
        weights: weight of each loss in the sum; other values are only logged.
    """

    name: str
    modules: Mapping[str, nn.Module]
    matrices: Sequence[nn.Parameter]
    others: Sequence[nn.Parameter]
    weights: Mapping[str, float]


@dataclass(frozen=True)
class StepLosses:
    """The losses of a step, which must be finite, and what is only logged (NaN = not in this step).

    Scalars on the device of the training.
    """

    losses: Mapping[str, torch.Tensor]
    logged: Mapping[str, torch.Tensor]


class OutOfTime(Exception):
    """A training stopped at its time limit; its checkpoint is complete."""


class Finite:
    """Whether all values of all steps were finite, known to the device at once.

    `broken` is what torch's fused optimisers call `found_inf`: 1.0 from the first step with a value
    that is not finite on. They then leave weights and state as they are.
    """

    def __init__(self, device: torch.device) -> None:
        self.broken = torch.zeros((), device=device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._names: list[str] = []
        self._values = torch.zeros(0, device=device)

    def add(self, step: int, values: Mapping[str, torch.Tensor]) -> None:
        """Look at the values of a step (from 1)."""
        found = torch.stack([value.detach().float() for value in values.values()])
        first = (self.broken == 0) & ~found.isfinite().all()
        self._names = list(values)
        self._values = torch.where(first, found, self._values) if len(self._values) else found
        self._step = torch.where(first, step, self._step)
        self.broken = torch.where(first, 1.0, self.broken)

    def check(self, stage: str) -> None:
        """Wait for the device.

        Raises:
            FloatingPointError: a value was not finite; names the first step and the value.
        """
        if self.broken.item():
            reason = non_finite(dict(zip(self._names, self._values.tolist(), strict=True)))
            raise FloatingPointError(f"{reason} in step {int(self._step)} of stage {stage}")


@dataclass(frozen=True, eq=False)
class _CheckedCheckpoints:
    """Checkpoints that are written of finite weights only."""

    checkpoint: StageCheckpoint
    finite: Finite
    stage: str

    def save(self, step: int) -> None:
        self.finite.check(self.stage)
        self.checkpoint.save(step)


def scheduled_frames(
    count: int, batch: int, step: int, seed: int, *, backwards: bool = False
) -> npt.NDArray[np.int64]:
    """Indices (batch,) of the frames of a step: every frame once an epoch, shuffled per epoch.

    Depends on its arguments only, so that a resumed run continues the same order. `backwards`:
    the order from its end, for a stage that should see the frames another one does not reach.
    """
    epoch, place = divmod(step, max(1, count // batch))
    order = np.random.default_rng([seed, 1, epoch]).permutation(count)
    order = order[::-1] if backwards else order
    return order[place * batch : (place + 1) * batch]


def train_stage(
    stage: Stage,
    losses_of: Callable[[range], Iterator[StepLosses]],
    steps: int,
    out: Path,
    *,
    rate: float = 1.0,
    warmup: int = WARMUP,
    until: float = math.inf,
) -> None:
    """Train the stage's modules in place; resumes from its checkpoint in `out`.

    Args:
        losses_of: steps to run -> the losses of each of them.
        rate: factor on the learning rates.
        until: time (`time.time`) at which to stop with a checkpoint.

    Raises:
        OutOfTime: that time was reached before the last step.
        FloatingPointError: a loss or the gradient's norm is not finite; the weights stay as they
            were before that step.
    """
    process, _ = rank_and_world()
    parameters = [*stage.matrices, *stage.others]
    optimizers = optimizers_of(stage.matrices, stage.others, rate * _MATRIX_RATE, rate * _RATE)
    checkpoint = StageCheckpoint(
        out / f"{stage.name}.state", stage.modules, optimizers, active=process == 0
    )
    done = checkpoint.restore()
    finite = Finite(parameters[0].device)
    checked = _CheckedCheckpoints(checkpoint, finite, stage.name)
    loop = Loop(
        steps,
        SAVE_EVERY,
        RateSchedule(optimizers, partial(rate_factor, steps=steps, warmup=warmup, floor=_FLOOR)),
        checked,
        MetricsLogger(out / f"{stage.name}.jsonl", stage.name, steps, done, active=process == 0),
    )
    batches, averages = losses_of(range(done, steps)), Averages(done)

    def step(number: int, _: float) -> dict[str, float] | None:
        if time.time() > until:
            checked.save(number)
            raise OutOfTime(f"{stage.name}: {number} of {steps} steps in {out}")
        found = next(batches)
        losses = found.losses
        total = torch.stack([weight * losses[name] for name, weight in stage.weights.items()]).sum()
        torch.autograd.backward(total)
        average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, _MAX_NORM)
        finite.add(number + 1, {**losses, "gradient norm": norm})
        for optimizer in optimizers:
            optimizer.found_inf = finite.broken  # type: ignore[union-attr] # as torch's GradScaler
            optimizer.step()
            optimizer.zero_grad()
        entry = averages.add({**losses, **found.logged})
        if entry is not None:
            finite.check(stage.name)
        return entry

    loop.run(done, step)
