"""Muon for the matrices of a small transformer: momentum, then the nearest orthogonal matrix.

Batches matrices of one shape (torch.optim.Muon takes one at a time), in bfloat16 as its author
does, where the hardware has it: a fifth of the time of float32 on one such core (54 against 290 ms
for nano's language model). Every other parameter is AdamW's.

Sources: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the scale
that lets AdamW's learning rates be used is from Liu et al., arXiv 2502.16982.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch

from training.nano.precision import product_dtype

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_MOMENTUM = 0.95


def orthogonalise(batch: torch.Tensor) -> torch.Tensor:
    """(N, R, C) -> about the nearest matrices with all singular values one (0.7 to 1.2)."""
    tall = batch.shape[1] > batch.shape[2]
    x = batch.transpose(1, 2) if tall else batch
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(product_dtype(x.device))
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.to(batch.dtype)
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for 2-D parameters, decoupled weight decay.

    `found_inf`: as of torch's fused optimisers, a scalar on the device; where it is 1.0, a step
    changes nothing.
    """

    found_inf: torch.Tensor | None = None

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # no closures here
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            found = self.found_inf
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, members in by_shape.items():
                updates = []
                for parameter in members:
                    state = self.state[parameter]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(parameter)
                    grad = parameter.grad
                    assert grad is not None
                    if found is not None:
                        grad = torch.where(found == 0, grad, state["momentum"])
                    state["momentum"].lerp_(grad, 1 - _MOMENTUM)
                    updates.append(grad.lerp(state["momentum"], _MOMENTUM))
                scale = 0.2 * max(shape) ** 0.5
                for parameter, update in zip(
                    members, orthogonalise(torch.stack(updates)), strict=True
                ):
                    changed = parameter * (1 - group["lr"] * group["weight_decay"])
                    changed.add_(update, alpha=-group["lr"] * scale)
                    kept = changed if found is None else torch.where(found == 0, changed, parameter)
                    parameter.copy_(kept)


def optimizers_of(
    matrices: Iterable[torch.nn.Parameter],
    others: Iterable[torch.nn.Parameter],
    matrix_rate: float,
    rate: float,
) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the matrices inside a network, AdamW for embeddings, norms, biases and heads."""
    return (
        Muon(matrices, lr=matrix_rate, weight_decay=0.02),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    )


def split(module: torch.nn.Module) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """(matrices for Muon, all others) of a module; embedding tables are others."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in module.named_parameters():
        hidden = parameter.ndim == 2 and "embed" not in name
        (matrices if hidden else others).append(parameter)
    return matrices, others
