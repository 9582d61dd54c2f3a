"""Draws questions of the wanted types about a view, each on its own.

Knows which function draws which type. Does not know how a question is worded, nor conversations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from training.build.phrasing import METRIC, UNITS, Rng, Style
from training.build.questions import more, several, single
from training.build.questions.question import Question
from training.build.questions.view import View
from training.build.wordings import in_case, with_unit

_DRAW_TYPE: dict[str, Callable[[View, Rng, Style], Question | None]] = {
    "existence": single.existence,
    "count": single.count,
    "scale_estimation": single.scale,
    "grounding": single.grounding,
    "relative_position": several.relative_position,
    "absolute_distance": several.absolute_distance,
    "scale_compare": several.scale_compare,
    "refer_obj_estimation": several.reference_object,
    "camera_distance": more.camera_distance,
    "gap": more.gap,
    "difference": more.difference,
    "off_domain": more.off_domain,
}
#: Types whose answers are lengths: the question may ask for their unit.
_LENGTHS = (
    "scale_estimation",
    "absolute_distance",
    "refer_obj_estimation",
    "camera_distance",
    "gap",
    "difference",
)


def draw(kind: str, view: View, rng: Rng, style: Style) -> Question | None:
    """One question of a type; where the style asks for units, some of them in a unit."""
    beyond = style.beyond
    if beyond is None:
        return _DRAW_TYPE[kind](view, rng, style)
    unit = None
    if kind in _LENGTHS and rng.random() < beyond.unit_share:
        unit = UNITS[int(rng.integers(len(UNITS)))]
        style = replace(style, length=unit.length)
    question = _DRAW_TYPE[kind](view, rng, style)
    if question is None:
        return None
    words = question.question
    if unit is not None:
        words = with_unit(rng, beyond, words, unit.name)
        asked = tuple(replace(one, unit=unit.name) for one in question.asked)
        question = replace(question, asked=asked)
    return replace(question, question=in_case(rng, beyond, words))


def ask_all(
    view: View,
    rng: Rng,
    wanted: dict[str, int],
    tries: int = 4,
    style: Style = METRIC,
) -> list[Question]:
    """Up to `wanted[type]` different questions of each type; fewer where the view has no more.

    They are independent: one may state what another one asks. `converse` draws a conversation.
    """
    found: dict[str, Question] = {}
    for kind, number in wanted.items():
        have = 0
        for _ in range(number * tries):
            if have == number:
                break
            question = draw(kind, view, rng, style)
            if question is None or question.question in found:
                continue
            found[question.question] = question
            have += 1
    return list(found.values())
