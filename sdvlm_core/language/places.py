"""Where something is, in a name and in a statement: "cups on the table", ("on", "shelf").

Two places are the same if their things may be one ("table", "wooden table", not "top shelf" and
"bottom shelf") and their prepositions mean the same.
Does not know numbers or clauses.
"""

from __future__ import annotations

import re

from sdvlm_core.language.object_names import matched_name

_INSIDE = frozenset(("in", "inside", "within", "into", "at"))
_AT = (
    frozenset(("on", "upon", "atop", "top", "onto")),
    _INSIDE,
    frozenset(("under", "below", "beneath", "underneath")),
    frozenset(("near", "beside", "next", "by", "alongside", "nearby", "against")),
    frozenset(("behind",)),
    frozenset(("above", "over")),
    frozenset(("around",)),
)
_PLACED = re.compile(
    rf"^(?P<thing>.+?) (?:that (?:is|are) )?(?P<where>{'|'.join(sorted(set().union(*_AT)))})"
    r"(?: (?:to|of|top of))? (?:the |an? |this |that )?(?P<at>.+)$",
    re.I,
)
Place = tuple[str, str] | tuple[()]


def apart(name: str) -> tuple[str, Place]:
    """ "cups on the table" -> ("cups", ("on", "table")); () = the name has no place."""
    match = _PLACED.match(name)
    if match is None:
        return name, ()
    return match["thing"], (match["where"].lower(), match["at"].lower())


def is_at(name: str, place: Place) -> bool:
    """Whether a place is that of a name that has one."""
    wanted = apart(name)[1]
    return bool(wanted) and bool(place) and _same(wanted, place)


def is_elsewhere(name: str, place: Place) -> bool:
    """Whether a place is another one than that of a name that has one."""
    wanted = apart(name)[1]
    return bool(wanted) and bool(place) and not _same(wanted, place)


def may_contain(name: str) -> bool:
    """Whether the place of a name may contain others: "chairs in the room"."""
    return next(iter(apart(name)[1]), "") in _INSIDE


def _same(one: Place, other: Place) -> bool:
    (first, thing), (second, things) = one or ("", ""), other or ("", "")
    alike = first == second or any(first in words and second in words for words in _AT)
    return alike and matched_name(things, (thing,)) is not None
