"""Clauses -> statements: of what, and of which object, each number is.

From the number leftwards: words that only hedge are passed; the first name, verb or number decides.

    "the width of the lamp is 0.3 m"      verb: measure and owner are those before it
    "the lamp on the shelf is 0.3 m wide" the owner is the first name that is not only a place
    "on a shelf 0.8 m high"               the shelf is next to the number: it is the owner
    "the 20 cm box"                       the owner follows
    "..., which is 20 cm tall"            the owner is the last name before
    "... and is 0.4 m wide"               the owner is that of the clause before

A statement whose number is no value of its owner (negated, compared, bounded, part of a sum, ...)
keeps the reason as `doubt`. Does not know the question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from sdvlm_core.language import words as w
from sdvlm_core.language.amounts import Amount
from sdvlm_core.language.clauses import Clause, Part
from sdvlm_core.language.doubts import denies_before, doubt_of
from sdvlm_core.language.neighbours import (
    counted_after,
    ends_of,
    others_around,
    place_of,
    several_before,
)
from sdvlm_core.language.relations import RELATION_WORDS
from sdvlm_core.language.subjects import Subject, stronger, subject_before, subject_of

_TOGETHER = frozenset(("including", "counting", "with", "without"))
_CONDITIONS = frozenset(("if", "unless"))
_EXCLUDED = frozenset(("not", "including", "counting"))
#: Parts on each side of a number that can say something of it.
_REACH = 60
_SEPARATED = frozenset(("separated", "spaced", "apart", "given", "distance", "gap"))
#: Round numbers in brackets: "1 m (3 feet)". Beyond this ratio they contradict.
_ROUNDED = 1.2
_UPRIGHT = frozenset(("base", "bottom", "floor", "ground", "foot", "top", "rim", "tabletop"))


@dataclass(frozen=True)
class Statement:
    """A number, or the numbers of one product, with what the text says of it.

    Attributes:
        amounts: one, or the factors of a product.
        measure: a value of `words.NOUNS`; "" = not stated.
        owners: names of what is measured; () = not stated.
        ends: names of the ends of a distance, the owner included.
        camera: one end is the camera.
        relation: the comparative of a difference ("taller"), "more" for one without direction.
        sides: the measures of a product's factors, () = not stated.
        doubt: why the number is no value of the owner; "" = it is one.
        component, surface, centre: of a distance, whether it is one along an axis, between
            surfaces, or between centres.
        pronoun: the owner is "it". attributive: the owner follows, as in "the 20 cm box".
        final: a conclusion or a correction. sentence: where it stands.
        counted: the name after a bare number. restated: repeats the number before the bracket.
        topic: the first name of the sentence before. unknown: a word before the number that no
            table knows. others: further names of the clause, without mere places.
        several: the number of things that the subject counts, as in "two mugs are 20 cm tall".
        place: where what is counted is: ("on", "shelf").
    """

    amounts: tuple[Amount, ...]
    measure: str = ""
    owners: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    camera: bool = False
    relation: str = ""
    sides: tuple[str, ...] = ()
    doubt: str = ""
    component: bool = False
    surface: bool = False
    centre: bool = False
    pronoun: bool = False
    attributive: bool = False
    final: bool = False
    sentence: int = 0
    counted: str = ""
    restated: bool = False
    topic: str = ""
    unknown: str = ""
    others: tuple[str, ...] = ()
    several: str = ""
    place: tuple[str, str] | tuple[()] = ()


@dataclass
class _Context:
    """What carries over from clause to clause."""

    sentence: int = -1
    owners: tuple[str, ...] = ()  # of the sentence
    last: tuple[str, ...] = ()  # of the number before, in the sentence
    measure: str = ""
    doubt: str = ""
    final: bool = False
    topic: str = ""  # the first name of the latest sentence with one
    earlier: str = ""  # the topic before this sentence
    heading: str = ""
    concluding: bool = False  # the sentence before is a heading "Answer:"
    sides: tuple[str, ...] = ()
    labels: dict[int, str] = field(default_factory=dict)  # of numbers, by the id of their part
    surface: bool = False  # "measured from edge to edge"
    centre: bool = False  # "centre to centre, ..."
    partial: bool = False  # "not including the base, ..."
    condition: bool = False  # "if the tiles are 30 cm wide, ..."
    past: bool = False  # "formerly, ..."


def find_statements(clauses: Sequence[Clause]) -> list[Statement]:
    """The statements of all numbers, in order. Linear time."""
    context = _Context()
    found: list[Statement] = []
    sides = {clause.sentence: named for clause in clauses if (named := _sides_named(clause))}
    context.labels = dict(filter(None, map(_label, clauses)))
    surfaces = {clause.sentence for clause in clauses if _is_between_surfaces(clause)}
    centres = {
        clause.sentence
        for clause in clauses
        if _is_between_centres(clause.parts) and not any(p.amounts for p in clause.parts)
    }
    for index, clause in enumerate(clauses):
        _enter(context, clause)
        context.sides = sides.get(clause.sentence, ())
        context.surface = clause.sentence in surfaces
        context.centre = clause.sentence in centres
        following = clauses[index + 1] if index + 1 < len(clauses) else None
        found += _statements(clause, following, context)
    return found


def _sides_named(clause: Clause) -> tuple[str, ...]:
    """The sides that a clause lists: "W x H x D", "(width, height, depth)"."""
    sides = next((part.sides for part in clause.parts if part.role == "sides"), ())
    if clause.opener == "(" and not sides and not any(p.amounts for p in clause.parts):
        sides = tuple(part.text for part in clause.parts if part.role == "measure")
    return sides


def _label(clause: Clause) -> tuple[int, str] | None:
    """The side that a bracket after a number names: "30 cm (width) by 10 cm (height)"."""
    if clause.opener != "(" or clause.host is None or clause.host.role != "number":
        return None
    named = [part.text for part in clause.parts if part.role == "measure"] or _sides_named(clause)
    return (id(clause.host), named[0]) if len(named) == len(clause.parts) == 1 else None


def _enter(context: _Context, clause: Clause) -> None:
    if clause.sentence != context.sentence:
        context.earlier = context.topic
        context.sentence, context.owners, context.measure = clause.sentence, (), ""
        context.last = ()
        context.doubt, context.final = "", False
        context.partial = context.condition = context.past = False
    if clause.heading:
        names = [part.text for part in clause.parts if part.role == "name"]
        plain = not any(part.role == "pronoun" for part in clause.parts)
        context.heading = names[0] if len(names) == 1 and plain else ""
        context.concluding = _concludes(clause, clause.parts)
    elif context.concluding and clause.parts:
        context.final, context.concluding = True, False
    for part in clause.parts:
        if part.role == "name" and context.topic in ("", context.earlier):
            context.topic = part.text
            break
    context.past |= any(part.text == "formerly" for part in clause.parts)
    if clause.opener in _CONDITIONS:  # "if I had to guess" sets none
        context.condition |= any(part.role in ("name", "number") for part in clause.parts)


def _statements(clause: Clause, following: Clause | None, context: _Context) -> Iterator[Statement]:
    parts = clause.parts
    numbers = [at for at, part in enumerate(parts) if part.role == "number"]
    subject = subject_of(parts[: numbers[0]] if numbers else parts)
    if not numbers:
        opens = clause.opener == "" and parts[:1] and parts[0].role == "name"  # "The lamp, ..."
        if clause.opener != "(" and subject.owners and (subject.verb or opens):
            context.owners = subject.owners
        context.measure = subject.measure or context.measure
        texts = {part.text for part in parts}
        context.partial = context.partial or _is_partial(clause)
        excluded = texts & {"excluding"} or {"not"} < texts & _EXCLUDED
        context.partial = context.partial or bool(excluded)
        context.doubt, context.final = "", context.final or _concludes(clause, parts)
        return
    context.partial = context.partial or _is_partial(clause)
    for order, at in enumerate(numbers):
        start = numbers[order - 1] + 1 if order else 0
        end = numbers[order + 1] if order + 1 < len(numbers) else len(parts)
        low = max(0, at - _REACH)  # a bounded number of parts: the time stays linear
        near = replace(clause, parts=parts[low : at + _REACH])
        end = min(end, at + _REACH) - low
        yield _statement(near, max(start - low, 0), at - low, end, following, context)


def _is_partial(clause: Clause) -> bool:
    """Whether a sentence begins with what is added or left out: "With the stand it is"."""
    opens = clause.opener == "" and clause.parts[:1] and clause.parts[0].text in _TOGETHER
    if not opens or any(part.text == "as" for part in clause.parts):
        return False
    roles = (part.role for part in clause.parts if part.role in ("name", "measure", "verb"))
    return next(roles, "") == "name"


def _statement(
    clause: Clause, start: int, at: int, end: int, following: Clause | None, context: _Context
) -> Statement:
    parts = clause.parts
    left, right = parts[start:at], parts[at + 1 : end]
    amounts = parts[at].amounts
    subject, adjacent = subject_before(left)
    alone = len(right) == 1 and right[0].role == "measure" and end < len(parts)
    if alone and any(part.role == "measure" for part in left[-2:]):
        right = []  # "length 2.4 m width 20 cm": of the next number
    measure, tail = _measure_after(right)
    follows = tail[0].text if tail and tail[0].role in ("name", "word") else ""
    attributive = follows if len(amounts) == 1 else ""
    inverted = _subject_after(left, tail)
    measure = stronger(measure, subject.measure or inverted.measure)
    owners = subject.owners or inverted.owners
    pronoun = subject.pronoun and not owners
    if adjacent:
        owners, pronoun = (adjacent,), False
    if len(tail) > 1 and tail[0].text == "for" and tail[1].role == "name":
        owners, pronoun = (tail[1].text,), False  # "25 cm for the cat"
    if attributive and amounts[0].dimension != "number":
        owners = (attributive,)
    elif follows and len(amounts) > 1 and tail[0].role == "name":
        owners, pronoun = (follows,), False  # "the size of a 200 x 90 x 75 cm dining table"
    elif not owners and not pronoun:
        owners = _inherited(clause, left, following, context)
    relation = _relation(parts, at, tail)
    measure = _measure(measure, relation, left, tail)
    if label := context.labels.get(id(clause.parts[at])):
        measure, relation = label, ""
    doubt = _doubt(clause, following, context) or doubt_of(
        clause, parts, start, at, right, context.doubt
    )
    words = {part.text for part in parts if part.role not in ("name", "number", "measure")}
    restated = clause.opener == "(" and clause.host is not None and _repeats(clause.host, amounts)
    statement = Statement(
        amounts,
        measure,
        owners,
        ends_of(parts, at, owners),
        any(part.role == "camera" for part in parts),
        relation,
        context.sides if len(amounts) == len(context.sides) else (),
        doubt,
        bool(words & w.COMPONENTS)
        or (bool(tail) and tail[0].role == "place" and tail[0].text != "on"),
        subject.surface or context.surface or any(part.role == "surface" for part in parts),
        subject.centre or inverted.centre or context.centre or _is_between_centres(parts),
        pronoun,
        bool(attributive),
        context.final or _concludes(clause, parts),
        clause.sentence,
        counted_after(amounts, right),
        restated,
        context.earlier,
        next((part.text for part in left if part.role == "word"), ""),
        others_around(left, tail, owners),
        several_before(parts, start, at),
        place_of(left, right),
    )
    if clause.opener != "(":
        # "two collars, 6 cm wide"
        context.last = (statement.counted,) if statement.counted else owners
        if not (attributive or adjacent):
            context.owners = owners or context.owners
        context.measure, context.doubt, context.final = measure, doubt, statement.final
    return statement


def _doubt(clause: Clause, following: Clause | None, context: _Context) -> str:
    """Why the other clauses of the sentence make a number no value; "" = they do not."""
    if context.partial:
        return "a part of the object is left out"
    if context.past:
        return "it is of another time"
    if context.condition and any(part.text == "would" for part in clause.parts):
        return "it is only assumed"
    if following is not None and denies_before(following, clause.sentence):
        return "it is negated"
    if following is None or following.sentence != clause.sentence:
        return ""
    return "it is only assumed" if following.opener in _CONDITIONS else ""


def _measure_after(right: Sequence[Part]) -> tuple[str, Sequence[Part]]:
    """The measure after a number ("tall", "in width", "of clearance"), and the parts after it."""
    at = 0
    while at < len(right) and right[at].role == "hedge" and right[at].text not in w.COMPONENTS:
        at += 1
    if at < len(right) and right[at].role == "measure":
        gap = right[at + 1 : at + 2] == [Part("measure", "gap")]  # "a 20 cm wide gap"
        return ("gap" if gap else right[at].text), right[at + 1 + gap :]
    if at < len(right) and right[at].role == "preposition" and right[at].text in ("in", "of"):
        inner = at + 1
        while inner < len(right) and right[inner].role == "hedge":
            inner += 1
        if inner < len(right) and right[inner].role == "measure":
            return right[inner].text, right[inner + 1 :]
    upright = [part for part in right if part.text in _UPRIGHT]
    if len(upright) > 1 and right[at : at + 1] and right[at].text == "from":
        return "height", ()
    return "", right[at:]


def _subject_after(left: Sequence[Part], tail: Sequence[Part]) -> Subject:
    """The subject that follows: "10 cm is the height of the mug", "2 m from me is the car"."""
    bare = all(part.role in ("hedge", "mark") or part.text == "at" for part in left)
    verb = next((i for i, part in enumerate(tail[:6]) if part.role == "verb"), None)
    if not bare or verb is None:
        return Subject()
    if any(part.role not in ("preposition", "place", "camera", "hedge") for part in tail[:verb]):
        return Subject()
    if verb == 0 and not any(part.text == "at" for part in left):
        return subject_of(tail)
    return replace(subject_before(tail[verb + 1 :])[0], measure="")


def _is_between_surfaces(clause: Clause) -> bool:
    """Whether a clause without a number says "from edge to edge"."""
    if any(part.role == "number" for part in clause.parts):
        return False
    words = [word for part in clause.parts for word in part.text.replace("-", " ").split()]
    return "to" in words and sum(word in w.SURFACES for word in words) > 1


def _repeats(host: Part, amounts: Sequence[Amount]) -> bool:
    """Whether numbers in brackets repeat the number before: not "0.35 m (35 inches)"."""
    if host.role != "number":
        return False
    first, second = host.amounts[0], amounts[0]
    low, high = sorted((first.value, second.value))
    comparable = first.dimension == second.dimension == "length" and low > 0
    return not comparable or len(amounts) > 1 or high / low < _ROUNDED


def _measure(measure: str, relation: str, left: Sequence[Part], tail: Sequence[Part]) -> str:
    """The measure of a number, from the one that is named and the words around it."""
    if relation and (not measure or (tail[:1] and tail[0].role == "relation")):
        return "difference"
    if measure == "height" and _is_mounted(left):
        return "other"
    if not measure and (_is_at(left) or (tail and _is_spatial(tail))):
        return "distance"
    return measure


def _is_mounted(left: Sequence[Part]) -> bool:
    """Whether the verb before a number says where an object is, not how large it is."""
    verbs = [part.text for part in left if part.role in ("verb", "word")]
    return bool(verbs) and verbs[-1] in w.MOUNTED


def _is_at(left: Sequence[Part]) -> bool:
    """Whether a number says where something is: "the mug is at 1.2 m"."""
    texts = [part.text for part in left if part.role != "hedge"][-2:]
    return texts[-1:] == ["at"] and texts[0] in ("is", "are", "was", "located", "it's")


def _is_spatial(tail: Sequence[Part]) -> bool:
    first = tail[0]
    return first.role == "place" or (
        first.role == "preposition" and first.text in ("from", "to", "off", "between", "into")
    )


def _inherited(
    clause: Clause, left: Sequence[Part], following: Clause | None, context: _Context
) -> tuple[str, ...]:
    """The owner where the clause names none: of the clause before, the bracket, or the heading."""
    if clause.opener in ("(", "which", "who", "whose", "where") and clause.host is not None:
        return (clause.host.text,) if clause.host.role == "name" else context.owners
    joined = clause.opener in ("and", "or", ",") and not any(p.role == "verb" for p in left)
    if joined and context.last:
        return context.last  # "a box 20 cm tall and 30 cm wide"
    if context.owners:
        return context.owners
    verbless = not any(part.role in ("verb", "pronoun") for part in left) or any(
        part.text in ("standing", "measuring") for part in left[:1]
    )
    opens = clause.opener == "" and following is not None
    if opens and verbless and following is not None and following.sentence == clause.sentence:
        after = subject_of(following.parts)  # "Standing 20 cm tall, the box ..."
        if following.opener == "," and after.verb and after.owners and after.owners[0]:
            return after.owners
    return (context.heading,) if context.heading else ()


def _relation(parts: Sequence[Part], at: int, tail: Sequence[Part]) -> str:
    """The comparative of a difference: "5 cm taller than", "taller by 5 cm", "exceeds ... by"."""
    for part in tail[:2]:
        if part.role == "relation":
            return RELATION_WORDS.get(part.text, "more")
        if part.role not in ("hedge",):
            break
    before = [part for part in parts[:at] if part.role not in ("hedge",)]
    if before and before[-1].text == "by":
        words = [part.text for part in before if part.role == "relation"]
        if not words and _SEPARATED & {part.text for part in before}:
            return ""
        return RELATION_WORDS.get(words[-1], "more") if words else "more"
    return ""


def _is_between_centres(parts: Sequence[Part]) -> bool:
    """Whether a clause says "centre to centre"."""
    texts = [part.text for part in parts]
    pairs = zip(texts, texts[1:], texts[2:], strict=False)
    return any(a == c and b == "to" and a in ("centre", "center") for a, b, c in pairs)


def _concludes(clause: Clause, parts: Sequence[Part]) -> bool:
    words = {part.text for part in parts if part.role in ("hedge", "break", "word", "mark")}
    words |= {word for part in parts if part.role == "nameless" for word in part.text.split()}
    texts = [part.text for part in parts[:2]]
    correction = texts[:1] in (["no"], ["rather"]) and clause.opener in ("", "or")
    return bool(({clause.opener} | words) & w.CONCLUSIONS) or correction
