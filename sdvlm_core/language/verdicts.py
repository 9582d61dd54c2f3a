"""Clauses -> the verdict of an answer: yes, no, which object, or undecided.

Brings together the yes or no that opens the text (yes_no.py), denials (denials.py), comparisons
(comparisons.py) and "there is a mug". Does not know numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from sdvlm_core.answer import Asked, Quantity, Verdict
from sdvlm_core.language import words as w
from sdvlm_core.language.clauses import Clause, Part
from sdvlm_core.language.comparisons import Choice, compare
from sdvlm_core.language.denials import denies
from sdvlm_core.language.mentions import means
from sdvlm_core.language.places import apart, is_elsewhere, may_contain
from sdvlm_core.language.tokens import vocabulary
from sdvlm_core.language.yes_no import denies_denial, is_unsure, yes_or_no

# "a bicycle leaning", and not "a dog bed"
_PARTICIPLE = re.compile(
    r"(?!(?:ceil|build|paint|rail|earr|str|spr|bear|cloth|light|cross|mould|wash)ing$)"
    r"\w{2,30}(?:ing|(?<!sh)(?<!sl)(?<!e)ed)"
)
_SHOWING = vocabulary("there's see there sees shows is are")
_THERE = vocabulary("there see there's shows visible is are")


def decides(text: str, clauses: Sequence[Clause], asked: Asked) -> Choice:
    """The verdict of a text for any question; FREE and EXISTS know only yes, no and "there is"."""
    if denies_denial(text):
        return Choice(Verdict.UNDECIDED, "")
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
    if is_unsure(text):
        return Choice(Verdict.UNDECIDED, "")
    shown = any(_is_shown(clause, asked) for clause in clauses)
    return Choice(Verdict.HOLDS if shown else Verdict.UNDECIDED, "")


def _is_shown(clause: Clause, asked: Asked) -> bool:
    """Whether a clause says that an asked object is there, and not elsewhere."""
    parts = clause.parts
    texts = {part.text for part in parts}
    denied = (w.NEGATIONS | {"nothing", "none", "was", "were"}) & texts
    if clause.question or denied or w.IFS & {clause.opener, *texts}:
        return False  # "to tell whether there is a ladder"
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
    whole = all(_is_named_whole(one, texts) for one in asked.objects)
    return named and whole and bool(_THERE & texts) and not elsewhere


def _is_named_whole(name: str, texts: set[str]) -> bool:
    """Whether the parts of a clause have all words of a name: a cup may be no "red cup"."""
    said = {word.removesuffix("s") for text in texts for word in text.split()}
    *modifiers, _ = apart(name)[0].lower().split() or [""]
    return {word.removesuffix("s") for word in modifiers} <= said


def _is_asked(name: str, asked: Asked) -> bool:
    """Whether a name is an asked object's, also with what it does: "bicycle leaning"."""
    words = name.split()
    while len(words) > 1 and _PARTICIPLE.fullmatch(words[-1]):
        words.pop()
    names = (name, " ".join(words))
    return any(means(one, wanted, plural=True) for one in names for wanted in asked.objects)


def _goes_on(parts: Sequence[Part], at: int) -> bool:
    """Whether a name is the beginning of another one: "dog" of "dog house"."""
    following = parts[at + 1] if at + 1 < len(parts) else None
    if following is None or following.role != "word":
        return False
    return _PARTICIPLE.fullmatch(following.text) is None


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
