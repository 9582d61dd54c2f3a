"""Scene graph of one view -> questions of the eight MSMU types with exact answers.

Knows the definitions below and how to phrase them; every number comes from the scene graph. Does
not know where a scene graph came from, nor pixels beyond what the graph says.

Definitions (used by generator, scorer and model alike):
    length >= width   the two horizontal sides of the upright box of an object; height is vertical
    distance          between the centres of the two boxes, metres
    coordinate        centre of the visible 2-D box, (x, y) in [0, 1] of the un-padded image
    left, right       by that coordinate, as the viewer sees it
    closer            smaller distance from the camera to the box centre
    higher            box centre further up, against gravity
    count             objects of the category that show enough pixels, however occluded
    existence         no object of that name shows a single pixel

Style `metric`: metres only, two decimals, short answers; what nano is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    """What may be asked about one view: its objects, and their names where those are unique."""

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


def _metres(value: float) -> str:
    return f"{value:.2f} m"


def _coordinate(item: dict[str, Any]) -> str:
    u, v = item["centre_uv"]
    return f"({u:.2f},{v:.2f})"


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _choose(view: View, count: int, rng: np.random.Generator) -> list[tuple[str, dict[str, Any]]]:
    if len(view.named) < count:
        return []
    return [view.named[i] for i in rng.permutation(len(view.named))[:count]]


def _absent_name(view: View, rng: np.random.Generator) -> str:
    """A name nothing in view bears; half the time a near miss: known category, other colour."""
    present = {f"{item['colour']} {item['category']}" for item in view.objects}
    seen = sorted({item["category"] for item in view.objects})
    while True:
        near = bool(seen) and rng.random() < 0.5
        category = _pick(rng, seen if near else view.categories)
        name = f"{_pick(rng, view.colours)} {category}"
        if name not in present:
            return name


_SIZE_WORDS = {"height_m": "height", "width_m": "width"}
_ASK_SIZE = ("What is the {what} of the {name}?", "Can you measure the {what} of the {name}?")
_ASK_HEIGHT = ("How tall is the {name}?",)
_ASK_WIDTH = ("How wide is the {name}?",)
_ASK_ALL = ("What is the size of the {name}?", "How big is the {name}?")
_ASK_DISTANCE = (
    "What is the distance between the {a} and the {b}?",
    "How far apart are the {a} and the {b}?",
    "How far is the {a} from the {b}?",
)
_ABSENT_ANSWER = "There is no {name} in the image."


def _size_question(what: str, name: str, rng: np.random.Generator) -> str:
    if what == "size":
        return _pick(rng, _ASK_ALL).format(name=name)
    own = _ASK_HEIGHT if what == "height" else _ASK_WIDTH
    return _pick(rng, _ASK_SIZE + own).format(what=what, name=name)


def _sides(item: dict[str, Any]) -> tuple[float, float, float]:
    return (item["length_m"], item["width_m"], item["height_m"])


def _size_answer(what: str, item: dict[str, Any]) -> tuple[str, Number]:
    if what == "size":
        sides = _sides(item)
        return " x ".join(_metres(side) for side in sides) + ".", sides
    value = item[f"{what}_m"]
    return f"{_metres(value)}.", value


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _existence(view: View, rng: np.random.Generator) -> Question | None:
    if rng.random() < 0.5:
        name = _absent_name(view, rng)
        if rng.random() < 0.7 or not view.named:
            question = _size_question(_pick(rng, ("height", "width", "size")), name, rng)
            names, instances = (name,), (0,)
        else:
            other, item = _choose(view, 1, rng)[0]
            question = _pick(rng, _ASK_DISTANCE).format(a=name, b=other)
            names, instances = (name, other), (0, item["instance"])
        answer = _ABSENT_ANSWER.format(name=name)
        return Question("existence", question, answer, "absent", names, instances)
    if not view.named:
        return None  # only "no" could be asked: it must not become the safe guess
    ask = _pick(rng, ("Is there {name} in the image?", "Can you see {name}?"))
    if rng.random() < 0.5:
        name = _absent_name(view, rng)
        question = ask.format(name=_with_article(name))
        return Question("existence", question, "No.", "no", (name,), (0,))
    name, item = _choose(view, 1, rng)[0]
    question = ask.format(name=_with_article(name))
    return Question("existence", question, "Yes.", "yes", (name,), (item["instance"],))


def plural(category: str) -> str:
    """The word for several of a category."""
    irregular = {"box": "boxes", "bench": "benches", "shelf": "shelves"}
    return irregular.get(category, category + "s")


def _count(view: View, rng: np.random.Generator) -> Question | None:
    if not view.counts:
        return None
    # Groups are asked about as often as single things, so that "1" is not the safe guess.
    several = sorted(name for name, number in view.counts.items() if number > 1)
    pool = several if several and rng.random() < 0.7 else sorted(view.counts)
    category = _pick(rng, pool)
    number = view.counts[category]
    ask = _pick(rng, ("How many {} are there in the image?", "What is the number of {}?"))
    return Question(
        "count", ask.format(plural(category)), f"{number}.", float(number), (category,), (0,)
    )


def _scale(view: View, rng: np.random.Generator) -> Question | None:
    chosen = _choose(view, 1, rng)
    if not chosen:
        return None
    name, item = chosen[0]
    what = _pick(rng, ("height", "width", "size"))
    answer, reference = _size_answer(what, item)
    question = _size_question(what, name, rng)
    return Question("scale_estimation", question, answer, reference, (name,), (item["instance"],))


def _grounding(view: View, rng: np.random.Generator) -> Question | None:
    chosen = _choose(view, 1, rng)
    if not chosen:
        return None
    name, item = chosen[0]
    if rng.random() < 0.5:
        ask = _pick(rng, ("What is the coordinate of the {}?", "Where is the {} in the image?"))
        reference: Number | str = tuple(item["centre_uv"])
        question, answer = ask.format(name), f"{_coordinate(item)}."
    else:
        ask = _pick(rng, ("What object is located at {}?", "What can you find at {}?"))
        question, answer, reference = ask.format(_coordinate(item)), f"The {name}.", name
    return Question("grounding", question, answer, reference, (name,), (item["instance"],))


def _camera_distance(item: dict[str, Any]) -> float:
    return math.hypot(*item["centre_camera_m"])


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


def _relative(view: View, rng: np.random.Generator) -> Question | None:
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
        ask = {
            "closer than": "Which one is closer, the {a} or the {b}?",
            "higher than": "Which one is higher, the {a} or the {b}?",
        }[relation]
        winner = a if holds else b
        return Question(
            "relative_position", ask.format(a=a, b=b), f"The {winner}.", winner, (a, b), instances
        )
    word = "yes" if holds else "no"
    question = f"Is the {a} {relation} the {b}?"
    return Question("relative_position", question, f"{word.capitalize()}.", word, (a, b), instances)


def _distance_between(a: dict[str, Any], b: dict[str, Any]) -> float:
    return math.dist(a["centre_camera_m"], b["centre_camera_m"])


def _distance(view: View, rng: np.random.Generator) -> Question | None:
    chosen = _choose(view, 2, rng)
    if not chosen:
        return None
    (a, item_a), (b, item_b) = chosen
    value = _distance_between(item_a, item_b)
    return Question(
        "absolute_distance",
        _pick(rng, _ASK_DISTANCE).format(a=a, b=b),
        f"{_metres(value)}.",
        value,
        (a, b),
        (item_a["instance"], item_b["instance"]),
    )


_MORE = {"taller": ("height_m", 1), "lower": ("height_m", -1)}
_MORE |= {"wider": ("width_m", 1), "longer": ("length_m", 1)}
_MOST = {"tallest": ("height_m", 1), "lowest": ("height_m", -1), "widest": ("width_m", 1)}


def _compare(view: View, rng: np.random.Generator) -> Question | None:
    three = rng.random() < 0.4
    chosen = _choose(view, 3 if three else 2, rng)
    if not chosen:
        return None
    table = _MOST if three else _MORE
    word = _pick(rng, sorted(table))
    key, sign = table[word]
    ranked = sorted(chosen, key=lambda pair: -sign * pair[1][key])
    first, second = ranked[0][1][key], ranked[1][1][key]
    if max(first, second) / min(first, second) < MIN_RATIO:
        return None
    names = tuple(name for name, _ in chosen)
    if three:
        question = "Which is the {}: the {}, the {} or the {}?".format(word, *names)
    else:
        question = "Which one is {}, the {} or the {}?".format(word, *names)
    return Question(
        "scale_compare",
        question,
        f"The {ranked[0][0]}.",
        ranked[0][0],
        names,
        tuple(item["instance"] for _, item in chosen),
    )


def _reference(view: View, rng: np.random.Generator) -> Question | None:
    three = rng.random() < 0.3
    chosen = _choose(view, 3 if three else 2, rng)
    if not chosen:
        return None
    what = _pick(rng, ("height", "width") if three else ("height", "width", "size"))
    given = "height" if what == "size" else what
    name, item = chosen[0]
    fact = f"The {given} of the {name} is {_metres(item[f'{given}_m'])}"
    names = tuple(name for name, _ in chosen)
    instances = tuple(item["instance"] for _, item in chosen)
    if three:
        values = tuple(item[f"{what}_m"] for _, item in chosen[1:])
        question = f"{fact}, what is the {what} of the {names[1]} and the {names[2]}?"
        answer = " and ".join(_metres(value) for value in values) + "."
        return Question("refer_obj_estimation", question, answer, values, names, instances)
    answer, reference = _size_answer(what, chosen[1][1])
    question = f"{fact}, what is the {what} of the {names[1]}?"
    return Question("refer_obj_estimation", question, answer, reference, names, instances)


_MAKERS: dict[str, Callable[[View, np.random.Generator], Question | None]] = {
    "existence": _existence,
    "count": _count,
    "scale_estimation": _scale,
    "grounding": _grounding,
    "relative_position": _relative,
    "absolute_distance": _distance,
    "scale_compare": _compare,
    "refer_obj_estimation": _reference,
}


def ask_all(
    view: View, rng: np.random.Generator, wanted: dict[str, int], tries: int = 4
) -> list[Question]:
    """Up to `wanted[type]` different questions of each type; fewer where the view has no more."""
    found: dict[str, Question] = {}
    for kind, number in wanted.items():
        have = 0
        for _ in range(number * tries):
            if have == number:
                break
            question = _MAKERS[kind](view, rng)
            if question is not None and question.question not in found:
                found[question.question] = question
                have += 1
    return list(found.values())
