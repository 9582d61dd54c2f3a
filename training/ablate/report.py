"""Answers of all rows -> the table, with intervals and controls, as markdown, JSON and a plot.

Knows the answer files and how to count; does not know models.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from safetensors import safe_open

from sdvlm_core.files import atomic_file, write_json, write_text
from training.ablate.config import Config
from training.ablate.rows import ROWS
from training.build.questions import TYPES
from training.evaluate.report import summarise

MARKDOWN, DOCUMENT, PLOT = "ablation.md", "ablation.json", "ablation.png"


def _success(file: Path) -> dict[str, Any]:
    return summarise([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()])


def _parameters(weights: Path) -> int:
    with safe_open(weights, "pt") as stored:
        # Tied weights are stored under both names.
        names = [name for name in stored.keys() if name != "lm_head.weight"]  # noqa: SIM118
        return sum(int(np.prod(stored.get_slice(name).get_shape())) for name in names)


def _step_seconds(metrics: Path) -> float | None:
    """Median seconds of a step; None when the training was too short for an entry."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return float(np.median([line["seconds_per_step"] for line in lines])) if lines else None


def write_report(out: Path, config_name: str, config: Config) -> dict[str, Any]:
    """Write ablation.json, ablation.md and ablation.png; returns the content of the first."""
    rows = []
    for name, seeds in config.rows.items():
        for seed in seeds:
            folder = out / f"{name}-{seed}"
            first = (folder / "own.jsonl").read_text(encoding="utf-8").split("\n", 1)[0]
            answers = sorted(folder.glob("*.jsonl"))
            rows.append(
                {
                    "row": name,
                    "seed": seed,
                    "says": ROWS[name].says,
                    "tokens": json.loads(first)["tokens"],
                    "parameters": _parameters(folder / "model.safetensors"),
                    "seconds_per_step": _step_seconds(folder / "language.jsonl"),
                    "shown": {
                        file.stem: _success(file) for file in answers if file.stem != "language"
                    },
                }
            )
    summary = {"config": config_name, "recipe": asdict(config), "rows": rows}
    write_json(out / DOCUMENT, summary, indent=1)
    write_text(out / MARKDOWN, _markdown(rows, config.controls))
    _plot(rows, config.controls, out / PLOT)
    return summary


def _cell(result: dict[str, Any], kind: str = "macro") -> str:
    """A percentage with its interval, of one type or of their mean."""
    low, high = result["intervals"][kind]
    value = result["macro"] if kind == "macro" else result["per_type"][kind]["success"]
    return f"{value:.1f} ({low:.0f}-{high:.0f})"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _markdown(rows: list[dict[str, Any]], known: list[str]) -> str:
    lines = ["| row | seed | macro | tokens | parameters | s/step |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['row']} | {row['seed']} | {_cell(row['shown']['own'])} | {row['tokens']} | "
            f"{row['parameters']:,} | {_seconds(row['seconds_per_step'])} |"
        )
    lines += ["", f"| row | seed | {' | '.join(TYPES)} |", "|---" * (2 + len(TYPES)) + "|"]
    for row in rows:
        own = row["shown"]["own"]
        cells = [_cell(own, kind) if kind in own["per_type"] else "-" for kind in TYPES]
        lines.append(f"| {row['row']} | {row['seed']} | {' | '.join(cells)} |")
    controls = [c for c in known if any(c in row["shown"] for row in rows)]
    lines += ["", f"| row | own | {' | '.join(controls)} |", "|---" * (2 + len(controls)) + "|"]
    for row in rows:
        if any(control in row["shown"] for control in controls):
            shown = [_cell(row["shown"][key]) for key in ("own", *controls)]
            lines.append(f"| {row['row']} | {' | '.join(shown)} |")
    for row in rows:
        if "blind" in row["shown"]:
            lines += ["", f"Blind (grey picture, row {row['row']}): {_cell(row['shown']['blind'])}"]
    return "\n".join(lines) + "\n"


def _plot(rows: list[dict[str, Any]], controls: list[str], path: Path) -> None:
    figure = Figure(figsize=(10, 0.32 * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for at, row in enumerate(rows):
        own = row["shown"]["own"]
        low, high = own["intervals"]["macro"]
        axes.plot([low, high], [at, at], color="#4878a8", linewidth=2)
        axes.plot(own["macro"], at, "o", color="#4878a8", label="own depth" if at == 0 else None)
        for number, control in enumerate(controls):
            if control in row["shown"]:
                axes.plot(
                    row["shown"][control]["macro"],
                    at,
                    "x+1234|"[number % 7],
                    color="#c0764a",
                    label=control if row["row"] == "xyz" else None,
                )
    axes.set_yticks(range(len(rows)), [f"{row['row']}, seed {row['seed']}" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("macro success, % (95 % interval)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
