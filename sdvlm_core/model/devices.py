"""Selects how a model runs: device, dtype, quantization, attention.

Converts option values to the arguments of transformers, and rejects values that this machine does
not support: there is no silent fall-back to another device or dtype. Does not know files.

| quantization | weights of the language model | runs on |
|---|---|---|
| bnb-int8 | 8 bit, products in 8 bit except for outliers (LLM.int8) | CPU, CUDA |
| bnb-nf4 | 4 bit NormalFloat (QLoRA) | CPU, CUDA |

Both are bitsandbytes'. The image encoder, the projector and the output layer are not quantized:
they are 6 % of a 7B model, and the depth code is added to the projector's output.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sdvlm_core.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

QUANTIZATIONS = ("none", "bnb-int8", "bnb-nf4")
ATTENTIONS = ("auto", "eager", "sdpa", "flash_attention_2")
#: Distribute the layers evenly over all GPUs.
BALANCED = "balanced"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_NOT_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]


@dataclass(frozen=True)
class Placement:
    """The arguments of `from_pretrained` besides the directory; made by `resolve`."""

    device_map: str | dict[str, torch.device]
    dtype: torch.dtype
    quantization: BitsAndBytesConfig | None
    attention: str | None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `from_pretrained`."""
        arguments: dict[str, Any] = {"device_map": self.device_map, "dtype": self.dtype}
        if self.quantization is not None:
            arguments["quantization_config"] = self.quantization
        if self.attention is not None:
            arguments["attn_implementation"] = self.attention
        return arguments


def resolve(
    device: str = "auto",
    dtype: str = "auto",
    quantization: str = "none",
    attention: str = "auto",
) -> Placement:
    """Check option values against this machine.

    Args:
        device: `cpu`, `cuda`, `cuda:1`, ..., `balanced` (all GPUs); `auto` = CUDA when there is
            one, else the CPU.
        dtype: `float32`, `float16`, `bfloat16`; `auto` = float16 on CUDA; on the CPU float32,
            where half precision is slower without special instructions, and bfloat16 beside
            quantized weights.
        quantization: one of `QUANTIZATIONS`, see the module.
        attention: one of `ATTENTIONS`; `auto` = what transformers prefers (sdpa).

    Raises:
        CheckpointError: a value is unknown, or names something this machine does not have.
    """
    for name, value, known in (
        ("dtype", dtype, ("auto", *_DTYPES)),
        ("quantization", quantization, QUANTIZATIONS),
        ("attention", attention, ATTENTIONS),
    ):
        if value not in known:
            raise CheckpointError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    where = torch.device("cuda") if device == BALANCED else resolve_device(device)
    if device == BALANCED and torch.cuda.device_count() < 2:
        raise CheckpointError(
            f"device {BALANCED!r} distributes a model over at least 2 GPUs; torch finds "
            f"{torch.cuda.device_count()} on this machine"
        )
    if dtype != "auto":
        number_type = _DTYPES[dtype]
    elif where.type == "cuda":
        number_type = torch.float16
    else:
        number_type = torch.float32 if quantization == "none" else torch.bfloat16
    return Placement(
        BALANCED if device == BALANCED else {"": where},
        number_type,
        quantization_config(quantization, where, number_type),
        None if attention == "auto" else attention,
    )


def resolve_device(device: str) -> torch.device:
    """`auto` = CUDA when there is one, else the CPU; anything else as torch names it.

    Raises:
        CheckpointError: the named device does not exist on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise CheckpointError(f"{device!r} is not a device: {error}") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(
            f"device {device!r} does not exist: torch finds {torch.cuda.device_count()} CUDA "
            "devices on this machine"
        )
    return chosen


def quantization_config(
    name: str, device: torch.device, dtype: torch.dtype
) -> BitsAndBytesConfig | None:
    """transformers' configuration of one of `QUANTIZATIONS` on a device; None for `none`.

    Raises:
        CheckpointError: the device does not support it, or bitsandbytes is not installed.
    """
    if name == "none":
        return None
    if device.type not in ("cpu", "cuda"):
        raise CheckpointError(f"quantization {name} runs on cpu and cuda, not on {device.type}")
    try:
        import bitsandbytes  # noqa: F401 - transformers would report it only while loading
    except ImportError as error:
        raise CheckpointError(
            f"quantization {name} needs bitsandbytes: pip install bitsandbytes"
        ) from error
    from transformers import BitsAndBytesConfig

    if name == "bnb-nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=_NOT_QUANTIZED,
        )
    # bitsandbytes warns about its intended cast to float16 at every product of every token.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=_NOT_QUANTIZED)


def free_bytes(device: torch.device) -> int:
    """Memory that a device can still allocate; of the CPU what the system says is available."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    import psutil

    return int(psutil.virtual_memory().available)
