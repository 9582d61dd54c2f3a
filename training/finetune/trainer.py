"""Fine-tuning as configured: data, model, optimiser, steps, checkpoints.

The same configuration gives the same losses with any number of processes: a batch is the same
conversations, and its loss is the mean over all of its answer tokens. Does not know the command
line.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import nn

from sdvlm_core.model.backbones.contract import ImageAttention
from sdvlm_core.model.checkpoint import Checkpoint, assembled, load
from sdvlm_core.model.own_settings import encoding_settings
from training.finetune.batches import Batch, Collator, batches_of, depth_shown, share_of
from training.finetune.config import Config
from training.finetune.prepare import Preparation, prepare, prepared_folder
from training.finetune.samples import IGNORED, INDEX, Samples
from training.finetune.sharding import clip, exchanged_gradients, shard, summed
from training.finetune.trainee import Trainee, save_trained
from training.loop.checkpoints import (
    RunCheckpoints,
    recipe_of,
    trained_tensors,
    write_tensors,
)
from training.loop.machines import shared_latest
from training.loop.metrics import MetricsLogger, non_finite
from training.loop.schedule import RateSchedule, rate_factor
from training.loop.steps import Loop
from training.run_config import check_equal

ADAPTER, MODEL, METRICS, BOARD = "adapter", "model", "metrics.jsonl", "tensorboard"
_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
#: Processes wait for each other after the data is prepared, which takes hours when depth is
#: estimated; NCCL's own timeout is ten minutes. The launcher notices a dead process.
_TIMEOUT = timedelta(hours=48)


def train(config: Config) -> Path:
    """Train as configured, from the latest checkpoint if there is one.

    Returns:
        The directory of the adapter, or of the whole model where all of it was trained.

    Raises:
        ValueError: the folder holds a checkpoint of other settings, too few conversations, packed
            turns for a model whose image tokens attend to the question, or mixed depth for an
            encoding whose direction depends on the source.
        FloatingPointError: a loss or a gradient is not finite; names the file with its batch.
    """
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=_PRECISION[config.dtype],
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=_TIMEOUT),
            # Image encoders have layers behind the one whose features are taken.
            DistributedDataParallelKwargs(find_unused_parameters=not config.lora_rank),
        ],
    )
    out, process = Path(config.out), accelerator.process_index
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = _checkpoint(config, accelerator)
    how = _preparation(config, checkpoint)
    recipe = config.recipe() | {"samples": how.digest(config.data, out)}
    found = shared_latest(out, accelerator.device)
    if found is not None:
        check_equal(found, recipe_of(found), recipe)
    samples = _samples(config, how, checkpoint, accelerator)
    plan = _plan(config, samples)
    trainee = Trainee(checkpoint, config)
    model, inner, optimizer = _over_processes(trainee, config, accelerator)
    warmup = math.ceil(config.warmup * len(plan))
    factor = partial(rate_factor, steps=len(plan), warmup=warmup, decay_from=warmup)
    rates = RateSchedule([inner], factor)
    # Every process draws its own dropout.
    torch.manual_seed(config.seed * 1000 + process)
    checkpoints = RunCheckpoints(out, model, inner, accelerator.scaler, recipe, process)
    done = checkpoints.restore(found) if found is not None else 0
    logger = MetricsLogger(
        out / METRICS,
        "steps",
        len(plan),
        done,
        active=accelerator.is_main_process,
        board=out / BOARD,
    )
    collate = Collator.of(checkpoint)
    step = _Step(model, optimizer, samples, plan, config, accelerator, collate)
    model.train()
    Loop(len(plan), config.save_every, rates, checkpoints, logger).run(done, step)
    tensors, result = trained_tensors(model), out / (ADAPTER if config.lora_rank else MODEL)
    if accelerator.is_main_process:
        save_trained(trainee, tensors, config.model, result)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return result


def _checkpoint(config: Config, accelerator: Accelerator) -> Checkpoint:
    """The model to start from, with the configured encoding and preprocessor."""
    found = load(config.model, str(accelerator.device), config.dtype)
    settings = config.settings()
    if settings is not None:
        found.model.config.depth_encoding = settings.to_mapping()
    encoding = encoding_settings(found.model.config)
    if config.depth == "mixed" and (encoding.kind, encoding.orientation) == ("relative", "source"):
        raise ValueError(
            "depth: mixed needs one orientation for both sources; encoding has orientation: "
            "source, which is inverse for estimates and direct for a sensor; set inverse or direct"
        )
    if config.turns == "packed" and found.backbone.attention is ImageAttention.PROMPT:
        raise ValueError(
            "turns: packed is impossible for this model: its image tokens attend to the question, "
            "so that a question would see the answers before it; set turns: single"
        )
    preprocessor = {**found.preprocessor, **config.preprocessor}
    return assembled(found.model_id, found.model, found.tokenizer, found.device, preprocessor)


def _preparation(config: Config, checkpoint: Checkpoint) -> Preparation:
    """How samples are prepared."""
    return Preparation(
        config.model,
        encoding_settings(checkpoint.model.config),
        config.estimator,
        config.turns,
        config.max_length,
        config.split,
        checkpoint.preprocessor,
        config.depth,
        config.thoughts,
    )


def _samples(
    config: Config, how: Preparation, checkpoint: Checkpoint, accelerator: Accelerator
) -> Samples:
    """The samples, made by all processes: those with one folder share the work."""
    estimator, out = None, Path(config.out)
    made = (prepared_folder(out, how.digest(config.data, out)) / INDEX).exists()
    if config.estimator and not made:
        from sdvlm_core.model.depth_estimation import load_estimator

        estimator = load_estimator(config.estimator, accelerator.device)
    folder = prepare(config.data, out, how, checkpoint, estimator)
    accelerator.wait_for_everyone()
    return Samples(folder)


def _plan(config: Config, samples: Samples) -> list[list[int]]:
    """The sample numbers of every step."""
    plan = [
        members
        for epoch in range(config.epochs)
        for members in batches_of(samples.lengths, config.batch, config.seed, epoch)
    ]
    if not plan:
        raise ValueError(f"{len(samples)} conversations are less than one batch of {config.batch}")
    return plan[: config.steps or None]


def _over_processes(
    trainee: Trainee, config: Config, accelerator: Accelerator
) -> tuple[nn.Module, torch.optim.AdamW, torch.optim.Optimizer]:
    """The trainee, sharded or copied over the processes; torch's optimiser, and accelerate's."""
    sharded = config.sharding != "copy" and accelerator.num_processes > 1
    model: nn.Module = trainee
    if sharded:
        model = shard(trainee, accelerator, config.sharding == "fsdp")
    inner = torch.optim.AdamW(
        trainee.groups(config), weight_decay=config.weight_decay, betas=(0.9, 0.999)
    )
    if sharded:
        return model, inner, inner
    model, optimizer = accelerator.prepare(model, inner)
    return model, inner, optimizer


@dataclass(frozen=True, eq=False)
class _Step:
    """One optimiser step over one batch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    samples: Samples
    plan: list[list[int]]
    config: Config
    accelerator: Accelerator
    collate: Collator

    def __call__(self, number: int, factor: float) -> dict[str, float]:
        """Run step `number`; returns its metrics, over all processes."""
        started = time.perf_counter()
        members = self.plan[number]
        batches = self._batches(number, members)
        loss, tokens = self._backward(batches)
        norm = clip(self.model, self.config.max_norm, self.accelerator)
        # In float16 gradients overflow now and then: the scaler skips such a step.
        checked = {"loss": loss} if self.accelerator.scaler else {"loss": loss, "gradient": norm}
        if reason := non_finite(checked):
            self._refuse(batches, members, f"{reason} in step {number + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad()
        seconds = round(time.perf_counter() - started, 4)
        return {"loss": loss, "norm": norm, "rate": factor, "tokens": tokens, "seconds": seconds}

    def _batches(self, step: int, members: list[int]) -> list[Batch]:
        """This process's forward passes of a step; every process has the same number of them."""
        shares = share_of(
            members,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.config.micro_batch,
        )
        batches = []
        for numbers in shares:
            # Without samples of its own a process still takes part in the collective operations.
            share, seed = self.config.without_depth, self.config.seed
            batch = self.collate(
                [depth_shown(self.samples[i], share, seed, step, i) for i in numbers or members[:1]]
            )
            if not numbers:
                batch.labels.fill_(IGNORED)
            batches.append(batch)
        return batches

    def _backward(self, batches: list[Batch]) -> tuple[float, int]:
        """Accumulate the gradient; returns (mean loss, answer tokens) over all processes."""
        accelerator = self.accelerator
        own = sum(int((batch.labels[:, 1:] != IGNORED).sum()) for batch in batches)
        tokens = int(summed(torch.tensor(own, device=accelerator.device), accelerator))
        total = torch.zeros((), device=accelerator.device)
        # Processes average their gradients; the sum over all tokens is wanted.
        scale = accelerator.num_processes / max(1, tokens)
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with exchanged_gradients(self.model, last, accelerator), accelerator.autocast():
                loss = self.model(batch)
                accelerator.backward(loss * scale)
            total += loss.detach()
        return summed(total, accelerator) / max(1, tokens), tokens

    def _refuse(self, batches: list[Batch], members: list[int], reason: str) -> None:
        """Keep the batch in a file and stop before the optimiser step."""
        path = Path(self.config.out) / f"broken-batch-{self.accelerator.process_index}.safetensors"
        tensors = {
            f"{at}.{key}": value
            for at, batch in enumerate(batches)
            for key, value in batch.tensors().items()
        }
        write_tensors(path, tensors, samples=json.dumps(members))
        raise FloatingPointError(f"{reason}; its batch (samples {members}) is in {path}")
