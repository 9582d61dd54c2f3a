"""config.json of a model directory -> LlavaConfig, checked before memory is taken.

A model comes from a stranger. Sizes and counts have bounds, and the architecture may not have many
more parameters than the weight files hold. Does not load weights, and does not know devices.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaConfig

from sdvlm_core.errors import CheckpointError, shown
from sdvlm_core.files import read_json
from sdvlm_core.model import weight_files
from sdvlm_core.model.backbones.llava import DepthEncodedLlava, calibration, encoding_settings

#: Largest size of the JSON files of a model, bytes; a vocabulary of 256,000 words takes 35 MB.
_MAX_BYTES = {
    "config.json": 1 << 22,
    "generation_config.json": 1 << 22,
    "tokenizer_config.json": 1 << 24,
    "special_tokens_map.json": 1 << 24,
    "tokenizer.json": 1 << 28,
}
# Part of the config -> integer -> smallest and largest value.
_BOUNDS: dict[str, dict[str, tuple[int, int]]] = {
    "vision_config": {
        "image_size": (1, 8192),
        "patch_size": (1, 1024),
        "num_hidden_layers": (1, 1000),
        "num_attention_heads": (1, 1024),
        "hidden_size": (1, 1 << 16),
        "intermediate_size": (1, 1 << 20),
    },
    "text_config": {
        "num_hidden_layers": (1, 1000),
        "num_attention_heads": (1, 1024),
        "hidden_size": (1, 1 << 16),
        "intermediate_size": (1, 1 << 20),
        "vocab_size": (1, 1 << 22),
        "max_position_embeddings": (1, 1 << 30),
    },
}
# The parameters of the architecture, relative to the numbers in the weight files. Above 1 because
# tied weights are stored once, and 4-bit weights are stored in bytes.
_MAX_PARAMETER_RATIO, _FREE_PARAMETERS = 4, 1_000_000


def check_sizes(directory: Path) -> None:
    """Raise CheckpointError if a JSON file of the directory is larger than any real one."""
    for name, limit in _MAX_BYTES.items():
        path = directory / name
        if path.exists() and path.stat().st_size > limit:
            raise CheckpointError(
                f"{path} has {path.stat().st_size} bytes; at most {limit} are read"
            )


def read_config(directory: Path) -> LlavaConfig:
    """The configuration of a model directory.

    Raises:
        CheckpointError: a value is impossible, or the weight files hold far fewer numbers than the
            architecture; states the value. Exceptions of transformers pass through.
    """
    check_sizes(directory)
    stored = read_json(directory / "config.json", CheckpointError)
    if stored.get("model_type") != "llava":
        raise CheckpointError(
            f"{directory} has the model_type {stored.get('model_type')!r}, not 'llava'"
        )
    config = LlavaConfig.from_pretrained(directory, local_files_only=True)
    # Reads both now, so that a bad value fails here and not at the first frame.
    encoding_settings(config), calibration(config)
    try:
        files = weight_files.list_files(directory)
        shapes = [shape for path in files for shape in weight_files.shapes(path).values()]
    except CheckpointError as error:
        raise CheckpointError(f"{directory} does not load: {error}") from error
    check_architecture(config, len(shapes))
    held = sum(math.prod(shape) for shape in shapes)
    with torch.device("meta"):
        wanted = sum(parameter.numel() for parameter in DepthEncodedLlava(config).parameters())
    if wanted > _MAX_PARAMETER_RATIO * held + _FREE_PARAMETERS:
        raise CheckpointError(
            f"config.json describes {wanted} parameters; the weight files hold {held}"
        )
    return config


def check_architecture(config: LlavaConfig, tensors: int) -> None:
    """Raise CheckpointError if a size or a count is impossible, before a module is made.

    tensors: number of tensors in the weight files; every layer has at least one.
    """
    for part, bounds in _BOUNDS.items():
        for name, (low, high) in bounds.items():
            value = getattr(getattr(config, part), name, None)
            _check_integer(f"{part}.{name}", value, low, high)
    vision, text = config.vision_config, config.text_config
    _check_integer("vision_config.patch_size", vision.patch_size, 1, vision.image_size)
    _check_integer("image_token_index", config.image_token_id, 0, text.vocab_size - 1)
    chosen, depth = config.vision_feature_layer, vision.num_hidden_layers
    for layer in chosen if isinstance(chosen, (list, tuple)) else (chosen,):
        _check_integer("vision_feature_layer", layer, -depth - 1, depth)
    layers = depth + text.num_hidden_layers
    if layers > tensors:
        raise CheckpointError(
            f"config.json states {layers} layers; the weight files hold {tensors} tensors"
        )


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise CheckpointError(
            f"config.json: {name} is {shown(repr(value), 60)}; it must be an integer from {low} to "
            f"{high}"
        )
