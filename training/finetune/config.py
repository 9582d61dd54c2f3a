"""The settings of a fine-tuning run: one yaml file, checked before anything is loaded.

Does not know models or data.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import yaml

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.depth_encoding import EncodingSettings
from training.finetune.depth_choice import Depth

Sharding = Literal["copy", "zero2", "fsdp"]
SHARDING = get_args(Sharding)


@dataclass(frozen=True)
class Config:
    """The keys of a file of training/configs; a key without a default is required.

    Attributes:
        model: name or directory of the model to start from (`sdvlm_core.model.checkpoint.load`).
        data: folder or file that `training.data.conversations.load` reads, or its URL; a run is
            resumed wherever the same data is.
        split: part of it (train); "" = all.
        out: folder for checkpoints, metrics and the result.
        encoding: depth encoding, keys of `EncodingSettings`; {} = that of the model.
        preprocessor: keys that replace those of the model's preprocessor_config.json, such as
            Qwen's max_pixels; kept with the result.
        depth: the depth of an image: that of its sensor (sensor), an estimator's (estimated, as
            SD-VLM is published), or one of the two, half of the images each (mixed).
        estimator: directory of a depth estimator, for `depth`, and for images without depth; "" =
            such images are refused. It runs once, when the data is prepared.
        thoughts: accepted chains of thought take the place of the short answers to their questions
            (`training.finetune.thoughts`), as in SD-VLM's best published row.
        without_depth: share of the conversations, drawn in each step, that are shown without depth,
            so that an `optional` encoding learns to answer without it.
        turns: the questions about an image are one conversation (packed), or a sample each.
        lora_rank, lora_alpha, lora_dropout: on the language model's linear layers only. Rank 0 =
            no adapters: image encoder, projector and language model train in full, and the result
            is a whole model.
        lora_rate, projector_rate: learning rates. The projector is trained in full; the first is
            that of the adapters, or of all the rest where the rank is 0.
        epochs: passes over the data.
        batch: conversations per optimiser step, over all processes.
        micro_batch: conversations per forward pass of one process.
        warmup: share of the steps with a rising rate; then a cosine down to zero.
        weight_decay, max_norm: weight decay of AdamW; maximum norm of the gradient.
        max_length: tokens of a conversation; turns beyond it are left out.
        dtype: type of frozen weights and products; adapters and projector train in float32.
        sharding: a copy of the model per process (copy); gradients and optimiser state sharded
            (zero2); weights too (fsdp). The last two by torch's fully_shard.
        gradient_checkpointing: saves memory, costs time.
        steps: stop after so many; 0 = after the last epoch.
        save_every: steps between checkpoints.
        seed: seed of the order of samples, new weights and dropout.

    Raises:
        ValueError: float16 with a sharding other than copy, or estimated depth without an
            estimator.
    """

    model: str
    data: str
    out: str
    split: str = "train"
    encoding: dict[str, Any] = field(default_factory=dict)
    preprocessor: dict[str, Any] = field(default_factory=dict)
    depth: Depth = "sensor"
    estimator: str = ""
    thoughts: bool = False
    without_depth: float = 0.0
    turns: Literal["packed", "single"] = "packed"
    lora_rank: int = 128
    lora_alpha: int = 256
    lora_dropout: float = 0.05
    lora_rate: float = 2e-4
    projector_rate: float = 2e-5
    epochs: int = 1
    batch: int = 32
    micro_batch: int = 4
    warmup: float = 0.03
    weight_decay: float = 0.0
    max_norm: float = 1.0
    max_length: int = 6144
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    sharding: Sharding = "copy"
    gradient_checkpointing: bool = True
    steps: int = 0
    save_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype == "float16" and self.sharding != "copy":
            raise ValueError(
                f"dtype float16 needs sharding copy, not {self.sharding}: its loss scaling does "
                "not work on sharded weights; use bfloat16"
            )
        if self.depth != "sensor" and not self.estimator:
            raise ValueError(f"depth {self.depth} needs the key estimator, a directory")

    def recipe(self) -> dict[str, Any]:
        """The settings that must be the same to resume; the others may change."""
        return {key: value for key, value in asdict(self).items() if key not in _FREE}

    def settings(self) -> EncodingSettings | None:
        """The depth encoding to train with; None = the model's own."""
        return EncodingSettings.from_mapping(self.encoding) if self.encoding else None


_POSITIVE = ("lora_alpha", "epochs", "batch", "micro_batch", "max_length", "save_every")
#: They leave the gradient as it is, up to the order of sums and the dropout drawn. `steps` and
#: `epochs` are not among them: the learning rates depend on both.
_FREE = ("data", "out", "micro_batch", "sharding", "gradient_checkpointing", "save_every")


def sharding_of(value: str) -> Sharding:
    """A value of `sharding`.

    Raises:
        ValueError: not one of `SHARDING`.
    """
    if value not in SHARDING:
        raise ValueError(f"sharding is one of {SHARDING}, not {value!r}")
    return cast(Sharding, value)


def read_config(file: Path) -> Config:
    """A configuration from a file.

    Raises:
        ValueError: unreadable, or a key is missing, unknown or of the wrong type; names it.
    """
    try:
        stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} is unreadable: {error}") from error
    if not isinstance(stored, dict):
        raise ValueError(f"{file}: expected keys and values")
    types = get_type_hints(Config)
    names = [item.name for item in fields(Config)]
    unknown = [key for key in stored if key not in names]
    if unknown:
        raise ValueError(f"{file}: unknown keys {unknown}; known: {', '.join(names)}")
    values = {key: _checked(file, key, value, types[key]) for key, value in stored.items()}
    missing = [key for key in ("model", "data", "out") if key not in values]
    if missing:
        raise ValueError(f"{file}: missing {', '.join(missing)}")
    try:
        config = Config(**values)
        config.settings()
    except (ValueError, CheckpointError) as error:
        raise ValueError(f"{file}: {error}") from error
    for key in _POSITIVE:
        if getattr(config, key) < 1:
            raise ValueError(f"{file}: {key} must be at least 1")
    if not 0 <= config.without_depth <= 1:
        raise ValueError(f"{file}: without_depth must be from 0 to 1")
    if config.lora_rank < 0:
        raise ValueError(f"{file}: lora_rank must be at least 0")
    return config


def _checked(file: Path, key: str, value: Any, wanted: Any) -> Any:
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise ValueError(f"{file}: {key} is one of {get_args(wanted)}, not {value!r}")
        return value
    plain = get_origin(wanted) or wanted
    if plain is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise ValueError(f"{file}: {key} must be {plain.__name__}, got {value!r}")
    return value
