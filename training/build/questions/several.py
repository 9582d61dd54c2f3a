"""Questions that relate two or three objects: position, distance, comparison, reference object.

Each function draws one question about a view, or returns None where the view allows none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sdvlm_core.answer import Asked, Quantity
from training.build.phrasing import Rng, Style, fill, pick
from training.build.questions.question import Number, Question
from training.build.questions.view import (
    QUANTITIES,
    RELATION_OF,
    View,
    camera_distance_m,
    choose,
    distance_m,
    measure,
    measure_text,
    sides_m,
)
from training.build.scene import Entry

# A relation that is less clear than this is not asked.
_MIN_RATIO = 1.2
_MIN_VOLUME_RATIO = _MIN_RATIO**2
_MIN_SHIFT = 0.04  # fraction of the image width
_MIN_HEIGHT_STEP_M = 0.05
_MIN_CAMERA_DISTANCE_RATIO = 1.08


_OPPOSITE = {"to the left of": "to the right of", "closer than": "farther than"}
_OPPOSITE |= {"to the right of": "to the left of", "higher than": "lower than"}
_PLACED = {f"to the {side} of": f"positioned on the {side} side of" for side in ("left", "right")}


def _relations(a: Entry, b: Entry) -> Iterator[tuple[str, bool]]:
    """(relation, whether it holds from a to b) for every relation that is clear enough to ask."""
    shift = a["centre_uv"][0] - b["centre_uv"][0]
    if abs(shift) >= _MIN_SHIFT:
        yield "to the left of", shift < 0
        yield "to the right of", shift > 0
    near, far = camera_distance_m(a), camera_distance_m(b)
    if max(near, far) / min(near, far) >= _MIN_CAMERA_DISTANCE_RATIO:
        yield "closer than", near < far
    step = a["centre_world_m"][2] - b["centre_world_m"][2]
    if abs(step) >= _MIN_HEIGHT_STEP_M:
        yield "higher than", step > 0


def _drawn(rng: Rng, options: Sequence[tuple[str, bool]]) -> tuple[str, bool]:
    """One of several; a single one consumes no random number, as in `phrasing.pick`."""
    return options[int(rng.integers(len(options)))] if len(options) > 1 else options[0]


def relative_position(view: View, rng: Rng, style: Style) -> Question | None:
    """Whether a relation holds between two objects, or for which of them it holds."""
    chosen = choose(view, 2, rng)
    if not chosen:
        return None
    (a, item_a), (b, item_b) = chosen
    relations = list(_relations(item_a, item_b))
    if not relations:
        return None
    relation, holds = relations[int(rng.integers(len(relations)))]
    instances = (item_a["instance"], item_b["instance"])
    if relation in style.which and rng.random() < 0.5:
        kind, same = _drawn(rng, style.which[relation])
        winner = a if holds == same else b
        question = fill(rng, style.ask[kind], a=a, b=b)
        answer = fill(rng, style.answer[kind], winner=winner)
        asked = (Asked(Quantity.COMPARISON, (a, b), RELATION_OF[kind], which=True),)
        return Question("relative_position", question, answer, winner, (a, b), instances, asked)
    wording, same = _drawn(rng, style.relations.get(relation, ((relation, True),)))
    reference = "yes" if holds == same else "no"
    question = fill(rng, style.ask["relation"], a=a, b=b, relation=wording)
    answer = fill(
        rng,
        style.answer[f"relation {reference}"],
        a=a,
        b=b,
        relation=wording,
        opposite=_OPPOSITE[relation],
        placed=_PLACED.get(relation, wording),
    )
    asked = (Asked(Quantity.COMPARISON, (a, b), RELATION_OF[wording]),)
    return Question("relative_position", question, answer, reference, (a, b), instances, asked)


def absolute_distance(view: View, rng: Rng, style: Style) -> Question | None:
    """The distance between two objects."""
    chosen = choose(view, 2, rng)
    if not chosen:
        return None
    (a, item_a), (b, item_b) = chosen
    value = distance_m(item_a, item_b)
    return Question(
        "absolute_distance",
        fill(rng, style.ask["distance"], a=a, b=b),
        fill(rng, style.answer["distance"], v=style.length(value, rng), a=a, b=b),
        value,
        (a, b),
        (item_a["instance"], item_b["instance"]),
        (Asked(Quantity.DISTANCE, (a, b)),),
    )


def scale_compare(view: View, rng: Rng, style: Style) -> Question | None:
    """Which of two or three objects is the taller, wider, ... one, or whether the first is."""
    three = rng.random() < 0.4
    chosen = choose(view, 3 if three else 2, rng)
    if not chosen:
        return None
    kind = "compare three" if three else "compare two"
    if style.beyond is not None and rng.random() < 0.4:
        kind = "compare several" if three else "whether"
    table = style.most if kind == "compare three" else style.more
    word = pick(rng, sorted(table))
    what, sign = table[word]

    def amount(item: Entry) -> float:
        # Of two sizes the one with the greater volume is larger.
        return math.prod(sides_m(item)) if what == "size" else float(item[f"{what}_m"])

    ranked = sorted(chosen, key=lambda pair: -sign * amount(pair[1]))
    first, second = amount(ranked[0][1]), amount(ranked[1][1])
    clear = _MIN_VOLUME_RATIO if what == "size" else _MIN_RATIO
    if max(first, second) / min(first, second) < clear:
        return None
    names = tuple(name for name, _ in chosen)
    winner = ranked[0][0]
    fields = dict(zip("abc", names, strict=False)) | {"word": word, "what": what, "winner": winner}
    values = {
        f"v{letter}": measure_text(what, item, style, rng)
        for letter, (_, item) in zip("abc", chosen, strict=False)
    }
    question = fill(rng, style.ask[kind], **fields)
    reference = winner
    asked = Asked(Quantity.COMPARISON, names, RELATION_OF[word], which=kind != "whether")
    if kind == "whether":
        reference = "yes" if winner == names[0] else "no"
        kind = f"relation {reference}"
    template = pick(rng, style.answer[kind])
    told = names if "{va}" in template else ()
    return Question(
        "scale_compare",
        question,
        template.format(**fields, **values),
        reference,
        names,
        tuple(item["instance"] for _, item in chosen),
        (asked,),
        stated=tuple(Asked(QUANTITIES[what], (name,)) for name in told),
    )


def reference_object(view: View, rng: Rng, style: Style) -> Question | None:
    """A measure of one or two objects, given a measure of a reference object."""
    three = rng.random() < 0.3
    if three and "refer distance" in style.ask and rng.random() < 0.5:
        return _distance_reference(view, rng, style)
    chosen = choose(view, 3 if three else 2, rng)
    if not chosen:
        return None
    what = pick(rng, ("height", "width") if three else ("height", "width", "size"))
    given = "height" if what == "size" else what
    names = tuple(name for name, _ in chosen)
    instances = tuple(item["instance"] for _, item in chosen)
    known = measure_text(given, chosen[0][1], style, rng)
    fields = dict(zip("abc", names, strict=False)) | {"what": what, "given": given, "va": known}
    fact = f"The {given} of the {names[0]} is {known}"
    values = {
        f"v{letter}": measure_text(what, item, style, rng)
        for letter, (_, item) in zip("bc", chosen[1:], strict=False)
    }
    kind = "refer three" if three else "refer two"
    question = fill(rng, style.ask[kind], fact=fact, **fields)
    # A size is not "in size".
    answers = [one for one in style.answer[kind] if what != "size" or "in {what}" not in one]
    answer = fill(rng, answers, **fields, **values)
    true = [measure(what, item) for _, item in chosen[1:]]
    reference: Number = tuple(true) if three else true[0]  # type: ignore[arg-type]
    asked = tuple(Asked(QUANTITIES[what], (name,), reference=fact) for name in names[1:])
    return Question(
        "refer_obj_estimation",
        question,
        answer,
        reference,
        names,
        instances,
        asked,
        given=(Asked(QUANTITIES[given], names[:1]),),
    )


def _distance_reference(view: View, rng: Rng, style: Style) -> Question | None:
    """The distance between two objects, given the distance of one of them to a third."""
    chosen = choose(view, 3, rng)
    if not chosen:
        return None
    (a, first), (b, second), (c, third) = chosen
    known = style.length(distance_m(first, second), rng)
    value = distance_m(second, third)
    fields = {"a": a, "b": b, "c": c, "va": known, "vb": style.length(value, rng)}
    fact = f"The distance between the {a} and the {b} is {known}"
    return Question(
        "refer_obj_estimation",
        fill(rng, style.ask["refer distance"], fact=fact, **fields),
        fill(rng, style.answer["refer distance"], **fields),
        value,
        (a, b, c),
        tuple(item["instance"] for _, item in chosen),
        (Asked(Quantity.DISTANCE, (b, c), reference=fact),),
        given=(Asked(Quantity.DISTANCE, (a, b)),),
    )
