"""Whether an answer is right, by strict rules.

`strict` scores a judgement (`judges`) like `official`, without the errors of the official scripts.
Does not know texts of answers, models or files.

Rules of SD-VLM's evaluation, without `eval` and without the judge:
- one number: max(p / g, g / p) < 1.25;
- several numbers: the mean of these ratios is below 1.25, and their count is that of the reference;
- an image position: the mean absolute error is at most 0.1;
- yes, no, "there is none" and names: equal to the reference.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sdvlm_core.language.units import UNITS as LANGUAGE_UNITS

MAX_RATIO, MAX_OFFSET, MAX_FACTOR = 1.25, 0.1, 2.0
#: Characters; a longer judgement is refused.
MAX_JUDGEMENT = 20_000

Reference = float | Sequence[float] | str

#: Scoring rules: three of MSMU-Bench, one of Q-Spatial, three of SpatialRGPT-Bench.
Rule = Literal["ratio", "position", "mark", "factor", "quarter", "clock", "any mark"]

#: Metres of the units that Q-Spatial's script accepts, and no others.
UNITS = {
    name: LANGUAGE_UNITS[name].scale
    for name in (
        *("meters", "meter", "m", "metre", "metres"),
        *("centimeters", "centimeter", "cm"),
        *("feet", "foot", "ft"),
        *("inch", "inches", "in"),
        "mm",
    )
}

SCALAR = re.compile(r"scalar\{([^}]*)\}")
_UNIT = re.compile(r"distance_unit\{([^}]*)\}")
_PLAIN = re.compile(r"\s*\d+\.?\d*\s*")


@dataclass(frozen=True)
class Score:
    """The score of one answer.

    Attributes:
        correct: whether the answer is right.
        error: the (mean) ratio >= 1, or the mean offset of a position; NaN = the answer has no
            number, or the question asks for none.
        why: reason why the answer could not be scored; "" = it was scored.
    """

    correct: bool
    error: float = math.nan
    why: str = ""


def _ratio(predicted: Sequence[float], reference: Sequence[float]) -> float:
    """Mean of max(p / g, g / p); infinite if a value is missing or not positive."""
    if len(predicted) != len(reference) or min(*predicted, *reference, 1.0) <= 0:
        return math.inf
    ratios = [max(p / g, g / p) for p, g in zip(predicted, reference, strict=True)]
    return sum(ratios) / len(ratios)


def _whole(name: str) -> str:
    """A name as whole words: "chair" is not in "armchair"; a plural is."""
    words = r"\s+".join(map(re.escape, name.lower().split()))
    return rf"(?<![\w-]){words}(?:e?s)?(?![\w-])"


def same_name(wanted: str, said: str) -> bool:
    """Whether an answer contains the wanted name, as whole words."""
    return bool(wanted.strip()) and re.search(_whole(wanted), said.lower()) is not None


def strict(rule: Rule, judgement: str, metres: float = math.nan) -> Score:
    """Score a judgement of an answer (`official.official` has its forms).

    Differences from the official scripts:
    - a judgement in a code fence, in prose or without braces is read;
    - a list that is longer than the reference is wrong;
    - negative numbers are wrong;
    - a count of 0 is right if the reference is 0;
    - names must be equal;
    - `your_mark` must be above 0.5;
    - a distance needs a known unit.
    """
    try:
        if rule == "factor":
            return _strict_factor(judgement, metres)
        judged = loose_object(judgement)
        if rule in ("mark", "any mark"):
            (mark,) = _numbers(judged["your_mark"])
            return Score(mark > 0.5)
        if rule == "clock":
            wanted, said = (
                _numbers(judged[key]) for key in ("answer_direction", "response_direction")
            )
            apart = abs(_hour(wanted) - _hour(said))
            return Score(min(apart, 12 - apart) <= 1, min(apart, 12 - apart))
        wanted, said = judged["answer_in_meters"], judged["response_in_meters"]
        if rule == "position" and isinstance(wanted, str):
            return Score(same_name(wanted, str(said or "")))
        return _strict_numbers(rule, _numbers(wanted), _numbers(said))
    except (KeyError, TypeError, ValueError) as error:
        return Score(False, why=f"{type(error).__name__}: {error}"[:200])


def _strict_numbers(rule: Rule, wanted: list[float], said: list[float]) -> Score:
    if len(said) != len(wanted) or not wanted:
        raise ValueError(f"{len(said)} numbers for {len(wanted)}")
    if rule == "position":
        offsets = [abs(p - g) for p, g in zip(said, wanted, strict=True)]
        offset = sum(offsets) / len(offsets)
        return Score(offset <= MAX_OFFSET, offset)
    if rule == "quarter":
        ((p,), (g,)) = said, wanted
        return Score(g > 0 and 0.75 * g <= p <= 1.25 * g, abs(p - g) / g if g > 0 else math.inf)
    if wanted == said == [0.0]:
        return Score(True, 1.0)
    ratio = _ratio(said, wanted)
    return Score(ratio < MAX_RATIO, ratio)


def _strict_factor(judgement: str, metres: float) -> Score:
    boxes, units = SCALAR.findall(judgement), _UNIT.findall(judgement)
    if not boxes or not units:
        raise ValueError("no scalar{} with a distance_unit{}")
    unit = units[-1].strip().lower().rstrip(".")
    if unit not in UNITS:
        raise ValueError(f"unknown unit {unit!r}")
    if not _PLAIN.fullmatch(boxes[-1]):
        raise ValueError(f"no plain number: {boxes[-1]!r}")
    ratio = _ratio([float(boxes[-1]) * UNITS[unit]], [metres])
    return Score(ratio < MAX_FACTOR, ratio)


def _hour(numbers: list[float]) -> int:
    (hour,) = numbers
    if hour % 1 or not 1 <= hour <= 12:
        raise ValueError(f"no hour: {hour}")
    return int(hour)


def _numbers(value: object) -> list[float]:
    """One number or several, also as text; finite. Raises TypeError or ValueError."""
    values = value if isinstance(value, (list, tuple)) else [value]
    numbers = []
    for item in values:
        if not isinstance(item, (int, float, str)):
            raise TypeError(f"no number: {item!r}")
        numbers.append(float(item))
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"not finite: {numbers}")
    return numbers


def loose_object(text: str) -> Mapping[str, Any]:
    """The one mapping in a judge's text: JSON or Python, fenced, in prose, or without braces."""
    if len(text) > MAX_JUDGEMENT:
        raise ValueError(f"a judgement of {len(text)} characters")
    inner = text[text.find("{") : text.rfind("}") + 1]
    bare = text.strip().strip("`").strip().removeprefix("json").strip().rstrip(",")
    for candidate in (inner, f"{{{bare}}}"):
        for load in (json.loads, ast.literal_eval):
            found = _read(load, candidate)
            if isinstance(found, dict):
                return found
    raise ValueError("no judgement in the text")


def _read(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
