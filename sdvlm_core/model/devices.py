"""Where a model runs and in which numbers: device, dtype, quantization, attention.

Turns the words of a command line or a node's parameters into what transformers takes, and refuses
what is not here: there is no silent fall-back to another device or other numbers. Knows no files.

| quantization | weights of the language model | made by | runs on |
|---|---|---|---|
| int8 | 8 bit, products in the model's dtype | torchao | CPU, CUDA |
| int4 | 4 bit in groups of 128 | torchao | CUDA |
| bnb-int8 | 8 bit, products in 8 bit but for outliers (LLM.int8) | bitsandbytes | CPU, CUDA |
| bnb-nf4 | 4 bit NormalFloat (QLoRA) | bitsandbytes | CPU, CUDA |

The vision tower, the projector and the output layer keep their numbers: 6 % of a 7B model, and the
depth code is added to what the projector gives.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from sdvlm_core.errors import CheckpointError

QUANTIZATIONS = ("none", "int8", "int4", "bnb-int8", "bnb-nf4")
ATTENTIONS = ("auto", "eager", "sdpa", "flash_attention_2")
#: All GPUs, layers shared out evenly between them.
BALANCED = "balanced"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_KEPT = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]


@dataclass(frozen=True)
class Placement:
    """What `from_pretrained` needs to know besides the directory; made by `resolve`."""

    device_map: str | dict[str, torch.device]
    dtype: torch.dtype
    quantization: Any | None
    attention: str | None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `from_pretrained`."""
        given: dict[str, Any] = {"device_map": self.device_map, "dtype": self.dtype}
        if self.quantization is not None:
            given["quantization_config"] = self.quantization
        if self.attention is not None:
            given["attn_implementation"] = self.attention
        return given


def resolve(
    device: str = "auto",
    dtype: str = "auto",
    quantization: str = "none",
    attention: str = "auto",
) -> Placement:
    """Check the words against this machine.

    Args:
        device: `cpu`, `cuda`, `cuda:1`, ..., `balanced` (all GPUs); `auto` = CUDA when there is
            one, else the CPU.
        dtype: `float32`, `float16`, `bfloat16`; `auto` = float16 on CUDA; on the CPU float32,
            where half precision is slower without special instructions, and bfloat16 beside
            quantized weights.
        quantization: one of `QUANTIZATIONS`, see the module.
        attention: one of `ATTENTIONS`; `auto` = what transformers prefers (sdpa).

    Raises:
        CheckpointError: a word is unknown, or names what this machine does not have.
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
            f"device {BALANCED!r} shares a model between GPUs; torch sees "
            f"{torch.cuda.device_count()} here"
        )
    if dtype != "auto":
        number = _DTYPES[dtype]
    elif where.type == "cuda":
        number = torch.float16
    else:
        number = torch.float32 if quantization == "none" else torch.bfloat16
    return Placement(
        BALANCED if device == BALANCED else {"": where},
        number,
        quantization_config(quantization, where, number),
        None if attention == "auto" else attention,
    )


def resolve_device(device: str) -> torch.device:
    """`auto` = CUDA when there is one, else the CPU; anything else as torch names it.

    Raises:
        CheckpointError: the named device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise CheckpointError(f"{device!r} is not a device: {error}") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(
            f"device {device!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA "
            "devices here"
        )
    return chosen


def quantization_config(name: str, device: torch.device, dtype: torch.dtype) -> Any | None:
    """transformers' configuration of one of `QUANTIZATIONS` on a device; None for `none`.

    Raises:
        CheckpointError: not for this device, or the library for it is not installed.
    """
    if name == "none":
        return None
    if device.type not in ("cpu", "cuda"):
        raise CheckpointError(f"quantization {name} runs on cpu and cuda, not on {device.type}")
    if name == "int4" and device.type != "cuda":
        raise CheckpointError("quantization int4 runs on cuda only; bnb-nf4 has 4 bits on the cpu")
    library = "bitsandbytes" if name.startswith("bnb-") else "torchao"
    from transformers import BitsAndBytesConfig, TorchAoConfig

    try:
        if library == "torchao":
            from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig

            method = Int8WeightOnlyConfig() if name == "int8" else Int4WeightOnlyConfig()
            return TorchAoConfig(method, modules_to_not_convert=_KEPT)
        import bitsandbytes  # noqa: F401 - transformers would say so much later
    except ImportError as error:
        raise CheckpointError(
            f"quantization {name} needs {library}: pip install {library}"
        ) from error
    if name == "bnb-nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=_KEPT,
        )
    # It would say for every product of every token that it casts to float16, which is its way.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=_KEPT)
