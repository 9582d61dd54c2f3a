"""Parts of a clause -> its subject: which object, and which measure of it.

Goes back from the number to the verb, and from the verb to the first name that is not only a place
("the lamp on the shelf is": the lamp). Does not know numbers or questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdvlm_core.language import words as w
from sdvlm_core.language.clauses import Part

_PICTURES = frozenset(("picture", "photo", "photograph", "image", "frame"))


@dataclass(frozen=True)
class Subject:
    """The names of a subject, its measure ("the width of"), and how it is said.

    `surface` and `centre` are of a distance between surfaces or centres.
    """

    owners: tuple[str, ...] = ()
    measure: str = ""
    verb: bool = False
    pronoun: bool = False
    surface: bool = False
    centre: bool = False


def subject_of(parts: Sequence[Part]) -> Subject:
    """The subject of the last verb in `parts`: its names, and the measure of "the width of"."""
    verb = max((i for i, part in enumerate(parts) if part.role == "verb"), default=None)
    if verb is None:
        return _named(parts, verb=False)
    # "the image shows the mug is": the names next to the verb; "the mug appears to have": go back
    start = max((i + 1 for i in range(verb) if parts[i].role == "verb"), default=0)
    found = _named(parts[start:verb], verb=True)
    while start and not (found.owners or found.pronoun or found.measure):
        verb = start - 1
        start = max((i + 1 for i in range(verb) if parts[i].role == "verb"), default=0)
        found = _named(parts[start:verb], verb=True)
    if start and found.measure and not found.owners:  # "the mug has a height that is"
        above = subject_of(parts[:start])
        return Subject(above.owners, found.measure, True, above.pronoun)
    return found


def _named(parts: Sequence[Part], verb: bool) -> Subject:
    if parts and parts[-1].role == "relative":  # "a box that is": the name next to "that"
        names = [part.text for part in parts if part.role in ("name", "word")]
        return Subject(tuple(names[-1:]), "", verb)
    owners: list[str] = []
    measure, pronoun, surface, centre = "", False, False, False
    for at, part in enumerate(parts):
        before = parts[at - 1] if at else None
        if part.role == "measure":
            measure = stronger(measure, part.text)
        elif part.role == "pronoun":
            pronoun = pronoun or not owners
        elif part.role == "surface":
            surface = True
        elif part.role == "nameless" and _PICTURES & {part.text} and _is_placed(parts, at):
            owners.append(part.text)  # "the picture above the lamp"
        elif part.role == "nameless":
            centre = centre or part.text.endswith(("center", "centre", "centers", "centres"))
        elif part.role == "name":
            paired = owners and before is not None and before.role == "join"
            modifies = before is not None and (
                before.role == "place"
                or (before.role == "preposition" and before.text in ("in", "at", "with", "as"))
            )
            if not modifies and (not owners or paired):
                owners.append(part.text)
    return Subject(tuple(owners), measure, verb, pronoun, surface, centre)


def subject_before(parts: Sequence[Part]) -> tuple[Subject, str]:
    """The subject before a number, and the name that is next to it ("on a shelf 80 cm")."""
    measure = ""
    for at in range(len(parts) - 1, -1, -1):
        part = parts[at]
        if part.role == "measure":
            measure = stronger(part.text, measure)
        elif part.role == "name" and _text_before(parts, at) == "than":
            continue  # "taller than the box by 8 cm"
        elif part.role == "name":
            ends = Subject((), measure or next((p.text for p in parts if p.role == "measure"), ""))
            head = _named(parts[: at + 1], verb=False)
            distance = ends.measure in ("distance", "gap", "difference")
            if distance or (head.owners and head.owners[0] == part.text):
                return Subject(head.owners, ends.measure, False, False, head.surface), ""
            # "the height of the mug", "the mug at 10 cm": the first name, unless only a place
            joined = {p.text for p in parts[:at] if p.role in ("preposition", "join", "verb")}
            if head.owners and not (joined - {"of", "for"}) and not _placed(parts, at):
                return Subject(head.owners, ends.measure), ""
            return ends, part.text
        elif part.role == "verb":
            found = subject_of(parts[: at + 1])
            return (
                Subject(
                    found.owners,
                    measure or found.measure,
                    True,
                    found.pronoun or part.text in w.PRONOUNS,
                    found.surface,
                    found.centre,
                ),
                "",
            )
        elif part.role in ("pronoun", "relative"):
            return Subject((), measure, False, True), ""
    return Subject((), measure), ""


def _is_placed(parts: Sequence[Part], at: int) -> bool:
    following = parts[at + 1] if at + 1 < len(parts) else None
    alone = at == 0 or parts[at - 1].role not in ("preposition", "place")
    if not alone or following is None:
        return False
    return following.role == "place" or following.text in ("in", "of", "with")


def _text_before(parts: Sequence[Part], at: int) -> str:
    return next((part.text for part in reversed(parts[:at]) if part.role != "hedge"), "")


def stronger(first: str, second: str) -> str:
    """The measure of two nouns: "height difference" is a difference, "gap width" a gap."""
    for measure in ("other", "difference", "gap"):
        if measure in (first, second):
            return measure
    return first or second


def _placed(parts: Sequence[Part], at: int) -> bool:
    return any(part.role == "place" for part in parts[max(0, at - 4) : at])
