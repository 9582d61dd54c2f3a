"""Probabilities of an answer's tokens -> how likely the answer is right.

`raw` is what the model believes of its own words. `Calibration` maps it to the share of answers
that were right among those with the same belief, kind of answer by kind; `training.calibrate` fits
it on frames that training never saw, and it travels in the model's config.json as `calibration`.
Right is what the rules of MSMU-Bench call right (docs/definitions.md). Knows neither models nor
files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sdvlm_core.answer import Kind, Measurement
from sdvlm_core.errors import CheckpointError
from sdvlm_core.language.reading import Reading

#: Kinds of answers, each with a curve of its own.
KINDS = ("absent", "place", "count", "distance", "side", "sides", "words")
#: Digits of a number that count: the third is smaller than what still is right.
_DIGITS = 2


def kind_of(reading: Reading, measurements: Sequence[Measurement]) -> str:
    """Which of `KINDS` an answer is."""
    if reading.absent:
        return "absent"
    if reading.image_points:
        return "place"
    if not measurements:
        return "words"
    if measurements[0].kind == Kind.COUNT:
        return "count"
    if measurements[0].kind == Kind.DISTANCE:
        return "distance"
    return "side" if len(measurements) == 1 else "sides"


def raw(pieces: Sequence[str], probabilities: Sequence[float]) -> float:
    """Geometric mean probability of what decides the answer; NaN without tokens.

    That is the first two significant digits of its numbers with the zeros before them; all tokens
    where it has no number.

    Args:
        pieces: the text of each token.
        probabilities: what each token was given, in (0, 1].
    """
    deciding = []
    significant = 0
    for piece, probability in zip(pieces, probabilities, strict=True):
        digits = [character for character in piece if character.isdigit()]
        if not digits:
            if piece.strip() != ".":
                significant = 0
            continue
        if significant < _DIGITS:
            deciding.append(probability)
        significant += sum(1 for digit in digits if significant or digit != "0")
    chosen = deciding or probabilities
    if not chosen:
        return math.nan
    return math.exp(sum(math.log(max(p, 1e-12)) for p in chosen) / len(chosen))


@dataclass(frozen=True)
class Calibration:
    """Curves from raw confidence to the share of right answers.

    Attributes:
        curves: kind -> (raw, right): points of a line that is straight between them and level
            beyond, raw increasing, both in [0, 1]. A kind without a curve keeps its raw value.
    """

    curves: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, stored: Any) -> Calibration:
        """Read `calibration` of a config.json: {kind: {"raw": [...], "right": [...]}}.

        Raises:
            CheckpointError: it is something else; says what.
        """
        curves = {}
        try:
            for kind, curve in dict(stored).items():
                points = tuple(tuple(float(v) for v in curve[name]) for name in ("raw", "right"))
                x, y = points
                inside = all(0 <= value <= 1 for value in (*x, *y))
                if kind not in KINDS or len(x) != len(y) or not x or not inside:
                    raise ValueError(f"{kind}: {curve}")
                if any(b <= a for a, b in pairwise(x)):
                    raise ValueError(f"{kind}: raw does not increase")
                curves[kind] = (x, y)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"calibration in config.json: {error}") from error
        return cls(curves)

    def __call__(self, kind: str, value: float) -> float:
        """How likely an answer of a kind with this raw confidence is right; NaN stays NaN."""
        if kind not in self.curves or math.isnan(value):
            return value
        x, y = self.curves[kind]
        if value <= x[0]:
            return y[0]
        for left in range(len(x) - 1):
            if value <= x[left + 1]:
                part = (value - x[left]) / (x[left + 1] - x[left])
                return y[left] + part * (y[left + 1] - y[left])
        return y[-1]
