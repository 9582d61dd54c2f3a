"""What the label of an object may be called: the checker's own reading, by its last words.

Independent of the builder's map of whole labels (`labels`): its own table (`check_labels.yaml`),
its own plurals. Errs towards "may be": a row that this reading cannot prove is reported. Does not
know questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Entry = dict[str, Any]
TABLE = Path(__file__).with_name("check_labels.yaml")
_Words = tuple[str, ...]
_IRREGULAR = {"shelves": "shelf", "bookshelves": "bookshelf", "mice": "mouse", "knives": "knife"}
#: Of the longest side of the smallest thing: what a scan shows at least of an unknown object, ...
_PART = 0.5
#: ... and the disc that fits into an unlabelled surface which belongs to one.
_DISC = 0.25


@dataclass(frozen=True)
class Thing:
    """One thing that is asked about; the keys of check_labels.yaml, in words of the singular."""

    one: frozenset[_Words]
    exceptions: frozenset[_Words]
    like: frozenset[_Words]
    least_m: float
    flat: bool


def singular(word: str) -> str:
    """A word without its ending of the plural; a word in the singular stays as it is."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def words_of(text: str) -> _Words:
    """The words of a text, each in the singular."""
    return tuple(singular(word) for word in text.lower().replace("_", " ").split())


@cache
def _tables() -> tuple[dict[str, Thing], frozenset[_Words]]:
    """(name -> thing, all known endings)."""
    stored = yaml.safe_load(TABLE.read_text(encoding="utf-8"))

    def phrases(entry: dict[str, Any], key: str) -> frozenset[_Words]:
        return frozenset(map(words_of, entry.get(key, ())))

    things = {
        name: Thing(
            phrases(entry, "one"),
            phrases(entry, "not"),
            phrases(entry, "like"),
            float(entry["least"]),
            bool(entry.get("flat", False)),
        )
        for name, entry in stored["things"].items()
    }
    known = frozenset(map(words_of, [*stored["other"], *things]))
    return things, known.union(*(t.one | t.exceptions | t.like for t in things.values()))


def things() -> tuple[str, ...]:
    """The names of all things."""
    return tuple(_tables()[0])


def _heads(label: str) -> Iterator[_Words]:
    """What a label is, and of "a stack of chairs" also what is stacked."""
    words = words_of(label)
    yield words
    if words not in _tables()[1]:
        for at, word in enumerate(words):
            if word == "of":
                yield words[:at]


@cache
def _endings(label: str) -> frozenset[_Words]:
    """The longest known ending of each head: "pool table" is known, and so it is no table."""
    known = _tables()[1]
    found = set()
    for head in _heads(label):
        ending = next((head[at:] for at in range(len(head)) if head[at:] in known), None)
        if ending is not None:
            found.add(ending)
    return frozenset(found)


@cache
def named(label: str) -> tuple[str, bool]:
    """(the thing that a label names, or "", whether it names exactly one)."""
    endings = _endings(label)
    name = next((name for name, thing in _tables()[0].items() if endings & thing.one), "")
    words = label.lower().replace("_", " ").split()
    last = words[words.index("of") - 1] if words_of(label) in endings and "of" in words else ""
    last = last or (words[-1] if words else "")
    many = singular(last) != last or ("of" in words and words_of(label) not in endings)
    return name, bool(name) and not many


def is_one(label: str, thing: str) -> bool:
    """Whether a label surely names exactly one such thing."""
    return named(label) == (thing, True)


def may_be(entry: Entry, name: str) -> bool:
    """Whether an object of the scene graph may be called so, alone or together with others.

    Args:
        name: one of `things`.
    """
    label = entry["label"]
    thing = _tables()[0][name]
    if not label.strip():
        disc = entry.get("disc_m", float("inf"))
        if thing.flat:
            disc = max(disc, entry.get("floor_disc_m", float("inf")))
        return bool(disc >= _DISC * thing.least_m)
    what, endings = named(label)[0], _endings(label)
    if what == name or (what and words_of(what) in thing.like):
        return True
    if endings:
        return bool(endings & (thing.like | thing.exceptions))
    longest = max(entry.get(key, float("inf")) for key in ("length_m", "height_m"))
    return bool(longest >= _PART * thing.least_m)
