"""Checkpoints of a training: everything needed to resume it exactly, in safetensors and JSON.

`StageCheckpoint` is one file for a model that is whole in every process; `RunCheckpoints` are
folders for a model that may be sharded, so that a run resumes on any number of processes. Both are
written whole or not at all. Knows modules and optimisers; does not know models or data.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from sdvlm_core.files import atomic_directory, atomic_file, read_json, write_json
from sdvlm_core.model import weight_files

Tensors = dict[str, torch.Tensor]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], **metadata: str) -> None:
    """Write a safetensors file in one step.

    Raises:
        RuntimeError: two tensors share memory.
    """
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    with atomic_file(path) as temporary:
        weight_files.save(contiguous, temporary, metadata)


def with_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    """The tensors whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


# --- one file per stage ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class StageCheckpoint:
    """One file with modules, optimisers and the step; each save replaces it.

    Attributes:
        path: the file.
        modules: prefix of the tensors -> module.
        optimizers: optimisers in a fixed order.
        active: False = do not write (all processes but the first).
    """

    path: Path
    modules: Mapping[str, nn.Module]
    optimizers: Sequence[torch.optim.Optimizer]
    active: bool = True

    def save(self, step: int) -> None:
        """Write the state after `step` steps."""
        if not self.active:
            return
        tensors = {
            f"{prefix}.{name}": value
            for prefix, module in self.modules.items()
            for name, value in module.state_dict().items()
        }
        for number, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimiser.{number}.{index}.{key}": v for key, v in state.items()}
        # Tied weights share memory, which safetensors refuses.
        unique = {name: value.clone() for name, value in tensors.items()}
        write_tensors(self.path, unique, step=str(step))

    def restore(self) -> int:
        """Load the state in place; returns the steps done, 0 when there is no file."""
        if not self.path.exists():
            return 0
        tensors = load_file(self.path)
        for prefix, module in self.modules.items():
            module.load_state_dict(with_prefix(tensors, f"{prefix}."))
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, Tensors] = {}
            for name, value in with_prefix(tensors, f"optimiser.{number}.").items():
                index, key = name.split(".", 1)
                state.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        with safe_open(self.path, "pt") as stored:
            return int(stored.metadata()["step"])


# --- folders of a run that may be sharded ---------------------------------------------------------

_PREFIX, _TENSORS, _DOCUMENT = "state-", "state.safetensors", "state.json"
#: The latest and the one before it.
_KEPT = 2
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


def trained_tensors(model: nn.Module) -> Tensors:
    """The trainable parameters by name, unsharded, on the CPU; {} except on process 0.

    A parameter with two names (tied words of input and output) has the first one.
    """
    tensors = cast(Tensors, dict(get_model_state_dict(model, options=_FULL)))
    once = {name.removeprefix("module.") for name, _ in model.named_parameters()}
    return {name: value for name, value in tensors.items() if name in once}


def latest(out: Path) -> Path | None:
    """The latest checkpoint of a run."""
    found = sorted(out.glob(f"{_PREFIX}*[0-9]"))
    return found[-1] if found else None


def recipe_of(folder: Path) -> dict[str, Any]:
    """The settings that a checkpoint was made with (`RunCheckpoints.recipe`)."""
    return dict(read_json(folder / _DOCUMENT).get("recipe", {}))


@dataclass(frozen=True, eq=False)
class RunCheckpoints:
    """Folders with the trainable parameters, the optimiser and the random state of each process.

    Attributes:
        out: folder of the run; the last two checkpoints are kept.
        model: the trained model, sharded or not.
        optimizer: torch's own.
        scaler: gradient scaler in float16; None otherwise.
        recipe: settings that must be the same to resume (JSON).
        process: number of this process.
    """

    out: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    recipe: Mapping[str, Any]
    process: int

    def save(self, step: int) -> None:
        """Write a checkpoint: every process calls it, process 0 writes."""
        tensors = {f"model.{name}": value for name, value in trained_tensors(self.model).items()}
        # Nested by torch's loose types: {"state": {name: {key: value}}, "param_groups": [...]}.
        stored: dict[str, Any] = get_optimizer_state_dict(self.model, self.optimizer, options=_FULL)
        random = _random_states()
        if self.process:
            return
        for name, state in stored["state"].items():
            tensors |= {f"optimizer.{name}|{key}": torch.as_tensor(v) for key, v in state.items()}
        tensors |= {f"random.{number}": value for number, value in enumerate(random)}
        document = {
            "step": step,
            "groups": _plain(stored["param_groups"]),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "recipe": dict(self.recipe),
        }
        with atomic_directory(self.out / f"{_PREFIX}{step:08d}") as folder:
            write_tensors(folder / _TENSORS, tensors)
            write_json(folder / _DOCUMENT, document, indent=None)
        for old in sorted(self.out.glob(f"{_PREFIX}*[0-9]"))[:-_KEPT]:
            shutil.rmtree(old)

    def restore(self, folder: Path) -> int:
        """Load a checkpoint in place; returns the steps done."""
        tensors = load_file(folder / _TENSORS)
        document = read_json(folder / _DOCUMENT)
        state: dict[str, Tensors] = {}
        for key, value in with_prefix(tensors, "optimizer.").items():
            name, _, field = key.partition("|")
            state.setdefault(name, {})[field] = value
        options = StateDictOptions(full_state_dict=True, strict=False)
        weights: dict[str, Any] = {**with_prefix(tensors, "model.")}
        set_model_state_dict(self.model, weights, options=options)
        whole: dict[str, Any] = {"state": state, "param_groups": document["groups"]}
        set_optimizer_state_dict(self.model, self.optimizer, whole, options=options)
        if self.scaler:
            self.scaler.load_state_dict(document["scaler"])
        random = tensors.get(f"random.{self.process}")
        if random is not None:
            on_cpu = torch.get_rng_state().numel()
            torch.set_rng_state(random[:on_cpu])
            if torch.cuda.is_available() and len(random) > on_cpu:
                torch.cuda.set_rng_state(random[on_cpu:])
        return int(document["step"])


def _random_states() -> list[torch.Tensor]:
    """The random state of every process: the CPU's, then its GPU's."""
    own = torch.get_rng_state()
    if torch.cuda.is_available():
        own = torch.cat([own, torch.cuda.get_rng_state()])
    if not torch.distributed.is_initialized():
        return [own]
    gathered = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    if torch.distributed.get_backend() == "nccl":
        on_gpu = [part.cuda() for part in gathered]
        torch.distributed.all_gather(on_gpu, own.cuda())
        return [part.cpu() for part in on_gpu]
    torch.distributed.all_gather(gathered, own)
    return gathered


def _plain(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter groups as JSON: a rate may be a tensor, betas a tuple."""
    return [
        {k: v.item() if isinstance(v, torch.Tensor) else v for k, v in group.items()}
        for group in groups
    ]
