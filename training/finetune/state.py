"""All that a training needs to go on exactly where it was, in safetensors and JSON.

The states are whole, whatever the sharding, so that a run may go on with another number of
processes. Knows torch's distributed state dictionaries; does not know models or data.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

_PREFIX = "state-"
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


def learnt(model: nn.Module) -> dict[str, torch.Tensor]:
    """What has been learnt, by parameter name, whole and on the CPU; {} except on process 0."""
    return dict(get_model_state_dict(model, options=_FULL))


def newest(out: Path) -> Path | None:
    """The last whole state of a run."""
    states = sorted(out.glob(f"{_PREFIX}*[0-9]"))
    return states[-1] if states else None


def recipe(folder: Path) -> dict[str, Any]:
    """What a state was made with, as it was given to `save`."""
    stored = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return dict(stored.get("recipe", {}))


def save(
    out: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: Any,
    recipe: dict[str, Any],
    process: int,
) -> None:
    """Write a state; all processes call it, process 0 writes. Older ones but one are removed.

    Args:
        scaler: of the gradients in float16 (torch's GradScaler); None otherwise.
        recipe: what must be the same to go on (JSON).
    """
    tensors = {f"model.{name}": value for name, value in learnt(model).items()}
    stored = get_optimizer_state_dict(model, optimizer, options=_FULL)
    random = _random_of_all()
    if process:
        return
    for name, state in stored["state"].items():
        tensors |= {f"optimizer.{name}|{key}": torch.as_tensor(v) for key, v in state.items()}
    tensors |= {f"random.{number}": value for number, value in enumerate(random)}
    document = {
        "step": step,
        "groups": _plain(stored["param_groups"]),
        "scaler": scaler.state_dict() if scaler else None,
        "recipe": recipe,
    }
    folder = out / f"{_PREFIX}{step:08d}"
    unfinished = out / f".{folder.name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished / "state.safetensors")
    (unfinished / "state.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
    unfinished.rename(folder)
    for old in sorted(out.glob(f"{_PREFIX}*[0-9]"))[:-2]:
        shutil.rmtree(old)


def restore(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any, process: int
) -> int:
    """Put a state back; returns the number of steps done."""
    tensors = load_file(folder / "state.safetensors")
    document = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    state: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            name, _, field = key.removeprefix("optimizer.").partition("|")
            state.setdefault(name, {})[field] = value
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    options = StateDictOptions(full_state_dict=True, strict=False)
    set_model_state_dict(model, weights, options=options)
    whole = {"state": state, "param_groups": document["groups"]}
    set_optimizer_state_dict(model, optimizer, whole, options=options)
    if scaler:
        scaler.load_state_dict(document["scaler"])
    random = tensors.get(f"random.{process}")
    if random is not None:
        torch.set_rng_state(random[: torch.get_rng_state().numel()])
        if torch.cuda.is_available() and len(random) > torch.get_rng_state().numel():
            torch.cuda.set_rng_state(random[torch.get_rng_state().numel() :])
    return int(document["step"])


def _random_of_all() -> list[torch.Tensor]:
    """The random state of every process: the CPU's, then its GPU's."""
    own = torch.get_rng_state()
    if torch.cuda.is_available():
        own = torch.cat([own, torch.cuda.get_rng_state()])
    if not torch.distributed.is_initialized():
        return [own]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    gathered = [torch.empty_like(own) for _ in found]
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
