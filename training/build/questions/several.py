"""Questions that relate two or three objects: position, distance, comparison, reference object.

Each function draws one question about a view, or returns None where the view allows none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from training.build.phrasing import Rng, Style, fill, pick
from training.build.questions.question import Number, Question
from training.build.questions.view import (
    View,
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


def _camera_distance(item: Entry) -> float:
    return math.hypot(*item["centre_camera_m"])


_OPPOSITE = {"to the left of": "to the right of", "closer than": "farther than"}
_OPPOSITE |= {"to the right of": "to the left of", "higher than": "lower than"}


def _relations(a: Entry, b: Entry) -> Iterator[tuple[str, bool]]:
    """(relation, whether it holds from a to b) for every relation that is clear enough to ask."""
    shift = a["centre_uv"][0] - b["centre_uv"][0]
    if abs(shift) >= _MIN_SHIFT:
        yield "to the left of", shift < 0
        yield "to the right of", shift > 0
    near, far = _camera_distance(a), _camera_distance(b)
    if max(near, far) / min(near, far) >= _MIN_CAMERA_DISTANCE_RATIO:
        yield "closer than", near < far
    step = a["centre_world_m"][2] - b["centre_world_m"][2]
    if abs(step) >= _MIN_HEIGHT_STEP_M:
        yield "higher than", step > 0


def relative_position(view: View, rng: Rng, style: Style) -> Question | None:
    """Whether a relation holds between two objects, or which of them is closer or higher."""
    chosen = choose(view, 2, rng)
    if not chosen:
        return None
    (a, item_a), (b, item_b) = chosen
    relations = list(_relations(item_a, item_b))
    if not relations:
        return None
    relation, holds = relations[int(rng.integers(len(relations)))]
    instances = (item_a["instance"], item_b["instance"])
    if relation in ("closer than", "higher than") and rng.random() < 0.5:
        winner, word = (a if holds else b), relation.removesuffix(" than")
        question = fill(rng, style.ask[word], a=a, b=b)
        answer = fill(rng, style.answer[word], winner=winner)
        return Question("relative_position", question, answer, winner, (a, b), instances)
    reference = "yes" if holds else "no"
    question = fill(rng, style.ask["relation"], a=a, b=b, relation=relation)
    answer = fill(
        rng,
        style.answer[f"relation {reference}"],
        a=a,
        b=b,
        relation=relation,
        opposite=_OPPOSITE[relation],
    )
    return Question("relative_position", question, answer, reference, (a, b), instances)


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
    )


def scale_compare(view: View, rng: Rng, style: Style) -> Question | None:
    """Which of two or three objects is the taller, wider, ... one."""
    three = rng.random() < 0.4
    chosen = choose(view, 3 if three else 2, rng)
    if not chosen:
        return None
    table = style.most if three else style.more
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
    kind = "compare three" if three else "compare two"
    return Question(
        "scale_compare",
        fill(rng, style.ask[kind], **fields),
        fill(rng, style.answer[kind], **fields, **values),
        winner,
        names,
        tuple(item["instance"] for _, item in chosen),
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
    answer = fill(rng, style.answer[kind], **fields, **values)
    asked = [measure(what, item) for _, item in chosen[1:]]
    reference: Number = tuple(asked) if three else asked[0]  # type: ignore[arg-type]
    return Question("refer_obj_estimation", question, answer, reference, names, instances)


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
    )
