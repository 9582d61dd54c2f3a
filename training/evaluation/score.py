"""The MSMU rules: is an answer in words right?

Judge-free: numbers are read by `sdvlm_core.measurement`, names by looking for the candidates in
the answer. Knows no models and no files.

Rules (SD-VLM's evaluation, with `eval` and the judge replaced): a number is right when
max(p / g, g / p) < 1.25, several when the mean of those ratios is; an image position when the mean
absolute error is at most 0.1; yes, no, "there is none" and names when they are the right ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sdvlm_core.measurement import measurements, parse

MAX_RATIO, MAX_OFFSET = 1.25, 0.1

Reference = float | Sequence[float] | str


@dataclass(frozen=True)
class Score:
    """`correct`, and how far off: the (mean) ratio >= 1, or the mean offset of a position; NaN
    where the answer gives no number or none was asked for."""

    correct: bool
    error: float = math.nan


def _ratio(predicted: Sequence[float], reference: Sequence[float]) -> float:
    """Mean of max(p / g, g / p); infinite where a value is not positive or one is missing."""
    if len(predicted) != len(reference) or min(*predicted, *reference, 1.0) <= 0:
        return math.inf
    ratios = [max(p / g, g / p) for p, g in zip(predicted, reference, strict=True)]
    return sum(ratios) / len(ratios)


def _named(answer: str, candidates: Sequence[str]) -> str | None:
    """The candidate the answer settles on: the one it mentions last."""
    text = answer.lower()
    found = [(text.rfind(name.lower()), name) for name in candidates if name.lower() in text]
    return max(found)[1] if found else None


def score(question: str, answer: str, reference: Reference, names: Sequence[str]) -> Score:
    """Score one answer.

    Args:
        question: needed to know which of an answer's numbers was asked for.
        reference: metres or a count; several of them; (u, v) in [0, 1] when the question asks for
            a coordinate; a name; or "yes", "no", "absent".
        names: the candidates of a comparison; other questions may leave it empty.
    """
    reading = parse(answer)
    if isinstance(reference, str):
        if reference in ("yes", "no"):
            return Score(reading.yes is (reference == "yes"))
        if reference == "absent":
            return Score(reading.absent)
        return Score(_named(answer, names or [reference]) == reference)
    if is_position(question):
        if not reading.image_points or isinstance(reference, float):
            return Score(False)
        offsets = [abs(p - g) for p, g in zip(reading.image_points[0], reference, strict=True)]
        offset = sum(offsets) / len(offsets)
        return Score(offset <= MAX_OFFSET, offset)
    wanted = [reference] if isinstance(reference, (int, float)) else list(reference)
    ratio = _ratio([m.value for m in measurements(question, reading)], wanted)
    return Score(ratio < MAX_RATIO, ratio)


def is_position(question: str) -> bool:
    """Whether a place in the image is asked for ("What is the coordinate of ...")."""
    text = question.lower()
    return "coordinate" in text or (text.startswith("where ") and "image" in text)
