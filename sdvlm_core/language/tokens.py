"""Text -> words, numbers, marks and image points: the tokenizer of `quantities`.

One pass with one regular expression of simple alternatives; linear in the length of the text, and
no text raises. A run of digits, points and commas is read as follows:

- The point is the decimal mark: "1.25", ".5", "1.5e-1".
- A comma is a thousands mark where exactly three digits follow each comma and no zero leads
  ("1,200", "12,500.5"); so is an apostrophe or a non-breaking space ("1'200"), and a point where a
  decimal comma follows ("1.200,5"). Else a single comma is a decimal comma ("1,25", "0,250"); else
  commas separate ("0.5,0.6").
- "(0.72,0.28)" is a point: inside such a pair the comma always separates.
- Digits glued to a letter before them are a name ("A4"), "1.2.3" is a version: no numbers.

Does not know units or grammar, except for one mark: a quotation mark that directly follows a
number and closes no quotation is a `prime`, the sign for feet (') or inches (").
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

TokenKind = Literal["number", "word", "mark", "prime", "point"]


class Token(NamedTuple):
    """A token: the text `source[start:end]`.

    `text` is in lower case, with ASCII quotes and dashes. `value` is set for a number, `pair` for a
    point.
    """

    kind: TokenKind
    text: str
    start: int
    end: int
    value: float = math.nan
    pair: tuple[float, float] = (math.nan, math.nan)


def vocabulary(words: str) -> frozenset[str]:
    """The set of the words in a line; easier to read than thirty quoted strings."""
    return frozenset(words.split())


GLYPHS = {"½": 1 / 2, "⅓": 1 / 3, "⅔": 2 / 3, "¼": 1 / 4, "¾": 3 / 4}

_FIRST_IDEOGRAPH = "\u2e80"
_POWERS = {"2": "²", "3": "³"}
_SQUARED = vocabulary("m cm mm km ft in yd")
_LARGE_UNITS = vocabulary("m ft feet foot yd")
_LETTERS = r"[^\W\d_²³½⅓⅔¼¾]+"
# Apostrophes and non-breaking spaces, which group the digits of one number.
_APART = "['\u2019\u00a0\u2007\u2009\u202f]"
_APART_THOUSANDS = (
    rf"[1-9][0-9]{{0,2}}(?:{_APART}[0-9]{{3}})+(?![0-9])(?:\.[0-9]+|,[0-9]{{1,2}}\b)?"
)
_TOKEN = re.compile(
    rf"(?P<number>{_APART_THOUSANDS}|"
    r"(?:[0-9]+(?:[.,][0-9]+)*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3}(?![0-9A-Za-z]))?)"
    rf"|(?P<word>{_LETTERS}(?:['\u2019]{_LETTERS})*)"
    r"|(?P<mark>\+/-|\+-|''|[^\w\s]|[²³½⅓⅔¼¾_]|\n)"
)
_COORDINATE = r"\s{0,4}([0-9]{1,9}(?:\.[0-9]{1,17})?|\.[0-9]{1,17})\s{0,4}"
_PAIR = re.compile(rf"[(\[]{_COORDINATE}[,;]{_COORDINATE}[)\]]")
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_POINT_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+,[0-9]{1,2}")
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")
# One spelling for each mark: typographic quotes, primes, dashes and the multiplication sign.
_QUOTES = {"\u2018": "'", "\u2019": "'", "\u2032": "'", "\u201c": '"', "\u201d": '"'}
_PLAIN_MARKS = {**_QUOTES, "\u2033": '"', "''": '"', "\u00d7": "*", "\u2248": "~"} | dict.fromkeys(
    "\u2010\u2011\u2012\u2013\u2014\u2212", "-"
)


def is_numeric(token: Token) -> bool:
    """Whether a token is written as a number: digits or a fraction such as "½"."""
    return token.kind == "number" or token.text in GLYPHS


def tokenize(text: str) -> list[Token]:
    """Split text into tokens: no spaces, a newline is a mark. Never raises; linear time."""
    tokens: list[Token] = []
    quoting: set[str] = set()
    at = 0
    while (match := _TOKEN.search(text, at)) is not None:
        raw = match.group()
        start, at = match.span()
        if match.lastgroup == "number":
            tokens += _numbers(text, raw, start, tokens)
        elif match.lastgroup == "word":
            tokens += _words(text, raw, start, tokens)
        elif raw in "([" and (pair := _PAIR.match(text, start)) is not None:
            at = pair.end()
            point = (float(pair[1]), float(pair[2]))
            tokens.append(Token("point", pair.group(), start, at, pair=point))
        else:
            tokens.append(_mark(text, raw, start, tokens, quoting))
    return tokens


def _numbers(text: str, raw: str, start: int, tokens: Sequence[Token]) -> list[Token]:
    """The numbers in one run of digits, points and commas; the "x" of "3x4" may precede it."""
    before = text[start - 1] if start else " "
    named = before.isalpha() and before < _FIRST_IDEOGRAPH  # "A4", but not a word before "1.2"
    if before == "_" or (named and not _splits_number(tokens)):
        squared = named and raw in _POWERS and tokens[-1].text in _SQUARED
        return [Token("mark", _POWERS[raw], start, start + 1)] if squared else []  # "1.2 m2"
    digits, e, exponent = raw.lower().partition("e")
    power = e + exponent
    pieces = [raw]
    digits = re.sub(_APART, "", digits)
    if _POINT_THOUSANDS.fullmatch(digits):
        digits = digits.replace(".", "").replace(",", ".")
    elif _THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    elif digits.count(",") == 1 and "." not in digits:
        digits = digits.replace(",", ".")
    elif "," in digits:
        pieces = raw.split(",")
    found = []
    for piece, number in zip(
        pieces, digits.split(",") if len(pieces) > 1 else [digits], strict=True
    ):
        end = start + len(piece)
        if _PLAIN.fullmatch(number):
            value = float(number + (power if piece is pieces[-1] else ""))
            found.append(Token("number", piece, start, end, value))
        start = end + 1
    return found


def _splits_number(tokens: Sequence[Token]) -> bool:
    """Whether the last word stands between the digits of "3x4", "1m80" or "2ft6in"."""
    after_number = (
        len(tokens) > 1 and tokens[-2].kind == "number" and glued(tokens, len(tokens) - 1)
    )
    return tokens[-1].text == "x" or (after_number and tokens[-1].text in _LARGE_UNITS)


def _words(text: str, raw: str, start: int, tokens: Sequence[Token]) -> list[Token]:
    """One word, or two for the "mx" of "0.3mx0.2m"."""
    word, end = raw.lower().replace("\u2019", "'"), start + len(raw)
    after_number = bool(tokens) and tokens[-1].kind == "number" and tokens[-1].end == start
    if after_number and len(word) > 1 and word[-1] == "x" and text[end : end + 1].isdecimal():
        return [Token("word", word[:-1], start, end - 1), Token("word", "x", end - 1, end)]
    return [Token("word", word, start, end)]


def _mark(text: str, raw: str, start: int, tokens: Sequence[Token], quoting: set[str]) -> Token:
    """A mark; `quoting` holds the quotation marks that are open."""
    end, mark = start + len(raw), _PLAIN_MARKS.get(raw, raw)
    if mark in ("'", '"'):
        starts_word = start == 0 or text[start - 1].isspace() or text[start - 1] in "([{:,"
        if mark in quoting:
            quoting.discard(mark)
        elif raw in "\u2018\u201c" or (starts_word and text[end : end + 1].strip()):
            quoting.add(mark)
        elif tokens and tokens[-1].end == start and is_numeric(tokens[-1]):
            return Token("prime", mark, start, end)
    return Token("mark", mark, start, end)


def text_at(tokens: Sequence[Token], at: int) -> str:
    """The text of token `at`, "" beyond the ends."""
    return tokens[at].text if 0 <= at < len(tokens) else ""


def number_at(tokens: Sequence[Token], at: int) -> bool:
    """Whether token `at` exists and is written in digits."""
    return 0 <= at < len(tokens) and tokens[at].kind == "number"


def glued(tokens: Sequence[Token], at: int) -> bool:
    """Whether token `at` touches the one before it."""
    return 0 < at < len(tokens) and tokens[at - 1].end == tokens[at].start
