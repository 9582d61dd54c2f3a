"""`python -m training.finetune CONFIG`: fine-tune a LLaVA with depth code on conversations.

Alone, or one process a GPU under `accelerate launch` or `torchrun`. Owns the run: preparing the
data, the loop, rates, metrics, states. The same configuration gives the same losses with any
number of processes: a batch is the same conversations, and its loss is the mean over all of its
answer tokens.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch import nn

from sdvlm_core.errors import SdvlmError
from sdvlm_core.model.backbones.llava import encoding_settings
from sdvlm_core.model.checkpoint import Checkpoint, load
from training.finetune import state
from training.finetune.batches import batches_of, collate, share_of
from training.finetune.config import SHARDING, Config, read_config
from training.finetune.samples import IGNORED, Preparation, Samples, prepare
from training.finetune.trainee import Trainee, save_adapter
from training.processes import exit_on_sigterm
from training.run_config import check_equal

ADAPTER, METRICS = "adapter", "metrics.jsonl"


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up over a part of the steps, then a cosine down to zero."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _prepared(
    config: Config, how: Preparation, checkpoint: Checkpoint, accelerator: Accelerator
) -> Samples:
    """The samples, made by the first process while the others wait."""
    estimator = None
    with accelerator.main_process_first():
        if config.estimator and accelerator.is_main_process:
            from sdvlm_core.model.depth_estimation import load_estimator

            estimator = load_estimator(config.estimator, accelerator.device)
        folder = prepare(Path(config.data), Path(config.out), how, checkpoint, estimator)
    return Samples(folder)


def _shard(trainee: Trainee, accelerator: Accelerator, weights: bool) -> nn.Module:
    """The trainee spread over the processes, decoder layer by decoder layer.

    Args:
        weights: gather a layer's weights anew for the backward pass (ZeRO-3), else keep them from
            the forward pass (ZeRO-2).
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for layer in trainee.model.get_base_model().model.language_model.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=weights)
    return fully_shard(trainee, mesh=mesh, reshard_after_forward=weights)


@contextmanager
def _last_only(model: nn.Module, last: bool, accelerator: Accelerator) -> Iterator[None]:
    """Gradients are exchanged after the last forward pass of a step only."""
    if hasattr(model, "set_requires_gradient_sync"):  # fully_shard
        model.set_requires_gradient_sync(last)
        yield
    else:
        with nullcontext() if last else accelerator.no_sync(model):
            yield


def _step(
    model: nn.Module,
    samples: Samples,
    members: list[int],
    config: Config,
    accelerator: Accelerator,
    pad: int,
) -> tuple[float, int, float]:
    """Forward, backward and clipping over one batch.

    Returns:
        Over all processes: the mean loss, the answer tokens, the gradient's norm before clipping.
    """
    shares = share_of(
        members, accelerator.process_index, accelerator.num_processes, config.micro_batch
    )
    passes = []
    for numbers in shares:
        # A process with nothing to do goes through the same motions, for the others wait for it.
        batch = collate([samples[i] for i in numbers or members[:1]], pad)
        if not numbers:
            batch["labels"].fill_(IGNORED)
        passes.append(batch)
    own = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in passes)
    tokens = int(accelerator.reduce(torch.tensor(own, device=accelerator.device)).item())
    total = torch.zeros((), device=accelerator.device)
    for number, batch in enumerate(passes):
        batch = {key: value.to(accelerator.device) for key, value in batch.items()}
        with _last_only(model, number == len(passes) - 1, accelerator), accelerator.autocast():
            loss = model(batch)
            # Processes average their gradients; what is wanted is their sum over all tokens.
            scale = accelerator.num_processes / max(1, tokens)
            accelerator.backward(loss * scale)
        total += loss.detach()
    mean = float(accelerator.reduce(total).item()) / max(1, tokens)
    norm = _clip(model, config.max_norm, accelerator)
    # In float16 an overflow of the gradient is usual: the scaler leaves that step out.
    broken = {"loss": mean} if accelerator.scaler else {"loss": mean, "gradient's norm": norm}
    for name, value in broken.items():
        if not math.isfinite(value):
            why = f"the {name} is {value}"
            _keep_broken(Path(config.out), passes, members, accelerator.process_index, why)
    return mean, tokens, norm


def _keep_broken(
    out: Path, passes: list[dict[str, torch.Tensor]], members: list[int], process: int, why: str
) -> None:
    """Write the batch that must not be learnt from, and stop."""
    path = out / f"broken-batch-{process}.safetensors"
    tensors = {f"{at}.{key}": v for at, batch in enumerate(passes) for key, v in batch.items()}
    save_file(tensors, path, {"samples": json.dumps(members)})
    raise FloatingPointError(f"{why}; its batch (samples {members}) is in {path}")


class _Told:
    """Metrics as JSON lines, for TensorBoard, and as a progress bar."""

    def __init__(self, out: Path, steps: int, done: int, active: bool) -> None:
        self._active = active
        if not active:
            return
        path = out / METRICS
        kept = path.read_text(encoding="utf-8").splitlines()[:done] if path.exists() else []
        # What was told after the last state is told again.
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board: Any = SummaryWriter(str(out / "tensorboard"), purge_step=done + 1)
        except ImportError as error:
            self._board = None
            print(f"no metrics for TensorBoard: {error} (requirements/train.txt)", file=sys.stderr)
        self._bar = Progress(
            *Progress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("steps", total=steps, completed=done, note="")
        self._bar.start()

    def step(self, number: int, values: dict[str, float]) -> None:
        """Tell what one step gave."""
        if not self._active:
            return
        self._file.write(json.dumps({"step": number, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, value, number)
        self._bar.update(self._task, completed=number, note=f"loss {values['loss']:.4f}")

    def close(self) -> None:
        """Close what is open."""
        if self._active:
            self._bar.stop()
            self._file.close()
            if self._board is not None:
                self._board.close()


def run(config: Config) -> Path:
    """Train as configured, going on from the newest state; returns the adapter's directory."""
    precision = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[config.dtype]
    cpu = not torch.cuda.is_available()
    # The others wait while the first prepares the data, which takes hours if depth is estimated;
    # NCCL would give up after ten minutes. That a process died is for the launcher to notice.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=48))
    accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[patience])
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = load(config.model, str(accelerator.device), config.dtype)
    settings = config.settings()
    if settings is not None:
        checkpoint.model.config.depth_encoding = settings.to_mapping()
    how = Preparation(
        config.model,
        encoding_settings(checkpoint.model.config),
        config.estimator,
        config.turns,
        config.max_length,
        config.split,
    )
    recipe = config.recipe() | {"samples": how.digest(Path(config.data))}
    found = state.newest(out)
    if found is not None:
        check_equal(found, state.recipe(found), recipe)
    samples = _prepared(config, how, checkpoint, accelerator)
    trainee = Trainee(checkpoint, config)
    model: nn.Module = trainee
    spread = config.sharding != "copy" and accelerator.num_processes > 1
    if spread:
        model = _shard(trainee, accelerator, config.sharding == "fsdp")
    optimizer = torch.optim.AdamW(
        trainee.groups(config), weight_decay=config.weight_decay, betas=(0.9, 0.999)
    )
    full_rates = [group["lr"] for group in optimizer.param_groups]
    if not spread:
        model, optimizer = accelerator.prepare(model, optimizer)
    inner, scaler, process = _plain(optimizer), accelerator.scaler, accelerator.process_index
    done = 0
    # Every process draws its own dropout.
    torch.manual_seed(config.seed * 1000 + process)
    if found is not None:
        done = state.restore(found, model, inner, scaler, process)
    plan = [
        members
        for epoch in range(config.epochs)
        for members in batches_of(samples.lengths, config.batch, config.seed, epoch)
    ]
    if not plan:
        raise ValueError(f"{len(samples)} conversations are less than one batch of {config.batch}")
    steps = min(config.steps or len(plan), len(plan))
    pad = checkpoint.tokenizer.pad_token_id or 0
    told = _Told(out, steps, done, accelerator.is_main_process)
    model.train()
    try:
        for number in range(done, steps):
            began = time.perf_counter()
            factor = rate_factor(number, steps, config.warmup)
            for group, full in zip(optimizer.param_groups, full_rates, strict=True):
                group["lr"] = factor * full
            loss, tokens, norm = _step(model, samples, plan[number], config, accelerator, pad)
            optimizer.step()
            optimizer.zero_grad()
            seconds = round(time.perf_counter() - began, 4)
            values = {"loss": loss, "norm": norm, "rate": factor, "tokens": tokens}
            told.step(number + 1, values | {"seconds": seconds})
            if (number + 1) % config.save_every == 0 or number + 1 == steps:
                state.save(out, number + 1, model, inner, scaler, recipe, process)
    finally:
        told.close()
    tensors = state.learnt(model)
    if accelerator.is_main_process:
        save_adapter(trainee, tensors, config.model, out / ADAPTER)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return out / ADAPTER


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    """torch's optimiser inside accelerate's."""
    inner = getattr(optimizer, "optimizer", optimizer)
    assert isinstance(inner, torch.optim.Optimizer)
    return inner


def _clip(model: nn.Module, most: float, accelerator: Accelerator) -> float:
    learning = [p for p in model.parameters() if p.requires_grad]
    if hasattr(model, "set_requires_gradient_sync"):
        norm: Any = nn.utils.clip_grad_norm_(learning, most)
        norm = norm.full_tensor()
    else:
        norm = accelerator.clip_grad_norm_(learning, most)
    return float(norm)


def finetune(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A file of training/configs.")],
    sharding: Annotated[
        str | None, typer.Option(help="copy, zero2 or fsdp, instead of the file's.")
    ] = None,
) -> None:
    """Fine-tune with LoRA; running it again goes on from the last state.

    Examples:

      python -m training.finetune training/configs/msmu_lora_7b.yaml

      accelerate launch --config_file training/configs/accelerate/eight_gpus.yaml
      -m training.finetune training/configs/msmu_lora_7b.yaml
    """
    try:
        chosen = read_config(config)
        if sharding is not None:
            if sharding not in SHARDING:
                raise ValueError(f"--sharding is one of {SHARDING}, not {sharding!r}")
            chosen = replace(chosen, sharding=sharding)
        directory = run(chosen)
    except (SdvlmError, ValueError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if int(os.environ.get("RANK", "0")) == 0:
        merge = f"python -m training.merge {directory} MODEL_DIR"
        typer.echo(f"adapter and projector: {directory}; one model of it: {merge}")


def main() -> None:
    """Entry point of `python -m training.finetune`."""
    exit_on_sigterm()
    typer.run(finetune)
