"""`python -m training.calibrate`: teach a model what its confidence is worth.

Asks it about frames that training never saw (`training.evaluate`), fits for every kind of answer a
line that never falls from its raw confidence to the share of right answers, and writes the lines
into the model's config.json. Does not change weights. Check the result on other frames:
`training.evaluate` prints the expected calibration error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from scipy.optimize import isotonic_regression

from sdvlm_core.model.confidence import KINDS, Calibration
from training.evaluate import run

#: Answers behind a point of a line, at least; points of a line, at most.
_ANSWERS, _POINTS = 40, 12


def curve(
    raw: npt.NDArray[np.float64], right: npt.NDArray[np.float64]
) -> tuple[list[float], list[float]]:
    """Points (raw, share of right answers) of a line that never falls.

    Groups of neighbours in `raw` (N,) of equal number; one imagined right and one imagined wrong
    answer in each keep a share away from 0 and 1.
    """
    order = np.argsort(raw, kind="stable")
    groups = np.array_split(order, int(np.clip(len(raw) // _ANSWERS, 1, _POINTS)))
    x = np.array([raw[group].mean() for group in groups])
    share = np.array([(right[group].sum() + 1) / (len(group) + 2) for group in groups])
    weights = np.array([len(group) for group in groups], float)
    rising = isotonic_regression(share, weights=weights).x
    # Neighbours that are equal in `raw` would make a step that is no line.
    kept = np.concatenate([[True], np.diff(np.round(x, 5)) > 0])
    return np.round(x[kept], 5).tolist(), np.round(rising[kept], 4).tolist()


def fit(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """The lines of every kind of answer among marked rows, as config.json holds them."""
    curves = {}
    for kind in KINDS:
        own = [r for r in rows if r["kind"] == kind and r["raw_confidence"] is not None]
        if own:
            raw = np.array([row["raw_confidence"] for row in own])
            right = np.array([float(row["correct"]) for row in own])
            x, y = curve(raw, right)
            curves[kind] = {"raw": x, "right": y}
    return curves


def calibrate(
    model: Annotated[Path, typer.Option(help="A model directory; its config.json is rewritten.")],
    benchmark: Annotated[str, typer.Option(help="As in training.evaluate.")],
    out: Annotated[Path, typer.Option(help="Folder for the answers.")],
) -> None:
    """Fit the confidence of MODEL on a benchmark's answers and store it with the model.

    Example: python -m training.calibrate --model runs/nano/model --benchmark runs/sim9101 \\
    --out runs/calibration
    """
    config = model / "config.json"
    if not config.exists():
        raise typer.BadParameter(f"{model} is no model directory: it has no config.json")
    run.evaluate(benchmark=benchmark, out=out, model=str(model))
    lines = (out / run.JUDGED).read_text(encoding="utf-8").splitlines()
    curves = fit([json.loads(line) for line in lines])
    Calibration.from_mapping(curves)
    stored = json.loads(config.read_text(encoding="utf-8")) | {"calibration": curves}
    temporary = config.with_suffix(".tmp")
    temporary.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(config)
    typer.echo(f"{len(lines)} answers; calibrated: {', '.join(curves)}", err=True)


def main() -> None:
    """Entry point of `python -m training.calibrate`."""
    typer.run(calibrate)


if __name__ == "__main__":
    main()
