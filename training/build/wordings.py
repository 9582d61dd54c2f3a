"""The two styles of nano: `TRAINED`, of its training, and `HELD_OUT`, of its test.

Both ask every quantity of `Asked`, for units, in any case, about things that no image shows, and
what cannot be answered. Their phrasings are disjoint (wordings.yaml, outside.yaml), so that a test
measures whether a question is understood and not whether its template is known. The answers are
those of `phrasing.METRIC`. Does not know objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from training.build.phrasing import METRIC, Beyond, Rng, Style, pick

#: The answer to a question that cannot be answered from the image.
REFUSAL = "I cannot answer that."

#: A complete sentence is drawn this many times as often as a noun phrase in one of the frames.
_WHOLE_WEIGHT = 3
#: Share of the questions of the training in the first sentence of their kind: nano is asked a
#: question that is understood in that template (`Dialect.TEMPLATES`), other words as they are.
_TEMPLATE_SHARE = 0.6
#: "Which is the tallest" is put as "Which one is taller", the template of "compare several".
_OTHER_TEMPLATE = {"which of three"}

_ANSWER = {
    **METRIC.answer,
    **dict.fromkeys(("length", "gap", "camera distance", "difference"), ("{v}.",)),
    **dict.fromkeys(("farther", "left", "right", "above", "below"), ("The {winner}.",)),
    "compare several": ("The {winner}.",),
    "refer distance": ("{vb}.",),
    "unknown": ("There is no such object in the image.",),
}
_MORE = {
    **dict.fromkeys(("taller", "higher"), ("height", 1)),
    **dict.fromkeys(("shorter", "lower"), ("height", -1)),
    "wider": ("width", 1),
    "narrower": ("width", -1),
    "longer": ("length", 1),
    **dict.fromkeys(("larger", "bigger"), ("size", 1)),
    "smaller": ("size", -1),
}
_MOST = {
    **dict.fromkeys(("tallest", "highest"), ("height", 1)),
    **dict.fromkeys(("shortest", "lowest"), ("height", -1)),
    "widest": ("width", 1),
    "narrowest": ("width", -1),
    "longest": ("length", 1),
    **dict.fromkeys(("largest", "biggest"), ("size", 1)),
    "smallest": ("size", -1),
}
_RELATIONS = {
    "to the left of": (("to the left of", True), ("left of", True), ("on the left of", True)),
    "to the right of": (("to the right of", True), ("right of", True), ("on the right of", True)),
    "closer than": (
        ("closer than", True),
        ("nearer than", True),
        ("closer to the camera than", True),
        ("farther than", False),
        ("further away than", False),
    ),
    "higher than": (
        ("higher than", True),
        ("above", True),
        ("lower than", False),
        ("below", False),
    ),
}
_WHICH = {
    "to the left of": (("left", True),),
    "to the right of": (("right", True),),
    "closer than": (("closer", True), ("farther", False)),
    "higher than": (("higher", True), ("above", True), ("below", False)),
}
#: Wordings of the kinds of `_WHICH`.
_WHICH_WORDS = {
    "left": ("left", "on the left", "further to the left"),
    "right": ("right", "on the right", "further to the right"),
    "closer": ("closer", "nearer", "closer to the camera"),
    "farther": ("farther", "farther away", "further away"),
    "higher": ("higher",),
    "above": ("above",),
    "below": ("below",),
}


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(
        Path(__file__).with_name(name).read_text(encoding="utf-8")
    )
    return found


def _mostly_first(options: tuple[str, ...], share: float) -> tuple[str, ...]:
    """The options, the first one so often that it is drawn with this share or a larger one."""
    count = max(1, round(share / (1 - share) * (len(options) - 1)))
    return (*options[:1] * count, *options[1:])


def _asked(part: Mapping[str, Any], template_share: float) -> dict[str, tuple[str, ...]]:
    """Kind of question -> its phrasings, the template of the kind with its share."""
    whole, nouns = part["whole"], part["nouns"]
    ask = {}
    for kind, sentences in whole.items():
        phrases = nouns.get(kind, ())
        framed = [frame.replace("{np}", noun) for noun in phrases for frame in part["frames"]]
        ask[kind] = (*(sentences * (_WHOLE_WEIGHT if framed else 1)), *framed)
    for kind, words in _WHICH_WORDS.items():
        ask[kind] = tuple(
            template.replace("{word}", word) for template in whole["which"] for word in words
        )
    for kind in ask.keys() - _OTHER_TEMPLATE if template_share else ():
        ask[kind] = _mostly_first(ask[kind], template_share)
    ask["compare two"], ask["compare three"] = ask["which"], ask["which of three"]
    return ask


def _style(name: str, lower: float, upper: float, template_share: float) -> Style:
    part, outside = _read("wordings.yaml")[name], _read("outside.yaml")[name]
    return replace(
        METRIC,
        name=f"nano {name.replace('_', ' ')}",
        ask=_asked(part, template_share),
        answer=_ANSWER,
        more=_MORE,
        most=_MOST,
        measures=("height", "width", "length", "size"),
        relations=_RELATIONS,
        which=_WHICH,
        beyond=Beyond(
            tuple(outside["things"].split()),
            tuple(outside["questions"]),
            tuple(part["units"]),
            lower_share=lower,
            upper_share=upper,
        ),
    )


# The prompt of nano is in lower case: the case of a question makes no difference in training.
TRAINED = _style("trained", 0.0, 0.0, _TEMPLATE_SHARE)
HELD_OUT = _style("held_out", 0.15, 0.05, 0.0)


def with_unit(rng: Rng, beyond: Beyond, question: str, unit: str) -> str:
    """A question that asks for its answer in a unit."""
    core = question.rstrip("?. ")
    end = question[len(core) :].strip()
    return pick(rng, beyond.units).format(core=core, unit=unit, end=end or "?")


def in_case(rng: Rng, beyond: Beyond, question: str) -> str:
    """A question in lower case, in capitals, or as it is."""
    drawn = rng.random()
    if drawn < beyond.lower_share:
        return question.lower()
    return question.upper() if drawn > 1 - beyond.upper_share else question
