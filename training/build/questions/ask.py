"""Draws questions of the wanted types about a view, balanced over the values of their answers.

Knows which function draws which type. Does not know how a question is worded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

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


def _draw(kind: str, view: View, rng: Rng, style: Style) -> Question | None:
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


@dataclass(eq=False)
class Balance:
    """Spreads the answers of a type over the range of values: too frequent answers are refused.

    Numbers are counted in half octaves (metres, counts). The counts of one view are used for the
    next view of the same shard, so that questions depend on no other shard.
    """

    counts: dict[str, Counter[object]] = field(default_factory=dict)

    def accepts(self, question: Question) -> bool:
        """Whether this answer is not too frequent; an accepted answer is counted."""
        counts = self.counts.setdefault(question.type, Counter())
        key = self._key(question)
        mean = sum(counts.values()) / max(1, len(counts))
        if counts[key] > 2 * mean + 8:
            return False
        counts[key] += 1
        return True

    @staticmethod
    def _key(question: Question) -> object:
        reference = question.reference
        if isinstance(reference, str):
            return reference if reference in ("yes", "no") else "name"
        if isinstance(reference, tuple) and question.type == "grounding":
            return tuple(round(value * 5) for value in reference)
        value = reference[-1] if isinstance(reference, tuple) else reference
        return round(2 * math.log2(max(value, 1e-3)))


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
            question = _draw(kind, view, rng, style)
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
