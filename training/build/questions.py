"""Scene graph of one view -> questions of the eight MSMU types with exact answers.

Knows the definitions below; how they are worded is up to a `phrasing.Style`. Every number comes
from the scene graph. Does not know where a scene graph came from, nor pixels beyond what it says.

Definitions (used by generator, scorer and model alike; docs/definitions.md):
    length >= width   the two horizontal sides of the upright box of an object; height is vertical
    size              the three of them; of two sizes the one with the greater volume is larger
    distance          between the centres of the two boxes, metres
    coordinate        centre of the visible 2-D box, (x, y) in [0, 1] of the un-padded image
    left, right       by that coordinate, as the viewer sees it
    closer            smaller distance from the camera to the box centre
    higher            box centre further up, against gravity
    count             objects of the category that show enough pixels, however occluded
    existence         no object of that name shows a single pixel
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.build.phrasing import METRIC, Rng, Style, fill, pick, plural, with_article

TYPES = (
    "existence",
    "count",
    "scale_estimation",
    "grounding",
    "relative_position",
    "absolute_distance",
    "scale_compare",
    "refer_obj_estimation",
)

#: What an object must show to be asked about, and to be counted.
MIN_AREA = 0.004
MIN_VISIBLE_FRACTION = 0.7
MIN_COUNTED_AREA = 0.002
#: Comparisons closer than these are not asked.
MIN_RATIO, MIN_SHIFT, MIN_HEIGHT_STEP = 1.2, 0.04, 0.05
MIN_VOLUME_RATIO = MIN_RATIO**2

Number = float | tuple[float, ...]


@dataclass(frozen=True)
class Question:
    """One question with its answer in words and the reference it is scored against.

    Attributes:
        type: one of `TYPES`.
        question, answer: words.
        reference: SI number(s), the name of an object, or "yes" / "no" / "absent".
        names: the object names the question mentions, in order (a comparison's candidates).
        instances: the objects behind `names`; 0 where there is none.
    """

    type: str
    question: str
    answer: str
    reference: Number | str
    names: tuple[str, ...]
    instances: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class View:
    """What may be asked about one view: its objects, and their names where those are unique.

    colours: what a near miss may be called after; empty = absent things are named by category.
    """

    objects: list[dict[str, Any]]
    named: list[tuple[str, dict[str, Any]]]
    counts: dict[str, int]
    colours: Sequence[str]
    categories: Sequence[str]


def make_view(
    objects: list[dict[str, Any]],
    image_pixels: int,
    colours: Sequence[str],
    categories: Sequence[str],
) -> View:
    """Select what can be asked about: visible, not cut by the border, with a name of its own.

    An object is called by its category where that is unique among everything that shows a pixel
    and by colour and category otherwise; where that is not unique either, it is not asked about.
    Which of two right names is used is left to the questions: here every object has its long one.
    """
    showing = [item for item in objects if item["visible_pixels"] > 0]
    full = [f"{item['colour']} {item['category']}" for item in showing]
    named = [
        (name, item)
        for name, item in zip(full, showing, strict=True)
        if full.count(name) == 1
        and item["visible_pixels"] >= MIN_AREA * image_pixels
        and item["visible_fraction"] >= MIN_VISIBLE_FRACTION
        and not item["truncated"]
    ]
    counts: dict[str, int] = {}
    for category in {item["category"] for item in showing}:
        sizes = [i["visible_pixels"] for i in showing if i["category"] == category]
        # A sliver may or may not be counted by a person: do not ask.
        if all(size >= MIN_COUNTED_AREA * image_pixels for size in sizes):
            counts[category] = len(sizes)
    return View(showing, named, counts, colours, categories)


def named_view(objects: list[dict[str, Any]], min_pixels: int, categories: Sequence[str]) -> View:
    """The view of entries that `selection.select` has named; those without a name only count.

    A category with a thing that hardly shows is not counted: a person may or may not.
    """
    counts: dict[str, int] = {}
    for category in {item["category"] for item in objects if item["category"]}:
        sizes = [i["visible_pixels"] for i in objects if i["category"] == category]
        if all(size >= min_pixels for size in sizes):
            counts[category] = len(sizes)
    named = [(item["name"], item) for item in objects if item["name"]]
    return View(objects, named, counts, (), categories)


def _coordinate(item: dict[str, Any]) -> str:
    u, v = item["centre_uv"]
    return f"({u:.2f},{v:.2f})"


def _choose(view: View, count: int, rng: Rng) -> list[tuple[str, dict[str, Any]]]:
    if len(view.named) < count:
        return []
    return [view.named[i] for i in rng.permutation(len(view.named))[:count]]


def _absent_name(view: View, rng: Rng) -> str | None:
    """A name nothing in view bears; half the time a near miss: known category, other colour."""
    if not view.colours:
        shown = {item["category"] for item in view.objects} | {i["label"] for i in view.objects}
        absent = [category for category in view.categories if category not in shown]
        return pick(rng, absent) if absent else None
    present = {f"{item['colour']} {item['category']}" for item in view.objects}
    seen = sorted({item["category"] for item in view.objects})
    while True:
        near = bool(seen) and rng.random() < 0.5
        category = pick(rng, seen if near else view.categories)
        name = f"{pick(rng, view.colours)} {category}"
        if name not in present:
            return name


def _sides(item: dict[str, Any]) -> tuple[float, float, float]:
    return (item["length_m"], item["width_m"], item["height_m"])


def _in_words(what: str, item: dict[str, Any], style: Style, rng: Rng) -> str:
    """A measure of an object in words; of a size, the three sides."""
    if what == "size":
        return " x ".join(style.length(side, rng) for side in _sides(item))
    return style.length(item[f"{what}_m"], rng)


def _value(what: str, item: dict[str, Any]) -> Number:
    return _sides(item) if what == "size" else float(item[f"{what}_m"])


def _existence(view: View, rng: Rng, style: Style) -> Question | None:
    if not style.yes_no or rng.random() < 0.5:
        name = _absent_name(view, rng)
        if name is None:
            return None
        if rng.random() < 0.7 or not view.named:
            what = pick(rng, ("height", "width", "size"))
            question = fill(rng, style.ask[what], name=name, what=what)
            names, instances = (name,), (0,)
        else:
            other, item = _choose(view, 1, rng)[0]
            question = fill(rng, style.ask["distance"], a=name, b=other)
            names, instances = (name, other), (0, item["instance"])
        answer = fill(rng, style.answer["absent"], name=name, things=plural(name))
        return Question("existence", question, answer, "absent", names, instances)
    if not view.named:
        return None  # only "no" could be asked: it must not become the safe guess
    ask = pick(rng, style.ask["there"])
    if rng.random() < 0.5:
        absent = _absent_name(view, rng)
        assert absent is not None
        question = ask.format(a_name=with_article(absent))
        return Question("existence", question, "No.", "no", (absent,), (0,))
    name, item = _choose(view, 1, rng)[0]
    question = ask.format(a_name=with_article(name))
    return Question("existence", question, "Yes.", "yes", (name,), (item["instance"],))


def _count(view: View, rng: Rng, style: Style) -> Question | None:
    if not view.counts:
        return None
    # Groups are asked about as often as single things, so that "1" is not the safe guess.
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
    return Question("count", question, answer, float(number), (category,), (0,))


def _scale(view: View, rng: Rng, style: Style) -> Question | None:
    chosen = _choose(view, 1, rng)
    if not chosen:
        return None
    name, item = chosen[0]
    what = pick(rng, ("height", "width", "size"))
    parts = [style.length(side, rng) for side in _sides(item)] if what == "size" else []
    words = " x ".join(parts) if parts else _in_words(what, item, style, rng)
    sides = dict(zip(("vl", "vw", "vh"), parts, strict=False))
    answer = fill(rng, style.answer[what], v=words, name=name, **sides)
    question = fill(rng, style.ask[what], name=name, what=what)
    reference = _value(what, item)
    return Question("scale_estimation", question, answer, reference, (name,), (item["instance"],))


def _grounding(view: View, rng: Rng, style: Style) -> Question | None:
    chosen = _choose(view, 1, rng)
    if not chosen:
        return None
    name, item = chosen[0]
    at = _coordinate(item)
    reference: Number | str
    if rng.random() < 0.5:
        reference = tuple(item["centre_uv"])
        question = fill(rng, style.ask["coordinate"], name=name)
        answer = fill(rng, style.answer["coordinate"], at=at)
    else:
        # Another thing centred at the same place would be as right.
        if any(other is not item and _coordinate(other) == at for _, other in view.named):
            return None
        reference = name
        question = fill(rng, style.ask["object"], at=at)
        answer = fill(rng, style.answer["object"], name=name)
    return Question("grounding", question, answer, reference, (name,), (item["instance"],))


def _camera_distance(item: dict[str, Any]) -> float:
    return math.hypot(*item["centre_camera_m"])


_OPPOSITE = {"to the left of": "to the right of", "closer than": "farther than"}
_OPPOSITE |= {"to the right of": "to the left of", "higher than": "lower than"}


def _relations(a: dict[str, Any], b: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """(relation, holds for a against b) for every relation that is clear enough to ask."""
    shift = a["centre_uv"][0] - b["centre_uv"][0]
    if abs(shift) >= MIN_SHIFT:
        yield "to the left of", shift < 0
        yield "to the right of", shift > 0
    near, far = _camera_distance(a), _camera_distance(b)
    if max(near, far) / min(near, far) >= 1.08:
        yield "closer than", near < far
    step = a["centre_world_m"][2] - b["centre_world_m"][2]
    if abs(step) >= MIN_HEIGHT_STEP:
        yield "higher than", step > 0


def _relative(view: View, rng: Rng, style: Style) -> Question | None:
    chosen = _choose(view, 2, rng)
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


def _distance_between(a: dict[str, Any], b: dict[str, Any]) -> float:
    return math.dist(a["centre_camera_m"], b["centre_camera_m"])


def _distance(view: View, rng: Rng, style: Style) -> Question | None:
    chosen = _choose(view, 2, rng)
    if not chosen:
        return None
    (a, item_a), (b, item_b) = chosen
    value = _distance_between(item_a, item_b)
    return Question(
        "absolute_distance",
        fill(rng, style.ask["distance"], a=a, b=b),
        fill(rng, style.answer["distance"], v=style.length(value, rng), a=a, b=b),
        value,
        (a, b),
        (item_a["instance"], item_b["instance"]),
    )


def _compare(view: View, rng: Rng, style: Style) -> Question | None:
    three = rng.random() < 0.4
    chosen = _choose(view, 3 if three else 2, rng)
    if not chosen:
        return None
    table = style.most if three else style.more
    word = pick(rng, sorted(table))
    what, sign = table[word]

    def amount(item: dict[str, Any]) -> float:
        return math.prod(_sides(item)) if what == "size" else float(item[f"{what}_m"])

    ranked = sorted(chosen, key=lambda pair: -sign * amount(pair[1]))
    first, second = amount(ranked[0][1]), amount(ranked[1][1])
    clear = MIN_VOLUME_RATIO if what == "size" else MIN_RATIO
    if max(first, second) / min(first, second) < clear:
        return None
    names = tuple(name for name, _ in chosen)
    winner = ranked[0][0]
    words = dict(zip("abc", names, strict=False)) | {"word": word, "what": what, "winner": winner}
    values = {
        f"v{letter}": _in_words(what, item, style, rng)
        for letter, (_, item) in zip("abc", chosen, strict=False)
    }
    kind = "compare three" if three else "compare two"
    return Question(
        "scale_compare",
        fill(rng, style.ask[kind], **words),
        fill(rng, style.answer[kind], **words, **values),
        winner,
        names,
        tuple(item["instance"] for _, item in chosen),
    )


def _reference(view: View, rng: Rng, style: Style) -> Question | None:
    three = rng.random() < 0.3
    if three and "refer distance" in style.ask and rng.random() < 0.5:
        return _distance_reference(view, rng, style)
    chosen = _choose(view, 3 if three else 2, rng)
    if not chosen:
        return None
    what = pick(rng, ("height", "width") if three else ("height", "width", "size"))
    given = "height" if what == "size" else what
    names = tuple(name for name, _ in chosen)
    instances = tuple(item["instance"] for _, item in chosen)
    known = _in_words(given, chosen[0][1], style, rng)
    words = dict(zip("abc", names, strict=False)) | {"what": what, "given": given, "va": known}
    fact = f"The {given} of the {names[0]} is {known}"
    values = {
        f"v{letter}": _in_words(what, item, style, rng)
        for letter, (_, item) in zip("bc", chosen[1:], strict=False)
    }
    kind = "refer three" if three else "refer two"
    question = fill(rng, style.ask[kind], fact=fact, **words)
    answer = fill(rng, style.answer[kind], **words, **values)
    asked = [_value(what, item) for _, item in chosen[1:]]
    reference: Number = tuple(asked) if three else asked[0]  # type: ignore[arg-type]
    return Question("refer_obj_estimation", question, answer, reference, names, instances)


def _distance_reference(view: View, rng: Rng, style: Style) -> Question | None:
    chosen = _choose(view, 3, rng)
    if not chosen:
        return None
    (a, first), (b, second), (c, third) = chosen
    known = style.length(_distance_between(first, second), rng)
    value = _distance_between(second, third)
    words = {"a": a, "b": b, "c": c, "va": known, "vb": style.length(value, rng)}
    fact = f"The distance between the {a} and the {b} is {known}"
    return Question(
        "refer_obj_estimation",
        fill(rng, style.ask["refer distance"], fact=fact, **words),
        fill(rng, style.answer["refer distance"], **words),
        value,
        (a, b, c),
        tuple(item["instance"] for _, item in chosen),
    )


_MAKERS: dict[str, Callable[[View, Rng, Style], Question | None]] = {
    "existence": _existence,
    "count": _count,
    "scale_estimation": _scale,
    "grounding": _grounding,
    "relative_position": _relative,
    "absolute_distance": _distance,
    "scale_compare": _compare,
    "refer_obj_estimation": _reference,
}


@dataclass(eq=False)
class Balance:
    """Keeps answers of a type spread over the range of values: one that is too common is refused.

    Values are counted in half octaves (metres, counts), words as they are. Carried from view to
    view, so that what is asked depends on the views before it in the same shard, and on no other.
    """

    counts: dict[str, Counter[object]] = field(default_factory=dict)

    def accepts(self, question: Question) -> bool:
        """Whether there is room for this answer; then it is counted."""
        counts = self.counts.setdefault(question.type, Counter())
        key = self._key(question)
        usual = sum(counts.values()) / max(1, len(counts))
        if counts[key] > 2 * usual + 8:
            return False
        counts[key] += 1
        return True

    @staticmethod
    def _key(question: Question) -> object:
        reference = question.reference
        if isinstance(reference, str):
            return reference if reference in ("yes", "no") else "name"
        if question.type == "grounding":
            return tuple(round(value * 5) for value in reference)  # type: ignore[union-attr]
        first = reference if isinstance(reference, float) else reference[-1]
        return round(2 * math.log2(max(first, 1e-3)))


def ask_all(
    view: View,
    rng: Rng,
    wanted: dict[str, int],
    tries: int = 4,
    style: Style = METRIC,
    balance: Balance | None = None,
) -> list[Question]:
    """Up to `wanted[type]` different questions of each type; fewer where the view has no more."""
    found: dict[object, Question] = {}
    for kind, number in wanted.items():
        have = 0
        for _ in range(number * tries):
            if have == number:
                break
            question = _MAKERS[kind](view, rng, style)
            if question is None:
                continue
            key: object = question.question
            if not style.repeats:
                key = (kind, question.names, question.reference)
            if key in found:
                continue
            if balance is not None and not balance.accepts(question):
                continue
            found[key] = question
            have += 1
    return list(found.values())
