"""Clauses -> yes or no, which object, and whether an object is denied.

A comparison is decided by the order of its arguments: "the curtain is to the right of the bed" says
that the bed is left of the curtain. Words of doubt ("not sure", "cannot tell") leave it undecided,
and so does a "yes" that its own sentence contradicts. Does not know numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from sdvlm_core.answer import Asked, Quantity, Verdict
from sdvlm_core.language import words as w
from sdvlm_core.language.clauses import Clause, Part
from sdvlm_core.language.mentions import means
from sdvlm_core.language.places import is_elsewhere, may_contain
from sdvlm_core.language.relations import OPPOSITES, RELATION_WORDS
from sdvlm_core.language.tokens import vocabulary

_YES = r"yes|yeah|yep|yup|indeed|correct|true|certainly|absolutely|affirmative|sure|right|of course"
_NO = r"no|nope|not|incorrect|false|wrong|negative"
_STARTS = (
    r"(?:^|, so |, then |[.!?\n:;]\s{0,4}|\banswer is:?\s{1,3}|\bboxed\s{1,6}|[\"'(]\s?)"
    r"(?:well, |actually, |so, |that is |that's |it is )?"
)
_OPENING = re.compile(rf"{_STARTS}(?P<word>{_YES}|{_NO})\b(?P<after>[^.!?\n]{{0,200}})", re.I)
_UNSURE = re.compile(
    r"\b(?:not (?:sure|certain|clear|possible|enough|able|easy|visible enough)|no (?:idea|clue|way"
    r" (?:to|of))|(?:can'?t|cannot|can not|could not|couldn't) (?:tell|say|determine|judge|answer"
    r"|be (?:determined|sure|certain))|unclear|uncertain|unsure|hard to (?:say|tell)|difficult to"
    r"|impossible to|unable to|too \w{1,20} to (?:say|tell|judge|see|determine)"
    r"|(?:don't|do not) know|depends|insufficient|not determinable|maybe"
    r"|perhaps|might be|may be|possibly)\b",
    re.I,
)
_REFUSAL = re.compile(
    r"\b(?:(?:can'?t|cannot|can not|could not|couldn't|unable to|not able to) (?:answer|help|assist"
    r"|determine|tell|measure|provide|estimate|give|say)|no (?:idea|clue)|(?:don't|do not) know"
    r"|not sure)\b",
    re.I,
)
# "No it is not" and "no idea" deny no object; "No sofa in the scene" does.
_NOT_OBJECTS = vocabulary(
    "it the they that this these those there he she a an i we you its one idea clue doubt "
    "question need way problem gap space difference distance more less longer other further "
    "reference scale information depth exact precise reliable clear wait sorry"
)
_NO_OBJECT = f"(?:{'|'.join(sorted(_NOT_OBJECTS))})"
_STOP = (
    r"(?=\s(?:in|on|at|next|near|under|behind|beside|is|are|visible|present|here|there|that|which"
    r"|shown|to|and|or)\b|[.,;!?\n]|$)"
)
_THING = rf"(?P<name>[\w' -]{{1,60}}?){_STOP}"
_SEEING = r"(?:see|find|locate|identify|detect|spot)"
_DENIED = [
    re.compile(pattern, re.I)
    for pattern in (
        rf"\bthere(?:'s| is| are| was| were) (?:clearly |actually )?no {_THING}",
        rf"\bthere (?:isn't|aren't|is not|are not|wasn't) (?:an? |any |the )?{_THING}",
        r"\bthere (?:doesn't|does not|don't|do not) (?:appear|seem) to be (?:an? |any |the )?"
        rf"{_THING}",
        rf"(?:^|[.!\n,]\s{{0,3}}|yes,? |no,? )no (?!{_NO_OBJECT}\b){_THING}",
        rf"\b(?:can'?t|cannot|can not|could not|couldn't|don't|do not|didn't|unable to|not able to)"
        rf" (?:actually |clearly )?{_SEEING} (?:an? |any |the )?{_THING}",
        rf"\b(?:but|and) no {_THING}",
        rf"\b(?:see|find|contains?|shows?|has|have) no {_THING}",
        r"(?:^|[.!?\n,] ?)(?:the |an? |any )?(?P<name>[\w' -]{1,60}?) (?:is not|isn't|are not"
        r"|aren't|does not|doesn't|do not|don't|cannot be|can't be|could not be)"
        r" (?:actually |clearly )?(?:visible|present|shown|exist|appear|seen|found"
        r"|detected"
        r"|in (?:the|this) (?:image|picture|scene|photo|view|frame))"
        r"(?! (?:clearly|fully|entirely|enough|to be"
        r"|as|taller|wider))",
        rf"\bdoes(?:n't| not) (?:contain|show|include|have|depict) (?:an? |any |the )?{_THING}",
        r"\b(?P<name>none)\b(?: are| is)?[^.]{0,40}(?=[.]|$)",
    )
]
_SEEMS = vocabulary("look looks seem seems appear appears looking appearing")
_SHOWING = vocabulary("there's see there sees shows is are")
#: Clauses of a sentence that are looked at: the time stays linear.
_SENTENCE = 12
_ANY = vocabulary("it they them that this such one any object thing none objects visible")


_EQUATIVES = {"height": "taller", "width": "wider", "length": "longer"}


class Choice(NamedTuple):
    """Whether a comparison holds, and the object that a "which" question is answered with."""

    verdict: Verdict
    chosen: str


def is_refusal(text: str) -> bool:
    """Whether a text says that it gives no answer."""
    return _REFUSAL.search(text) is not None


def yes_or_no(text: str) -> Verdict:
    """The yes or no that opens a sentence; UNDECIDED for none, both, or words of doubt."""
    said = set()
    for match in _OPENING.finditer(text):
        word, after = match["word"].lower(), match["after"].lower()
        if _UNSURE.search(word + after):
            return Verdict.UNDECIDED
        no = re.fullmatch(_NO, word) is not None
        following = re.match(r"\W{0,3}(\w{0,30})", after)
        next_word = following[1] if following else ""
        if after.startswith((" and no", " or no")):
            return Verdict.UNDECIDED
        if word == "no" and next_word in ("doubt", "question", "problem"):
            continue  # "No doubt, the chair is closer"
        if word == "no" and after[:1] == " " and next_word and next_word not in _NOT_OBJECTS:
            continue  # "No sofa in the scene"
        if word in ("right", "sure", "correct", "true") and next_word and after[:1] not in ",.!":
            continue
        if word == "not" and next_word in ("only", "just"):
            continue
        said.add(Verdict.DOES_NOT_HOLD if no else Verdict.HOLDS)
    return said.pop() if len(said) == 1 else Verdict.UNDECIDED


def denies(text: str, objects: Sequence[str]) -> bool:
    """Whether a text denies that an asked object exists; of no objects, that any does."""
    for form in _DENIED:
        for match in form.finditer(text):
            name = match["name"].lower().strip()
            words = name.split()
            if not words or words[0] in _NOT_OBJECTS | {"enough", "fewer"} - _ANY:
                continue
            if words[-1] in w.NOUNS or "enough" in words:
                continue  # "I cannot see the height of the mug"
            if not objects or _ANY & set(words) or words[-1] in w.NAMELESS:
                return True
            if any(means(name, one, plural=True) for one in objects):
                return True
            named = [one for one in objects if f" {one.lower()} " in f" {name} "]
            if named:
                return True
    return False


def compare(clauses: Sequence[Clause], text: str, asked: Asked) -> Choice:
    """What a text says of a comparison of the asked objects."""
    said = yes_or_no(text)
    if _UNSURE.search(text) and said is Verdict.UNDECIDED:
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
        at = next(
            (
                i
                for i, part in enumerate(parts)
                if _relation(part)
                and not _asked(part, asked)
                and (part.role != "measure" or _is_equative(parts, i))
            ),
            None,
        )
        names = [(i, one) for i, part in enumerate(parts) if (one := _asked(part, asked))]
        earlier, mentioned = mentioned, mentioned | {one for _, one in names}
        if at is None:
            if found and clause.opener in (",", "and") and found[-1].others and names:
                more = tuple(one for _, one in names)  # the list after "than" goes on
                found[-1] = found[-1]._replace(others=(*found[-1].others, *more))
            else:
                subject = names[0][1] if names else subject
            continue
        equal = _is_equative(parts, at)
        start = _last_statement(parts[:at])
        before = [one for i, one in names if start <= i < at]
        after = tuple(dict.fromkeys(one for i, one in names if i > at))
        texts = [clause.opener, *(part.text for part in parts)]
        if clause.opener in w.IFS or w.IFS & set(texts) or _is_apparent(clauses, index):
            continue
        if "would" in texts and clause.sentence in supposed:
            continue
        if _from_elsewhere(parts, at, asked):
            continue
        if parts[at].text in ("left", "right") and texts[at + 2 : at + 3] == ["next"]:
            continue  # "right next to"
        negated = any(text in w.NEGATIONS and text != "no" for text in texts)
        negated = negated and not ("not" in texts and {"only", "just"} & set(texts))
        relation = _relation(parts[at])
        if equal:  # "not as tall as" is shorter
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
        if later.opener in ("but", "although", "though"):
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
    """The one asked object of an answer that only names it."""
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


def decides(text: str, clauses: Sequence[Clause], asked: Asked) -> Choice:
    """The verdict of a text for any question; FREE and EXISTS know only yes, no and "there is"."""
    if asked.quantity is Quantity.COMPARISON:
        return compare(clauses, text, asked)
    said = yes_or_no(text)
    if asked.quantity is not Quantity.EXISTS:
        return Choice(said, "")
    if said is Verdict.HOLDS and _sees_another(clauses, asked):
        return Choice(Verdict.UNDECIDED, "")
    if said is not Verdict.UNDECIDED:
        return Choice(said, "")
    if denies(text, asked.objects):
        return Choice(Verdict.DOES_NOT_HOLD, "")
    if _UNSURE.search(text):
        return Choice(Verdict.UNDECIDED, "")
    for clause in clauses:
        parts = clause.parts
        texts = [part.text for part in parts]
        if clause.opener in w.IFS or w.IFS & set(texts):
            continue  # "to tell whether there is a ladder"
        shows = bool({"there", "see", "there's", "shows", "visible", "is", "are"} & set(texts))
        named = any(
            part.role in ("name", "word") and _is_asked(part.text, asked) and not _goes_on(parts, i)
            for i, part in enumerate(parts)
        )
        elsewhere = any(
            part.role in ("name", "word") and is_elsewhere(one, (where.text, part.text))
            for where, part in pairwise(parts)
            for one in asked.objects
            if where.text in ("in", "inside", "outside")
            or (where.role == "place" and not may_contain(one))
        )
        shows = shows and not elsewhere
        if shows and named and not clause.question and not w.NEGATIONS & set(texts):
            return Choice(Verdict.HOLDS, "")
    return Choice(Verdict.UNDECIDED, "")


def _is_asked(name: str, asked: Asked) -> bool:
    """Whether a name is an asked object's, also with what it does: "bicycle leaning"."""
    words = name.split()
    while len(words) > 1 and words[-1].endswith(("ing", "ed")):
        words.pop()
    names = (name, " ".join(words))
    return any(means(one, wanted, plural=True) for one in names for wanted in asked.objects)


def _goes_on(parts: Sequence[Part], at: int) -> bool:
    """Whether a name is the beginning of another one: "dog" of "dog house"."""
    following = parts[at + 1] if at + 1 < len(parts) else None
    if following is None or following.role != "word":
        return False
    return not following.text.endswith(("ing", "ed"))


def _sees_another(clauses: Sequence[Clause], asked: Asked) -> bool:
    """Whether a text with a yes says that there is something else: "Yes, there's a dog"."""
    others = False
    for clause in clauses:
        parts = clause.parts
        if any(part.role in ("name", "word") and _is_asked(part.text, asked) for part in parts):
            return False
        for before, part in pairwise(parts):
            shown = before.text in _SHOWING or (before.text == "is" and parts[0].role == "pronoun")
            others = others or (shown and part.role == "name")
    return others
