"""Text -> SI measurements: the values that an answer states for the question.

`parse` reads a text without its question: quantities (`quantities`), image points, yes or no, and
whether the text denies that an object exists. `measurements` reads it together with the question:
which number is the width, of which object, and which is only a reference that the question stated.
A number whose meaning neither text states is left out, never guessed.

Reads English and the answer forms of MSMU. Does not know frames, models or the true values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdvlm_core.answer import Asked, Measurement, Source, Verdict
from sdvlm_core.answer import Quantity as Kind
from sdvlm_core.language.amounts import Amount, find_amounts
from sdvlm_core.language.question import parse_each
from sdvlm_core.language.question import phrase as question_of
from sdvlm_core.language.statements import (
    ADJECTIVES,
    NOUNS,
    SENTENCE_ENDS,
    Statement,
    find_statements,
    join_names,
    name_list,
    pair_of,
    phrase,
)
from sdvlm_core.language.tokens import Token, tokenize, vocabulary
from sdvlm_core.language.units import UNITS


@dataclass(frozen=True)
class Reading:
    """What a text answers to one question.

    Attributes:
        text: the text that was read.
        measurements: of the asked quantity and objects; of a FREE question those whose quantity
            and object the text states itself.
        image_points: (u, v) as fractions of the image.
        verdict: of a question for a verdict; UNDECIDED where none is stated.
        chosen: the asked object that the answer to a "which" question names, "" = none.
        absent: the text denies that an asked object exists.
        why_none: why there is no measurement of the asked number; "" = there is one, or none was
            asked for.
    """

    text: str
    measurements: tuple[Measurement, ...] = ()
    image_points: tuple[tuple[float, float], ...] = ()
    verdict: Verdict = Verdict.UNDECIDED
    chosen: str = ""
    absent: bool = False
    why_none: str = ""


@dataclass(frozen=True)
class _Parsed:
    text: str
    quantities: tuple[Amount, ...] = ()
    image_points: tuple[tuple[float, float], ...] = ()
    yes: bool | None = None
    absent: bool = False


_SIZE = (Kind.LENGTH, Kind.WIDTH, Kind.HEIGHT)  # the order of "L x W x H"
_KINDS: dict[str | None, tuple[Kind, ...]] = {
    "distance": (Kind.DISTANCE,),
    "width": (Kind.WIDTH,),
    "height": (Kind.HEIGHT,),
    "length": (Kind.LENGTH,),
    "size": _SIZE,
}
_COMPARATIVES = {
    **dict.fromkeys(vocabulary("lower lowest taller tallest higher highest"), (Kind.HEIGHT,)),
    **dict.fromkeys(vocabulary("shorter shortest"), (Kind.HEIGHT,)),
    **dict.fromkeys(vocabulary("wider widest narrower narrowest"), (Kind.WIDTH,)),
    **dict.fromkeys(vocabulary("longer longest"), (Kind.LENGTH,)),
    **dict.fromkeys(vocabulary("closer closest nearer nearest farther farthest"), (Kind.DISTANCE,)),
    **dict.fromkeys(vocabulary("smaller smallest bigger biggest larger largest"), _SIZE),
}
_DIMENSIONS = {Kind.COUNT: "number"}  # all others are lengths


def _parse(text: str) -> _Parsed:
    """Read any text. Never raises; time is linear in its length."""
    tokens = tokenize(text)
    return _Parsed(
        text=text,
        quantities=find_amounts(tokens, text),
        image_points=tuple(t.pair for t in tokens if t.kind == "point" and max(t.pair) <= 1.0),
        yes=_yes(tokens),
        absent=_absent(tokens),
    )


def _measurements(question: str, reading: _Parsed) -> tuple[Measurement, ...]:
    """The measurements that `question` asks for and `reading` states.

    Only kinds that the question names are returned; if it names none, the kinds in the answer.
    References that the question stated are excluded. Labels are taken from the answer, else from
    the question. If an object has two numbers, the later one counts. For "how many", an absent
    object counts 0; for a size, it has no measurement.
    """
    asked, label, given = _asked(question)
    statements = list(find_statements(reading.text, reading.quantities))
    if asked == (Kind.COUNT,):
        return _count(statements, label, reading.absent)
    found = []
    for statement in statements:
        parts = _parts(statement, asked)
        if parts and not statement.reference and not _is_given(statement, given, label):
            found.append((statement, parts))
    found = _concluded(found)
    kept: dict[tuple[Kind, str, int], Measurement] = {}
    for (_, parts), (name, nameless) in zip(found, _names(found, label), strict=True):
        for kind, q in parts:
            kept[kind, name.lower(), nameless] = Measurement(
                kind, q.value, q.std_dev, Source.LANGUAGE, _objects(kind, name), q.text
            )
    return tuple(kept.values())


def _objects(kind: Kind, name: str) -> tuple[str, ...]:
    if kind is Kind.DISTANCE:
        return tuple(part for part in name.split(" and ") if part)
    return (name,) if name else ()


_Parts = list[tuple[Kind, Amount]]


def _parts(statement: Statement, asked: tuple[Kind, ...]) -> _Parts:
    """The asked kinds that a statement has a number for; none for "other" or a single size."""
    numbers = statement.quantities
    kinds: tuple[Kind, ...]
    if len(numbers) == len(_SIZE):
        kinds = _SIZE
    elif len(numbers) > 1:
        return []  # it is not stated which two of the three extents these are
    else:
        kinds = asked if statement.measure is None else _KINDS.get(statement.measure, ())
        kinds = kinds if len(kinds) == 1 else ()
    return [
        (kind, q)
        for kind, q in zip(kinds, numbers, strict=False)
        if (kind in asked or not asked)
        and q.dimension == _DIMENSIONS.get(kind, "length")
        and q.value >= 0  # no object is -0.5 m wide
    ]


def _names(found: list[tuple[Statement, _Parts]], label: str) -> list[tuple[str, int]]:
    """A label for each statement and, where the answer has none, its position in its sentence.

    The labels of a question about "the table and the bench" are assigned in order to an answer
    "0.5 m and 0.6 m". If the question asks how far the box is from the cup, "the box is 0.5 m away"
    is about both.
    """
    places: list[int] = []
    for at, (statement, _) in enumerate(found):
        follows = at > 0 and found[at - 1][0].sentence == statement.sentence and places[-1] >= 0
        places.append(-1 if statement.label else places[-1] + 1 if follows else 0)
    asked = name_list(label)
    in_order = len(asked) > 1 and max(places, default=-1) == len(asked) - 1
    ends = label.lower().split(" and ")
    stated = {s.label.lower() for s, _ in found}
    one_end = len(ends) == 2 and len(stated.intersection(ends)) == 1
    names = []
    for (s, parts), place in zip(found, places, strict=True):
        name = s.label or (asked[place] if in_order and s.measure != "distance" else label)
        of_both = one_end and s.label.lower() in ends and parts[0][0] is Kind.DISTANCE
        names.append((label if of_both else name, place))
    return names


def _is_given(statement: Statement, given: Sequence[Statement], label: str) -> bool:
    """Whether the statement only repeats the question's reference about another object."""
    return statement.label.lower() != label.lower() and any(
        statement.label.lower() == fact.label.lower()
        and statement.measure in (fact.measure, None)
        and all(
            math.isclose(q.value, known.value, rel_tol=0.01)
            for q, known in zip(statement.quantities, fact.quantities, strict=False)
        )
        for fact in given[:8]
    )


def _concluded(found: list[tuple[Statement, _Parts]]) -> list[tuple[Statement, _Parts]]:
    """The statements of the last conclusion ("so ..."); all if there is none.

    Numbers before a conclusion are not the answer.
    """
    last = max((s.sentence for s, _ in found if s.concluded), default=None)
    if last is None:
        return found
    return [(s, parts) for s, parts in found if s.concluded and s.sentence == last]


def _count(statements: Sequence[Statement], label: str, absent: bool) -> tuple[Measurement, ...]:
    """The number of objects: the concluded number before their name; otherwise the first one."""
    numbers: list[tuple[Statement, _Parts]] = [
        (s, [(Kind.COUNT, s.quantities[0])])
        for s in statements
        if len(s.quantities) == 1
        and s.quantities[0].dimension == "number"
        and s.quantities[0].value >= 0
        and s.measure is None
    ]
    if not numbers:
        return (Measurement(Kind.COUNT, 0.0, objects=(label,)),) if absent else ()
    numbers = _concluded(numbers)
    head = label.lower().split()[-1].rstrip("s") if label else ""
    named = [s for s, _ in numbers if head and head in (w.rstrip("s") for w in s.following)]
    q = (named[0] if named else numbers[0][0]).quantities[0]
    return (Measurement(Kind.COUNT, q.value, q.std_dev, Source.LANGUAGE, (label,), q.text),)


def _asked(question: str) -> tuple[tuple[Kind, ...], str, list[Statement]]:
    """The kinds and the label that are asked for, and the statements of the question itself."""
    tokens = tokenize(question)
    quantities = find_amounts(tokens, question)
    facts = list(find_statements(question, quantities))
    end = quantities[-1].span[1] if quantities else 0
    asked = [token for token in tokens if token.start >= end]  # after the last stated number
    kinds, label = _asked_in(asked, question)
    if not kinds and end:
        kinds, label = _asked_in(tokens, question)
    return kinds, label, facts


def _asked_in(tokens: Sequence[Token], text: str) -> tuple[tuple[Kind, ...], str]:
    """The kinds that a question names, and the object that the first of them is about."""
    kinds: list[Kind] = []
    label = ""
    words = [token.text for token in tokens]
    for at, (word, after) in enumerate(zip(words, [*words[1:], ""], strict=False)):
        first = not kinds
        if (word, after) in (("how", "many"), ("number", "of")):
            if words[at + 2 : at + 3] == [] or words[at + 2] not in UNITS:
                return (Kind.COUNT,), phrase(tokens[at + 2 :], text)
        elif word in NOUNS and not (word == "gap" and kinds):  # "how wide is the gap"
            kinds += _KINDS.get(NOUNS[word], ())
            if first and NOUNS[word] == "distance":
                label = pair_of(tokens[at + 1 :], text)
            elif first and after == "of":
                label = phrase(tokens[at + 2 :], text)
        elif word in _COMPARATIVES:
            kinds += _COMPARATIVES[word]
        elif word == "how" and after in (*ADJECTIVES, "big", "large"):
            kinds += _KINDS.get(ADJECTIVES.get(after, "size"), ())
            if first:
                label = _how_label(after, tokens[at + 2 :], text)
    return tuple(dict.fromkeys(kinds)), label


def _how_label(adjective: str, rest: Sequence[Token], text: str) -> str:
    """ "how wide is the X" -> "X", "how far is A from B" -> "A and B"."""
    start = 0
    while start < min(3, len(rest)) and rest[start].text in ("is", "are", "am", "apart", "away"):
        start += 1
    name = join_names if adjective == "far" else phrase
    return name(rest[start:], text)


def read(text: str, asked: Asked) -> Reading:
    """What a text answers to a typed question. Never raises; time is linear in its length."""
    parsed = _parse(text)
    question = question_of(asked) if asked.quantity is not Kind.FREE else ""
    found = _measurements(question, parsed)
    if asked.quantity in (Kind.CAMERA_DISTANCE, Kind.GAP, Kind.DISTANCE):
        found = tuple(replace(m, kind=asked.quantity, objects=asked.objects) for m in found)
    verdict = {None: Verdict.UNDECIDED, True: Verdict.HOLDS, False: Verdict.DOES_NOT_HOLD}
    reading = Reading(
        text, found, parsed.image_points, verdict[parsed.yes], _chosen(text, asked), parsed.absent
    )
    return replace(reading, why_none=_why_none(asked, reading))


def _chosen(text: str, asked: Asked) -> str:
    if not asked.which:
        return ""
    named = [one for one in asked.objects if one.lower() in text.lower()]
    return named[0] if len(named) == 1 else ""


def _why_none(asked: Asked, reading: Reading) -> str:
    """Why the text is no answer to the asked quantity; "" = it is one."""
    if asked.quantity is Kind.FREE or reading.absent:
        return ""
    if asked.quantity is Kind.POSITION:
        return "" if reading.image_points else "the text states no image point"
    if asked.which:
        return "" if reading.chosen else "the text names none of the objects, or several"
    if asked.quantity in (Kind.EXISTS, Kind.COMPARISON):
        decided = reading.verdict is not Verdict.UNDECIDED
        return "" if decided else "the text decides neither yes nor no"
    return "" if reading.measurements else "the text states no number for the question"


def read_each(text: str, asked: Sequence[Asked]) -> tuple[Measurement, ...]:
    """The measurements of an answer to several typed questions that were asked as one.

    A list "0.5 m and 0.6 m" is dealt to the questions in order; names in the text go before order.
    """
    found = [m for one in asked for m in read(text, one).measurements]
    return tuple(dict.fromkeys(found))


def measured(question: str, text: str) -> tuple[Measurement, ...]:
    """The measurements of an answer to a question in words."""
    asked = parse_each(question)
    if len(asked) == 1:
        return read(text, asked[0]).measurements
    return _measurements(question, _parse(text)) if asked else ()


_YES = vocabulary("yes yeah yep indeed correct true certainly absolutely")
_NO = vocabulary("no nope not incorrect false wrong")
# "No it is not" and "no idea" deny no object; "No sofa in the scene" does.
_NOT_OBJECTS = vocabulary(
    "it the they that this these those there he she a an i we you its one idea doubt question "
    "need way problem gap space difference distance more less longer other further"
)
_SEEING = vocabulary(
    "find found see seen detect detected locate located identify visible present exist exists "
    "appear any"
)
_PICTURE = vocabulary("image picture scene photo view frame")


def _yes(tokens: Sequence[Token]) -> bool | None:
    """The first yes or no that opens a sentence or follows "answer is"."""
    for at, token in enumerate(tokens):
        before = [t.text for t in tokens[max(0, at - 2) : at]]
        opens = not before or before[-1] in SENTENCE_ENDS or before[-1] == ":"
        if not opens and before != ["answer", "is"]:
            continue
        if token.text in _YES:
            return True
        if token.text in _NO and not _denies_object(tokens, at):
            return False
    return None


def _denies_object(tokens: Sequence[Token], at: int) -> bool:
    """Whether token `at` is the "no" of "no sofa"."""
    following = tokens[at + 1] if at + 1 < len(tokens) else None
    return (
        tokens[at].text == "no"
        and following is not None
        and following.kind == "word"
        and following.text not in _NOT_OBJECTS
    )


def _absent(tokens: Sequence[Token]) -> bool:
    """Whether the text denies that an object exists."""
    words = [token.text for token in tokens]
    for at, word in enumerate(words):
        before, following = words[max(0, at - 2) : at], words[at + 1 : at + 4]
        opens = not before or before[-1] in SENTENCE_ENDS or before[-1] in (",", "yes", "no")
        there = bool(before) and (
            before[-1] in ("there's", "contains", "contain", "see", "find", "has")
            or (before[0] == "there" and before[-1] in ("is", "are", "was", "were"))
        )
        if word == "no" and (opens or there) and _denies_object(tokens, at):
            return True
        negated = word in ("not", "cannot", "unable") or word.endswith("n't")
        if (
            negated
            and "enough" not in following
            and (
                not _SEEING.isdisjoint(following)
                or (following[:1] == ["in"] and not _PICTURE.isdisjoint(following))
                or (
                    before[-1:] == ["there"]
                    or before == ["there", "is"]
                    or before == ["there", "are"]
                )
            )
        ):
            return True
    return False
