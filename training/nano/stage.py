"""One stage of nano's training: losses -> gradients over all processes -> Muon and AdamW.

Knows optimisers, checkpoints and logs of a stage; does not know what its losses mean.
"""

from __future__ import annotations

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
    losses_of: Callable[[range], Iterator[dict[str, torch.Tensor]]],
    steps: int,
    out: Path,
    *,
    rate: float = 1.0,
    warmup: int = WARMUP,
) -> None:
    """Train the stage's modules in place; resumes from its checkpoint in `out`.

    Args:
        losses_of: steps to run -> the losses of each of them.
        rate: factor on the learning rates.

    Raises:
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
    loop = Loop(
        steps,
        SAVE_EVERY,
        RateSchedule(optimizers, partial(rate_factor, steps=steps, warmup=warmup, floor=_FLOOR)),
        checkpoint,
        MetricsLogger(out / f"{stage.name}.jsonl", stage.name, steps, done, active=process == 0),
    )
    batches, averages = losses_of(range(done, steps)), Averages(done)

    def step(number: int, _: float) -> dict[str, float] | None:
        losses = next(batches)
        total = torch.stack([weight * losses[name] for name, weight in stage.weights.items()]).sum()
        torch.autograd.backward(total)
        average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, _MAX_NORM)
        values = {name: float(value.detach()) for name, value in losses.items()}
        if reason := non_finite({**values, "gradient norm": float(norm)}):
            raise FloatingPointError(f"{reason} in step {number + 1} of stage {stage.name}")
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return averages.add(values)

    loop.run(done, step)
