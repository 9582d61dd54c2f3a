"""Statements and a typed question -> claims: which number is the asked quantity, and why not.

Every statement becomes a claim; one with a reason `why` is no answer. Does not know how several
claims are settled (`reading`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sdvlm_core.answer import SIDES, Asked, Quantity
from sdvlm_core.language.amounts import Amount
from sdvlm_core.language.doubts import WHOLE
from sdvlm_core.language.mentions import means
from sdvlm_core.language.places import apart, is_elsewhere
from sdvlm_core.language.relations import OPPOSITES, RELATIONS
from sdvlm_core.language.statements import Statement
from sdvlm_core.language.units import UNITS

_MEASURES = {
    Quantity.HEIGHT: "height",
    Quantity.WIDTH: "width",
    Quantity.LENGTH: "length",
}
_KINDS = {measure: kind for kind, measure in _MEASURES.items()}
_NOTHING = Amount(math.nan, "number")


@dataclass(frozen=True)
class Claim:
    """A number as the answer to a question; `why` says why it is none, "" = it is one."""

    kind: Quantity
    amount: Amount
    objects: tuple[str, ...]
    why: str = ""
    final: bool = False
    sentence: int = 0
    denied: bool = False


def claim_of(statement: Statement, asked: Asked) -> Claim:
    """The claim of one statement about the asked quantity."""
    amount, why = _amount(statement, asked)
    doubt = statement.doubt
    if doubt == WHOLE and not apart(asked.objects[0])[1]:
        doubt = ""  # "3 of the 8 books are red": there are 8
    why = why or doubt or _wrong_measure(statement, asked) or _wrong(statement, asked)
    claim = Claim(asked.quantity, amount, asked.objects, why)
    denied = statement.doubt == "it is negated" and not _wrong_measure(statement, asked)
    return replace(claim, final=statement.final, sentence=statement.sentence, denied=denied)


def _amount(statement: Statement, asked: Asked) -> tuple[Amount, str]:
    """The asked number of a statement in SI, and why it has none."""
    amounts = statement.amounts
    amount = amounts[0]
    if len(amounts) > 1:
        side = _MEASURES.get(asked.quantity, "")
        if side not in statement.sides:
            return amount, "the text does not say which side each number is"
        amount = amounts[statement.sides.index(side)]
    if statement.restated:
        return amount, "it repeats the number before the bracket"
    if amount.value < 0:
        return amount, f"{amount.text} is negative"
    if asked.quantity is Quantity.COUNT:
        whole = amount.value % 1 == 0 and math.isnan(amount.std_dev)
        if amount.dimension != "number" or not whole:
            return amount, f"{amount.text} is no count"
        return amount, ""
    if amount.value == 0 and asked.quantity not in (Quantity.GAP, Quantity.DIFFERENCE):
        return amount, f"{amount.text} is zero"
    if amount.dimension == "number" and amount.value == 0 and not statement.counted:
        return replace(amount, dimension="length"), ""  # "they touch, so the gap is zero"
    if amount.dimension == "number" and asked.unit.lower() in UNITS:
        if statement.counted:
            return amount, f"{amount.text} counts {statement.counted}"
        scale = UNITS[asked.unit.lower()].scale
        value, deviation = amount.value * scale, amount.std_dev * scale
        return replace(amount, value=value, std_dev=deviation, dimension="length"), ""
    if amount.dimension != "length":
        return amount, f"{amount.text} has no unit of length"
    return amount, ""


def _wrong_measure(statement: Statement, asked: Asked) -> str:
    """Why the measure that a statement names is not the asked one."""
    measure, quantity = statement.measure, asked.quantity
    allowed = {
        Quantity.DISTANCE: ("", "distance"),
        Quantity.GAP: ("", "distance", "gap"),
        Quantity.CAMERA_DISTANCE: ("", "distance", "depth"),
        Quantity.COUNT: ("",),
        Quantity.DIFFERENCE: ("", "difference"),
    }.get(quantity) or ("", _MEASURES[quantity])
    if len(statement.amounts) > 1 and statement.sides and measure in ("size", ""):
        return ""
    if measure not in allowed:
        return f"{statement.amounts[0].text} is of another kind: {measure}"
    return ""


def _wrong(statement: Statement, asked: Asked) -> str:
    """Why a number is not of the asked objects."""
    text = statement.amounts[0].text
    if statement.unknown and not statement.measure and asked.quantity is not Quantity.COUNT:
        return f"{text}: {statement.unknown!r} is not understood"
    if asked.quantity in (Quantity.DISTANCE, Quantity.GAP, Quantity.CAMERA_DISTANCE):
        return _wrong_ends(statement, asked)
    if asked.quantity is Quantity.COUNT:
        return _wrong_count(statement, asked)
    if asked.quantity is Quantity.DIFFERENCE:
        return _wrong_difference(statement, asked)
    if statement.attributive and not statement.measure:
        return f"{text} is of a {statement.attributive}"
    if statement.several:
        return f"{text} is of {statement.several} together"
    return _wrong_owner(statement, asked)


def _wrong_owner(statement: Statement, asked: Asked) -> str:
    text = statement.amounts[0].text
    if statement.pronoun and statement.topic:
        known = any(means(statement.topic, one) for one in asked.objects)
        return "" if known else f"{text} may be of the {statement.topic}"
    if not statement.owners:
        others = (n for n in statement.others if not any(means(n, one) for one in asked.objects))
        other = next(others, "")
        return f"{text} may be of the {other}" if other else ""
    if len(statement.owners) > 1 or not any(means(statement.owners[0], o) for o in asked.objects):
        return f"{text} is of the {' and the '.join(statement.owners)}"
    return ""


def _wrong_ends(statement: Statement, asked: Asked) -> str:
    text = statement.amounts[0].text
    alone = len(statement.owners) == 1 and not statement.measure and len(statement.ends) < 2
    if alone and asked.quantity is not Quantity.CAMERA_DISTANCE:
        return f"{text} is of the {statement.owners[0]} alone"
    if statement.component:
        return f"{text} is only one component of the distance"
    if statement.surface and asked.quantity is not Quantity.GAP:
        return f"{text} is between surfaces"
    if statement.centre and asked.quantity is Quantity.GAP:
        return f"{text} is between centres"
    if statement.camera and asked.quantity is not Quantity.CAMERA_DISTANCE:
        return f"{text} is the distance from the camera"
    for name in statement.ends:
        if not any(means(name, one) for one in asked.objects):
            return f"{text} is a distance of the {name}"
    if statement.attributive and not statement.measure:
        return f"{text} is of a {statement.attributive}"
    return ""


def _wrong_count(statement: Statement, asked: Asked) -> str:
    text, name = statement.amounts[0].text, asked.objects[0]
    if is_elsewhere(name, statement.place):
        return f"{text} counts those {' '.join(statement.place)}"
    if statement.counted:
        words = statement.counted.split()
        starts = (" ".join(words[: n + 1]) for n in range(len(words)))  # "books stacked"
        if not any(means(start, name, plural=True) for start in starts):
            return f"{text} counts {statement.counted}"
        return ""
    if statement.owners and not means(statement.owners[0], name, plural=True):
        return f"{text} is of the {statement.owners[0]}"
    return ""


def _wrong_difference(statement: Statement, asked: Asked) -> str:
    text = statement.amounts[0].text
    first, second = asked.objects
    owner = statement.owners[0] if statement.owners else ""
    names = [*statement.ends, *statement.owners]
    for name in names:
        if not means(name, first) and not means(name, second):
            return f"{text} is a difference of the {name}"
    if not statement.relation and not statement.measure:
        return f"{text} is of the {owner} alone" if owner else ""
    relation = statement.relation
    if relation in ("", "more"):
        return ""
    if RELATIONS[relation] is not RELATIONS[asked.relation]:
        return f"{text} is a difference of another kind: {relation}"
    same = relation == asked.relation
    if not same and relation != OPPOSITES.get(asked.relation):
        return f"{text} is a difference of another kind: {relation}"
    if owner and same is not means(owner, first):
        return f"the text says that the {owner} is {relation}"
    if not owner and not same:
        return f"the text says {relation}"
    return ""


def claims_of_size(statements: Sequence[Statement], asked: Asked) -> list[Claim]:
    """The claims of all sides: of a product of three, or of sides that the text names."""
    claims: list[Claim] = []
    for statement in statements:
        common = statement.doubt or _wrong_owner(statement, asked)
        if len(statement.amounts) == 1:
            kind = _KINDS.get(statement.measure)
            if kind is None:
                why = "the text does not say which side it is"
                claims.append(Claim(Quantity.SIZE, statement.amounts[0], asked.objects, why))
                continue
            claims.append(replace(claim_of(statement, replace(asked, quantity=kind))))
            continue
        claims += _product(statement, asked, common)
    depth = [s for s in statements if s.measure in ("depth", "deep") and len(s.amounts) == 1]
    kinds = {claim.kind for claim in claims if not claim.why}
    missing = {Quantity.LENGTH, Quantity.WIDTH} - kinds
    if len(missing) == 1 and Quantity.HEIGHT in kinds and len(depth) == 1:
        kind = missing.pop()
        horizontal = replace(depth[0], measure=_MEASURES[kind])
        claims.append(claim_of(horizontal, replace(asked, quantity=kind)))
    return claims


def _product(statement: Statement, asked: Asked, why: str) -> Iterator[Claim]:
    amounts = statement.amounts
    numbers = [_amount(replace(statement, amounts=(one,), sides=()), asked) for one in amounts]
    why = why or next((reason for _, reason in numbers if reason), "")
    if statement.attributive and not statement.measure:
        why = why or f"they are of a {statement.attributive}"
    if len(amounts) != len(SIDES):
        why = why or f"{len(amounts)} numbers are no size"
    if statement.measure not in ("", "size", "height", "depth", "deep", "length", "width"):
        why = why or f"they are of another kind: {statement.measure}"
    kinds = _sides(statement.sides)
    if kinds is None:
        why = why or "the sides are not those of a box"
    if why or kinds is None:
        yield Claim(Quantity.SIZE, amounts[0], asked.objects, why)
        return
    values = [amount for amount, _ in numbers]
    if not kinds:  # length x width x height, the longer horizontal side first
        low, high = sorted(values[:2], key=lambda amount: amount.value)
        values, kinds = [high, low, values[2]], SIDES
    for kind, amount in zip(kinds, values, strict=True):
        yield Claim(kind, amount, asked.objects, "", statement.final, statement.sentence)


def _sides(measures: tuple[str, ...]) -> tuple[Quantity, ...] | None:
    """The sides that the factors of a product are; () = not stated, None = no box."""
    if not measures:
        return ()
    missing = [kind for kind in SIDES if _MEASURES[kind] not in measures]
    if "depth" in measures and missing not in ([Quantity.LENGTH], [Quantity.WIDTH]):
        return None
    kinds = tuple(missing[0] if one == "depth" else _KINDS[one] for one in measures)
    return kinds if len(set(kinds)) == len(SIDES) else None


def free_claims(statement: Statement) -> Iterator[Claim]:
    """The claims that a statement makes without a question: its quantity and objects in words."""
    owner = statement.owners[:1] if len(statement.owners) == 1 and not statement.pronoun else ()
    asked = Asked(Quantity.FREE, owner)
    if statement.doubt or statement.restated:
        return
    kind = _KINDS.get(statement.measure)
    if kind is not None and owner and len(statement.amounts) == 1:
        asked = replace(asked, quantity=kind)
    elif statement.measure in ("distance", "gap") and len(statement.ends) == 2:
        gap = statement.measure == "gap" or statement.surface
        asked = Asked(Quantity.GAP if gap else Quantity.DISTANCE, statement.ends)
    elif statement.measure == "distance" and statement.camera and len(statement.ends) == 1:
        asked = Asked(Quantity.CAMERA_DISTANCE, statement.ends)
    elif len(statement.amounts) == len(SIDES) and owner:
        yield from claims_of_size([statement], replace(asked, quantity=Quantity.SIZE))
        return
    else:
        return
    yield claim_of(statement, asked)
