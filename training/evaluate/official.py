"""The rules of the official scoring scripts, with their errors but without `eval`.

The scripts are SD-VLM's evaluate_final.py, Q-Spatial's evaluator and SpatialRGPT-Bench's script.
The input is the judgement that a judge wrote about an answer, as in the scripts. `score.strict`
scores the same input without the errors; docs/evaluation.md compares the two.

evaluate_final.py is that of the commits 5fd234c and 4023c5c. In 5101947, between them, the
grounding branch tests for a name that no type has, so every grounding answer is scored by the ratio
rule.

A judgement with code (calls, names), which the script would execute, is wrong here. Does not know
files, models or judges.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from training.evaluate.score import (
    MAX_FACTOR,
    MAX_JUDGEMENT,
    MAX_OFFSET,
    MAX_RATIO,
    UNITS,
    Rule,
    Score,
    same_name,
)

#: Two names -> cosine of their embeddings.
Similarity = Callable[[str, str], float]

MIN_SIMILARITY = 0.5
#: Divisor of MSMU's mean over types, also if fewer types were asked.
DIVISOR = 8
#: Reason of a row at which the script stops with an exception; counted as wrong here.
CRASH = "the official script ends here"

_MAX_POWER_BITS = 4096
#: Exceptions that data can cause and that the bare `except` of the scripts catches.
_SWALLOWED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def official(
    rule: Rule, judgement: str, similarity: Similarity | None = None, metres: float = math.nan
) -> Score:
    """Score a judgement of an answer.

    Args:
        rule: "ratio", "position" and "mark" are MSMU-Bench's, "factor" is Q-Spatial's, "quarter",
            "clock" and "any mark" are SpatialRGPT-Bench's.
        judgement: what the judge wrote: a Python (MSMU) or JSON (SpatialRGPT) mapping with
            answer_in_meters and response_in_meters, answer_direction and response_direction, or
            your_mark; for "factor" a text with scalar{...} and distance_unit{...}.
        similarity: similarity of two names; None = 1 for equal names, 0 for others.
        metres: the reference, for "factor".
    """
    try:
        return _RULES[rule](judgement, similarity or _same, metres)
    except _SWALLOWED as error:
        return Score(False, why=f"{type(error).__name__}: {error}"[:200])


def literal(text: str) -> Any:
    """The value that `eval` gives for a text without names and calls, or its exception."""
    if len(text) > MAX_JUDGEMENT:
        raise ValueError(f"a judgement of {len(text)} characters")
    return _value(ast.parse(text.lstrip(" \t"), mode="eval").body)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_value(key): _value(value) for key, value in pairs if key is not None}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return +_number(operand)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            a, b = _number(left), _number(right)
            if isinstance(sign, ast.Pow) and _bits(a, b) > _MAX_POWER_BITS:
                raise OverflowError(f"a power of more than {_MAX_POWER_BITS} bits")
            return _BINARY[type(sign)](a, b)
    raise ValueError(f"{type(node).__name__} is not evaluated")


def _number(node: ast.expr) -> Any:
    value = _value(node)
    if not isinstance(value, (int, float)):
        raise TypeError(f"no number: {value!r}")
    return value


def _bits(base: float, exponent: float) -> float:
    return base.bit_length() * abs(exponent) if isinstance(base, int) else 0.0


def _same(wanted: str, said: str) -> float:
    return float(same_name(wanted, said))


def _lengths(judged: Any) -> tuple[Any, Any]:
    return judged["answer_in_meters"], judged["response_in_meters"]


def _ratio(judgement: str, _: Similarity, __: float) -> Score:
    """Element by element; additional elements of the response are ignored."""
    answer, response = _lengths(literal(judgement))
    if isinstance(answer, list):
        for value in (*answer, *response):
            float(value)  # the value is not converted: text fails at the division
        ratios = [max(response[i] / answer[i], answer[i] / response[i]) for i in range(len(answer))]
        ratio = sum(ratios) / len(ratios)
    else:
        answer, response = float(answer), float(response)
        ratio = max(response / answer, answer / response)
    return Score(ratio < MAX_RATIO, float(ratio))


def _position(judgement: str, similarity: Similarity, _: float) -> Score:
    answer, response = _lengths(literal(judgement))
    if isinstance(answer, str):
        return Score(similarity(answer, str(response)) >= MIN_SIMILARITY)
    offsets = [abs(response[i] - answer[i]) for i in range(len(answer))]
    offset = sum(offsets) / len(offsets)
    return Score(offset <= MAX_OFFSET, float(offset))


def _mark(judgement: str, _: Similarity, __: float) -> Score:
    """`your_mark` above 0.5; the script compares it outside of its `try`."""
    mark: Any = 0
    why = ""
    try:
        found = literal(judgement)["your_mark"]
        mark = 0 if found is None else found
        int(mark)
    except _SWALLOWED as error:
        why = f"{type(error).__name__}: {error}"[:200]
    try:
        return Score(bool(mark > 0.5), why="" if mark else why)
    except TypeError:
        return Score(False, why=CRASH)


def _factor(response: str, _: Similarity, metres: float) -> Score:
    """The last scalar{}, the mean of the numbers in it, in the last distance_unit{}, else cm."""
    box = re.findall(r"scalar\{([^}]*)\}", response)[-1]
    numbers = [float(number) for number in re.findall(r"\d+\.?\d*", box)]
    if not numbers:
        return Score(False, why="ValueError: no number in scalar{}")  # the script compares a NaN
    unit = re.findall(r"distance_unit\{([^}]*)\}", response)[-1].lower()
    said = sum(numbers) / len(numbers) * UNITS.get(unit, UNITS["cm"])
    if said == 0:
        return Score(False, math.inf)  # the script divides numpy numbers: infinite, not an error
    ratio = max(said / metres, metres / said)
    return Score(ratio < MAX_FACTOR, ratio)


def _quarter(judgement: str, _: Similarity, __: float) -> Score:
    """0.75 g <= p <= 1.25 g: not symmetric, unlike the ratio rule."""
    answer, response = map(float, _lengths(json.loads(judgement)))
    error = abs(response - answer) / (answer + 1e-4)
    return Score(0.75 * answer <= response <= 1.25 * answer, error)


def _clock(judgement: str, _: Similarity, __: float) -> Score:
    judged = json.loads(judgement)
    apart = abs(int(judged["answer_direction"]) - int(judged["response_direction"]))
    return Score(min(apart, 12 - apart) <= 1, min(apart, 12 - apart))


def _any_mark(judgement: str, _: Similarity, __: float) -> Score:
    """`your_mark` above 0. If there is none, the script uses that of the previous row."""
    mark = json.loads(judgement)["your_mark"]
    int(0 if mark is None else mark)
    return Score(bool((0 if mark is None else mark) > 0))


_RULES: Mapping[Rule, Callable[[str, Similarity, float], Score]] = {
    "ratio": _ratio,
    "position": _position,
    "mark": _mark,
    "factor": _factor,
    "quarter": _quarter,
    "clock": _clock,
    "any mark": _any_mark,
}
