"""What a stage of nano's training needs to go on: weights, optimisers, the step; in safetensors.

Written whole or not at all. Knows modules and optimisers; does not know what is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn


def save(
    path: Path,
    modules: Mapping[str, nn.Module],
    members: Sequence[torch.optim.Optimizer],
    step: int,
) -> None:
    """Write the state after `step` steps."""
    tensors = {
        f"{prefix}.{name}": value
        for prefix, module in modules.items()
        for name, value in module.state_dict().items()
    }
    for number, member in enumerate(members):
        for index, state in member.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{index}.{key}": v for key, v in state.items()}
    # Tied weights are one tensor under two names.
    unique = {name: value.clone() for name, value in tensors.items()}
    temporary = path.with_suffix(".tmp")
    save_file(unique, temporary, metadata={"step": str(step)})
    temporary.replace(path)


def load(
    path: Path, modules: Mapping[str, nn.Module], members: Sequence[torch.optim.Optimizer]
) -> int:
    """Restore what `save` wrote, in place; returns the steps done, 0 where there is no file."""
    if not path.exists():
        return 0
    tensors = load_file(path)

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    for prefix, module in modules.items():
        module.load_state_dict(part(f"{prefix}."))
    for number, member in enumerate(members):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in part(f"optimiser.{number}.").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        member.load_state_dict({**member.state_dict(), "state": state})
    with safe_open(path, "pt") as stored:
        return int(stored.metadata()["step"])
