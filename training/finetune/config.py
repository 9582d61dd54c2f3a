"""What a fine-tuning run follows from: one yaml file, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.depth_encoding import EncodingSettings

Sharding = Literal["copy", "zero2", "fsdp"]
SHARDING = get_args(Sharding)


@dataclass(frozen=True)
class Config:
    """The keys of a file of training/configs; what has no default must be there.

    Attributes:
        model: name or directory of the LLaVA to start from (`sdvlm_core.model.checkpoint.load`).
        data: folder or file that `training.data.conversations.load` reads.
        split: part of it (train); "" = all.
        out: folder for states, metrics and the adapter.
        encoding: of depth, keys of `EncodingSettings`; {} = the model's own.
        estimator: directory of a depth estimator for pictures without depth; "" = such pictures
            are refused. Asked once, when the data is prepared.
        turns: of a picture: all in one conversation, or each a sample of its own.
        lora_rank, lora_alpha, lora_dropout: on the language model's linear layers only.
        lora_rate, projector_rate: learning rates; the projector is trained in full.
        epochs, batch: passes over the data; conversations an optimiser step, over all processes.
        micro_batch: conversations a forward pass, of one process.
        warmup: part of the steps; then a cosine down to zero.
        weight_decay, max_norm: of AdamW; of the gradient.
        max_length: tokens of a conversation; turns beyond it are left out.
        dtype: of the weights and products; adapters and projector are trained in float32.
        sharding: over processes: a copy of the model each; gradients and optimiser spread (as
            DeepSpeed's ZeRO-2); or weights too (fsdp). The last two by torch's fully_shard.
        gradient_checkpointing: time for memory.
        steps: stop there; 0 = after the last epoch.
        save_every: steps between states to resume from.
        seed: of the order of samples, new weights and dropout.

    Raises:
        ValueError: float16 with a sharding other than copy.
    """

    model: str
    data: str
    out: str
    split: str = "train"
    encoding: dict[str, Any] = field(default_factory=dict)
    estimator: str = ""
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
                "not work on weights that are spread; use bfloat16"
            )

    def recipe(self) -> dict[str, Any]:
        """All that the course of a run follows from; the rest may change when it goes on."""
        return {key: value for key, value in asdict(self).items() if key not in _FREE}

    def settings(self) -> EncodingSettings | None:
        """The depth encoding to train with; None = the model's own."""
        return EncodingSettings.from_mapping(self.encoding) if self.encoding else None


_POSITIVE = (
    "lora_rank", "lora_alpha", "epochs", "batch", "micro_batch", "max_length", "save_every",
)  # fmt: skip
#: Where a state is and how the work is divided; the gradient is the same, but for the order of sums
#: and which dropout is drawn. Not `steps` and `epochs`: the rates follow from them.
_FREE = ("out", "micro_batch", "sharding", "gradient_checkpointing", "save_every")


def read_config(file: Path) -> Config:
    """A configuration from a file.

    Raises:
        ValueError: not readable, or a key is missing, unknown or of another type; names it.
    """
    try:
        stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
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
