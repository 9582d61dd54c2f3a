"""Questions about one object or category: existence, count, scale and grounding.

Each function draws one question about a view, or returns None where the view allows none.
"""

from __future__ import annotations

from sdvlm_core.answer import Asked, Quantity
from training.build.phrasing import Rng, Style, fill, pick, plural, with_article
from training.build.questions.question import Number, Question
from training.build.questions.view import (
    QUANTITIES,
    View,
    choose,
    coordinate_text,
    measure,
    measure_text,
    sides_m,
)

#: Share of the absent names that are of things outside of the catalogue.
_UNKNOWN_SHARE = 0.25


def _absent_name(view: View, rng: Rng, style: Style) -> str | None:
    """A name of no object in view; half of them near misses: a visible category, another colour."""
    if style.beyond is not None and rng.random() < _UNKNOWN_SHARE:
        thing = pick(rng, style.beyond.things)
        return f"{pick(rng, view.colours)} {thing}" if rng.random() < 0.5 else thing
    if not view.colours:
        return pick(rng, view.categories) if view.categories else None
    present = {f"{item['colour']} {item['category']}" for item in view.objects}
    seen = sorted({item["category"] for item in view.objects})
    while True:
        near = bool(seen) and rng.random() < 0.5
        category = pick(rng, seen if near else view.categories)
        name = f"{pick(rng, view.colours)} {category}"
        if name not in present:
            return name


def existence(view: View, rng: Rng, style: Style) -> Question | None:
    """Whether an object is in the image, or a measure of one that is not (a false premise)."""
    if not style.yes_no or rng.random() < 0.5:
        return _false_premise(view, rng, style)
    if not view.named:
        return None  # only "no" could be asked: it must not become the safe guess
    ask = pick(rng, style.ask["there"])
    if rng.random() < 0.5:
        absent = _absent_name(view, rng, style)
        if absent is None:  # nothing is known to be absent
            return None
        question = ask.format(a_name=with_article(absent))
        asked = (Asked(Quantity.EXISTS, (absent,)),)
        return Question("existence", question, "No.", "no", (absent,), (0,), asked)
    name, item = choose(view, 1, rng)[0]
    question = ask.format(a_name=with_article(name))
    asked = (Asked(Quantity.EXISTS, (name,)),)
    return Question("existence", question, "Yes.", "yes", (name,), (item["instance"],), asked)


def _false_premise(view: View, rng: Rng, style: Style) -> Question | None:
    name = _absent_name(view, rng, style)
    if name is None:
        return None
    names: tuple[str, ...] = (name,)
    instances: tuple[int, ...] = (0,)
    alone, pairs = style.measures, ["distance"]
    if style.beyond is not None:
        alone, pairs = (*style.measures, "camera distance", "coordinate"), ["distance", "gap"]
    if rng.random() < 0.7 or not view.named:
        what = pick(rng, alone)
        question = fill(rng, style.ask[what], name=name, what=what)
    else:
        other, item = choose(view, 1, rng)[0]
        names, instances = (name, other), (0, item["instance"])
        if style.beyond is not None and rng.random() < 0.5:
            names, instances = names[::-1], instances[::-1]
        what = pick(rng, pairs)
        question = fill(rng, style.ask[what], a=names[0], b=names[1])
    # A thing that the model does not know has no name in its answer: it would misspell it.
    unknown = style.beyond is not None and name.split()[-1] in style.beyond.things
    denial = style.answer["unknown" if unknown else "absent"]
    answer = fill(rng, denial, name=name, things=plural(name))
    asked = (Asked(QUANTITIES[what], names),)
    return Question("existence", question, answer, "absent", names, instances, asked)


def count(view: View, rng: Rng, style: Style) -> Question | None:
    """The number of objects of a category."""
    if not view.counts:
        return None
    # Categories with several objects are preferred, so that "1" is not the safe guess.
    several = sorted(name for name, number in view.counts.items() if number > 1)
    pool = several if several and rng.random() < 0.7 else sorted(view.counts)
    category = pick(rng, pool)
    number = view.counts[category]
    question = fill(rng, style.ask["count"], things=plural(category))
    answer = fill(
        rng,
        style.answer["count"],
        n=number,
        are="is only" if number == 1 else "are",
        noun=category if number == 1 else plural(category),
    )
    asked = (Asked(Quantity.COUNT, (plural(category),)),)
    return Question("count", question, answer, float(number), (category,), (0,), asked)


def scale(view: View, rng: Rng, style: Style) -> Question | None:
    """The height, width, length or size of an object."""
    chosen = choose(view, 1, rng)
    if not chosen:
        return None
    name, item = chosen[0]
    what = pick(rng, style.measures)
    parts = [style.length(side, rng) for side in sides_m(item)] if what == "size" else []
    text = " x ".join(parts) if parts else measure_text(what, item, style, rng)
    sides = dict(zip(("vl", "vw", "vh"), parts, strict=False))
    answer = fill(rng, style.answer[what], v=text, name=name, **sides)
    question = fill(rng, style.ask[what], name=name, what=what)
    reference = measure(what, item)
    asked = (Asked(QUANTITIES[what], (name,)),)
    instances = (item["instance"],)
    return Question("scale_estimation", question, answer, reference, (name,), instances, asked)


def grounding(view: View, rng: Rng, style: Style) -> Question | None:
    """The coordinate of an object, or the object at a coordinate."""
    chosen = choose(view, 1, rng)
    if not chosen:
        return None
    name, item = chosen[0]
    at = coordinate_text(item, style)
    reference: Number | str
    place = (Asked(Quantity.POSITION, (name,)),)
    by_name = rng.random() < 0.5
    if by_name:
        reference = tuple(item["centre_uv"])
        question = fill(rng, style.ask["coordinate"], name=name)
        answer = fill(rng, style.answer["coordinate"], at=at)
    else:
        if not item.get("centre_on_object", True):
            return None  # something before it, or beside it, is there
        # Another object at the same coordinate would be a right answer too.
        others = [other for _, other in view.named if other is not item]
        if any(coordinate_text(other, style) == at for other in others):
            return None
        reference = name
        question = fill(rng, style.ask["object"], at=at)
        answer = fill(rng, style.answer["object"], name=name)
    return Question(
        "grounding",
        question,
        answer,
        reference,
        (name,),
        (item["instance"],),
        asked=place if by_name else (),
        stated=() if by_name else place,
    )
