"""The data type of matrix products in training: bfloat16 where the hardware has it.

Weights, residual stream, losses and sums are float32 anyway. Does not know the model.
"""

from __future__ import annotations

import functools

import torch

_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


def product_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, or float32 on a CPU that emulates it: a quarter of bfloat16's time there."""
    return torch.bfloat16 if device.type != "cpu" or _cpu_has_bfloat16() else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """Products in `product_dtype`."""
    dtype = product_dtype(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16)


@functools.cache
def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _INSTRUCTIONS)
