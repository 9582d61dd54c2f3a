"""The settings of an ablation: one yaml file, checked. Does not know models or data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from training.ablate.rows import ROWS
from training.evaluate.controls import Controls

#: Controls that are none of `training.evaluate`: see `asking`.
OWN_CONTROLS = ("wrong_intrinsics", "other_estimator")


@dataclass(frozen=True)
class Variant:
    """One way of training all rows, each with a base of its own.

    Attributes:
        rows: seeds by row; `none` has every seed, so that each row has its control.
        auxiliary: train with the auxiliary losses (`training.nano.losses`), or on answers alone.
        normalize_features: scale features to unit variance before a code is added.
        asked_under_controls: ask its rows of seed 0 under the controls too.
    """

    rows: Mapping[str, tuple[int, ...]]
    auxiliary: bool = True
    normalize_features: bool = True
    asked_under_controls: bool = False


@dataclass(frozen=True)
class Config:
    """A file of training/configs/ablation*.yaml.

    Attributes:
        data: folder of the simulated frames and of what is computed from them once.
        out: folder of the results; no file of a finished training is above 16 MB.
        train, test: scenes, seed and width of training.simulate.
        batch: frames of a step.
        base_steps: steps of the base model without depth; all rows of a seed start from it.
        steps: steps of every row.
        rate: factor on the base's learning rates.
        variants: by name.
        controls: of the rows that see depth.
        blind: ask the row `none` about grey images.
        workers: trainings at the same time.
    """

    data: str
    out: str
    train: dict[str, int]
    test: dict[str, int]
    batch: int
    base_steps: int
    steps: int
    rate: float
    variants: dict[str, Variant]
    controls: tuple[str, ...] = ()
    blind: bool = True
    workers: int = field(default=2)

    def recipe(self) -> dict[str, Any]:
        """The settings that must be the same to resume; rows, seeds and controls may be added."""
        fixed = ("train", "test", "batch", "base_steps", "steps", "rate")
        variants = {
            name: {key: value for key, value in asdict(one).items() if key != "rows"}
            for name, one in self.variants.items()
        }
        return {key: getattr(self, key) for key in fixed} | {"variants": variants}


def read_config(file: Path) -> Config:
    """The configuration, checked.

    Raises:
        ValueError: a key is missing or unknown, a row or a control does not exist, or a row has a
            seed that `none` lacks.
    """
    stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    optional = ("controls", "blind", "workers")
    _check_keys(file, stored, [item.name for item in fields(Config)], optional)
    variants = {}
    for name, values in stored["variants"].items():
        place = f"{file}, variant {name}"
        known = [item.name for item in fields(Variant)]
        _check_keys(place, values, known, [key for key in known if key != "rows"])
        _check_rows(place, values["rows"])
        rows = {row: tuple(seeds) for row, seeds in values["rows"].items()}
        variants[name] = Variant(**{**values, "rows": rows})
    controls = tuple(stored.get("controls", ()))
    for control in controls:
        if control not in OWN_CONTROLS:
            Controls.parse("own", control, "own")  # raises
    return Config(**{**stored, "variants": variants, "controls": controls})


def _check_keys(place: object, stored: Any, known: list[str], optional: Any) -> None:
    found = set(stored) if isinstance(stored, dict) else set()
    differing = sorted((found - set(known)) | (set(known) - set(optional) - found))
    if differing:
        raise ValueError(f"{place}: keys missing or unknown: {', '.join(differing)}")


def _check_rows(place: str, rows: Mapping[str, list[int]]) -> None:
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise ValueError(f"{place}: no such rows: {unknown}; known: {', '.join(ROWS)}")
    for row, seeds in rows.items():
        if missing := sorted(set(seeds) - set(rows.get("none", []))):
            raise ValueError(f"{place}: row {row} has seeds {missing}, which row none lacks")
