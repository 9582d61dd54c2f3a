"""Name or path -> a model on a device, offline.

Knows where models live and how to put one together; refuses what is absent or incomplete and says
what to do. Never downloads, never runs code that comes with a checkpoint, never reads pickles.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, LlavaConfig

from sdvlm_core.convert import read_json
from sdvlm_core.errors import CheckpointError
from sdvlm_core.model import DepthEncodedLlava, encoding_settings
from sdvlm_core.prompt import Template, template

NANO = "nano"
NANO_DIRECTORY = Path(__file__).parent / "assets" / "nano"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model ready to run, with what belongs to it."""

    model_id: str
    model: DepthEncodedLlava
    tokenizer: Any
    prompt_template: Template
    device: torch.device


def _directory(name: str) -> Path:
    if name == NANO:
        return NANO_DIRECTORY
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise CheckpointError(
            f"there is no model directory {name}; give {NANO!r}, a directory with config.json and "
            "*.safetensors, or a hub id such as owner/name that is already in the local cache"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"{name} is neither a directory nor in the local model cache, and nothing is "
            f"downloaded while answering: {error}"
        ) from error


def resolve_device(device: str) -> torch.device:
    """`auto` = CUDA when there is one, else the CPU; anything else as torch names it.

    Raises:
        CheckpointError: the named device does not exist here. There is no silent fall-back.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise CheckpointError(f"{device!r} is not a device: {error}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(f"device {device!r} was asked for, but torch sees no CUDA here")
    return chosen


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` = float16 on CUDA and float32 on the CPU, where half precision is slower."""
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if dtype not in _DTYPES:
        raise CheckpointError(f"dtype must be auto or one of {sorted(_DTYPES)}, got {dtype!r}")
    return _DTYPES[dtype]


def _refuse_release(directory: Path) -> None:
    """Say what to do with a directory in the layout of the SD-VLM release."""
    path = directory / "config.json"
    if path.exists() and read_json(path).get("model_type") == "llava_llama":
        raise CheckpointError(
            f"{directory} has the layout of the SD-VLM release; convert it once: "
            f"sdvlm convert {directory} OUT_DIR, then use OUT_DIR"
        )


def load_model(directory: Path, device: torch.device, dtype: torch.dtype) -> DepthEncodedLlava:
    """The model of a directory in transformers' layout, complete or not at all.

    Raises:
        CheckpointError: another layout or architecture, missing or surplus weights.
    """
    _refuse_release(directory)
    try:
        config = LlavaConfig.from_pretrained(directory, local_files_only=True)
        encoding_settings(config)  # a bad encoding fails here, not at the first frame
        model, report = DepthEncodedLlava.from_pretrained(
            directory,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{directory} does not load as a LLaVA model: {error}") from error
    for kind, keys in (
        ("lacks weights the model needs", report["missing_keys"]),
        ("has weights of another shape", report["mismatched_keys"]),
        ("has weights the model does not know", report["unexpected_keys"]),
    ):
        if keys:
            raise CheckpointError(f"{directory} {kind}: {sorted(keys)}")
    return model.eval().requires_grad_(False).to(device)


def load(name: str = NANO, device: str = "auto", dtype: str = "auto") -> Checkpoint:
    """Load `nano`, a directory, or a hub id already in the local cache.

    Raises:
        CheckpointError: absent, incomplete, of another architecture, or not safetensors.
    """
    directory = _directory(name)
    where = resolve_device(device)
    _refuse_release(directory)
    needed = ("config.json", "tokenizer.json", "*.safetensors")
    missing = [pattern for pattern in needed if not any(directory.glob(pattern))]
    if missing:
        raise CheckpointError(f"{directory} is not a complete model: {', '.join(missing)} missing")
    model = load_model(directory, where, resolve_dtype(dtype, where))
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"the tokenizer in {directory} does not load: {error}") from error
    form = template(getattr(model.config, "prompt_template", "vicuna_v1"))
    model_id = NANO if directory == NANO_DIRECTORY else name
    return Checkpoint(model_id, model, tokenizer, form, where)
