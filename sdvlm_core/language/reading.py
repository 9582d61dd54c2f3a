"""A text and a typed question -> what the text answers: numbers, points, a verdict.

Precision before recall: a number is taken only where the grammar gives it to the asked quantity of
the asked object. Otherwise there is no number, and `Reading.why_none` has the reason. Several
different numbers for one quantity are no number either, unless one is the text's conclusion.

Reads English and the answer forms of MSMU. Does not know frames, models or the true values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdvlm_core.answer import SIDES, Asked, Measurement, Quantity, Source, Verdict
from sdvlm_core.language.amounts import Amount
from sdvlm_core.language.claims import Claim, claim_of, claims_of_size, free_claims
from sdvlm_core.language.clauses import find_clauses
from sdvlm_core.language.denials import denies
from sdvlm_core.language.doubts import ADDITION, ANOTHER
from sdvlm_core.language.idioms import in_plain_words
from sdvlm_core.language.markup import plain_lines
from sdvlm_core.language.mentions import means
from sdvlm_core.language.places import apart, is_at, is_elsewhere, may_contain
from sdvlm_core.language.points import LABEL, Points, find_points
from sdvlm_core.language.question import parse_each
from sdvlm_core.language.relations import RELATION_WORDS
from sdvlm_core.language.statements import Statement, find_statements
from sdvlm_core.language.verdicts import decides
from sdvlm_core.language.yes_no import is_refusal

#: Characters; what follows is not read. An answer is limited to far fewer tokens.
MAX_TEXT = 50_000
# What is added to a count: "another is on the chair", "3 more", "plus two".
_A_FEW = r"(?:\d+|one|two|three|four|five|six)"
_ADDED = re.compile(
    r"\banother(?: one)? (?:is|on|in|at|by|near|next|under|behind|lies|sits|stands)\b"
    rf"|\b{_A_FEW} more\b(?! than)|\bplus {_A_FEW}\b"
    rf"|\band {_A_FEW}(?: others?)? (?:is|are) (?:partly|partially|hidden|cut|only|half)\b",
    re.I,
)
_SOME_OF = re.compile(
    r"\b(?:one|some|few|most|half|two|three|four|five|\d{1,3}) of (?:which|them|these|those)\b",
    re.I,
)
_TOTAL = re.compile(r"\b(?:in total|altogether|in all|all together)\b", re.I)
_ONE_MORE = re.compile(
    r"\b(?:another|an additional|one additional|(?:a|the) (?:second|third|fourth|fifth|sixth))"
    r"((?: [a-z'-]{1,30}){1,4})",
    re.I,
)
# Words that stand for the things counted before.
_SAME_THINGS = ("ones", "more", "others")
# Two values of one quantity are the same up to this ratio ("1.5 m (4.9 ft)").
_SAME_RATIO = 1.06
_NUMBERS = frozenset(
    (*SIDES, Quantity.SIZE, Quantity.DISTANCE, Quantity.GAP, Quantity.CAMERA_DISTANCE)
) | {Quantity.COUNT, Quantity.DIFFERENCE}


@dataclass(frozen=True)
class Reading:
    """What a text answers to one question.

    Attributes:
        text: the text that was read.
        measurements: of the asked quantity and objects; of a FREE question those whose quantity
            and object the text states itself.
        image_points: (u, v) as fractions of the image.
        verdict: of a question for a verdict, and the yes or no of a FREE one; UNDECIDED where none
            is stated.
        chosen: the asked object that the answer to a "which" question names, "" = none.
        absent: the text denies that an asked object exists.
        why_none: why the text is no answer to the asked quantity; "" = it is one, or nothing
            certain was asked.
    """

    text: str
    measurements: tuple[Measurement, ...] = ()
    image_points: tuple[tuple[float, float], ...] = ()
    verdict: Verdict = Verdict.UNDECIDED
    chosen: str = ""
    absent: bool = False
    why_none: str = ""


def read(text: str, asked: Asked, picture: tuple[int, int] | None = None) -> Reading:
    """What a text answers to a typed question. Never raises; time is linear in its length.

    Args:
        picture: as of `find_points`.
    """
    # An answer to "which is higher" may say "taller".
    asked = replace(asked, relation=RELATION_WORDS.get(asked.relation, asked.relation))
    points = find_points(text[:MAX_TEXT], picture)
    plain = _with_names(in_plain_words(plain_lines(points.rest)), asked)
    clauses = find_clauses(plain, asked.objects)
    choice = decides(plain, clauses, asked)
    numeric = asked.quantity in _NUMBERS or asked.quantity is Quantity.POSITION
    verdict = Verdict.UNDECIDED if numeric else choice.verdict
    absent = choice.verdict is not Verdict.HOLDS and denies(plain, asked.objects)
    measurements: tuple[Measurement, ...] = ()
    why = ""
    if asked.quantity is Quantity.FREE or asked.quantity in _NUMBERS:
        statements = find_statements(clauses)
        measurements, why = _measurements(statements, asked)
        if asked.quantity is Quantity.COUNT and measurements:
            # What stands before a total is part of it.
            totals = (one.amounts[0].span[0] for one in statements if one.final and not one.doubt)
            after = plain[max(totals, default=0) :]
            if added := _of_more(plain, asked) or _added(after, asked):
                measurements, why = (), f"the text counts in parts: {added}"
    if asked.quantity is Quantity.COUNT and absent and not measurements:
        measurements, why = (Measurement(Quantity.COUNT, 0.0, objects=asked.objects),), ""
    if measurements:  # "not three but four cups" denies none
        absent = absent and asked.quantity is Quantity.COUNT and measurements[0].value == 0
    reading = Reading(
        text, measurements, _of_object(points, asked), verdict, choice.chosen, absent, why
    )
    return replace(reading, why_none=_why_none(asked, reading, points.other_scale, plain))


def _with_names(text: str, asked: Asked) -> str:
    """The text with the asked names for "the former" and "the latter", if it has no name itself."""
    if len(asked.objects) == 2 and not any(name.lower() in text.lower() for name in asked.objects):
        for word, name in zip(("former", "latter"), asked.objects, strict=True):
            literal = name.replace("\\", r"\\")
            text = re.sub(rf"\bthe {word}\b", f"the {literal}", text, flags=re.I)
    return text


def _of_object(points: Points, asked: Asked) -> tuple[tuple[float, float], ...]:
    """The points that the text gives to the asked object; all if it names it at none or at all.

    Without those whose JSON object has another label.
    """
    if len(asked.objects) != 1:
        return points.points
    name = asked.objects[0]
    pairs = [
        (point, context)
        for point, context in zip(points.points, points.contexts, strict=True)
        if (label := LABEL.search(context)) is None or means(label[1], name)
    ]
    own = tuple(point for point, context in pairs if name.lower() in context.lower())
    return own or tuple(point for point, _ in pairs)


def read_each(text: str, asked: Sequence[Asked]) -> tuple[Measurement, ...]:
    """The measurements of an answer to several typed questions that were asked as one.

    Numbers that the text gives to the asked objects by name; otherwise a list that has one number
    for each question, in the order in which the text or the question names the objects.
    """
    if len(asked) < 2:
        return read(text, asked[0]).measurements if asked else ()
    objects = tuple(dict.fromkeys(name for one in asked for name in one.objects))
    plain = in_plain_words(plain_lines(find_points(text[:MAX_TEXT]).rest))
    plain = plain.replace(" and ", ", and ")
    statements = find_statements(find_clauses(plain, objects))
    if len(objects) > 1:
        named = [s for s in statements if s.owners and not s.pronoun]
    else:
        named = statements  # two sides of one object
    found = [_measurements(named, one)[0] for one in asked]
    if all(found):
        return tuple(measurement for one in found for measurement in one)
    return _in_order(plain, statements, asked, objects)


def measured(question: str, text: str) -> tuple[Measurement, ...]:
    """The measurements of an answer to a question in words."""
    return read_each(text, parse_each(question))


def _in_order(
    text: str, statements: Sequence[Statement], asked: Sequence[Asked], objects: tuple[str, ...]
) -> tuple[Measurement, ...]:
    """One number for each question, in order; () where their number differs."""
    lengths = [s for s in statements if not s.doubt and s.amounts[0].dimension == "length"]
    known = {s.owners for s in lengths if s.owners and not set(s.owners) & set(objects)}
    if len(lengths) != len(asked) or known or len(objects) != len(asked):
        return ()
    places = [text.lower().find(name.lower()) for name in objects]
    if all(place >= 0 for place in places):
        order = sorted(range(len(objects)), key=places.__getitem__)
    elif all(place < 0 for place in places):
        order = list(range(len(objects)))
    else:
        return ()
    found: list[Measurement] = []
    for statement, index in zip(lengths, order, strict=True):
        one = asked[index]
        bare = replace(statement, owners=one.objects, ends=one.objects, pronoun=False)
        values, _ = _measurements([bare], one)
        if not values:
            return ()
        found += values
    return tuple(found)


def _measurements(
    statements: Sequence[Statement], asked: Asked
) -> tuple[tuple[Measurement, ...], str]:
    """The measurements of the asked quantity, and why there are none."""
    if asked.quantity is Quantity.FREE:
        claims = [claim for one in statements for claim in free_claims(one)]
    elif asked.quantity is Quantity.SIZE:
        claims = claims_of_size(statements, asked)
    else:
        claims = [claim_of(one, asked) for one in statements]
        if asked.quantity is Quantity.COUNT:
            claims = _without_totals(claims, statements, asked)
            claims = _without_wholes(claims, statements, asked)
            if parts := _parts(claims, statements, asked):
                return (), f"the text counts in parts: {parts}"
        if asked.quantity in (Quantity.DISTANCE, Quantity.GAP):
            claims = _two_ended(claims, statements)
    taken = [claim for claim in claims if not claim.why]
    if not taken:
        return (), next((claim.why for claim in claims), "the text states no number")
    if any(claim.why == ANOTHER for claim in claims):
        return (), ANOTHER
    if _concluded(claims) and not any(claim in taken for claim in _concluded(claims)):
        return (), next(claim.why for claim in reversed(_concluded(claims)))
    found: list[Measurement] = []
    groups: dict[tuple[Quantity, tuple[str, ...]], list[Claim]] = {}
    for claim in taken:
        groups.setdefault((claim.kind, claim.objects), []).append(claim)
    denied = [claim for claim in claims if claim.denied]
    for (kind, objects), group in groups.items():
        same = _concluded(group)
        if kind is Quantity.COUNT and len({claim.sentence for claim in same}) < len(same):
            return (), f"the text counts in parts: {_listed(same)}"
        first = same[0].amount
        if any(not _agree(first, claim.amount) for claim in same[1:]):
            return (), f"the text states several values: {_listed(same)}"
        if any(c.kind is kind and _agree(first, c.amount) for c in denied):
            return (), f"the text states and denies {first.text}"
        found.append(
            Measurement(kind, first.value, first.std_dev, Source.LANGUAGE, objects, first.text)
        )
    return tuple(found), ""


def _two_ended(claims: Sequence[Claim], statements: Sequence[Statement]) -> list[Claim]:
    """Without the claims of one object where the text states its distance from the camera."""
    if not any(one.camera and one.measure == "distance" for one in statements):
        return [*claims]
    why = "it may be the distance from the camera"
    return [
        replace(claim, why=claim.why or why) if len(one.ends) == 1 else claim
        for claim, one in zip(claims, statements, strict=True)
    ]


def _without_totals(
    claims: Sequence[Claim], statements: Sequence[Statement], asked: Asked
) -> list[Claim]:
    """Without the sums over several things: "beakers: 5, flasks: 3, total: 8"."""
    counted = [one.counted or (one.owners[0] if one.owners else "") for one in statements]
    name = asked.objects[0]
    if all(not one or means(one, name, plural=True) for one in counted):
        return [*claims]
    why = "it may count other things too"
    return [
        replace(claim, why=claim.why or why, final=False) if one.final and not what else claim
        for claim, one, what in zip(claims, statements, counted, strict=True)
    ]


def _without_wholes(
    claims: Sequence[Claim], statements: Sequence[Statement], asked: Asked
) -> list[Claim]:
    """Without the counts at no place where the text has another number at the asked place.

    "There are three cups, one of which is on the table." A room contains other places: "4 chairs at
    the table and 2 in the room".
    """
    name = asked.objects[0]
    why = "it may count those at other places too"
    same = [s for s in statements if not s.counted or means(s.counted, name, plural=True)]
    if may_contain(name) and any(is_elsewhere(name, one.place) for one in same):
        return [replace(claim, why=claim.why or why) for claim in claims]
    if not any(is_at(name, one.place) for one in same):
        return [*claims]
    return [
        claim if one.place else replace(claim, why=claim.why or why)
        for claim, one in zip(claims, statements, strict=True)
    ]


def _parts(claims: Sequence[Claim], statements: Sequence[Statement], asked: Asked) -> str:
    """The numbers of a count in parts, "2 books here and 3 there"; "" = it has none.

    Further numbers that sum up to the first are its parts, and the first is the count.
    """
    taken = next((at for at, claim in enumerate(claims) if not claim.why), len(claims))
    if any(claim.final for claim in claims):
        return ""
    first, more = statements[taken : taken + 1], statements[taken + 1 :]
    further = [one.amounts[0] for one in more if first and _continues(one, first[0], asked)]
    if not further or (
        len(further) > 1 and sum(one.value for one in further) == first[0].amounts[0].value
    ):
        return ""
    return ", ".join(one.text for one in (first[0].amounts[0], *further))[:100]


def _added(text: str, asked: Asked) -> str:
    """What a text adds to a count: "another is on the chair", "a third chair"; "" = nothing."""
    if found := _ADDED.search(text):
        return found[0]
    name = apart(asked.objects[0])[0]
    for match in _ONE_MORE.finditer(text):
        words = match[1].split()
        names = (" ".join(words[:n]) for n in range(1, len(words) + 1))
        if words[0] == "one" or any(means(one, name, plural=True) for one in names):
            return match[0].strip()
    return ""


def _of_more(text: str, asked: Asked) -> str:
    """What says that a count is of more than the asked kind: "7 balls in total" for red balls."""
    name, place = apart(asked.objects[0])
    kind = not place and " " in name and name.lower() not in text.lower()
    found = _SOME_OF.search(text) if place or kind else None
    found = found or (_TOTAL.search(text) if kind else None)
    return found[0] if found else ""


def _continues(statement: Statement, first: Statement, asked: Asked) -> bool:
    """Whether a number counts more of the same things: "3 on the chair", "3 blue ones"."""
    amount, counted = statement.amounts[0], statement.counted.split()
    more = statement.doubt == ADDITION or counted[-1:] == ["more"]
    return (
        amount.dimension == "number"
        and amount.value % 1 == 0
        and len(statement.amounts) == 1
        and statement.doubt in ("", ADDITION)
        and not statement.restated
        and (more or statement.sentence == first.sentence)
        and (not counted or counted[-1] in _SAME_THINGS)
        and not is_elsewhere(asked.objects[0], statement.place)
        and (not statement.owners or means(statement.owners[0], asked.objects[0], plural=True))
    )


def _concluded(claims: Sequence[Claim]) -> list[Claim]:
    """The claims of the last sentence that concludes or corrects; all if there is none."""
    last = max((claim.sentence for claim in claims if claim.final), default=None)
    if last is None:
        return [*claims]
    return [claim for claim in claims if claim.final and claim.sentence == last]


def _agree(one: Amount, other: Amount) -> bool:
    low, high = sorted((one.value, other.value))
    return low == high or (low > 0 and high / low < _SAME_RATIO)


def _listed(claims: Sequence[Claim]) -> str:
    return ", ".join(dict.fromkeys(claim.amount.text for claim in claims))[:100]


def _why_none(asked: Asked, reading: Reading, other_scale: bool, text: str) -> str:
    if asked.quantity is Quantity.FREE:
        nothing = not reading.measurements and not reading.image_points
        return "the text gives no answer" if nothing and is_refusal(text) else ""
    if asked.quantity is Quantity.POSITION:
        if reading.image_points:
            return ""
        return (
            "the text gives pixels, not fractions of the image"
            if other_scale
            else "the text states no image point"
        )
    if asked.which:
        return "" if reading.chosen else "the text chooses none of the objects"
    if asked.quantity in (Quantity.EXISTS, Quantity.COMPARISON):
        decided = reading.verdict is not Verdict.UNDECIDED
        return "" if decided else "the text does not decide between yes and no"
    return "" if reading.measurements else reading.why_none
