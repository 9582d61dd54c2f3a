"""The turns of a built row whose answer is stated by an earlier turn; read from their text.

Independent of the generator, as `check` is: it imports neither `questions` nor `phrasing`. A turn
repeats if all or part of what its answer states follows from the questions and answers before it:
a number of the same object, a relation or its inverse, one that follows through other objects, an
absence. What its own question states ("the bed is 2 m long") does not count against it.
Does not know whether an answer is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from sdvlm_core.language.question import parse

Entry = dict[str, Any]
_SIDES = ("length", "width", "height")
#: Word of a question -> the quantity, and whether the object that it holds for has more of it.
_SCALE = {
    "tall": ("height", True),
    "low": ("height", False),
    "short": ("height", False),
    "high": ("height", True),
    "wid": ("width", True),
    "narrow": ("width", False),
    "long": ("length", True),
    "larg": ("size", True),
    "big": ("size", True),
    "small": ("size", False),
}
_PLACE = {
    "left": ("x", False),
    "right": ("x", True),
    "clos": ("nearness", True),
    "far": ("nearness", False),
    "high": ("altitude", True),
    "low": ("altitude", False),
}
_PLACE_WORD = re.compile(r"\b(left|right|clos|far|high|low)(?:er|ther)?\b")
_SCALE_WORD = re.compile(rf"\b({'|'.join(_SCALE)})(?:g?er|g?est|r|st)\b")
_ABSENT = re.compile(r"\b(no|not)\b", re.IGNORECASE)


@dataclass(eq=False)
class _Heard:
    """What the turns before have stated: numbers, pairs (more, less) by quantity, absent names."""

    numbers: dict[tuple[str, frozenset[str]], float] = field(default_factory=dict)
    pairs: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)

    def closed(self, quantity: str) -> set[tuple[str, str]]:
        """All pairs (more, less) that follow."""
        found = set(self.pairs.get(quantity, ()))
        values = {next(iter(o)): v for (q, o), v in self.numbers.items() if q == quantity}
        found |= {(a, b) for a, b in product(values, values) if values[a] > values[b]}
        while True:
            more = {(a, d) for (a, b), (c, d) in product(found, found) if b == c} - found
            if not more:
                break
            found |= more
        if quantity == "size":
            found |= set.intersection(*map(self.closed, _SIDES))
        return found


@dataclass(eq=False)
class _Stated:
    """What one turn states in a question, or in an answer."""

    numbers: dict[tuple[str, frozenset[str]], float] = field(default_factory=dict)
    pairs: list[tuple[str, str, str]] = field(default_factory=list)
    present: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)

    def follows_from(self, heard: _Heard) -> bool:
        """Whether any part was stated before; of several pairs, all of them."""
        return (
            not heard.numbers.keys().isdisjoint(self.numbers)
            or any(_ends_in(name, heard.absent) for name in self.absent)
            or any(_ends_in(one, {name}) for name in self.present for one in heard.present)
            or (
                bool(self.pairs)
                and all((a, b) in heard.closed(quantity) for quantity, a, b in self.pairs)
            )
        )

    def tell(self, heard: _Heard) -> None:
        heard.numbers.update(self.numbers)
        for quantity, more, less in self.pairs:
            heard.pairs.setdefault(quantity, set()).add((more, less))
        heard.present |= self.present
        heard.absent |= self.absent
        sizes = heard.numbers
        for (side, objects), _ in self.numbers.items():
            sides = [sizes.get((one, objects)) for one in _SIDES]
            if side in _SIDES and None not in sides:
                volume = 1.0
                for one in sides:
                    volume *= one or 0.0
                sizes["size", objects] = volume


def _ends_in(name: str, ends: set[str]) -> bool:
    return any(f" {name}".endswith(f" {end}") for end in ends)


class _Row:
    """The names of a row's scene graph."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.named: Mapping[str, Entry] = {e["name"]: e for e in entries if e["name"]}
        self.categories = {e["category"] for e in entries} - {""}
        longest = sorted(self.named, key=len, reverse=True)
        found = "|".join(map(re.escape, longest)) or "(?!)"
        # With its article: "can" may be a name.
        self._pattern = re.compile(rf"\b[Tt]he ({found})\b")

    def mentions(self, text: str) -> list[str]:
        return self._pattern.findall(text)

    def without_names(self, text: str) -> str:
        return self._pattern.sub("_", text).lower()

    def measures(self, text: str, names: Sequence[str]) -> _Stated:
        """The values of the measure that a text is about, of objects."""
        words = self.without_names(text)
        if "distance" in words or re.search(r"\bhow far\b|\bapart\b", words):
            return _Stated({("distance", frozenset(names)): 0.0})
        sides: Sequence[str] = _SIDES
        if "height" in words and "width" in words:
            pass
        elif "height" in words or "tall" in words:
            sides = ("height",)
        elif "width" in words or "wide" in words:
            sides = ("width",)
        elif "length" in words or "how long" in words:
            sides = ("length",)
        stated = _Stated()
        for side, name in product(sides, names):
            stated.numbers[side, frozenset((name,))] = self.named[name][f"{side}_m"]
        return stated


def _places(row: _Row, names: Sequence[str]) -> _Stated:
    stated = _Stated()
    for name in names:
        for axis, part in zip("xy", row.named[name]["centre_uv"], strict=True):
            stated.numbers[axis, frozenset((name,))] = part
    return stated


def _compared(row: _Row, kind: str, question: str, answer: str) -> _Stated:
    names, words = row.mentions(question), row.without_names(question)
    place = kind == "relative_position"
    found = (_PLACE_WORD if place else _SCALE_WORD).search(words)
    if found is None:
        raise ValueError(f"{question!r} compares nothing that is known")
    quantity, more = (_PLACE if place else _SCALE)[found.group(1)]
    if re.match(r"(is|from)\b", words):
        winner = names[0]
        more = more == (re.match(r"(yes|indeed)\b", answer.lower()) is not None)
    else:
        winner = row.mentions(answer)[-1]
    stated = _Stated()
    if re.search(r"\d", row.without_names(answer)):
        sides = _SIDES if quantity == "size" else (quantity,)
        for side, name in product(sides, names):
            stated.numbers[side, frozenset((name,))] = row.named[name][f"{side}_m"]
    for other in dict.fromkeys(names):
        if other != winner:
            stated.pairs.append((quantity, *((winner, other) if more else (other, winner))))
    return stated


def _turn(row: _Row, kind: str, question: str, answer: str) -> tuple[_Stated, _Stated]:
    """What a question and its answer state."""
    given = _Stated()
    if kind == "existence":
        asked = parse(question).objects
        if answer.lower().startswith("yes"):
            return given, _Stated(present=set(asked))
        return given, _Stated(absent={name for name in asked if name not in row.named})
    if kind == "count":
        for category in sorted(row.categories, key=len, reverse=True):
            if re.search(rf"\b{re.escape(re.sub('(f|fe|use|y)$', '', category))}", question):
                return given, _Stated({("count", frozenset((category,))): 0.0})
        raise ValueError(f"{question!r} counts nothing that is known")
    if kind == "grounding":
        return given, _places(row, row.mentions(f"{question} {answer}"))
    if kind in ("relative_position", "scale_compare"):
        return given, _compared(row, kind, question, answer)
    if kind == "refer_obj_estimation":
        fact, _, question = question.partition(",")
        given = row.measures(fact, row.mentions(fact))
    return given, row.measures(question, row.mentions(question))


def repeats(
    entries: Sequence[Entry], kinds: Sequence[str], turns: Sequence[tuple[str, str]]
) -> Iterator[bool]:
    """Whether each turn (question, answer) of a row states again what an earlier one states.

    Args:
        entries: the scene graph of the row.
        kinds: the type of each turn.

    Raises:
        ValueError: a turn is in words that are not known.
    """
    row, heard = _Row(entries), _Heard()
    for kind, (question, answer) in zip(kinds, turns, strict=True):
        given, stated = _turn(row, kind, question, answer)
        yield stated.follows_from(heard)
        for one in (given, stated):
            one.tell(heard)
        # "The lamp" is there, and if that is what its category is called, it is the only one.
        if kind != "existence" or _ABSENT.search(answer):
            names = row.mentions(f"{question} {answer}")
            heard.present |= set(names)
            for name in row.categories.intersection(names):
                heard.numbers["count", frozenset((name,))] = 0.0
