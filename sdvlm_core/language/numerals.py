"""Text -> plain numbers: digits, fractions and spelled-out numbers, without sign or unit.

Reads "1,200", "3 1/2", "½", "seven", "twenty-one", "two hundred and fifty", "zero point five", "two
dozen", "1.5 thousand". Does not know the counted or measured object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from sdvlm_core.language.tokens import GLYPHS, Token, glued, number_at, text_at, vocabulary

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_TEENS = ("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS = {
    **{word: float(n) for n, word in enumerate((*_DIGITS, *_TEENS, "eighteen", "nineteen"))},
    **{word: 10.0 * n for n, word in enumerate(_TENS, start=2)},
}
_SCALES = {"hundred": 100.0, "thousand": 1000.0, "million": 1e6}
_DETERMINERS = vocabulary("the this that a an any each every some which same one")
_MAX_GROUPS = 3  # after the first; in a longer run, reading restarts at its next number
_GROUP = re.compile(r"[0-9]{3}(?:\.[0-9]+|,[0-9]{1,2})?")


def read_number(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    """The number that starts at token `at`, and its end; None if there is none."""
    return _dozens(tokens, at) or _point_alone(tokens, at) or _scaled(tokens, at)


def spaced_thousands(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    """ "1 200", "12 500.5" as one number; the caller checks from the next tokens if it is one."""
    if not (number_at(tokens, at) and re.fullmatch("[1-9][0-9]{0,2}", tokens[at].text)):
        return None
    value, last = tokens[at].value, at + 1
    while (
        last <= at + _MAX_GROUPS
        and number_at(tokens, last)
        and tokens[last].start == tokens[last - 1].end + 1
        and tokens[last - 1].text.isdecimal()
        and _GROUP.fullmatch(tokens[last].text)
    ):
        value, last = value * 1000 + tokens[last].value, last + 1
    return (value, last) if last > at + 1 else None


def _scaled(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    """Digits or words and the "hundred", "thousand" that multiply them."""
    digits = _digits(tokens, at)
    if digits is None:
        return _spelled(tokens, at)
    value, at = digits
    return _multiplied(tokens, value, at) or digits


def _digits(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    if text_at(tokens, at) in GLYPHS:
        return GLYPHS[tokens[at].text], at + 1
    fraction = fraction_at(tokens, at)
    if fraction is not None:
        return fraction, at + 3
    if not number_at(tokens, at):
        return None
    value = tokens[at].value
    if value == value // 1:  # a mixed number: "3 1/2", "3½"
        if text_at(tokens, at + 1) in GLYPHS:
            return value + GLYPHS[tokens[at + 1].text], at + 2
        hyphen = text_at(tokens, at + 1) == "-" and glued(tokens, at + 1) and glued(tokens, at + 2)
        fraction = fraction_at(tokens, at + 1 + hyphen)  # "3 1/2", "3-1/2"
        if fraction is not None and fraction < 1:
            return value + fraction, at + 4 + hyphen
    return value, at + 1


def fraction_at(tokens: Sequence[Token], at: int) -> float | None:
    """The value of "1/2" at token `at`, which has three tokens; None if there is none."""
    if not (number_at(tokens, at) and text_at(tokens, at + 1) == "/"):
        return None
    if not (number_at(tokens, at + 2) and glued(tokens, at + 1) and glued(tokens, at + 2)):
        return None
    top, bottom = tokens[at].value, tokens[at + 2].value
    return top / bottom if bottom and math.isfinite(top / bottom) else None


def _spelled(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    """ "seven", "twenty-one", "a thousand two hundred and fifty", "zero point five"."""
    if text_at(tokens, at) in ("a", "an") and text_at(tokens, at + 1) in _SCALES:
        value, at = 1.0, at + 1
    elif text_at(tokens, at) in NUMBER_WORDS and tokens[at].kind == "word":
        value, at = _tens(tokens, at)
    else:
        return None
    value, at = _multiplied(tokens, value, at) or (value, at)
    decimals, last = _decimals(tokens, at)
    return (value + decimals, last) if value % 1 == 0 else (value, at)


def _multiplied(
    tokens: Sequence[Token], value: float, at: int, below: float = math.inf
) -> tuple[float, int] | None:
    """ "[two] hundred and fifty", "[one] thousand two hundred"; None if `below` is reached."""
    while (scale := _SCALES.get(text_at(tokens, at))) is not None:
        value, at = value * scale, at + 1
        if value >= below:
            return None
        rest = at + (text_at(tokens, at) == "and")
        if text_at(tokens, rest) not in NUMBER_WORDS:
            continue
        small, last = _tens(tokens, rest)
        if _SCALES.get(text_at(tokens, last), math.inf) < scale:  # "thousand two hundred"
            small, last = _multiplied(tokens, small, last, scale) or (scale, last)
        elif text_at(tokens, last) in _SCALES and text_at(tokens, last) == text_at(tokens, at - 1):
            break  # "one hundred and two hundred"
        if small < scale:
            value, at = value + small, last
    return value, at


def _decimals(tokens: Sequence[Token], at: int) -> tuple[float, int]:
    """The value of "point two five", and its end; 0 and `at` if there is none."""
    if text_at(tokens, at) != "point" or text_at(tokens, at + 1) not in NUMBER_WORDS:
        return 0.0, at
    digits, at = "", at + 1
    while text_at(tokens, at) in NUMBER_WORDS and len(digits) < 15:
        value, at = _tens(tokens, at)
        digits += f"{value:.0f}"
    return float(f"0.{digits}"), at


def _point_alone(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    """NaN for "point five" (0.5 or fifth point?); not for "the point five metres away"."""
    if text_at(tokens, at - 1) in _DETERMINERS:
        return None
    _, last = _decimals(tokens, at)
    return (math.nan, last) if last > at else None


def _dozens(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    """ "a dozen", "two dozen", "half a dozen"."""
    part = text_at(tokens, at) == "half"
    article = text_at(tokens, at + part) in ("a", "an")
    if part or article:
        found: tuple[float, int] | None = (0.5 if part else 1.0, at + part + article)
    else:
        found = _scaled(tokens, at)
    if found is None or text_at(tokens, found[1]) != "dozen":
        return None
    return 12 * found[0], found[1] + 1


def _tens(tokens: Sequence[Token], at: int) -> tuple[float, int]:
    value = NUMBER_WORDS[tokens[at].text]
    at += 1
    if value >= 20:
        digit = at + (text_at(tokens, at) == "-")
        ones = NUMBER_WORDS.get(text_at(tokens, digit), 0.0)
        if 0 < ones < 10:
            return value + ones, digit + 1
    return value, at
