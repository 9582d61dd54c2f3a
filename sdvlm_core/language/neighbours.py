"""The names around a number: ends of a distance, what is counted, where it is, and further ones.

Looks at the parts of one clause. Does not know which of the names owns the number.
"""

from __future__ import annotations

from collections.abc import Sequence

from sdvlm_core.language.amounts import Amount
from sdvlm_core.language.clauses import Part

_ENDS_FOLLOW = frozenset(("from", "to", "between", "and", "of", "off", "than"))


def ends_of(parts: Sequence[Part], at: int, owners: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a clause that can be ends of a distance, in order; mere places are left out."""
    ends = list(owners)
    for i, part in enumerate(parts):
        if part.role != "name" or part.text in ends:
            continue
        before = next((p for p in reversed(parts[:i]) if p.role not in ("hedge", "nameless")), None)
        linked = before is not None and before.text in _ENDS_FOLLOW
        # "35 cm from the toaster on the counter": both are on it
        relational = before is not None and before.role == "place" and i > at
        relational = relational and before is not None and before.text != "on"
        if linked or relational:
            ends.append(part.text)
    return tuple(ends)


def others_around(
    left: Sequence[Part], tail: Sequence[Part], owners: tuple[str, ...]
) -> tuple[str, ...]:
    """The names around a number that are neither its owner nor a mere place."""
    found: list[str] = []
    for parts in (left, tail):
        for at, part in enumerate(parts):
            placed = at > 0 and (
                parts[at - 1].role == "place" or parts[at - 1].text in ("in", "at", "with", "as")
            )
            if part.role == "name" and part.text not in owners and not placed:
                found.append(part.text)
    return tuple(found)


def counted_after(amounts: Sequence[Amount], right: Sequence[Part]) -> str:
    """The name after a bare number: "3 red chairs"."""
    if len(amounts) != 1 or amounts[0].dimension != "number":
        return ""
    for part in right[:4]:
        if part.role in ("name", "word", "nameless", "camera"):
            return part.text
        if part.role not in ("hedge", "measure", "relation"):
            break
    return ""


def several_before(parts: Sequence[Part], start: int, at: int) -> str:
    """The number of things that a subject counts: "a stack of two mugs is 20 cm"; "" = none."""
    if start == 0 or any(part.text in ("each", "every", "both", "all") for part in parts[:at]):
        return ""
    number = parts[start - 1].amounts[0]
    verbs = [i for i, part in enumerate(parts[:at]) if part.role == "verb"]
    named = start < at and parts[start].role in ("name", "word", "nameless")
    if number.dimension != "number" or number.value == 1 or not named:
        return ""
    return number.text if verbs and verbs[0] >= start else ""


def place_of(left: Sequence[Part], right: Sequence[Part]) -> tuple[str, str] | tuple[()]:
    """Where something is: ("on", "shelf") of "on the shelf are 5 cups", too."""
    opens = left[:1] and (left[0].role == "place" or left[0].text in ("in", "at"))
    return _first_place(right) or (_first_place(left) if opens else ())


def _first_place(parts: Sequence[Part]) -> tuple[str, str] | tuple[()]:
    """The first place and name: ("on", "shelf")."""
    where = ""
    for part in parts[:8]:
        if part.role == "place" or part.text in ("in", "at", "by"):
            where = where or part.text
        elif part.role in ("name", "surface") and where:
            return where, part.text
        elif part.role in ("nameless", "camera") and where:
            return ()  # "in the image"
    return ()
