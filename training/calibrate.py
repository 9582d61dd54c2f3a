"""`python -m training.calibrate`: calibrate the confidence of a model.

Asks the model about frames outside of its training data (`training.evaluate`), fits for every kind
of answer a monotone curve from raw confidence to the share of right answers (isotonic regression),
and writes the curves into the model's config.json. Does not change weights. Check the result on
other frames: `training.evaluate` prints the expected calibration error.
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

from sdvlm_core.files import read_json, write_text
from sdvlm_core.model.confidence import KINDS, Calibration
from training.evaluate.evaluation import EVALUATION_ERRORS, Asking, Judging, evaluate
from training.evaluate.outputs import JUDGED, OtherSettingsError

_MIN_ANSWERS_PER_POINT, _MAX_POINTS = 40, 12


def curve(
    raw: npt.NDArray[np.float64], right: npt.NDArray[np.float64]
) -> tuple[list[float], list[float]]:
    """Points (raw, share of right answers) of a monotone curve.

    Answers are grouped by `raw` (N,) into groups of equal size; one added right and one added wrong
    answer per group keep the share away from 0 and 1.
    """
    order = np.argsort(raw, kind="stable")
    groups = np.array_split(order, int(np.clip(len(raw) // _MIN_ANSWERS_PER_POINT, 1, _MAX_POINTS)))
    x = np.array([raw[group].mean() for group in groups])
    share = np.array([(right[group].sum() + 1) / (len(group) + 2) for group in groups])
    weights = np.array([len(group) for group in groups], float)
    rising = isotonic_regression(share, weights=weights).x
    # Interpolation needs increasing `raw`.
    kept = np.concatenate([[True], np.diff(np.round(x, 5)) > 0])
    return np.round(x[kept], 5).tolist(), np.round(rising[kept], 4).tolist()


def fit(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """The curve of every kind of answer in scored rows, in the format of config.json."""
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
    benchmark: Annotated[str, typer.Option(help="Benchmark, as in training.evaluate.")],
    out: Annotated[Path, typer.Option(help="Folder for the answers.")],
) -> None:
    """Fit the confidence of MODEL on a benchmark's answers and store it with the model.

    Example: python -m training.calibrate --model runs/nano/model --benchmark runs/sim9101 \\
    --out runs/calibration
    """
    config = model / "config.json"
    if not config.exists():
        raise typer.BadParameter(f"{model} is no model directory: it has no config.json")
    try:
        evaluate(Asking(str(model), benchmark), Judging(), out)
    except OtherSettingsError as error:
        raise typer.BadParameter(str(error)) from error
    except EVALUATION_ERRORS as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    lines = (out / JUDGED).read_text(encoding="utf-8").splitlines()
    curves = fit([json.loads(line) for line in lines])
    Calibration.from_mapping(curves)
    stored = read_json(config) | {"calibration": curves}
    write_text(config, json.dumps(stored, indent=2, sort_keys=True) + "\n")
    typer.echo(f"{len(lines)} answers; calibrated: {', '.join(curves)}", err=True)


def main() -> None:
    """Entry point of `python -m training.calibrate`."""
    typer.run(calibrate)


if __name__ == "__main__":
    main()
