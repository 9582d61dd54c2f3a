"""Scores of measured answers: how many are right, silently wrong, warned, and within their errors.

Shared by the benchmarks of geometry (`real_frames`, `simulated_geometry`) and by the calibration of
the standard deviations (`calibrate_uncertainty`). Knows answers with their true values; does not
know frames or how anything is measured.

- right: the ratio of measured and true value is below 1.25 (the rule of MSMU-Bench). A gap shorter
  than 0.06 m is right within its tolerance, because a ratio of two small numbers means little.
- silent: wrong without a warning, as a share of all answers.
- risk: the share of wrong answers among the warned ones over that among the others.
- 1 sd, 90 %: share of the true values within one std_dev and within the 90 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sdvlm_core.cautions import Caution
from sdvlm_core.geometry.uncertainty import Spread

#: The quantities, in the order of the tables.
TYPES = ("height", "size", "length", "width", "distance", "gap", "camera_distance")
#: Gaps shorter than this are judged by their tolerance, metres.
SMALL_GAP_M = 0.06
_MAX_RATIO = 1.25
_ALL = "all"


@dataclass(frozen=True)
class Answer:
    """One question with its true and its measured value; metres.

    Attributes:
        type: one of TYPES.
        situations: what makes the object or pair difficult; the answer counts in each.
        value: NaN if nothing was measured.
        spread: its error.
        tolerance: of a small gap.
        warnings: those of the targets and of the pair.
        independent: the true value is the quantity itself, not that of the visible surface, so that
            the coverage of the errors can be judged.
        frame: name of the frame.
        about: objects and source of the true value, to print.
    """

    type: str
    situations: tuple[str, ...]
    truth: float
    value: float
    spread: Spread
    tolerance: float
    warnings: frozenset[Caution]
    frame: str
    about: str
    independent: bool = True

    @property
    def right(self) -> bool:
        """Whether the value can be relied on; False if nothing was measured."""
        if self.type == "gap" and self.truth < SMALL_GAP_M and math.isfinite(self.tolerance):
            return abs(self.value - self.truth) <= self.tolerance
        if not self.value > 0:
            return False
        return max(self.value / self.truth, self.truth / self.value) < _MAX_RATIO

    @property
    def covered(self) -> bool:
        """The true value is within one std_dev."""
        return abs(self.value - self.truth) <= self.spread.std_dev

    @property
    def covered_90(self) -> bool:
        """The true value is within the 90 % interval."""
        low, high = self.spread.interval_90(self.value)
        return low <= self.truth <= high


@dataclass(frozen=True)
class Score:
    """Shares of some answers; NaN where there is no answer to judge."""

    n: int
    right: float
    silent: float
    warned: float
    right_unwarned: float
    right_warned: float
    risk: float
    n_covered: int
    covered: float
    covered_90: float


def score(answers: Sequence[Answer]) -> Score:
    """The score of some answers. The coverage counts the independent ones with a value."""
    warned = [one for one in answers if one.warnings]
    unwarned = [one for one in answers if not one.warnings]
    judged = [one for one in answers if one.independent and math.isfinite(one.value)]
    wrong_warned, wrong_unwarned = (_share(some, _wrong) for some in (warned, unwarned))
    return Score(
        n=len(answers),
        right=_share(answers, lambda one: one.right),
        silent=_share(answers, lambda one: not one.right and not one.warnings),
        warned=_share(answers, lambda one: bool(one.warnings)),
        right_unwarned=1 - wrong_unwarned,
        right_warned=1 - wrong_warned,
        risk=_ratio(wrong_warned, wrong_unwarned),
        n_covered=len(judged),
        covered=_share(judged, lambda one: one.covered),
        covered_90=_share(judged, lambda one: one.covered_90),
    )


def print_scores(splits: dict[str, Sequence[Answer]], console: Console) -> None:
    """Tables by quantity, by situation and by warning; the splits are beside each other."""
    every = [one for answers in splits.values() for one in answers]
    types = [kind for kind in TYPES if any(one.type == kind for one in every)]
    situations = sorted({name for one in every for name in one.situations})
    if len(splits) > 1:
        console.print("in each cell: " + " | ".join(splits))
    console.print(_score_table("quantity", types, lambda one: (one.type,), splits))
    console.print(_score_table("situation", situations, lambda one: one.situations, splits))
    console.print(_warning_table(splits))


def document(splits: dict[str, Sequence[Answer]]) -> dict[str, Any]:
    """The scores by split and quantity, for the line of JSON; NaN where nothing can be judged."""
    return {
        name: {
            kind: {key: round(value, 4) for key, value in vars(score(some)).items()}
            for kind, some in _groups(answers, lambda one: (_ALL, one.type)).items()
        }
        for name, answers in splits.items()
    }


def _score_table(
    title: str,
    rows: Iterable[str],
    names: Callable[[Answer], tuple[str, ...]],
    splits: dict[str, Sequence[Answer]],
) -> Table:
    table = Table(box=None)
    table.add_column(title)
    for name in ("n", "right %", "silent %", "warned %", "right % unwarned", "warned", "risk"):
        table.add_column(name, justify="right")
    for name in ("n", "1 sd %", "90 %"):
        table.add_column(name, justify="right")
    grouped = [_groups(answers, names) for answers in splits.values()]
    for row in rows:
        table.add_row(row, *_cells([score(groups.get(row, [])) for groups in grouped]))
    table.add_row(_ALL, *_cells([score(answers) for answers in splits.values()]))
    return table


def _warning_table(splits: dict[str, Sequence[Answer]]) -> Table:
    """For every warning: how many answers have it, and the wrong share with and without it."""
    table = Table(box=None)
    table.add_column("warning")
    for name in ("n", "wrong % with", "without", "risk", "n alone", "wrong % alone"):
        table.add_column(name, justify="right")
    every = [one for answers in splits.values() for one in answers]
    for code in Caution:
        if not any(code in one.warnings for one in every):
            continue
        cells = []
        for answers in splits.values():
            having = [one for one in answers if code in one.warnings]
            alone = [one for one in having if len(one.warnings) == 1]
            wrong = _share(having, _wrong)
            rest = _share([one for one in answers if code not in one.warnings], _wrong)
            cells.append(
                (
                    str(len(having)),
                    _percent(wrong),
                    _percent(rest),
                    f"{_ratio(wrong, rest):.1f}",
                    str(len(alone)),
                    _percent(_share(alone, _wrong)),
                )
            )
        table.add_row(code.value, *(" | ".join(parts) for parts in zip(*cells, strict=True)))
    return table


def _cells(scores: Sequence[Score]) -> list[str]:
    texts = [
        (
            str(one.n),
            _percent(one.right),
            _percent(one.silent, 1),
            _percent(one.warned),
            _percent(one.right_unwarned),
            _percent(one.right_warned),
            f"{one.risk:.1f}",
            str(one.n_covered),
            _percent(one.covered),
            _percent(one.covered_90),
        )
        for one in scores
    ]
    return [" | ".join(parts) for parts in zip(*texts, strict=True)]


def _groups(
    answers: Iterable[Answer], names: Callable[[Answer], tuple[str, ...]]
) -> dict[str, list[Answer]]:
    groups: dict[str, list[Answer]] = {}
    for one in answers:
        for name in names(one):
            groups.setdefault(name, []).append(one)
    return groups


def _wrong(one: Answer) -> bool:
    return not one.right


def _share(answers: Sequence[Answer], holds: Callable[[Answer], bool]) -> float:
    return sum(map(holds, answers)) / len(answers) if answers else math.nan


def _ratio(a: float, b: float) -> float:
    """a / b; infinite over zero, NaN for 0 / 0."""
    if b == 0:
        return math.inf if a > 0 else math.nan
    return a / b


def _percent(share: float, digits: int = 0) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.{digits}f}"
