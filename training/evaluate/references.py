"""Reference answers in text -> question types and reference values for scoring.

Knows the eight types of MSMU and the wording of questions and reference answers. Does not know
files or models, and does not score answers.
"""

from __future__ import annotations

import re

from sdvlm_core.answer import Asked, Verdict
from sdvlm_core.language.amounts import amounts
from sdvlm_core.language.reading import measured, read
from training.build.questions import TYPES
from training.evaluate.score import Reference, Rule, same_name

#: Type names of the released data and scripts -> the eight types of the scorer.
RAW_TYPES = {
    **{kind: kind for kind in TYPES},
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
    "refer_obj_estimation": "ratio",
    "grounding": "position",
    **dict.fromkeys(("existence", "relative_position", "scale_compare"), "mark"),
}

#: What an answer says of a question for yes or no.
SAID = {Verdict.HOLDS: "yes", Verdict.DOES_NOT_HOLD: "no"}

_END = r"(?=\s*(?:[,?.:]|$|\b(?:and|or|is|are|from|among|than)\b|\bto the\b))"
_THING = re.compile(rf"\b(?:the|an?) ([a-z0-9][\w '\-]*?){_END}")
_OPENING = re.compile(r"^(?:(?:it|that|this|there) is |the answer is )?(?:the |an? )?", re.I)
_FACT = re.compile(r"^(?:since |if |given )?the \w+ (?:of|between) .*? is .*?\d.*?,")
_COMPARED = re.compile(
    r"\b(?:(?:tall|low|wid|long|larg|small|narrow|bigg|short)(?:er|est)|shortest)\b"
)
_NOT_THINGS = re.compile(
    r"(?:tall|low|wid|long|larg|small|narrow|bigg|short|high|near|clos|farth)(?:er|est)(?: one)?"
    r"|image|picture|viewer\b.*|(?:left|right)\b.*"
)
_RELATED = re.compile(r"\b(?:left|right|closer|nearer|farther|higher)\b")
_AT = re.compile(r"\(\s*[\d.]+\s*,\s*[\d.]+\s*\)")


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
    words = question.lower()
    absent = read(answer, Asked()).absent
    tests = {
        "count": "how many" in words or "number of" in words,
        "existence": absent or words.startswith(("is there ", "can you see ")),
        "grounding": bool(_AT.search(question)) or bool(read(answer, Asked()).image_points),
        "refer_obj_estimation": bool(_FACT.match(words)),
        "scale_compare": bool(_COMPARED.search(words)),
        "relative_position": bool(_RELATED.search(words)),
        "absolute_distance": "distance" in words or "how far" in words,
        "scale_estimation": bool(re.search(r"width|height|size|tall|wide|big|length", words)),
    }
    for kind, holds in tests.items():
        if holds:
            return kind
    raise ValueError(f"the row has no type, and no type matches the question {question!r}")


def reference_of(kind: str, question: str, answer: str) -> tuple[Reference | None, tuple[str, ...]]:
    """(value of a reference answer, names of the compared objects); None = not readable."""
    reading = read(answer, Asked())
    if kind == "existence":
        said = SAID.get(reading.verdict)
        return ("absent" if reading.absent and said != "no" else said), ()
    if kind == "grounding":
        if reading.image_points:
            return reading.image_points[0], ()
        return (plain_name(answer) or None), ()
    if RULES[kind] == "mark":
        names = candidates(question)
        if reading.verdict in SAID:
            return SAID[reading.verdict], names
        if kind == "relative_position" and not re.match(r"which|what|between", question.lower()):
            return stated_relation(question, answer), names
        return winner(answer, names), names
    values = [m.value for m in measured(question, answer)]
    if not values and kind != "count":
        values = [q.value for q in amounts(answer) if q.dimension == "length"]
    if not values:
        return None, ()
    return (values[0] if len(values) == 1 else tuple(values)), ()


def plain_name(answer: str) -> str:
    """The name in a short answer: "It is the dark chair." -> "dark chair"."""
    return _OPENING.sub("", answer.strip()).strip(" .!").lower()


def candidates(question: str) -> tuple[str, ...]:
    """The names of the objects that a question compares, in order."""
    found = [name.strip() for name in _THING.findall(question.lower())]
    return tuple(dict.fromkeys(name for name in found if not _NOT_THINGS.fullmatch(name)))


def winner(answer: str, names: tuple[str, ...]) -> str | None:
    """The candidate that an answer gives as its conclusion; None = unclear.

    Only the text after the last " so " is searched, or the whole answer if it has no " so ". If
    several candidates are named there, the one named last is returned.
    """
    text = answer.lower()
    end = text.rsplit(" so ", 1)[-1]
    found = [(text.rfind(name), len(name), name) for name in names if same_name(name, end)]
    if found:
        return max(found)[2]
    # An abbreviated name ("the bed" for "the blue bed"), if it fits only one candidate.
    heads = [name for name in names if same_name(f"the {name.split()[-1]}", end)]
    return heads[0] if len(heads) == 1 else None


_OPPOSITE = {"left": "right", "closer": "farther", "nearer": "farther", "higher": "lower"}
_OPPOSITE |= {other: word for word, other in _OPPOSITE.items()}


def stated_relation(question: str, answer: str) -> str | None:
    """Whether an answer without yes or no confirms the relation that the question asks about.

    Returns:
        "yes" if the answer states that relation, "no" if it negates it or states the opposite one;
        None = neither.
    """
    asked = _RELATED.search(question.lower())
    if asked is None:
        return None
    words = re.findall(r"[a-z']+", answer.lower())
    if asked.group() in words:
        return "no" if {"not", "isn't"} & set(words) else "yes"
    return "no" if _OPPOSITE.get(asked.group()) in words else None


def clock_hours(text: str) -> list[int]:
    """The clock hours (1 to 12) in a text such as "at 2 o'clock"."""
    hours = re.findall(r"\b(\d{1,2})\s*o['\u2019]?\s?clock", text.lower())
    return [int(hour) for hour in hours if 1 <= int(hour) <= 12]


def one_length(question: str, text: str) -> float | None:
    """A length in a text, metres; None = the text has none.

    The length that the question asks for, if there is exactly one; otherwise the last length.
    """
    asked = [m.value for m in measured(question, text)]
    said = [q.value for q in amounts(text) if q.dimension == "length"]
    return asked[0] if len(asked) == 1 else said[-1] if said else None
