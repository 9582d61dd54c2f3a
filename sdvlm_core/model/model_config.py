"""config.json of a model directory -> transformers' configuration, checked before memory is taken.

A model comes from a stranger. Sizes and counts have bounds, and the architecture may not have many
more parameters than the weight files hold. Does not load weights, and does not know devices.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from sdvlm_core.errors import CheckpointError, shown
from sdvlm_core.files import read_json
from sdvlm_core.model import weight_files
from sdvlm_core.model.backbones import model_types, settings
from sdvlm_core.model.own_settings import calibration, encoding_settings

PREPROCESSOR = "preprocessor_config.json"
#: Largest size of the JSON files of a model, bytes; a vocabulary of 256,000 words takes 35 MB.
_MAX_BYTES = {
    "config.json": 1 << 22,
    "generation_config.json": 1 << 22,
    "preprocessor_config.json": 1 << 22,
    "processor_config.json": 1 << 22,
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
        "depth": (1, 1000),
        "num_attention_heads": (1, 1024),
        "num_heads": (1, 1024),
        "hidden_size": (1, 1 << 16),
        "out_hidden_size": (1, 1 << 16),
        "intermediate_size": (1, 1 << 20),
        "spatial_merge_size": (1, 64),
        "temporal_patch_size": (1, 64),
        "num_position_embeddings": (1, 1 << 20),
        "window_size": (1, 1 << 20),
    },
    "text_config": {
        "num_hidden_layers": (1, 1000),
        "num_attention_heads": (1, 1024),
        "num_key_value_heads": (1, 1024),
        "head_dim": (1, 1 << 16),
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


def read_config(directory: Path) -> Any:
    """The configuration of a model directory.

    Raises:
        CheckpointError: a value is impossible, or the weight files hold far fewer numbers than the
            architecture; states the value. Exceptions of transformers pass through.
    """
    check_sizes(directory)
    stored = read_json(directory / "config.json", CheckpointError)
    if stored.get("model_type") not in model_types():
        raise CheckpointError(
            f"{directory} has the model_type {shown(repr(stored.get('model_type')), 60)}; "
            f"supported are {', '.join(model_types())}"
        )
    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
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
        model = AutoModelForImageTextToText.from_config(config)
        wanted = sum(parameter.numel() for parameter in model.parameters())
    if wanted > _MAX_PARAMETER_RATIO * held + _FREE_PARAMETERS:
        raise CheckpointError(
            f"config.json describes {wanted} parameters; the weight files hold {held}"
        )
    return config


def read_preprocessor(directory: Path) -> dict[str, Any]:
    """How a model's pictures are prepared, as its directory says; {} = it does not.

    Raises:
        CheckpointError: the file is not a JSON object, or too large.
    """
    check_sizes(directory)
    for name in (PREPROCESSOR, "processor_config.json"):
        if (directory / name).exists():
            stored = read_json(directory / name, CheckpointError)
            return dict(settings.part("image_processor", stored) or stored)
    return {}


def check_architecture(config: Any, tensors: int) -> None:
    """Raise CheckpointError if a size or a count is impossible, before a module is made.

    tensors: number of tensors in the weight files; every layer has at least one.
    """
    vision, text = config.vision_config, config.text_config
    for part, bounds in _BOUNDS.items():
        for name, (low, high) in bounds.items():
            if not hasattr(getattr(config, part), name):
                continue  # another family's
            value = getattr(getattr(config, part), name)
            for one in value if isinstance(value, (list, tuple)) else (value,):
                _check_integer(f"{part}.{name}", one, low, high)
    _check_integer("image_token_id", config.image_token_id, 0, text.vocab_size - 1)
    depth = getattr(vision, "num_hidden_layers", None) or vision.depth
    chosen = getattr(config, "vision_feature_layer", -1)
    for layer in chosen if isinstance(chosen, (list, tuple)) else (chosen,):
        _check_integer("vision_feature_layer", layer, -depth - 1, depth)
    _check_window(text)
    layers = depth + text.num_hidden_layers
    if layers > tensors:
        raise CheckpointError(
            f"config.json states {layers} layers; the weight files hold {tensors} tensors"
        )


def _check_window(text: Any) -> None:
    """Raise CheckpointError if the cache would keep fewer tokens than the layers attend to.

    transformers' cache follows these keys for any architecture, also for one without them.
    """
    for name in ("sliding_window", "attention_chunk_size"):
        value = getattr(text, name, None)
        if value is None:
            continue
        _check_integer(f"text_config.{name}", value, 2, 1 << 30)
        if not hasattr(type(text)(), name):
            raise CheckpointError(
                f"config.json: text_config.{name} is {value}; {text.model_type} has no such key"
            )


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise CheckpointError(
            f"config.json: {name} is {shown(repr(value), 60)}; it must be an integer from {low} to "
            f"{high}"
        )
