"""Products in bfloat16 where the hardware has it, in float32 where a CPU would emulate it."""

from __future__ import annotations

import pytest
import torch

from training.nano import precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_a_cpu_without_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    precision._cpu_has_bfloat16.cache_clear()
    try:
        assert precision.product_dtype(torch.device("cpu")) is expected
        with precision.autocast(torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is expected
    finally:
        precision._cpu_has_bfloat16.cache_clear()


def test_a_gpu_computes_in_bfloat16() -> None:
    assert precision.product_dtype(torch.device("cuda")) is torch.bfloat16
