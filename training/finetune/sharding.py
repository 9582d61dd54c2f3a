"""A model over several processes: a copy each, or sharded by torch's fully_shard.

Knows processes and gradients; does not know data or configuration files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from training.finetune.trainee import Trainee


def shard(trainee: Trainee, accelerator: Accelerator, weights: bool) -> nn.Module:
    """Shard the trainee over the processes, decoder layer by decoder layer.

    Args:
        weights: gather a layer's weights again for the backward pass (ZeRO-3), else keep them from
            the forward pass (ZeRO-2).
    """
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    decoder: Any = trainee.checkpoint.model.get_decoder()
    for layer in decoder.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=weights)
    fully_shard(trainee, mesh=mesh, reshard_after_forward=weights)
    return trainee


@contextmanager
def exchanged_gradients(model: nn.Module, last: bool, accelerator: Accelerator) -> Iterator[None]:
    """Gradients are exchanged only in the `last` of a step's forward passes."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
        yield
    elif last:
        yield
    else:
        with accelerator.no_sync(model):
            yield


def clip(model: nn.Module, max_norm: float, accelerator: Accelerator) -> float:
    """Clip the gradient over all processes; returns its norm before."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    if isinstance(model, FSDPModule):
        norm = nn.utils.clip_grad_norm_(trainable, max_norm)
        return float(cast(DTensor, norm).full_tensor())
    return float(accelerator.clip_grad_norm_(trainable, max_norm))


def summed(value: torch.Tensor, accelerator: Accelerator) -> float:
    """The sum of a scalar over all processes."""
    return float(accelerator.reduce(value).item())
