"""Marked answers -> success per type with intervals, beside the published rows.

Knows how to count; does not know marking rules (`official`, `score`) or models.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from training.build.questions import TYPES

_PUBLISHED = Path(__file__).with_name("published.yaml")
_Z = 1.959964  # two-sided 95 %
_DRAWS = 1000


@dataclass(frozen=True)
class Published:
    """A published row of MSMU-Bench.

    Attributes:
        success: percent per type, as printed.
        printed: the average as printed.
        correct: the numbers of right answers that the percentages imply; None where no whole
            number of right answers gives what is printed.
        asked: the numbers of questions.
    """

    name: str
    success: tuple[float, ...]
    printed: float
    correct: tuple[int | None, ...]
    asked: tuple[int, ...]

    @property
    def recomputed(self) -> float:
        """The mean of the types: from counts, or from the printed percentages without counts."""
        exact = [
            printed if correct is None else 100 * correct / asked
            for printed, correct, asked in zip(self.success, self.correct, self.asked, strict=True)
        ]
        return sum(exact) / len(exact)


@dataclass(frozen=True)
class Other:
    """A run of another party by its own protocol: the mean over types, percent, and its source."""

    name: str
    macro: float
    source: str


@cache
def others() -> tuple[Other, ...]:
    """Runs of MSMU-Bench by other parties than its authors."""
    table = yaml.safe_load(_PUBLISHED.read_text(encoding="utf-8"))
    return tuple(
        Other(name, macro, group["source"])
        for group in table["others"]
        for name, macro in group["rows"].items()
    )


@cache
def published() -> tuple[Published, ...]:
    """The rows of MSMU-Bench's table."""
    table = yaml.safe_load(_PUBLISHED.read_text(encoding="utf-8"))
    asked = tuple(table["asked"])
    rows = []
    for name, (*success, average) in table["rows"].items():
        correct = tuple(_implied(p, n) for p, n in zip(success, asked, strict=True))
        rows.append(Published(name, tuple(success), average, correct, asked))
    return tuple(rows)


def _implied(percent: float, asked: int) -> int | None:
    """The number of right answers that a rounded or truncated percentage implies."""
    nearest = round(percent * asked / 100)
    return nearest if abs(100 * nearest / asked - percent) < 0.0101 else None


def wilson(correct: float, asked: int) -> tuple[float, float]:
    """95 % interval of a share, percent (Wilson's: sensible at 0 and at 1 as well)."""
    if asked == 0:
        return 0.0, 100.0
    share, z2 = correct / asked, _Z * _Z
    middle = (share + z2 / (2 * asked)) / (1 + z2 / asked)
    half = _Z / (1 + z2 / asked) * math.sqrt(share * (1 - share) / asked + z2 / (4 * asked**2))
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def summarise(
    rows: Sequence[dict[str, Any]],
    types: Sequence[str] = TYPES,
    divisor: int = len(TYPES),
    mark: str = "correct",
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """Success per type in percent with counts, and their unweighted mean (`macro`).

    Args:
        rows: dicts with `type`, a bool under `mark`, and `frame` if several rows share a frame.
        types: those of the mean.
        divisor: divisor of the mean; 0 = the number of its types that were asked.
        more: types that are not in the mean.

    The 95 % intervals of types are Wilson's; that of the mean is a bootstrap over whole frames,
    because answers about one frame are not independent.
    """
    per_type, intervals = {}, {}
    for kind in (*types, *more):
        marks = [bool(row[mark]) for row in rows if row["type"] == kind]
        if marks:
            per_type[kind] = {
                "success": round(100 * sum(marks) / len(marks), 2),
                "correct": sum(marks),
                "asked": len(marks),
            }
            intervals[kind] = [round(end, 2) for end in wilson(sum(marks), len(marks))]
    meant = [per_type[kind] for kind in types if kind in per_type]
    over = divisor or max(1, len(meant))
    macro = sum(100 * entry["correct"] / entry["asked"] for entry in meant) / over
    own = [row for row in rows if row["type"] in types]
    intervals["macro"] = _macro_interval(own, types, over, mark)
    return {"macro": round(macro, 2), "per_type": per_type, "intervals": intervals}


def _macro_interval(
    rows: Sequence[dict[str, Any]], types: Sequence[str], divisor: int, mark: str
) -> list[float]:
    frames: dict[Hashable, int] = {}
    whose = [row.get("frame", number) for number, row in enumerate(rows)]
    for frame in whose:
        frames.setdefault(frame, len(frames))
    if not frames:
        return [0.0, 0.0]
    right, asked = (np.zeros((len(frames), len(types))) for _ in range(2))
    for frame, row in zip(whose, rows, strict=True):
        at = frames[frame], types.index(row["type"])
        right[at] += bool(row[mark])
        asked[at] += 1
    rng = np.random.default_rng(0)
    macros = []
    for _ in range(_DRAWS):
        weights = np.bincount(rng.integers(len(frames), size=len(frames)), minlength=len(frames))
        macros.append(100 * np.sum((weights @ right) / np.maximum(weights @ asked, 1)) / divisor)
    return [round(float(end), 2) for end in np.percentile(macros, [2.5, 97.5])]


def markdown(
    summary: dict[str, Any], types: Sequence[str], *, with_published: bool, name: str
) -> str:
    """The tables of one run: both scorings with counts and intervals, then the published rows."""
    lines = ["| type | asked | strict % | 95 % | official % | 95 % |", "|---|---|---|---|---|---|"]
    official = summary["official"]
    for kind in (*summary["per_type"], "macro"):
        cells = [kind, ""]
        if kind != "macro":
            cells[1] = str(summary["per_type"][kind]["asked"])
        for part in (summary, official):
            value = part["macro"] if kind == "macro" else part["per_type"][kind]["success"]
            low, high = part["intervals"][kind]
            cells += [f"{value:.2f}", f"{low:.1f}-{high:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    if summary["failures"]:
        lines += ["", "Counted as wrong and never dropped:", ""]
        lines += [f"- {number} x {why}" for why, number in summary["failures"].items()]
    if with_published:
        lines += ["", *published_table(summary, types, name), "", *others_table()]
    return "\n".join(lines) + "\n"


def published_table(summary: dict[str, Any] | None, types: Sequence[str], name: str) -> list[str]:
    """The published rows, as printed and recomputed, then the row of this run."""
    short = [kind.replace("_estimation", "").replace("_position", "") for kind in types]
    lines = [
        f"| model | {' | '.join(short)} | average as printed | recomputed |",
        "|---" * (len(types) + 3) + "|",
    ]
    for row in published():
        cells = [
            f"{value:.2f}" + ("" if correct is not None else " (*)")
            for value, correct in zip(row.success, row.correct, strict=True)
        ]
        lines.append(
            f"| {row.name} | {' | '.join(cells)} | {row.printed:.2f} | {row.recomputed:.2f} |"
        )
    for label, part in (
        (f"{name}, official rules", (summary or {}).get("official")),
        (f"{name}, strict", summary),
    ):
        if part:
            cells = [
                f"{part['per_type'][kind]['success']:.2f}" if kind in part["per_type"] else "-"
                for kind in types
            ]
            lines.append(f"| {label} | {' | '.join(cells)} | | {part['macro']:.2f} |")
    lines += ["", "(*) no whole number of right answers gives this percentage."]
    return lines


def others_table() -> list[str]:
    """The runs of other parties, each with its source."""
    lines = [
        "Other parties' runs, each by its own protocol: not comparable with the rows above, nor",
        "across sources. The same model differs by 25 points between two of them.",
        "",
        "| model | average | source |",
        "|---|---|---|",
    ]
    return lines + [f"| {row.name} | {row.macro:.2f} | {row.source} |" for row in others()]
