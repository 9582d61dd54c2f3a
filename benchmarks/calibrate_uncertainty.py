"""Fits the factors of `sdvlm_core.geometry.calibration_table` to true values, and writes the table.

    python benchmarks/calibrate_uncertainty.py ../shared/realdata ../shared/realdata2 \\
        --simulated runs/sim606 runs/develop

Measures the develop split of real frames, as `real_frames` does with `--up`, and simulated frames.
For every kind of depth, key and situation (`uncertainty.Situation`) the factor is the one with
which one std_dev contains 68 % of the true values. The tail, by kind and key, is the one with which
the 90 % interval contains 90 %. Answers of one frame share its errors, so an answer among n of a
frame weighs 1 / sqrt(n). Simulated frames with the errors of a real camera (`--kind geometry`) are
judged with the real frames, but weigh little: they are many, and their errors are a model. A group
of fewer than 30 answers is shrunk towards the group that contains it: the key, then the kind.

Prints the coverage of each group, and the same with each frame's answers judged by factors that
were fitted without that frame. Does not look at held-out frames. Without --simulated, the table's
present rows of simulated depth stay.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `benchmarks`

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import real_frames
from benchmarks.scoring import Answer
from sdvlm_core.geometry import calibration_table
from sdvlm_core.geometry.uncertainty import DISTANCE, GAP, STD_DEV_KEYS, Situation

TABLE = Path(calibration_table.__file__)
KINDS = ("real", "simulated")
KEYS = (*STD_DEV_KEYS, DISTANCE, GAP)
#: A group with this many answers is not shrunk.
_ENOUGH = 30
_WITHIN_STD_DEV, _WITHIN_INTERVAL = 0.68, 0.90
_FOLDS = 20
#: Weight of an answer of a simulated frame with the errors of a real camera; a real one has 1. True
#: sizes of real frames are those of products; true distances come from fitted poses, whose errors
#: simulation lacks.
_SIMULATED_SIZE_WEIGHT, _SIMULATED_WEIGHT = 0.15, 0.05
_SIZE_KEYS = ("length_m", "width_m", "height_m")
#: Smaller values would come from too few answers.
_MIN_SCALE, _MIN_TAIL = 0.3, 1.1
#: The centre's place has no question of its own; it is fitted as the camera distance.
_SAME_AS = {"position_m": "camera_distance_m"}

Scales = dict[tuple[str, str, str], float]
Tails = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Error:
    """One answer's error and its spread before the calibration, metres; and what it weighs."""

    frame: str
    row: tuple[str, str, str]
    error: float
    physical: float
    alternative: float
    weight: float = 1.0

    @property
    def scale(self) -> float:
        """The factor with which the error is one std_dev."""
        return math.sqrt(max(0.0, self.error**2 - self.alternative**2)) / self.physical

    def std_dev(self, scales: Scales) -> float:
        """As `uncertainty.calibrated`."""
        return math.hypot(scales[self.row] * self.physical, self.alternative)

    def half_90(self, scales: Scales, tails: Tails) -> float:
        """As `uncertainty.calibrated`."""
        half = tails[self.row[:2]] * self.std_dev(scales)
        if self.alternative > 0:
            half = max(half, 2 * self.alternative + scales[self.row] * self.physical)
        return half


def errors_of(answers: Iterable[Answer], weight: float = 1.0) -> list[Error]:
    """The errors of the answers whose true values show them."""
    return [
        Error(
            frame=one.frame,
            row=one.spread.row,
            error=abs(one.value - one.truth),
            physical=one.spread.physical,
            alternative=one.spread.alternative,
            weight=weight,
        )
        for one in answers
        if one.independent and math.isfinite(one.value)
    ]


def fitted(errors: Sequence[Error]) -> tuple[Scales, Tails]:
    """The table that the errors of one kind of depth show."""
    kind = errors[0].row[0]
    every = _quantile(errors, lambda one: one.scale, _WITHIN_STD_DEV)
    scales: Scales = {}
    for key in KEYS:
        source = _SAME_AS.get(key, key)
        of_key = [one for one in errors if one.row[1] == source]
        wide = _shrunk(of_key, lambda one: one.scale, _WITHIN_STD_DEV, every)
        for situation in Situation:
            group = [one for one in of_key if one.row[2] == situation.value]
            scale = _shrunk(group, lambda one: one.scale, _WITHIN_STD_DEV, wide)
            scales[kind, key, situation.value] = max(_MIN_SCALE, scale)

    def in_std_devs(one: Error) -> float:
        return one.error / one.std_dev(scales)

    every = _quantile(errors, in_std_devs, _WITHIN_INTERVAL)
    tails: Tails = {}
    for key in KEYS:
        group = [one for one in errors if one.row[1] == _SAME_AS.get(key, key)]
        tail = _shrunk(group, in_std_devs, _WITHIN_INTERVAL, every)
        tails[kind, key] = max(_MIN_TAIL, tail)
    return scales, tails


def _shrunk(
    group: Sequence[Error], value: Callable[[Error], float], level: float, wider: float
) -> float:
    """The quantile of a group, shrunk on the logarithmic scale towards that of a wider group."""
    if not group:
        return wider
    share = min(1.0, sum(one.weight for one in group) / _ENOUGH)
    own = max(_quantile(group, value, level), 1e-3)
    return math.exp(share * math.log(own) + (1 - share) * math.log(max(wider, 1e-3)))


def _quantile(group: Sequence[Error], value: Callable[[Error], float], level: float) -> float:
    """The weighted quantile; of n answers, the next value has rank (n + 1) level (conformal)."""
    in_frame = Counter(one.frame for one in group)
    values = np.array([value(one) for one in group])
    weights = np.array([one.weight / math.sqrt(in_frame[one.frame]) for one in group])
    count = sum(one.weight for one in group)
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum() * count / (count + 1)
    return float(values[order[min(int(np.searchsorted(share, level)), len(group) - 1)]])


def without_the_frame(errors: Sequence[Error]) -> dict[str, tuple[float, float]]:
    """By key, the shares within one std_dev and the 90 % interval, fitted without the frame.

    In at most _FOLDS rounds: many frames are left out together.
    """
    inside: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    frames = sorted({one.frame for one in errors})
    for fold in (set(frames[first::_FOLDS]) for first in range(min(_FOLDS, len(frames)))):
        scales, tails = fitted([one for one in errors if one.frame not in fold])
        for one in errors:
            if one.frame in fold:
                inside[one.row[1]].append(
                    (
                        one.error <= one.std_dev(scales),
                        one.error <= one.half_90(scales, tails),
                    )
                )
    return {
        key: (float(np.mean([a for a, _ in both])), float(np.mean([b for _, b in both])))
        for key, both in inside.items()
    }


def write_table(scales: Scales, tails: Tails, command: str) -> None:
    """Write the module of the table."""
    lines = [
        '"""Factors of the standard deviations, fitted to true values.',
        "",
        "Written by",
        "",
        *(f"    {part}" for part in _wrapped(command)),
        "",
        "Do not edit. Does not know what the rows mean (`uncertainty`).",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "#: std_dev over the sum of the error sources, by kind of depth, key and situation.",
        "SCALES: dict[tuple[str, str, str], float] = {",
        *(f"    {_key(row)}: {scale:.3f}," for row, scale in scales.items()),
        "}",
        "#: Half of the 90 % interval over std_dev, by kind of depth and key.",
        "TAILS: dict[tuple[str, str], float] = {",
        *(f"    {_key(row)}: {tail:.3f}," for row, tail in tails.items()),
        "}",
    ]
    TABLE.write_text("\n".join(lines) + "\n")


def _key(row: tuple[str, ...]) -> str:
    return "(" + ", ".join(f'"{part}"' for part in row) + ")"


def _wrapped(command: str) -> list[str]:
    """The command in lines of at most 90 characters."""
    lines = [""]
    for word in command.split():
        if len(lines[-1]) + len(word) > 88:
            lines[-1] += " \\\\"
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def print_coverage(errors: Sequence[Error], scales: Scales, tails: Tails, console: Console) -> None:
    """The factors with the coverage of each group, in % of its answers."""
    table = Table(box=None)
    for name in ("kind", "key", "situation"):
        table.add_column(name)
    for name in ("n", "factor", "1 sd before", "1 sd", "90 %"):
        table.add_column(name, justify="right")
    ones: Scales = dict.fromkeys(scales, 1.0)
    for row, scale in scales.items():
        group = [one for one in errors if one.row == row]
        if not group:
            continue
        shares = (
            np.mean([one.error <= one.std_dev(ones) for one in group]),
            np.mean([one.error <= one.std_dev(scales) for one in group]),
            np.mean([one.error <= one.half_90(scales, tails) for one in group]),
        )
        percents = (f"{100 * share:.0f}" for share in shares)
        table.add_row(*row, str(len(group)), f"{scale:.2f}", *percents)
    console.print(table)
    for key, (one_sd, interval) in without_the_frame(errors).items():
        console.print(
            f"{errors[0].row[0]} {key}, fitted without the frame: "
            f"1 sd {100 * one_sd:.0f} %, 90 % interval {100 * interval:.0f} %"
        )


def main() -> None:
    """Fit the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="real frames")
    parser.add_argument("--simulated", type=Path, nargs="+", default=[], metavar="DIR")
    parser.add_argument("--frames", type=int, default=200, help="maximum of each simulated folder")
    arguments = parser.parse_args()
    console = Console(width=120)
    errors = errors_of(real_frames.read_answers(arguments.directories, "develop", "turned"))
    if arguments.simulated:
        from benchmarks import simulated_geometry  # needs the packages of training

        for folder in arguments.simulated:
            found = list(simulated_geometry.read_answers(folder, arguments.frames, "turned"))
            errors += errors_of(one for one in found if one.spread.row[0] == "simulated")
            like_real = [one for one in found if one.spread.row[0] == "real"]
            for is_size, weight in ((True, _SIMULATED_SIZE_WEIGHT), (False, _SIMULATED_WEIGHT)):
                some = (one for one in like_real if (one.spread.row[1] in _SIZE_KEYS) == is_size)
                errors += errors_of(some, weight)
    scales: Scales = {}
    tails: Tails = {}
    for kind in KINDS:
        of_kind = [one for one in errors if one.row[0] == kind]
        if of_kind:
            own_scales, own_tails = fitted(of_kind)
            print_coverage(of_kind, own_scales, own_tails, console)
        else:
            own_scales = {row: x for row, x in calibration_table.SCALES.items() if row[0] == kind}
            own_tails = {row: x for row, x in calibration_table.TAILS.items() if row[0] == kind}
        scales |= own_scales
        tails |= own_tails
    write_table(scales, tails, " ".join(["python", *sys.argv]))
    console.print(f"wrote {TABLE}")


if __name__ == "__main__":
    main()
