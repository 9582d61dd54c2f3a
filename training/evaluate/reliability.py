"""Marked answers with their confidence -> calibration error, and how often questions are refused.

Knows how to count; does not know where a confidence comes from (`sdvlm_core.model.confidence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdvlm_core.files import atomic_file
from training.evaluate.report import wilson
from training.evaluate.stated import refuses

BINS = 10
#: Kinds of `sdvlm_core.model.confidence` whose answers are numbers.
NUMBERS = ("count", "distance", "gap", "camera_distance", "difference", "side", "sides")


def reliability(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Expected calibration error and the bins it comes from, of all answers and of numbers.

    The error is the mean distance between confidence and share of right answers over ten bins of
    equal width, weighted by their answers (Guo et al., 2017). Rows without confidence do not count.
    """
    known = [row for row in rows if row.get("confidence") is not None]
    numbers = [row for row in known if row["kind"] in NUMBERS]
    return {"all": _bins(known), "numbers": _bins(numbers)}


def _bins(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    stated = np.array([row["confidence"] for row in rows], float)
    right = np.array([bool(row["correct"]) for row in rows], float)
    place = np.minimum((stated * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        own = place == number
        if own.any():
            bins.append(
                {
                    "answers": int(own.sum()),
                    "confidence": round(float(stated[own].mean()), 4),
                    "right": round(float(right[own].mean()), 4),
                }
            )
    error = sum(b["answers"] * abs(b["confidence"] - b["right"]) for b in bins) / max(1, len(rows))
    return {"ece": round(error, 4), "answers": len(rows), "bins": bins}


def refusals(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How often questions that have no answer, and questions about existing objects, were refused.

    A false premise is a question whose reference is "absent"; an off-domain question one whose
    reference is "refused". Yes/no questions about existence do not count: "there is none" may be
    their right answer.
    """
    false, outside, true = [], [], []
    for row in rows:
        if row["reference"] == "refused":
            outside.append(bool(row["correct"]))
            continue
        refused = row.get("kind") == "absent" or refuses(row.get("answer", ""))
        if row["reference"] == "absent":
            false.append(row.get("kind") == "absent")
        elif row["type"] != "existence":
            true.append(refused)
    found = {"false_premise": _share(false), "real": _share(true)}
    return found | ({"off_domain": _share(outside)} if outside else {})


def _share(refused: list[bool]) -> dict[str, Any]:
    low, high = wilson(sum(refused), len(refused))
    percent = 100 * sum(refused) / max(1, len(refused))
    return {
        "refused": sum(refused),
        "asked": len(refused),
        "percent": round(percent, 2),
        "interval": [round(low, 2), round(high, 2)],
    }


def plot(summary: dict[str, Any], path: Path) -> None:
    """Plot the bins of `reliability`: share of right answers over confidence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    for axes, (name, part) in zip(figure.subplots(1, 2), summary.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        for entry in part["bins"]:
            low, high = (
                end / 100 for end in wilson(entry["right"] * entry["answers"], entry["answers"])
            )
            axes.plot([entry["confidence"]] * 2, [low, high], color="#4878a8", linewidth=1)
        points = [(entry["confidence"], entry["right"]) for entry in part["bins"]]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color="#4878a8")
        axes.set_title(f"{name}: {part['answers']} answers, ECE {part['ece']:.3f}", fontsize=10)
        axes.set_xlabel("confidence")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("share of right answers")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
