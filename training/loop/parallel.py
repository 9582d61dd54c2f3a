"""Several processes of one run: their number, their devices, barriers and averaged gradients.

    torchrun --standalone --nproc-per-node 2 -m training.nano training/configs/nano.yaml

On CPUs a process with one thread per core trains nano 1.6 times as fast as one process with as many
threads (0.29 s against 0.23 s a step on two cores); on GPUs there is a process for each. Without
torchrun there is one process. Does not know what is trained.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta

import torch
from torch import distributed, nn

from sdvlm_core.model.devices import resolve_device

#: The other processes wait while the first one prepares data, or for the slowest one's answers; the
#: launcher notices a dead process.
_TIMEOUT = timedelta(hours=48)
_MOST_WORKERS = 8


def own_device(device: str, environment: Mapping[str, str] = os.environ) -> torch.device:
    """The device of this process: with several processes, each GPU in turn.

    Args:
        device: auto, cpu, cuda, or one GPU for all processes (cuda:1).

    Raises:
        CheckpointError: this machine does not have it.
    """
    chosen = resolve_device(device)
    if chosen.type != "cuda":
        return chosen
    if chosen.index is None:
        local = int(environment.get("LOCAL_RANK", "0"))
        chosen = torch.device("cuda", local % torch.cuda.device_count())
    # NCCL, and whatever names no GPU, then use this one.
    torch.cuda.set_device(chosen)
    return chosen


def workers_beside(device: torch.device, processes: int) -> int:
    """Processes that make batches for each of `processes` training processes: the cores left over.

    On a CPU there may be none: a training process then makes its own.
    """
    left = (os.cpu_count() or 1) // processes - 1
    return min(_MOST_WORKERS, max(left, 1 if device.type == "cuda" else 0))


def join_processes() -> None:
    """Join the process group, if torchrun started one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=_TIMEOUT)


def rank_and_world() -> tuple[int, int]:
    """(number of this process, number of processes)."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def barrier() -> None:
    """Wait until all processes reach this call."""
    if distributed.is_initialized():
        # Of the CPU: NCCL's barrier needs a GPU of its own for each process.
        distributed.all_reduce(torch.zeros(1))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes."""
    _, world = rank_and_world()
    if world == 1:
        return
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            # All processes must reduce the same tensors, with or without a gradient of their own.
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    # One flat tensor: one message per step instead of one per parameter.
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= world
    means = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
