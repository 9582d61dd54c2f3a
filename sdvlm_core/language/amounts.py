"""Text -> quantities: a small left-to-right grammar of how people and models write measures.

    product  = item {("x" | "*" | "by") item}   "3.09 x 0.13 x 0.34 m"
    item     = single                                 "0.9 m", "5'11\"", "1 m 20"
             | single "±" single                      "1.2 m ± 0.1"
             | ["between"] single ("to" | "-" | "and") single      "1.2-1.5 m"
    single   = value [unit] [value unit] ["and a half"]    "two and a half feet"
             | part ["of"] ["a"] unit | "a" unit      "a quarter of a meter", "half an inch"
             | value "of" "a" unit                       "0.5 of a meter"
    value    = ["-" | "minus"] (digits [fraction] | number words | fraction)

A unit also applies to the bare numbers before it in its product, range, or "a, b and c m" list. A
number without a unit stays a `number`; it is never assumed to be metres. Areas, volumes, speeds,
percentages and temperatures are left out, because none of their numbers is a length. Ambiguous
numbers whose readings differ widely ("2 300 mm boxes") are left out too: inside the grammar their
value is NaN. Every rule looks a bounded number of tokens ahead, so hostile text costs linear time.

Does not know which object a quantity describes (`statements` and `reading` do), or whether it is
true.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sdvlm_core.language.numerals import NUMBER_WORDS, fraction_at, read_number, spaced_thousands
from sdvlm_core.language.tokens import Token, glued, number_at, text_at, tokenize, vocabulary
from sdvlm_core.language.units import BARE, UNITS, Dimension, Unit


@dataclass(frozen=True)
class Amount:
    """One written quantity.

    Attributes:
        value: metres, radians or a plain number; finite. The middle of a range.
        dimension: `length`, `angle`, or `number` when no known unit is written.
        std_dev: in the unit of `value`. "a ± b" states one standard deviation b; a range "a to b"
            is a uniform distribution, (b - a) / sqrt(12); NaN = not stated.
        text: the part of the text that it was read from.
        span: (start, end) of `text` in the whole text.
        product: which "L x W x H" of the text it is a factor of, counted from 0; -1 = none.
    """

    value: float
    dimension: Dimension
    std_dev: float = math.nan
    text: str = ""
    span: tuple[int, int] = (0, 0)
    product: int = -1


_PARTS = {"half": 1 / 2, "third": 1 / 3, "thirds": 1 / 3, "quarter": 1 / 4, "quarters": 1 / 4} | {
    **dict.fromkeys(("fifth", "fifths"), 1 / 5),
    **dict.fromkeys(("tenth", "tenths"), 1 / 10),
}
_DASHES = ("-", "~")
# Words that may follow "12 in" or "a foot"; "3 in the image" and "a foot stool" have no unit.
_AFTER_UNIT = vocabulary(
    "wide tall high long deep thick and or by x to apart away from in off above below but so "
    "while respectively across"
)
_EXTENTS = vocabulary("wide tall high long deep thick")
# "one" is a count after these words and a pronoun elsewhere ("the white one").
_BEFORE_ONE = vocabulary("is are only just exactly be have has see count total about find")


class _Item(NamedTuple):
    """A quantity before it is complete: `value` in `unit` (None = bare), tokens [first, last)."""

    value: float
    unit: Unit | None
    first: int
    last: int
    std_dev: float = math.nan
    product: int = -1

    def within(self, unit: Unit | None) -> float:
        """The value expressed in `unit`; a bare number adopts it."""
        return self.value * (self.unit.scale / unit.scale if self.unit and unit else 1.0)


def amounts(text: str) -> tuple[Amount, ...]:
    """Every quantity that a text states, in order, whatever it measures. Never raises; linear."""
    return find_amounts(tokenize(text), text)


def find_amounts(tokens: Sequence[Token], text: str) -> tuple[Amount, ...]:
    """Every quantity that the tokens of `text` spell out, in order. Never raises; linear time."""
    items = _share_units(list(_items(tokens)), tokens)
    found = []
    for item in items:
        unit = item.unit or BARE
        span = (tokens[item.first].start, tokens[item.last - 1].end)
        value, std_dev = item.value * unit.scale, item.std_dev * unit.scale
        if math.isfinite(value):  # not "1e999" or an ambiguous number
            std_dev = std_dev if math.isfinite(std_dev) else math.nan
            words = text[slice(*span)]
            found.append(Amount(value, unit.dimension, std_dev, words, span, item.product))
    return tuple(found)


def _items(tokens: Sequence[Token]) -> Iterator[_Item]:
    enumerators = _enumerators(tokens)
    at = products = 0
    while at < len(tokens):
        factors = [] if at in enumerators else _product(tokens, at)
        if len(factors) > 1:
            yield from (item._replace(product=products) for item in factors)
            products += 1
        else:
            yield from factors
        if factors:
            at = factors[-1].last
        else:  # skip a left-out number ("5%") completely: its end is not a number
            skipped = _value(tokens, at)
            at = skipped.last if skipped else at + 1


def _enumerators(tokens: Sequence[Token]) -> set[int]:
    """The tokens "1." "2)" that number the lines of a list; a single "2." is an answer."""
    found = {
        at
        for at, token in enumerate(tokens)
        if token.kind == "number"
        and text_at(tokens, at - 1) in ("", "\n")
        and text_at(tokens, at + 1) in (".", ")")
        and text_at(tokens, at + 2) not in ("", "\n")
    }
    return found if len(found) > 1 else set()


def _share_units(items: list[_Item], tokens: Sequence[Token]) -> list[_Item]:
    """Give the bare numbers of "0.5, 0.6 and 0.7 m" the unit at the end of their list."""
    shared = False  # whether the next item belongs to a list that ends with "and"
    for index in range(len(items) - 2, -1, -1):
        item, following = items[index], items[index + 1]
        link = [token.text for token in tokens[item.last : min(following.first, item.last + 3)]]
        closes = link in (["and"], ["or"], [",", "and"], [",", "or"])
        shared = (
            item.unit is None
            and following.unit is not None
            and item.product == following.product == -1
            and (closes or (shared and link == [","]))
        )
        if shared:
            items[index] = item._replace(unit=following.unit)
    return items


def _product(tokens: Sequence[Token], at: int) -> list[_Item]:
    """One item, or the factors of a product, whose units also apply to bare factors."""
    factors: list[_Item] = []
    item = _item(tokens, at)
    while item is not None:
        factors.append(item)
        times = text_at(tokens, item.last) in ("x", "*", "by")
        item = _item(tokens, item.last + 1) if times else None
    units = [factor.unit for factor in factors]
    for index in reversed(range(len(units) - 1)):  # back from the end first, then forward
        units[index] = units[index] or units[index + 1]
    for index in range(1, len(units)):
        units[index] = units[index] or units[index - 1]
    return [factor._replace(unit=unit) for factor, unit in zip(factors, units, strict=True)]


def _item(tokens: Sequence[Token], at: int) -> _Item | None:
    between = text_at(tokens, at) == "between"
    low = _single(tokens, at + between)
    if low is None:
        return None
    link = text_at(tokens, low.last)
    ranged = link == "to" or link in _DASHES or (between and link == "and")
    if not ranged and link not in ("±", "+/-", "+-"):
        return low
    high = _single(tokens, low.last + 1)
    if high is None or (low.unit and high.unit and low.unit.dimension != high.unit.dimension):
        return low
    unit = low.unit or high.unit
    value, other = low.within(unit), high.within(unit)
    if not ranged:
        return _Item(value, unit, at, high.last, std_dev=abs(other))
    if link == "-" and (value > other or text_at(tokens, high.last) == "="):
        return _Item(math.nan, unit, at, high.last)  # a difference is no range
    return _Item((value + other) / 2, unit, at, high.last, abs(other - value) / math.sqrt(12))


def _single(tokens: Sequence[Token], at: int) -> _Item | None:
    """A value with the unit after it, compounds such as 5'11" included."""
    part = _part_of_unit(tokens, at)
    if part is not None:
        return part
    value = _value(tokens, at)
    if value is None or _is_foreign(tokens, value.last):
        return None
    unit, last = _unit(tokens, value.last)
    if unit is None:
        unit, last = _unit_of_part(tokens, value.last)
    if unit is None:
        return None if _is_pronoun(tokens, at, value) else value
    whole = value._replace(unit=unit, last=last)
    return _with_half(_with_smaller_unit(whole, tokens), tokens)


def _is_foreign(tokens: Sequence[Token], at: int) -> bool:
    """Whether the number before token `at` measures something other than a length or angle."""
    word = text_at(tokens, at)
    if word in ("%", "percent", "square", "cubic", "sq"):
        return True
    if (
        glued(tokens, at) and tokens[at].kind == "word"
    ):  # "3D", "2nd", "1.2x larger", but "3m" and "3x4"
        times = word == "x" and number_at(tokens, at + 1)
        return not (word in UNITS or times) or _is_power(tokens, at + 1)
    if word in UNITS:
        kelvin = word in ("°", "deg", "degree", "degrees") and text_at(tokens, at + 1) in (
            *("c", "f", "k"),
            *("celsius", "fahrenheit", "kelvin"),
        )
        return kelvin or _is_power(tokens, at + 1)
    return False


def _is_power(tokens: Sequence[Token], at: int) -> bool:
    """Whether token `at` makes the unit before it an area, a volume or a rate ("m²", "m/s")."""
    mark = text_at(tokens, at)
    if mark in ("²", "³", "^"):
        return True
    return mark == "/" and at + 1 < len(tokens) and tokens[at + 1].kind == "word"


def _is_pronoun(tokens: Sequence[Token], at: int, value: _Item) -> bool:
    if text_at(tokens, at) != "one" or value.last > at + 1:
        return False
    before, after = text_at(tokens, at - 1), text_at(tokens, at + 1)
    other = _value(tokens, at + 2) if after in ("to", "or", "and", *_DASHES) else None
    if other is not None and _unit(tokens, other.last)[0] is not None:
        return False  # "between one and two metres"
    if before == "and" and after.isalpha():  # "two chairs and one table"
        return after in ("is", "are", "was", "of", "has")
    return before.isalpha() and before not in _BEFORE_ONE


def _unit(tokens: Sequence[Token], at: int) -> tuple[Unit | None, int]:
    """The unit at token `at`, with an optional hyphen before it ("3-meter"), and its end."""
    hyphen = text_at(tokens, at) == "-" and glued(tokens, at) and glued(tokens, at + 1)
    at += hyphen
    word = text_at(tokens, at)
    if word not in UNITS or (word in ("'", '"') and tokens[at].kind != "prime"):
        return None, at
    if word == "in" and not hyphen and not _ends_unit(tokens, at + 1):
        return None, at
    return UNITS[word], at + 1


def _unit_of_part(tokens: Sequence[Token], at: int) -> tuple[Unit | None, int]:
    """The unit of "[0.5] of a meter", and its end."""
    if text_at(tokens, at) != "of" or text_at(tokens, at + 1) not in ("a", "an"):
        return None, at
    unit, last = _unit(tokens, at + 2)
    return (unit, last) if _ends_unit(tokens, last) and not _is_power(tokens, last) else (None, at)


def _ends_unit(tokens: Sequence[Token], at: int) -> bool:
    """Whether a possible unit word can be a unit: no noun phrase follows at token `at`."""
    return at >= len(tokens) or tokens[at].kind != "word" or tokens[at].text in _AFTER_UNIT


def _with_smaller_unit(whole: _Item, tokens: Sequence[Token]) -> _Item:
    """Add the inches of 5'11", "5 feet, 11 inches", or the centimetres of "1 m [and] 20 cm"."""
    if whole.unit is None:
        return whole
    imperial = whole.unit in (UNITS["ft"], UNITS["yd"])
    link = text_at(tokens, whole.last)
    round_metres = whole.unit == UNITS["m"] and whole.value % 1 == 0  # "0.5 m and 20 cm" are two
    hyphen = link == "-" and glued(tokens, whole.last) and glued(tokens, whole.last + 1)
    skip = int((imperial and (link in ("and", ",") or hyphen)) or (round_metres and link == "and"))
    skip += skip and link == "," and text_at(tokens, whole.last + 1) == "and"
    rest = _value(tokens, whole.last + skip)
    if rest is None or rest.value < 0 or (round_metres and skip and rest.value % 1):
        return whole
    unit, last = _unit(tokens, rest.last)
    if unit is None and not (skip and not hyphen):
        unit, last = _omitted_unit(whole, rest, tokens), rest.last
    smaller = unit is not None and unit.scale * rest.value < whole.unit.scale
    if unit is None or not smaller or unit.dimension != whole.unit.dimension:
        return whole
    same_family = imperial == (unit in (UNITS["in"], UNITS["ft"]))
    if not same_family or unit.scale >= whole.unit.scale:
        return whole
    value = whole.value + rest.value * unit.scale / whole.unit.scale
    return whole._replace(value=value, last=last)


def _omitted_unit(whole: _Item, rest: _Item, tokens: Sequence[Token]) -> Unit | None:
    """The unit that "5'11", "five foot eleven" and "1 m 50" leave out; None elsewhere."""
    if not _ends_unit(tokens, rest.last):
        return None  # "5 feet 3 chairs"
    if whole.unit == UNITS["ft"]:
        marked = tokens[whole.last - 1].kind == "prime"
        return UNITS["in"] if glued(tokens, rest.first) or not marked else None
    digits = tokens[rest.first].text
    if whole.unit == UNITS["m"] and digits.isdecimal() and len(digits) == 2:
        return UNITS["cm"] if whole.value % 1 == 0 else None
    return None


def _with_half(whole: _Item, tokens: Sequence[Token], article: bool = False) -> _Item:
    """Add the "and a half" that may follow a value or its unit; article: the value is "a"."""
    at = whole.last
    if text_at(tokens, at) != "and" or whole.value % 1:
        return whole
    at += 1
    count = {"a": 1.0, "an": 1.0}.get(text_at(tokens, at)) or NUMBER_WORDS.get(text_at(tokens, at))
    at += count is not None
    fraction = fraction_at(tokens, at)
    if fraction is not None and fraction < 1:  # "2 and 1/2 feet"
        return whole._replace(value=whole.value + fraction, last=at + 3)
    part = _PARTS.get(text_at(tokens, at))
    if part is None or (text_at(tokens, at + 1) == "of" and not article):
        return whole  # "2 m and a half of it"; "a foot and a half of space" is one value
    return whole._replace(value=whole.value + (count or 1.0) * part, last=at + 1)


def _part_of_unit(tokens: Sequence[Token], at: int) -> _Item | None:
    """ "half a metre", "three quarters of a meter", "a foot [and a half]", "half metre"."""
    first, value = at, 1.0
    word = text_at(tokens, at)
    article = word in ("a", "an")
    if article or word in NUMBER_WORDS:
        value = 1.0 if article else NUMBER_WORDS[word]
        at += 1 + (text_at(tokens, at + 1) == "-")
    part = _PARTS.get(text_at(tokens, at))
    if part is None:
        unit, last = _unit(tokens, at) if article else (None, at)
        if unit is None or not _ends_unit(tokens, last) or _is_power(tokens, last):
            return None
        return _with_half(_Item(1.0, unit, first, last), tokens, article=True)
    at += 1
    at += text_at(tokens, at) in ("of", "-")
    at += text_at(tokens, at) in ("a", "an")
    unit, last = _unit(tokens, at)
    if unit is None or _is_power(tokens, last):
        return None
    return _Item(value * part, unit, first, last)


def _value(tokens: Sequence[Token], at: int) -> _Item | None:
    """A number without its unit: digits, fraction or words, and its sign."""
    first = at
    minus = text_at(tokens, at) in ("minus", "negative") or (
        text_at(tokens, at) == "-"
        and not glued(tokens, at)
        and glued(tokens, at + 1)
        and number_at(tokens, at + 1)
    )
    at += minus
    found = _spaced(tokens, at) or read_number(tokens, at)
    if found is None:
        return None
    value, last = found
    item = _Item(-value if minus else value, None, first, last)
    half = _with_half(item, tokens)
    # "2 and a half feet" is one number; "there are 2 and a half is hidden" is not
    return half if half.last > last and _unit(tokens, half.last)[0] else item


def _spaced(tokens: Sequence[Token], at: int) -> tuple[float, int] | None:
    """ "1 200 mm"; NaN where "2 300 mm boxes" is as likely; None where it is a list."""
    found = spaced_thousands(tokens, at)
    if found is None:
        return None
    value, last = found
    short = len(tokens[at].text) < 3  # "100 200 mm" is more likely two lengths
    unit, end = _unit(tokens, last)
    if unit is None:
        joined = text_at(tokens, last) in ("x", "*", "by", "to", "±", "+/-", "+-", *_DASHES)
        return (value if joined else math.nan, last) if short else None
    extent = text_at(tokens, end) in _EXTENTS  # "2 300 mm wide boxes"
    clear = short and _ends_unit(tokens, end) and (not extent or _ends_unit(tokens, end + 1))
    return value if clear else math.nan, last
