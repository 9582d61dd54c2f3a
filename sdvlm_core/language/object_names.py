"""Names of objects: which label, or which name in a text, is which asked object.

"the can" is "pink can" if no other asked object is a can; "lid of the box" is never "box". Does not
know regions, questions or answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sdvlm_core.errors import QueryError, shown

_WORD = re.compile(r"[^\W_]+")
_ARTICLES = frozenset(("a", "an", "the"))
#: What follows one of these words says where the object is, or what it is a part of.
PREPOSITIONS = frozenset(
    [
        *("of", "on", "in", "at", "by", "with", "near", "under", "over", "above", "below"),
        *("behind", "beside", "between", "next", "to", "from", "inside", "that", "which", "who"),
        *("against", "along", "around", "onto", "into", "through", "beneath", "underneath", "than"),
    ]
)


def matched_labels(labels: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """The index of its label, by the name of each object that has one.

    A label is the name of an object, or a shorter or a longer form of one name only. One empty
    label is of a single object.

    Raises:
        QueryError: a label matches no name or several, or two labels match one name; lists the
            labels and the names.
    """
    names = list(dict.fromkeys(names))
    if [*labels] == [""] and len(names) == 1:
        return {names[0]: 0}
    found: dict[str, int] = {}
    # An object with a label of exactly its name is not meant by a shorter one.
    taken = [one for one in names if any(_same(one, other) for other in labels)]
    for index, label in enumerate(labels):
        candidates = _candidates(label, names, taken)
        if len(candidates) != 1 or candidates[0] in found:
            raise QueryError(_refusal(label, candidates, labels, names))
        found[candidates[0]] = index
    return found


def matched_name(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that a name in a text means; None if it is none or may be several."""
    candidates = _candidates(name, list(dict.fromkeys(names)), ())
    return candidates[0] if len(candidates) == 1 else None


def _candidates(label: str, names: Sequence[str], taken: Sequence[str]) -> list[str]:
    exact = [one for one in names if _same(label, one)]
    return exact or [one for one in names if one not in taken and _may_be(label, one)]


def _refusal(
    label: str, candidates: Sequence[str], labels: Sequence[str], names: Sequence[str]
) -> str:
    if not candidates:
        reason = "is of no object of the question or the answer"
    elif len(candidates) > 1:
        reason = f"may be of {listed(candidates)}"
    else:
        reason = f"and another label are both of {listed(candidates)}"
    return (
        f"the region label {listed([label])} {reason}; labels: {listed(labels)}; objects: "
        f"{listed(names) or 'none'}; use the names of the objects as labels"
    )


def listed(names: Sequence[str]) -> str:
    """Names from outside in quotes, for an error message."""
    return ", ".join(f"'{shown(one, 60)}'" for one in names)


@dataclass(frozen=True)
class _Name:
    """A name in parts: "left can on the table" is left, can, on table."""

    modifiers: frozenset[str]
    head: str
    rest: tuple[str, ...]


@lru_cache(maxsize=2048)  # each name is compared with all labels
def _parts(name: str) -> _Name:
    words = [word for word in _WORD.findall(name.casefold()) if word not in _ARTICLES]
    end = next((at for at, word in enumerate(words) if word in PREPOSITIONS and at), len(words))
    *modifiers, head = words[:end] or [""]
    return _Name(frozenset(modifiers), head, tuple(words[end:]))


def _same(a: str, b: str) -> bool:
    """Case, articles, punctuation and the order of modifiers do not matter."""
    if a.strip().casefold() == b.strip().casefold():
        return True
    return _parts(a) == _parts(b) and bool(_parts(a).head)


def _may_be(a: str, b: str) -> bool:
    """Whether one name is the other without some of its words."""
    one, other = _parts(a), _parts(b)
    nested = one.modifiers <= other.modifiers or other.modifiers <= one.modifiers
    rest = not one.rest or not other.rest or one.rest == other.rest
    return bool(one.head) and one.head == other.head and nested and rest
