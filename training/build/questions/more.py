"""Questions beyond MSMU: camera distance, gap, difference, and what cannot be answered.

Each function draws one question about a view, or returns None where the view allows none or the
style does not ask it.
"""

from __future__ import annotations

from sdvlm_core.answer import Asked, Quantity
from training.build.phrasing import Rng, Style, fill, pick
from training.build.questions.question import Question
from training.build.questions.view import View, camera_distance_m, choose, gap_m
from training.build.wordings import REFUSAL

#: A smaller gap is not asked: at a quarter of it, a right answer needs an accuracy of centimetres.
_MIN_GAP_M = 0.1
#: Of two values whose difference is asked, the larger one is this many times the smaller, and ...
_MIN_RATIO = 1.3
#: ... it is larger by at least this.
_MIN_DIFFERENCE_M = 0.05
_DIFFERENCES = {
    "taller": ("height", 1),
    "shorter": ("height", -1),
    "wider": ("width", 1),
    "narrower": ("width", -1),
    "longer": ("length", 1),
}


def camera_distance(view: View, rng: Rng, style: Style) -> Question | None:
    """The distance from the camera to the centre of an object."""
    chosen = choose(view, 1, rng)
    if not chosen:
        return None
    name, item = chosen[0]
    value = camera_distance_m(item)
    return Question(
        "camera_distance",
        fill(rng, style.ask["camera distance"], name=name),
        fill(rng, style.answer["camera distance"], v=style.length(value, rng)),
        value,
        (name,),
        (item["instance"],),
        (Asked(Quantity.CAMERA_DISTANCE, (name,)),),
    )


def gap(view: View, rng: Rng, style: Style) -> Question | None:
    """The gap between the surfaces of two objects; None where the scene graph has no gaps."""
    chosen = choose(view, 2, rng)
    if not chosen:
        return None
    (a, item_a), (b, item_b) = chosen
    value = gap_m(item_a, item_b)
    if value is None or value < _MIN_GAP_M:
        return None
    return Question(
        "gap",
        fill(rng, style.ask["gap"], a=a, b=b),
        fill(rng, style.answer["gap"], v=style.length(value, rng)),
        value,
        (a, b),
        (item_a["instance"], item_b["instance"]),
        (Asked(Quantity.GAP, (a, b)),),
    )


def difference(view: View, rng: Rng, style: Style) -> Question | None:
    """By how much one object is taller, wider or longer than another one."""
    chosen = choose(view, 2, rng)
    if not chosen:
        return None
    word = pick(rng, sorted(_DIFFERENCES))
    what, sign = _DIFFERENCES[word]
    first, second = sorted(chosen, key=lambda pair: -sign * float(pair[1][f"{what}_m"]))
    values = [float(item[f"{what}_m"]) for _, item in (first, second)]
    value = abs(values[0] - values[1])
    if value < _MIN_DIFFERENCE_M or max(values) < _MIN_RATIO * min(values):
        return None
    (a, item_a), (b, item_b) = first, second
    return Question(
        "difference",
        fill(rng, style.ask["difference"], a=a, b=b, word=word, what=what),
        fill(rng, style.answer["difference"], v=style.length(value, rng)),
        value,
        (a, b),
        (item_a["instance"], item_b["instance"]),
        (Asked(Quantity.DIFFERENCE, (a, b), word),),
    )


def off_domain(view: View, rng: Rng, style: Style) -> Question | None:
    """A question that cannot be answered from the image."""
    chosen = choose(view, 2, rng)
    if style.beyond is None or not chosen:
        return None
    (a, item_a), (b, item_b) = chosen
    n, m = (int(number) for number in rng.integers(2, 100, 2))
    template = pick(rng, style.beyond.questions)
    question = template.format(name=a, a=a, b=b, n=n, m=m)
    named = [(name, item) for name, item in ((a, item_a), (b, item_b)) if name in question]
    return Question(
        "off_domain",
        question,
        REFUSAL,
        "refused",
        tuple(name for name, _ in named),
        tuple(item["instance"] for _, item in named),
    )
