"""Probabilities of an answer's tokens -> the probability that the answer is right.

`raw` is a mean of token probabilities. `Calibration` maps it, for each kind of answer, to the
fraction of right answers among those with the same raw value. `training.calibrate` fits it on
held-out frames, and it is stored in the model's config.json as `calibration`. An answer is right by
the rules of MSMU-Bench (docs/definitions.md). Does not know models or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sdvlm_core.answer import Measurement, Quantity
from sdvlm_core.errors import CheckpointError
from sdvlm_core.language.reading import Reading

#: Kinds of answers; each has a separate curve.
KINDS = (
    *("absent", "none", "place", "count", "distance", "gap", "camera_distance", "difference"),
    *("side", "sides", "words"),
)
_OF_QUANTITY = {
    Quantity.COUNT: "count",
    Quantity.DISTANCE: "distance",
    Quantity.GAP: "gap",
    Quantity.CAMERA_DISTANCE: "camera_distance",
    Quantity.DIFFERENCE: "difference",
}
#: Significant digits that count: an error in the third is below the tolerance of a right answer.
_SIGNIFICANT_DIGITS = 2


def kind_of(reading: Reading, measurements: Sequence[Measurement]) -> str:
    """Which of `KINDS` an answer is; "none" answers nothing that was asked."""
    if reading.absent:
        return "absent"
    if reading.why_none:
        return "none"
    if reading.image_points:
        return "place"
    if not measurements:
        return "words"
    kind = _OF_QUANTITY.get(measurements[0].kind)
    if kind is not None:
        return kind
    return "side" if len(measurements) == 1 else "sides"


def raw(pieces: Sequence[str], probabilities: Sequence[float]) -> float:
    """Geometric mean probability of the tokens that decide the answer; NaN without tokens.

    These are the first two significant digits of its numbers and the zeros before them; in an
    answer without a number, all tokens.

    Args:
        pieces: the text of each token.
        probabilities: the probability of each token, in (0, 1].
    """
    deciding = []
    significant = 0
    for piece, probability in zip(pieces, probabilities, strict=True):
        digits = [character for character in piece if character.isdigit()]
        if not digits:
            if piece.strip() != ".":
                significant = 0
            continue
        if significant < _SIGNIFICANT_DIGITS:
            deciding.append(probability)
        significant += sum(1 for digit in digits if significant or digit != "0")
    chosen = deciding or probabilities
    if not chosen:
        return math.nan
    return math.exp(sum(math.log(max(p, 1e-12)) for p in chosen) / len(chosen))


@dataclass(frozen=True)
class Calibration:
    """Curves from raw confidence to the fraction of right answers.

    Attributes:
        curves: kind -> (raw, right): points of a piecewise linear curve, constant beyond its ends;
            raw increases, both are in [0, 1]. A kind without a curve keeps its raw value.
    """

    curves: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, stored: Mapping[str, Any]) -> Calibration:
        """Read `calibration` of a config.json: {kind: {"raw": [...], "right": [...]}}.

        Raises:
            CheckpointError: the value has another form; names the wrong part.
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
        """The probability that an answer with this raw value is right; NaN stays NaN."""
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
