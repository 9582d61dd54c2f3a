"""Clauses -> whether a comparison holds, and the object that a "which" question is answered with.

Decided by the order of the arguments: "the curtain is to the right of the bed" says that the bed is
left of the curtain. A "yes" that its own sentence contradicts is undecided. Does not know numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from sdvlm_core.answer import Asked, Verdict
from sdvlm_core.language import words as w
from sdvlm_core.language.clauses import Clause, Part
from sdvlm_core.language.mentions import means
from sdvlm_core.language.relations import OPPOSITES, RELATION_WORDS
from sdvlm_core.language.tokens import vocabulary
from sdvlm_core.language.yes_no import is_unsure, yes_or_no

_SEEMS = vocabulary("look looks seem seems appear appears looking appearing")
#: Clauses of a sentence that are looked at: the time stays linear.
_SENTENCE = 12
_EQUATIVES = {"height": "taller", "width": "wider", "length": "longer"}


class Choice(NamedTuple):
    """Whether a comparison holds, and the object that a "which" question is answered with."""

    verdict: Verdict
    chosen: str


def compare(clauses: Sequence[Clause], text: str, asked: Asked) -> Choice:
    """What a text says of a comparison of the asked objects."""
    said = yes_or_no(text)
    if is_unsure(text) and said is Verdict.UNDECIDED:
        return Choice(Verdict.UNDECIDED, "")
    stated = _relations(clauses, asked)
    if asked.which:
        chosen = {name for name in (_winner(one, asked) for one in stated) if name}
        chosen = chosen or _first_of_all(stated, asked)
        if not stated and said is Verdict.UNDECIDED:
            chosen = _only_named(clauses, asked)
        return Choice(Verdict.UNDECIDED, chosen.pop() if len(chosen) == 1 else "")
    holds = {_holds(one, asked) for one in stated} - {Verdict.UNDECIDED}
    if said is not Verdict.UNDECIDED:
        holds.add(said)
    return Choice(holds.pop() if len(holds) == 1 else Verdict.UNDECIDED, "")


class _Stated(NamedTuple):
    first: str
    relation: str
    others: tuple[str, ...]  # () = not named
    negated: bool
    also: tuple[str, ...] = ()  # further subjects: "A and B are taller than C"


def _relations(clauses: Sequence[Clause], asked: Asked) -> list[_Stated]:
    """The relations that clauses state. A clause without a subject has that of its sentence."""
    found: list[_Stated] = []
    subject = ""
    sentence = -1
    mentioned: set[str] = set()
    supposed = {
        one.sentence
        for one in clauses
        if {one.opener, *(part.text for part in one.parts)} & (w.IFS | w.JOINTLY)
    }
    for index, clause in enumerate(clauses):
        if clause.question:
            continue
        if clause.sentence != sentence:
            subject, sentence = "", clause.sentence
        parts = clause.parts
        at = _place_of_relation(parts, asked)
        names = [(i, one) for i, part in enumerate(parts) if (one := _asked(part, asked))]
        earlier, mentioned = mentioned, mentioned | {one for _, one in names}
        if at is None:
            if found and clause.opener in (",", "and") and found[-1].others and names:
                more = tuple(one for _, one in names)  # the list after "than" goes on
                found[-1] = found[-1]._replace(others=(*found[-1].others, *more))
            else:
                subject = names[0][1] if names else subject
            continue
        if _is_no_statement(clauses, index, clause.sentence in supposed):
            continue
        if _from_elsewhere(parts, at, asked) or _is_next_to(parts, at):
            continue
        start = _last_statement(parts[:at])
        before = [one for i, one in names if start <= i < at]
        after = tuple(dict.fromkeys(one for i, one in names if i > at))
        relation, negated = _relation(parts[at]), _is_negated(clause)
        if _is_equative(parts, at):  # "not as tall as" is shorter
            if not negated:
                continue
            relation, negated = OPPOSITES.get(relation, "shorter"), False
        if not after and any(part.role == "name" for part in parts[at + 1 :]) and before:
            continue  # "taller than the can"
        from_camera = any(part.role == "camera" for part in parts[:at])
        if from_camera and not before and after and relation in ("closer", "farther"):
            found.append(_Stated(after[0], relation, after[1:], negated))  # "you are closer to A"
            continue
        verbs_after = any(part.role == "verb" for part in parts[at:])
        other = any(part.role == "name" and not _asked(part, asked) for part in parts[:at])
        if before:
            subject = before[0]
            also = _joined(parts, [i for i, _ in names if start <= i < at])
            found.append(
                _Stated(before[0], relation, after, negated, tuple(before[1:]) if also else ())
            )
        elif verbs_after and len(after) == 1 and not other:  # "the tallest is the curtain"
            found.append(_Stated(after[0], relation, (), negated))
        elif subject and not other:
            found.append(_Stated(subject, relation, after, negated))
        elif (
            not asked.which and not other and _pronoun(parts[:at]) and earlier <= {asked.objects[0]}
        ):
            # "Is the mug left of the box?" "It is to the left."
            found.append(_Stated(asked.objects[0], relation, after, negated))
    return found


def _place_of_relation(parts: Sequence[Part], asked: Asked) -> int | None:
    """Where a clause names its relation: "taller", the "tall" of "as tall as"."""
    for at, part in enumerate(parts):
        comparative = part.role != "measure" or _is_equative(parts, at)
        if _relation(part) and not _asked(part, asked) and comparative:
            return at
    return None


def _is_no_statement(clauses: Sequence[Clause], index: int, supposed: bool) -> bool:
    """Whether a clause only supposes ("if", "would"), or says how things merely look."""
    clause = clauses[index]
    texts = {clause.opener, *(part.text for part in clause.parts)}
    return bool(w.IFS & texts) or ("would" in texts and supposed) or _is_apparent(clauses, index)


def _is_next_to(parts: Sequence[Part], at: int) -> bool:
    """Whether the "right" at a place is that of "right next to"."""
    beside = any(part.text == "next" for part in parts[at + 1 : at + 2])
    return beside and parts[at].text in ("left", "right")


def _is_negated(clause: Clause) -> bool:
    """Whether a clause is negated; "not only" negates nothing."""
    texts = {clause.opener, *(part.text for part in clause.parts)}
    only = "not" in texts and bool({"only", "just"} & texts)
    return bool(texts & w.NEGATIONS - {"no"}) and not only


def _from_elsewhere(parts: Sequence[Part], at: int, asked: Asked) -> bool:
    """Whether "closer" is to another thing than the camera: "closer to the wall than B"."""
    if _relation(parts[at]) not in ("closer", "farther"):
        return False
    return any(
        before.text in ("to", "from") and part.role == "name" and not _asked(part, asked)
        for before, part in pairwise(parts[at + 1 :])
    )


def _is_equative(parts: Sequence[Part], at: int) -> bool:
    """Whether a part is the "tall" of "as tall as"."""
    around = [part.text for part in (*parts[max(0, at - 1) : at], *parts[at + 1 : at + 2])]
    return parts[at].role == "measure" and around == ["as", "as"]


def _joined(parts: Sequence[Part], places: Sequence[int]) -> bool:
    """Whether the names at these places are one subject: "A and B", "both A and B"."""
    return len(places) > 1 and all(
        {part.text for part in parts[one + 1 : other]} <= {"and", ",", "both"}
        for one, other in pairwise(places)
    )


def _is_apparent(clauses: Sequence[Clause], index: int) -> bool:
    """Whether a clause says how things look, and its sentence how they are: "..., but the rake"."""
    clause = clauses[index]
    if not any(part.text in _SEEMS for part in clause.parts):
        return False
    if clause.opener in ("while", "although", "though", "whereas"):
        return True
    for later in clauses[index + 1 : index + _SENTENCE]:
        if later.sentence != clause.sentence:
            break
        if later.opener in ("but", "although", "though", "yet", "however"):
            return True
    return False


def _last_statement(parts: Sequence[Part]) -> int:
    """Where the last of coordinate statements begins: "A is long and B is larger" -> at B."""
    for at in range(len(parts) - 1, 0, -1):
        joined = parts[at].text in ("and", "but", "while")
        has_verb = any(part.role == "verb" for part in parts[:at])
        if joined and has_verb and any(part.role == "name" for part in parts[at + 1 :]):
            return at + 1
    return 0


def _pronoun(parts: Sequence[Part]) -> bool:
    """Whether a clause begins with "it" or "it's"."""
    return any(part.role == "pronoun" or part.text == "it's" for part in parts[:2])


def _relation(part: Part) -> str:
    """The relation that a part names: "taller", "left", "left side"; "" = none."""
    first, _, more = part.text.partition(" ")
    if part.role == "measure":  # of "as tall as"
        return _EQUATIVES.get(part.text, "")
    if part.role == "name":  # "the longer tool"
        return RELATION_WORDS.get(first, "") if more and first not in w.PLACES else ""
    word = first if part.role in ("surface", "nameless") else part.text
    return RELATION_WORDS.get(word, "")


def _asked(part: Part, asked: Asked) -> str:
    """The asked object that a part names, "" = none or several."""
    if part.role not in ("name", "word"):
        return ""
    exact = [one for one in asked.objects if one.lower() == part.text]
    found = exact or [one for one in asked.objects if means(part.text, one)]
    return found[0] if len(found) == 1 else ""


def _holds(stated: _Stated, asked: Asked) -> Verdict:
    first, second = asked.objects[:2]
    other = second if stated.first == first else first
    opposite = _is_opposite(stated.relation, asked.relation)
    if not (opposite or stated.relation == asked.relation) or stated.others not in ((), (other,)):
        return Verdict.UNDECIDED
    same = (stated.relation == asked.relation) is (stated.first == first)
    if stated.negated:
        return Verdict.DOES_NOT_HOLD if same else Verdict.UNDECIDED
    return Verdict.HOLDS if same else Verdict.DOES_NOT_HOLD


def _is_opposite(relation: str, asked: str) -> bool:
    """Whether one relation is the reverse of the other; "shorter" is that of "longer" too."""
    return relation == OPPOSITES.get(asked) or {relation, asked} == {"longer", "shorter"}


def _winner(stated: _Stated, asked: Asked) -> str:
    """The object that is chosen by one stated relation."""
    if stated.negated:
        return ""
    rest = [one for one in asked.objects if one != stated.first]
    if stated.others and {*stated.others} != {*rest}:
        return ""
    if stated.relation == asked.relation:
        return stated.first
    if _is_opposite(stated.relation, asked.relation) and len(rest) == 1:
        return rest[0]
    return ""


def _first_of_all(stated: Sequence[_Stated], asked: Asked) -> set[str]:
    """The object that several statements together put before all others; {} = none.

    "The towel is lower than the mirror, and the mirror is lower than the curtain."
    """
    ahead: dict[str, set[str]] = {name: set() for name in asked.objects}
    for one in stated:
        same = one.relation == asked.relation
        if one.negated or not (same or _is_opposite(one.relation, asked.relation)):
            continue
        for first in (one.first, *one.also):
            for other in one.others:
                ahead[first if same else other].add(other if same else first)
    for _ in asked.objects:  # transitive, up to the longest chain
        for name, behind in ahead.items():
            ahead[name] = behind.union(*(ahead[other] for other in behind))
    if any(name in behind for name, behind in ahead.items()):
        return set()  # a circle
    return {name for name, behind in ahead.items() if len(behind) == len(ahead) - 1}


def _only_named(clauses: Sequence[Clause], asked: Asked) -> set[str]:
    """The one asked object of an answer, or of its last sentence, that only names it."""
    last = [clause for clause in clauses if clause.sentence == clauses[-1].sentence]
    if len(last) < len(clauses) and (found := _only_named(last, asked)):
        return found
    named: set[str] = set()
    for clause in clauses:
        texts = {part.text for part in clause.parts if part.role != "name"}
        if texts & {"same", "equal", "both"}:
            return set()
        if any(part.role in ("place", "relation", "word") for part in clause.parts):
            return set()  # "the cupboard towers over the fridge"
        if not texts & w.NEGATIONS:  # "the door, not the window"
            named |= {one for part in clause.parts if (one := _asked(part, asked))}
    return named
