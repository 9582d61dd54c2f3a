"""Words -> plain numbers: digits, fractions and spelled-out numbers, without sign or unit.

Reads "1,200", "3 1/2", "½", "seven", "twenty-one", "two hundred and fifty". Does not know what is
counted or measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sdvlm_core.words import GLYPHS, Token, glued, number_at, text_at

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_TEENS = ("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS = {
    **{word: float(n) for n, word in enumerate((*_DIGITS, *_TEENS, "eighteen", "nineteen"))},
    **{word: 10.0 * n for n, word in enumerate(_TENS, start=2)},
}


def read_number(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    """The number that starts at token `at` and where it ends; None where none does."""
    return _digits(tokens, at) or _spelled(tokens, at)


def _digits(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    if text_at(tokens, at) in GLYPHS:
        return GLYPHS[tokens[at].text], at + 1
    fraction = _fraction(tokens, at)
    if fraction is not None:
        return fraction, at + 3
    if not number_at(tokens, at):
        return None
    value = tokens[at].value
    if value == value // 1:  # a mixed number: "3 1/2", "3½"
        if text_at(tokens, at + 1) in GLYPHS:
            return value + GLYPHS[tokens[at + 1].text], at + 2
        fraction = _fraction(tokens, at + 1)
        if fraction is not None and fraction < 1:
            return value + fraction, at + 4
    return value, at + 1


def _fraction(tokens: Sequence[Token], at: int) -> float | None:
    if not (number_at(tokens, at) and text_at(tokens, at + 1) == "/"):
        return None
    if not (number_at(tokens, at + 2) and glued(tokens, at + 1) and glued(tokens, at + 2)):
        return None
    top, bottom = tokens[at].value, tokens[at + 2].value
    return top / bottom if bottom and math.isfinite(top / bottom) else None


def _spelled(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    """ "seven", "twenty-one", "two hundred and fifty"."""
    value = NUMBER_WORDS.get(text_at(tokens, at))
    if value is None or tokens[at].kind != "word":
        return None
    value, at = _tens(tokens, at)
    if text_at(tokens, at) == "hundred":
        value, at = value * 100, at + 1
        rest = at + (text_at(tokens, at) == "and")
        if text_at(tokens, rest) in NUMBER_WORDS:
            tens, at = _tens(tokens, rest)
            value += tens
    return value, at


def _tens(tokens: Sequence[Token], at: int) -> tuple[float, int]:
    value = NUMBER_WORDS[tokens[at].text]
    at += 1
    if value >= 20:
        digit = at + (text_at(tokens, at) == "-")
        ones = NUMBER_WORDS.get(text_at(tokens, digit), 0.0)
        if 0 < ones < 10:
            return value + ones, digit + 1
    return value, at
