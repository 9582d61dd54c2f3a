"""Reference answers in text -> question types and reference values for scoring.

Knows the types of questions and what each is scored by. Does not know files or models, and does not
score answers.
"""

from __future__ import annotations

import re

from sdvlm_core.answer import Asked, Quantity
from training.build.questions import MORE_TYPES, TYPES
from training.evaluate import stated
from training.evaluate.score import Reference, Rule

#: Type names of the released data and scripts -> the types of the scorer.
RAW_TYPES = {
    **{kind: kind for kind in (*TYPES, *MORE_TYPES)},
    "zero": "existence",
    **dict.fromkeys(("width", "height", "size"), "scale_estimation"),
    "position": "grounding",
    "left/right": "relative_position",
    "distance": "absolute_distance",
    **dict.fromkeys(("taller_two_object", "taller_two_objects"), "scale_compare"),
    **dict.fromkeys(("tall_three_object", "tall_three_objects"), "scale_compare"),
    **dict.fromkeys(("refer_two_objects", "refer_three_objects"), "refer_obj_estimation"),
}

#: Question type -> scoring rule of SD-VLM's evaluate_final.py (`score.Rule`).
RULES: dict[str, Rule] = {
    **dict.fromkeys(("count", "scale_estimation", "absolute_distance"), "ratio"),
    **dict.fromkeys(("refer_obj_estimation", "camera_distance", "gap", "difference"), "ratio"),
    "grounding": "position",
    **dict.fromkeys(("existence", "relative_position", "scale_compare", "off_domain"), "mark"),
}

_AT = re.compile(r"\(\s*[\d.]+\s*,\s*[\d.]+\s*\)")
_PLACES = frozenset(("left", "right", "above", "below", "closer", "farther"))
_KINDS = {
    Quantity.COUNT: "count",
    Quantity.EXISTS: "existence",
    Quantity.POSITION: "grounding",
    **dict.fromkeys((Quantity.DISTANCE, Quantity.GAP), "absolute_distance"),
    Quantity.CAMERA_DISTANCE: "absolute_distance",
    **dict.fromkeys((Quantity.HEIGHT, Quantity.WIDTH, Quantity.LENGTH), "scale_estimation"),
    Quantity.SIZE: "scale_estimation",
    Quantity.DIFFERENCE: "scale_compare",
}


def type_of(raw: str, question: str, answer: str) -> str:
    """The question type of a row.

    Args:
        raw: the type name in the data; "" = none, derive the type from question and answer.
        question, answer: text of the row.

    Raises:
        ValueError: the type name is unknown, or no type matches the text.
    """
    if raw:
        kind = RAW_TYPES.get(raw.strip().lower().replace(" ", "_"))
        if kind is None:
            raise ValueError(f"unknown type {raw!r}; known types: {', '.join(sorted(RAW_TYPES))}")
        return kind
    asked = stated.asked_in(question)
    if _AT.search(question):
        return "grounding"
    if asked:
        return _derived(asked[0], question, bool(stated.denied(answer, asked)))
    raise ValueError(f"the row has no type, and no type matches the question {question!r}")


def _derived(asked: Asked, question: str, denied: bool) -> str:
    if denied and asked.quantity is not Quantity.COUNT:
        return "existence"
    if asked.reference:
        return "refer_obj_estimation"
    if asked.quantity is Quantity.COMPARISON:
        # MSMU compares where two objects are by "higher", and their heights by "taller".
        place = asked.relation in _PLACES or "higher" in question.lower()
        return "relative_position" if place else "scale_compare"
    return _KINDS[asked.quantity]


def reference_of(kind: str, question: str, answer: str) -> Reference | None:
    """The value of a reference answer; None = not readable."""
    asked = stated.asked_in(question)
    if kind == "off_domain":
        return "refused" if stated.refuses(answer) else None
    if kind == "existence":
        exists = bool(asked) and asked[0].quantity is Quantity.EXISTS
        absent = bool(stated.denied(answer, asked)) and not exists
        return "absent" if absent else stated.verdict(answer, asked)
    if kind == "grounding":
        return stated.image_point(answer, asked) or stated.thing(answer) or None
    if RULES[kind] == "mark":
        which = bool(asked) and asked[0].which
        return stated.chosen(answer, asked) if which else stated.verdict(answer, asked)
    values = stated.numbers(answer, asked) if asked else ()
    if not values:
        return None
    return values[0] if len(values) == 1 else values


def clock_hours(text: str) -> list[int]:
    """The clock hours (1 to 12) in a text such as "at 2 o'clock"."""
    hours = re.findall(r"\b(\d{1,2})\s*o['\u2019]?\s?clock", text.lower())
    return [int(hour) for hour in hours if 1 <= int(hour) <= 12]
