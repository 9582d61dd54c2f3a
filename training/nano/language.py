"""Stage 2: projector and language model learn to answer; the tower stays frozen.

Knows the recipe of the stage and who makes its batches; does not know what its losses compute
(`losses`), nor optimisers, checkpoints or logs (`stage`).
"""

from __future__ import annotations

import math
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from training.loop.parallel import rank_and_world
from training.nano.batches import WIDE, Asks, Batch, make_batch
from training.nano.frames import TrainingFrames
from training.nano.losses import WEIGHTS, Readout, losses_of
from training.nano.muon import split
from training.nano.stage import WARMUP, Stage, StepLosses, scheduled_frames, train_stage
from training.nano.vocabulary import word_id
from training.simulate.catalogue import CATEGORIES, COLOURS

#: Batches that each worker prepares ahead of the training.
_PREFETCHED = 3


@dataclass(frozen=True)
class Recipe:
    """How the language model is trained.

    Attributes:
        steps: optimiser steps; the learning rate decays over all of them.
        batch: frames in a step, over all processes.
        asks: questions about each frame.
        without_depth: share of frames whose depth is not shown.
        rate: factor on the learning rates; below 1 for a model that is trained already.
        seed: seed of the order of frames, the questions and the new weights.
        losses: weight of each loss of `losses` in the sum.
    """

    steps: int
    batch: int = 8
    asks: Asks = WIDE
    without_depth: float = 0.0
    rate: float = 1.0
    seed: int = 0
    losses: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)


@dataclass(frozen=True, eq=False)
class Batches(Dataset[Batch]):
    """One process's batches by step; each depends on its step only, whoever makes it."""

    frames: TrainingFrames
    tokenizer: PreTrainedTokenizerFast
    recipe: Recipe
    process: int
    processes: int

    def __getitem__(self, step: int) -> Batch:
        recipe = self.recipe
        chosen = scheduled_frames(len(self.frames), recipe.batch, step, recipe.seed)
        rng = np.random.default_rng([recipe.seed, 2, step, self.process])
        own = np.sort(chosen[self.process :: self.processes])
        return make_batch(self.frames, own, self.tokenizer, rng, recipe.asks, recipe.without_depth)


def _unchanged(batch: Any) -> Any:
    return batch


def _leave_interrupts(_: int) -> None:
    """Ctrl-C reaches all processes of a terminal; the training process ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def prepared(batches: Batches, steps: range, workers: int) -> Iterator[Batch]:
    """The batches of the given steps, in order.

    Args:
        workers: processes that make them ahead, `_PREFETCHED` each; 0 = made here when needed.
            They end with this generator, and when this process dies.
    """
    # Workers are forks of a fresh interpreter that has imported this module: a fork of this process
    # would lack its threads, and spawned workers import it anew, one after the other.
    multiprocessing.set_forkserver_preload([__name__])
    yield from DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        collate_fn=_unchanged,
        prefetch_factor=_PREFETCHED if workers else None,
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_leave_interrupts,
        # Its own, so that the loader draws nothing from the generator of the training.
        generator=torch.Generator(),
    )


def train_language(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    frames: TrainingFrames,
    see: Callable[[npt.NDArray[np.int64]], torch.Tensor],
    recipe: Recipe,
    out: Path,
    extra: nn.Module | None = None,
    workers: int = 0,
    until: float = math.inf,
) -> None:
    """Train projector and language model in place; resumes from `out`/language.state.

    Runs on the device of the model.

    Args:
        see: indices of frames (B,) -> features (B, 144, D) float32 of the tower, on that device.
        extra: a `losses.GiveDepth` with weights of its own, or None.
        workers: processes that make batches.
        until: time (`time.time`) at which to stop with a checkpoint.

    Raises:
        OutOfTime, FloatingPointError: as `train_stage`.
    """
    device = model.device
    torch.manual_seed(recipe.seed)
    readout = Readout(model.config.text_config.hidden_size, extra).to(device)
    llava = model.model
    matrices, others = (
        [*a, *b]
        for a, b in zip(
            split(llava.language_model), split(llava.multi_modal_projector), strict=True
        )
    )
    words = {
        "category": torch.tensor([word_id(tokenizer, word) for word in CATEGORIES], device=device),
        "colour": torch.tensor([word_id(tokenizer, word) for word in COLOURS], device=device),
    }
    batches = Batches(frames, tokenizer, recipe, *rank_and_world())

    def run(numbers: range) -> Iterator[StepLosses]:
        for batch in prepared(batches, numbers, workers):
            yield losses_of(model, readout, batch.to(device), see(batch.frames), words)

    modules: dict[str, nn.Module] = {"model": model, "readout": readout}
    stage = Stage("language", modules, matrices, [*others, *readout.parameters()], recipe.losses)
    warmup = min(WARMUP, max(1, recipe.steps // 8))
    train_stage(stage, run, recipe.steps, out, rate=recipe.rate, warmup=warmup, until=until)
