"""The label of a scan's annotation -> what it names: one object of a category, or several, or else.

Reads the reviewed tables `categories.yaml` and `labels.yaml`. A label has a meaning only if it is
listed, or is the plural of a listed one: no rule guesses from its words, because a hair dryer is no
dryer and a projector screen is no screen. Does not know what is visible in an image, nor what may
be asked (`labels_absence`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import inflect
import yaml

CATEGORIES = Path(__file__).with_name("categories.yaml")
LABELS = Path(__file__).with_name("labels.yaml")
#: Reasons of `Meaning` for labels that name no single object of a category.
SEVERAL, VAGUE, UNMAPPED, UNLABELLED = "several", "vague", "unmapped", "unlabelled"


@dataclass(frozen=True)
class Meaning:
    """What a label names.

    Attributes:
        category: the category that it names one object of; "" = none.
        several: the category that it names several objects of, in one annotation; "" = none.
        also: categories that the annotated surface may be called besides, or may hide.
        anything: it may be any category that is not larger (`Category.smallest`).
        reason: why it names no single object of a category; "" = it does.
    """

    category: str = ""
    several: str = ""
    also: frozenset[str] = frozenset()
    anything: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Category:
    """A category that is asked about; the keys of categories.yaml.

    Attributes:
        labels: names of one such object.
        several: names of several of them, besides the plurals of `labels`.
        confused: categories that a person may take for this one, in both directions.
        holds: categories that its annotations often cover without a label of their own.
        smallest: longest side of the smallest one, metres.
        flat: one may lie on a floor and rise less than `labels_unlabelled.FLOOR_M`.
    """

    labels: tuple[str, ...]
    several: tuple[str, ...]
    confused: frozenset[str]
    holds: frozenset[str]
    smallest: float
    flat: bool


@cache
def table() -> dict[str, Category]:
    """Every category by its name; `confused` is symmetric.

    Raises:
        ValueError: categories.yaml names a category that it does not list.
    """
    stored = _read(CATEGORIES)
    confused: dict[str, set[str]] = {name: set() for name in stored}
    for name, keys in stored.items():
        _listed([*keys.get("confused", ()), *keys.get("holds", ())], stored, CATEGORIES)
        for other in keys.get("confused", ()):
            confused[name].add(other)
            confused[other].add(name)
    return {
        name: Category(
            tuple(keys["labels"]),
            tuple(keys.get("several", ())),
            frozenset(confused[name]),
            frozenset(keys.get("holds", ())),
            float(keys["smallest"]),
            bool(keys.get("flat", False)),
        )
        for name, keys in stored.items()
    }


@cache
def categories() -> tuple[str, ...]:
    """The names of all categories, sorted."""
    return tuple(sorted(table()))


@cache
def meaning(label: str) -> Meaning:
    """What a label names; an unlisted one may be anything, and so may the empty one."""
    words = " ".join(label.lower().replace("_", " ").split())
    if not words:
        return Meaning(anything=True, reason=UNLABELLED)
    return _meanings().get(words, Meaning(anything=True, reason=UNMAPPED))


def category_of(label: str) -> str:
    """The category that a label names one object of; "" = none."""
    return meaning(label).category


@cache
def _meanings() -> dict[str, Meaning]:
    """Label -> meaning, of every listed label and its plural; a listed plural has its own."""
    stored = _read(LABELS)
    also = {label: frozenset(kinds) for label, kinds in stored["also"].items()}
    _listed([kind for kinds in also.values() for kind in kinds], table(), LABELS)
    singular: dict[str, Meaning] = {}
    several: dict[str, Meaning] = {}
    for name, category in table().items():
        for label in category.labels:
            more = also.get(label, frozenset())
            _add(singular, label, Meaning(category=name, also=more))
            if not _is_plural(label):
                several[_plural(label)] = Meaning(several=name, also=more, reason=SEVERAL)
        for label in category.several:
            more = also.get(label, frozenset())
            _add(singular, label, Meaning(several=name, also=more, reason=SEVERAL))
    for label, kinds in also.items():
        if label not in singular:
            singular[label] = Meaning(also=kinds, reason=VAGUE)
    for label in stored["anything"]:
        _add(singular, label, Meaning(anything=True, reason=VAGUE))
    for reason, labels in stored["never"].items():
        for label in labels:
            _add(singular, label, Meaning(reason=reason))
    plurals = {
        _plural(label): found
        for label, found in singular.items()
        if not (found.category or found.several or _is_plural(label))
    }
    return plurals | several | singular


def _plural(label: str) -> str:
    return str(_number().plural_noun(label))


def _is_plural(label: str) -> bool:
    return bool(_number().singular_noun(label))


@cache
def _number() -> inflect.engine:
    return inflect.engine()


def _add(meanings: dict[str, Meaning], label: str, found: Meaning) -> None:
    if label in meanings:
        raise ValueError(f"{CATEGORIES.name}, {LABELS.name}: {label!r} is listed twice")
    meanings[label] = found


def _listed(names: Iterable[str], known: Iterable[str], path: Path) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"{path.name} names {', '.join(unknown)}: add to {CATEGORIES.name}")


def _read(path: Path) -> dict[str, Any]:
    stored: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return stored
