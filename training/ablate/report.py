"""Answers of all runs -> the tables, with paired intervals and controls: markdown, JSON, a plot.

Knows the answer files; how to count is `paired`. Does not know models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from safetensors import safe_open

from sdvlm_core.files import atomic_file, write_json, write_text
from training.ablate.config import Config
from training.ablate.paired import METRIC, Interval, Marks, difference, score
from training.ablate.rows import ROWS
from training.ablate.training import BASE, WEIGHT_FILE, Run, answer_files
from training.build.questions import TYPES
from training.evaluate.report import wilson

MARKDOWN, DOCUMENT, PLOT = "ablation.md", "ablation.json", "ablation.png"
#: The scores of the tables, and their types.
SCORES: dict[str, Sequence[str]] = {"macro": TYPES, "metric": METRIC}

_Line = dict[str, Any]


def _lines(file: Path) -> list[_Line]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _parameters(weights: Path) -> int:
    with safe_open(weights, "pt") as stored:
        shapes = [stored.get_slice(name).get_shape() for name in stored.keys()]  # noqa: SIM118
        return sum(int(np.prod(shape)) for shape in shapes)


def _median_seconds(folders: Sequence[Path]) -> float | None:
    """Median seconds of a step; None when no training was long enough for an entry."""
    found = [line["seconds_per_step"] for f in folders for line in _lines(f / "language.jsonl")]
    return float(np.median(found)) if found else None


class _Answers:
    """The answers of a variant: marks by row, over the same frames."""

    def __init__(self, out: Path, config: Config, variant: str) -> None:
        self._out, self._config, self.variant = out, config, variant
        seeds = config.variants[variant].rows["none"]
        first = self.lines(Run(variant, "none", seeds[0]))
        self.frames = list(dict.fromkeys(line["frame"] for line in first))

    def lines(self, run: Run, control: str = "own") -> list[_Line]:
        return _lines(answer_files(self._out, self._config, run)[control])

    def marks(self, name: str, seeds: Sequence[int], control: str = "own") -> Marks:
        runs = [Run(self.variant, name, seed) for seed in seeds]
        return Marks.of([self.lines(run, control) for run in runs], self.frames)

    def controls(self, name: str) -> list[str]:
        files = answer_files(self._out, self._config, Run(self.variant, name, 0))
        return [control for control in files if control != "own"]


def _row(answers: _Answers, out: Path, name: str, seeds: Sequence[int]) -> dict[str, Any]:
    """All figures of a row, against `none` of the same seeds."""
    marks, none = answers.marks(name, seeds), answers.marks("none", seeds)
    folders = [Run(answers.variant, name, seed).folder(out) for seed in seeds]
    first = answers.lines(Run(answers.variant, name, seeds[0]))[0]
    entry: dict[str, Any] = {
        "row": name,
        "says": "the model that all rows start from" if name == BASE else ROWS[name].says,
        "seeds": list(seeds),
        "tokens": first["tokens"],
        "trained_parameters": _parameters(folders[0] / WEIGHT_FILE),
        "seconds_per_step": _median_seconds(folders),
        "per_type": _per_type(marks),
    }
    for kind, types in SCORES.items():
        entry[kind] = score(marks, types).to_mapping()
        entry[f"{kind}_minus_none"] = difference(marks, none, types).to_mapping()
        entry[f"{kind}_minus_none_by_seed"] = [
            round(difference(marks.seed(at), none.seed(at), types).value, 3)
            for at in range(len(seeds))
        ]
    if name != BASE and 0 in seeds:
        entry["controls"] = _controls(answers, name)
    return entry


def _per_type(marks: Marks) -> dict[str, dict[str, Any]]:
    right, asked = marks.right.sum((0, 1)), marks.asked.sum((0, 1))
    return {
        kind: {
            "success": round(100 * right[at] / asked[at], 2),
            "asked": int(asked[at]),
            "interval": [round(end, 2) for end in wilson(right[at], int(asked[at]))],
        }
        for at, kind in enumerate(TYPES)
        if asked[at]
    }


def _controls(answers: _Answers, name: str) -> dict[str, Any]:
    """By control: the scores, and what the control changes, paired by frame; seed 0."""
    own, found = answers.marks(name, [0]), {}
    for control in answers.controls(name):
        changed = answers.marks(name, [0], control)
        found[control] = {
            key: value
            for kind, types in SCORES.items()
            for key, value in (
                (kind, score(changed, types).to_mapping()),
                (f"{kind}_minus_own", difference(changed, own, types).to_mapping()),
            )
        }
    return found


def write_report(out: Path, config_name: str, config: Config) -> dict[str, Any]:
    """Write ablation.json, ablation.md and ablation.png; returns the content of the first."""
    variants = {}
    for variant, values in config.variants.items():
        answers = _Answers(out, config, variant)
        rows = {BASE: values.rows["none"], **values.rows}
        variants[variant] = [_row(answers, out, name, seeds) for name, seeds in rows.items()]
    summary = {"config": config_name, "recipe": asdict(config), "variants": variants}
    write_json(out / DOCUMENT, summary, indent=1)
    parts = [part for name, rows in variants.items() for part in _markdown(name, rows)]
    write_text(out / MARKDOWN, "\n".join(parts) + "\n")
    _plot(variants, out / PLOT)
    return summary


def _cell(stored: dict[str, float], sign: str = "") -> str:
    """A value with its interval; bold if it is a difference whose interval excludes 0."""
    interval = Interval(**stored)
    text = f"{interval.value:{sign}.1f} ({interval.low:{sign}.1f} to {interval.high:{sign}.1f})"
    return f"**{text}**" if sign and interval.excludes_zero else text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _markdown(variant: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    head = ["row", "seeds", "macro", "macro - none", "metric", "metric - none", "by seed"]
    body = []
    for row in rows:
        seeds = " ".join(f"{value:+.1f}" for value in row["metric_minus_none_by_seed"])
        own = row["row"] == "none"
        body.append(
            [
                row["row"],
                str(len(row["seeds"])),
                _cell(row["macro"]),
                "" if own else _cell(row["macro_minus_none"], "+"),
                _cell(row["metric"]),
                "" if own else _cell(row["metric_minus_none"], "+"),
                "" if own else seeds,
            ]
        )
    lines = [f"## {variant}", "", *_table(head, body)]
    cost = [
        [
            row["row"],
            str(row["tokens"]),
            f"{row['trained_parameters']:,}",
            "-" if row["seconds_per_step"] is None else f"{row['seconds_per_step']:.2f}",
        ]
        for row in rows
    ]
    lines += _table(["row", "tokens", "trained parameters", "s/step"], cost)
    types = [
        [row["row"], *(f"{row['per_type'][k]['success']:.1f}" for k in row["per_type"])]
        for row in rows
    ]
    lines += _table(["row", *rows[0]["per_type"]], types)
    return [*lines, *_control_tables(rows)]


def _control_tables(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What each control changes in the metric score and in the macro; seed 0."""
    asked = [row for row in rows if row.get("controls")]
    lines = []
    for kind in ("metric", "macro") if asked else ():
        known = list(dict.fromkeys(control for row in asked for control in row["controls"]))
        body = [
            [
                row["row"],
                *(
                    _cell(row["controls"][c][f"{kind}_minus_own"], "+")
                    if c in row["controls"]
                    else ""
                    for c in known
                ),
            ]
            for row in asked
        ]
        lines += [f"Change of the {kind} score under a control (seed 0):", ""]
        lines += _table(["row", *known], body)
    return lines


def _plot(variants: dict[str, list[dict[str, Any]]], path: Path) -> None:
    rows = [(v, row) for v, all_rows in variants.items() for row in all_rows]
    rows = [(v, row) for v, row in rows if row["row"] != "none"]
    figure = Figure(figsize=(9, 0.32 * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color="#999999", linewidth=1)
    for at, (_, row) in enumerate(rows):
        interval = Interval(**row["metric_minus_none"])
        axes.plot([interval.low, interval.high], [at, at], color="#4878a8", linewidth=2)
        axes.plot(interval.value, at, "o", color="#4878a8", label="all seeds" if not at else None)
        seeds = row["metric_minus_none_by_seed"]
        axes.plot(
            seeds, [at] * len(seeds), "|", color="#c0764a", label="a seed" if not at else None
        )
    axes.set_yticks(range(len(rows)), [f"{row['row']} ({variant})" for variant, row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("metric score minus that of none, points (95 % interval over frames)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
