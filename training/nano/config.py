"""The configuration of a training of nano: a YAML file, checked before anything runs.

Knows names, types and bounds of the settings; does not know what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class NanoConfig:
    """One training.

    Attributes:
        data: folder of training.simulate.
        out: folder of checkpoints, logs and the model.
        base: the model that is trained on: "nano" (the installed one) or a directory; "" = a new
            model.
        shards: number of shards of the data that are used, the first ones; 0 = all.
        tower_steps: batches of 40 frames for the vision tower.
        steps: batches for projector and language model.
        batch: frames of each of them, over all processes.
        rate: factor on the learning rates; below 1 with `base`.
    """

    data: Path
    out: Path
    base: str = ""
    shards: int = 0
    tower_steps: int = 4000
    steps: int = 5120
    batch: int = 32
    rate: float = 1.0

    def recipe(self) -> dict[str, Any]:
        """The settings that must be the same to resume."""
        return {key: value for key, value in asdict(self).items() if key not in ("data", "out")}


def read_config(file: Path) -> NanoConfig:
    """A configuration from a file.

    Raises:
        ValueError: unreadable, or a key is missing, unknown, of the wrong type or out of bounds;
            names it.
    """
    try:
        stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} is unreadable: {error}") from error
    if not isinstance(stored, dict):
        raise ValueError(f"{file}: expected keys and values")
    names = [item.name for item in fields(NanoConfig)]
    unknown = [key for key in stored if key not in names]
    missing = [key for key in ("data", "out") if key not in stored]
    if unknown or missing:
        raise ValueError(
            f"{file}: unknown keys {unknown}, missing keys {missing}; known: {', '.join(names)}"
        )
    return _checked(file, stored)


def _checked(file: Path, stored: Mapping[str, Any]) -> NanoConfig:
    for key, value in stored.items():
        if key in ("data", "out", "base"):
            fits, wanted = isinstance(value, str), "text"
        elif key == "rate":
            fits = isinstance(value, (int, float)) and not isinstance(value, bool)
            fits, wanted = fits and 0 < value <= 10, "a number above 0, at most 10"
        else:
            least = 1 if key == "batch" else 0
            whole = isinstance(value, int) and not isinstance(value, bool)
            fits, wanted = whole and value >= least, f"a whole number, at least {least}"
        if not fits:
            raise ValueError(f"{file}: {key} must be {wanted}, got {value!r}")
    return NanoConfig(
        **{**stored, "data": Path(stored["data"]), "out": Path(stored["out"])},
    )
