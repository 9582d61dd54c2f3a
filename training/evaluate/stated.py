"""What a text states about its question, read by `sdvlm_core.language`.

The reference and the answer of a question are read by the same functions, so that one judge
compares like with like. A text that does not state what is asked states nothing: no number is
guessed from its place, no name from its order. Does not know types, files or scores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from sdvlm_core.answer import SIDES, Asked, Measurement, Quantity, Verdict
from sdvlm_core.language.amounts import amounts
from sdvlm_core.language.question import parse_each
from sdvlm_core.language.reading import read, read_each
from sdvlm_core.language.relations import RELATION_WORDS, RELATIONS
from training.evaluate import other_words

_SAID = {Verdict.HOLDS: "yes", Verdict.DOES_NOT_HOLD: "no"}
_OPENING = re.compile(
    r"^(?:at \([\d., %]{1,20}\),? )?"
    r"(?:(?:it|that|this|there|here)(?: is|'s) |(?:the )?answer(?: is)?:? |"
    r"(?:the )?(?:object|thing|item|it|position|point|location|place)?"
    r"(?: (?:there|at|located at|in)"
    r"(?: (?:the |this |that )?(?:position|point|location|place|coordinates?))?)? {0,3}"
    r"(?:\([\d., %]{1,20}\))? {0,3}(?:is|belongs to|shows|corresponds to) |"
    r"(?:i|you) (?:can )?(?:see|find) )?(?:the |an? )?",
    re.I,
)
#: What follows a name: where the thing is, or what else is said of it.
_AFTER_NAME = re.compile(
    r"[,.;:!?(]|\b(?:is|are|was|were|which|that|next to|near|beside|behind|on|in|at|to the|from|"
    r"under|above|below|but|and|not|with)\b"
)
_CONCLUSION = re.compile(r"\b(?:so|thus|therefore|hence),? ", re.I)
_REGION = re.compile(r"\bregion \[(\d{1,2})\]", re.I)
_NEGATED = re.compile(r"\b(?:not|no|isn't|never|neither|nothing)\b")
#: Relations of the largest and of the smallest value.
_MOST = frozenset(("taller", "wider", "longer", "larger", "farther"))
_LEAST = frozenset(("shorter", "narrower", "smaller", "closer"))


def numbers(text: str, asked: Sequence[Asked]) -> tuple[float, ...]:
    """The asked numbers, metres or counts, in the order of the questions; () = not stated.

    The sides of a size are in the order length, width, height.
    """
    if len(asked) == 1 and asked[0].quantity is Quantity.COUNT:
        text = other_words.of_counts(text)
    if len(asked) == 1 and asked[0].quantity is Quantity.SIZE:
        text = other_words.of_sizes(text)
    found = read(text, asked[0]).measurements if len(asked) == 1 else read_each(text, asked)
    objects = [one.objects for one in asked]

    def place(measurement: Measurement) -> tuple[int, int]:
        names, kind = measurement.objects, measurement.kind
        side = SIDES.index(kind) if kind in SIDES else 0
        return objects.index(names) if names in objects else len(objects), side

    return tuple(m.value for m in sorted(found, key=place))


def length(text: str, asked: Sequence[Asked]) -> float | None:
    """The one asked length, metres; where the question is not understood, the text's only one."""
    stated = numbers(text, asked)
    if not asked:
        stated = tuple(one.value for one in amounts(text) if one.dimension == "length")
    return stated[0] if len(stated) == 1 else None


def image_point(text: str, asked: Sequence[Asked]) -> tuple[float, float] | None:
    """The asked image point (u, v) in [0, 1]; None = none, or several."""
    points = read(text, asked[0] if asked else Asked()).image_points
    return points[0] if len(points) == 1 else None


def verdict(text: str, asked: Sequence[Asked]) -> str | None:
    """ "yes" or "no", in words or by what the text states; None = undecided."""
    about = asked[0] if asked else Asked()
    reading = read(other_words.of_comparisons(text, about.relation), about)
    if about.quantity is Quantity.EXISTS and reading.absent:
        return "no"
    return _SAID.get(reading.verdict)


def chosen(text: str, asked: Sequence[Asked]) -> str | None:
    """The asked object that the text, or its conclusion, chooses, in lower case; None = none."""
    if not asked:
        return None
    text = other_words.of_comparisons(text, asked[0].relation)
    conclusion = _CONCLUSION.split(text)[-1]
    for part in dict.fromkeys((text, conclusion)):
        if name := read(part, asked[0]).chosen:
            return name.lower()
    return _by_values(text, asked[0])


def _by_values(text: str, asked: Asked) -> str | None:
    """The object that is chosen by the values that a text gives of all of them; None = none."""
    relation = RELATION_WORDS.get(asked.relation, asked.relation)
    quantity = RELATIONS.get(relation, Quantity.FREE)
    if quantity in (Quantity.FREE, Quantity.POSITION) or not asked.which:
        return None
    values: dict[str, float] = {}
    for name in asked.objects:
        found = read(text, Asked(quantity, (name,))).measurements
        if len(found) != (3 if quantity is Quantity.SIZE else 1):
            return None
        values[name.lower()] = math.prod(one.value for one in found)
    best = (max if relation in _MOST else min)(values.values())
    chosen = [name for name, value in values.items() if value == best]
    return chosen[0] if len(chosen) == 1 and relation in _MOST | _LEAST else None


def denied(text: str, asked: Sequence[Asked]) -> frozenset[str]:
    """The asked objects of which the text says that they are not there."""
    names = {name for one in asked for name in one.objects}
    if len(names) == 1 and other_words.denies_it(text):
        return frozenset(name.lower() for name in names)
    text = other_words.of_denials(text)
    return frozenset(
        name.lower() for name in names if read(text, Asked(Quantity.EXISTS, (name,))).absent
    )


def refuses(text: str) -> bool:
    """Whether the text says that it gives no answer, and has no length."""
    lengths = any(one.dimension == "length" for one in amounts(text))
    return not lengths and read(text, Asked()).why_none != ""


def thing(text: str) -> str:
    """The name in a short answer: "It is the dark chair." -> "dark chair"; "" = none."""
    name = _OPENING.sub("", text.strip()).lower()
    end = _AFTER_NAME.search(name)
    if _NEGATED.search(text.lower()):
        return ""
    return (name[: end.start()] if end else name).strip()


def with_letters(text: str) -> str:
    """ "Region [1]", as SpatialRGPT-Bench names things, -> "Region B": a name without marks."""
    return _REGION.sub(lambda match: f"Region {chr(ord('A') + int(match[1]) % 26)}", text)


def asked_in(question: str) -> tuple[Asked, ...]:
    """The typed questions in words; () = not understood."""
    return tuple(one for one in parse_each(question) if one.quantity is not Quantity.FREE)
