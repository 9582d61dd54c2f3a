"""The settings of an ablation: one yaml file, checked. Does not know models or data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from training.ablate.rows import ROWS


@dataclass(frozen=True)
class Config:
    """A file of training/configs/ablation*.yaml.

    Attributes:
        out: folder of the ablation.
        train, test: scenes, seed and width of training.simulate.
        base_steps: steps of the base model without depth; all rows start from it.
        steps: steps of every row.
        rate: factor on the base's learning rates.
        rows: seeds by row.
        controls: what rows that see depth are also asked under; seed 0.
        blind: ask the row `none` about grey images; seed 0.
    """

    out: str
    train: dict[str, int]
    test: dict[str, int]
    base_steps: int
    steps: int
    rate: float
    rows: dict[str, list[int]]
    controls: list[str]
    blind: bool

    def recipe(self) -> dict[str, object]:
        """The settings that must be the same to resume; rows and controls may be added."""
        fixed = ("train", "test", "base_steps", "steps", "rate")
        return {key: getattr(self, key) for key in fixed}


def read_config(file: Path) -> Config:
    """The configuration, checked.

    Raises:
        ValueError: a key is missing or unknown, or a row does not exist.
    """
    stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    wanted = {field.name for field in fields(Config)}
    if not isinstance(stored, dict) or set(stored) != wanted:
        differing = sorted(wanted ^ set(stored or ()))
        raise ValueError(f"{file}: keys missing or unknown: {', '.join(differing)}")
    unknown = set(stored["rows"]) - set(ROWS)
    if unknown:
        raise ValueError(f"{file}: no such rows: {sorted(unknown)}; known: {', '.join(ROWS)}")
    return Config(**stored)
