"""Questions with a reference object -> chains of thought, checked against the scene graph.

One model writes the reasoning from the annotations. Every length in it is parsed and compared with
the scene graph. A second model judges only reasoning without a wrong number. Comparisons in words
("half as wide") are left to the judge. Does not know which models write and judge.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from sdvlm_core.language.amounts import Amount, amounts
from sdvlm_core.language.words import ADJECTIVES
from training.build.endpoint import (
    MAX_TEXT,
    Ask,
    EndpointError,
    encodable,
    read_object,
)
from training.build.questions import Question
from training.build.scene import Entry
from training.data.images import Rgb

PROMPTS = Path(__file__).with_name("prompts")

# A stated length agrees with a measured one within the larger of these.
_MAX_RELATIVE_ERROR, _MAX_ERROR_M = 0.05, 0.01
_SIDES = ("length", "width", "height")
_MAX_REASON_CHARACTERS = 200


@dataclass(frozen=True)
class Thought:
    """A question with reasoning that leads to its answer.

    Attributes:
        question, answer: text, as generated.
        text: the reasoning, truncated if it is too long; "" if the model gave none.
        accepted: whether it may be used for training.
        reason: why it was rejected; "" if accepted.
    """

    question: str
    answer: str
    text: str
    accepted: bool
    reason: str


def think(
    question: Question, entries: Sequence[Entry], rgb: Rgb, write: Ask, judge: Ask
) -> Thought:
    """Reasoning written by one model and, if its numbers are right, judged by another.

    Args:
        question: type refer_obj_estimation; its first name is the reference object.
        entries: scene graph of the view.
        write: the model that writes; sees the image.
        judge: the model that judges; sees no image.

    Raises:
        ValueError: a question of another type.
    """
    if question.type != "refer_obj_estimation":
        raise ValueError(f"a {question.type} question has no reference object")
    by_number = {entry["instance"]: entry for entry in entries}
    objects = [by_number[number] for number in question.instances]
    values = {
        "question": question.question,
        "reference": question.names[0],
        "facts": "\n".join(_facts(question.names, objects)),
        "answer": ", ".join(_centimetres(value) for value in _asked(question)),
    }

    def thought(text: str, reason: str) -> Thought:
        return Thought(question.question, question.answer, text, not reason, reason)

    try:
        text = write(_prompt("thought", values), (rgb,)).strip()
    except EndpointError as error:
        return thought("", f"endpoint: {error}")
    if len(text) > MAX_TEXT:
        return thought(text[:MAX_TEXT], "too long")
    reason = _disagreement(text, question, objects)
    if reason:
        return thought(text, reason)
    try:
        # Quoted as a JSON string, so that the text cannot end its quotes in the prompt.
        quoted = json.dumps(text, ensure_ascii=False)
        verdict = judge(_prompt("judge", values | {"text": quoted}), ())
    except EndpointError as error:
        return thought(text, f"endpoint: {error}")
    return thought(text, _objection(verdict))


def _disagreement(text: str, question: Question, objects: Sequence[Entry]) -> str:
    """The first contradiction between the numbers of a text and the scene graph; "" = none."""
    quantities = amounts(text)
    lengths = [quantity for quantity in quantities if quantity.dimension == "length"]
    if not lengths:
        return "no number"
    by_name = dict(zip(question.names, objects, strict=True))
    known = [entry[f"{side}_m"] for entry in objects for side in _SIDES]
    known += [_distance_m(one, other) for one, other in itertools.combinations(objects, 2)]
    at = 0
    for quantity in quantities:
        stated = quantity.text[:_MAX_REASON_CHARACTERS]
        if quantity.dimension == "number" and quantity.product < 0:
            # "two chairs" is no measure; "it is 53.5" has no unit to compare with.
            if not quantity.value.is_integer() or quantity.value > len(objects):
                return f"number without a unit: {stated}"
        elif quantity.dimension != "number":
            if not any(_agrees(quantity, value) for value in known):
                return f"number not in the scene graph: {stated}"
            name, side = _stated(text, at, quantity, by_name)
            if name and not _agrees(quantity, by_name[name][f"{side}_m"]):
                return f"number of something else: {stated} as the {side} of the {name}"
        at = quantity.span[1]
    asked = _asked(question)
    last = lengths[-len(asked) :]
    right = len(last) == len(asked) and all(map(_agrees, last, asked))
    if not right:
        stated = ", ".join(quantity.text for quantity in last)[:_MAX_REASON_CHARACTERS]
        return f"wrong conclusion: {stated} instead of {', '.join(map(_centimetres, asked))}"
    return ""


def _stated(text: str, at: int, quantity: Amount, names: Iterable[str]) -> tuple[str, str]:
    """(object, side) of "the box is 70 cm wide"; ("", "") where the text is less explicit.

    Args:
        at: end of the previous number; the name must come after it.
    """
    start, end = quantity.span
    following = re.match(r"\W*(\w*)", text[end:])
    side = ADJECTIVES.get(following[1], "") if following else ""
    found = [name for name in names if re.search(rf"\b{re.escape(name)}\b", text[at:start])]
    # "coffee table" contains "table"; the longer name counts.
    found = [name for name in found if not any(name != other and name in other for other in found)]
    return (found[0], side) if side in _SIDES and len(found) == 1 else ("", "")


def _agrees(quantity: Amount, value: float) -> bool:
    """Whether a stated length agrees with a measured one; a wide range does not."""
    tolerance = max(_MAX_ERROR_M, _MAX_RELATIVE_ERROR * value)
    close = quantity.dimension == "length" and abs(quantity.value - value) <= tolerance
    return close and not quantity.std_dev > tolerance


def _objection(verdict: str) -> str:
    """The reason why the judge rejects a text; "" = it accepts."""
    found = read_object(verdict) or {}
    accept, reason = found.get("accept"), found.get("reason", "")
    if not isinstance(accept, bool) or not isinstance(reason, str):
        return "judge malformed"
    if accept:
        return ""
    given = " ".join(encodable(reason).split())[:_MAX_REASON_CHARACTERS]
    return f"judge: {given or 'no reason given'}"


def _asked(question: Question) -> tuple[float, ...]:
    reference = question.reference
    assert not isinstance(reference, str)
    return reference if isinstance(reference, tuple) else (reference,)


def _facts(names: Sequence[str], objects: Sequence[Entry]) -> list[str]:
    """The numbers that a text may use, in words; the same ones that it is checked against."""
    named = list(zip(names, objects, strict=True))
    facts = [
        f"- {name}: " + ", ".join(f"{side} {_centimetres(entry[f'{side}_m'])}" for side in _SIDES)
        for name, entry in named
    ]
    return facts + [
        f"- from the {a} to the {b}, centre to centre: {_centimetres(_distance_m(one, other))}"
        for (a, one), (b, other) in itertools.combinations(named, 2)
    ]


def _distance_m(one: Entry, other: Entry) -> float:
    return math.dist(one["centre_camera_m"], other["centre_camera_m"])


def _centimetres(value: float) -> str:
    return f"{100 * value:.1f} cm"


def _prompt(name: str, values: dict[str, str]) -> str:
    template = Template((PROMPTS / f"{name}.txt").read_text(encoding="utf-8"))
    return template.substitute(values)
