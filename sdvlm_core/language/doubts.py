"""Why a number in a clause is no value of its owner: negated, bounded, assumed, calculated, ...

Every rule looks at the words of the clause around the number. Does not know objects or questions.
"""

from __future__ import annotations

from collections.abc import Sequence

from sdvlm_core.language import words as w
from sdvlm_core.language.clauses import Clause, Part
from sdvlm_core.language.tokens import vocabulary

#: The doubt about a number that comes on top of another: "another 3".
ADDITION = "it is an addition"
#: A count of which the text names a part: "two of the three cups".
WHOLE = "it is the whole of a part"
_OPERATORS = frozenset(("+", "*", "/", "\u00f7", "\u00b7", "-", "minus", "plus", "times"))
_BEYOND = vocabulary(
    "most least more less above below over under taller higher wider longer larger fewer"
)
#: The text speaks of several such objects ("the left one is").
ANOTHER = "it may be of another one"
_ORDERS = frozenset(("first", "second", "third", "other", "next", "middle"))
_PICTURES = frozenset(("picture", "image", "photo", "frame", "view", "scene"))
_REVISED = frozenset(("first", "initial", "original", "earlier", "previous"))
#: Pictures with a scale of their own; "in the image" only says where the object is.
_DRAWINGS = vocabulary(
    "drawing map plan diagram screen paper print sketch poster painting mural billboard mirror "
    "advertisement cartoon illustration"
)
_CAN = vocabulary("can could may capacity")
_CONTAIN = vocabulary("seat seats hold holds fit fits store stores carry take accommodate")
_REACHES = frozenset(("reach", "reaches", "reaching"))
#: How a sentence begins that speaks of the one before.
_REFERRING = frozenset(("that", "this", "it", "that's", "it's"))
_STATES = vocabulary(
    "is was isn't wasn't can't cannot couldn't seems looks must that's it's sounds would"
)
_TRUE = vocabulary("right correct true possible plausible accurate realistic")
_FALSE = vocabulary("wrong incorrect false impossible implausible unrealistic unlikely mistaken")
_LIMITS = vocabulary("max maximum minimum min tops plus +")


def doubt_of(
    clause: Clause,
    parts: Sequence[Part],
    start: int,
    at: int,
    right: Sequence[Part],
    inherited: str,
) -> str:
    """Why the number at part `at` is no value of its owner; "" = it is one.

    Args:
        start: the first part after the number before.
        right: the parts up to the next number.
        inherited: the doubt about the clause before, for a clause without a verb.
    """
    left = [part for part in parts[:at] if part.role not in ("name", "number")]
    texts = [clause.opener, *(part.text for part in left)]
    words = {word for text in texts for word in text.split()}
    after = [part.text for part in right[:6]]
    if clause.question:
        return "it is asked, not stated"
    if _negates(texts) or (set(after) & w.DENIALS and not _negates(after[:1])):
        return "it is negated"
    if words & w.IFS or ("used" in words and "to" in words):
        return "it is only assumed"
    if words & w.JOINTLY or {"minus", "plus"} & {*after[1:]}:
        return "it is of more or less than the object"
    if words & w.GENERIC:
        return "it is typical of such objects"
    if any(_is_one_of_several(parts, i) for i in range(at)):
        return ANOTHER
    if any(part.role == "nameless" and part.text.split()[0] in _REVISED for part in left):
        return "it is a first guess"
    if any(_is_another_picture(part) for part in parts[: at + 8]):
        return "it is of another picture"
    if any(_is_drawn(parts, i) for i in range(at)):
        return "it is a length in a drawing"
    if words & _REACHES and any(part.role == "place" or part.text == "to" for part in left):
        return "it may be where the object ends"  # "the bottle on the box reaches 70 cm"
    if _bounds(texts, after):
        return "it is a bound"
    if words & w.PARTS or (after[:1] == ["of"] and not any(p.role == "measure" for p in right[:3])):
        return "it is a fraction or a multiple of something"
    following = parts[at + 1] if at + 1 < len(parts) else None
    if following is not None and following.role == "number" and not right:
        return "another number follows it"  # "one meter fifty"
    if clause.opener == "(" and (
        clause.host is None or clause.host.role in ("nameless", "pronoun")
    ):
        return "it is in brackets"
    bare = parts[at].amounts[0].dimension == "number"
    room = words & _CONTAIN and words & _CAN
    if bare and (room or words & {"accommodate", "accommodates", "room", "capacity"}):
        return "it is a capacity"
    if bare and (whole := _whole(parts, start, at)):
        return whole
    if words & {"additional", "extra", "another", "every", "each"}:
        return ADDITION
    if bare and (clause.opener in ("which", "who") or {"each", "per"} & {*after}):
        return "it is a part of the number before"
    if start and _is_detail(parts, start, at):
        return "it is a part of the number before"
    if _is_arithmetic(parts, start, at):
        return "it is part of a calculation"
    joined = clause.opener in ("and", "or") and not any(part.role == "verb" for part in left)
    return inherited if joined else ""


def denies_before(clause: Clause, sentence: int) -> bool:
    """Whether a clause says that the one before is wrong: "which can't be right"."""
    texts = [part.text for part in clause.parts[:10]]
    if clause.sentence > sentence + (clause.opener == "") or any(p.amounts for p in clause.parts):
        return False
    if clause.opener != "which":
        if not texts or texts[0] not in _REFERRING:
            return False
        texts = texts[texts[0] not in _STATES :]
    if not texts or texts[0] not in _STATES:
        return False
    words = {*texts}
    if words & _FALSE:
        return not words & (w.NEGATIONS - _FALSE)
    return bool(words & _TRUE) and bool(words & w.NEGATIONS)


def _is_one_of_several(parts: Sequence[Part], at: int) -> bool:
    """Whether a part is "left one", "other one", "taller one"."""
    words = f"{parts[at - 1].text if at else ''} {parts[at].text}".split()
    if parts[at].role != "nameless" or len(words) < 2 or words[-1] not in ("one", "ones"):
        return False
    return words[-2] in w.PLACES | w.RELATIVE_WORDS | _ORDERS


def _is_another_picture(part: Part) -> bool:
    """Whether a part is "previous picture"."""
    words = part.text.split()
    other = _REVISED | {"last", "other", "another", "next"}
    return part.role == "nameless" and words[-1] in _PICTURES and bool(other & {*words[:-1]})


def _whole(parts: Sequence[Part], start: int, at: int) -> str:
    """Why a count after "of" is no count of the object: "two of the 3", "two rows of 3"."""
    before = [part for part in parts[:at] if part.role != "hedge" and part.text not in ("the", ":")]
    if [part.text for part in before[-1:]] != ["of"] or len(before) < 2:
        return ""
    head = before[-2]
    if head.role == "number" or head.text in ("none", "one", "some", "most", "few", "many", "half"):
        return WHOLE
    numbered = start > 0 and parts[start - 1].amounts[0].value != 1
    return "it is a multiple of something" if numbered and head.text.endswith("s") else ""


def _is_drawn(parts: Sequence[Part], at: int) -> bool:
    return at > 0 and parts[at - 1].text in ("in", "on") and parts[at].text in _DRAWINGS


def _negates(texts: Sequence[str]) -> bool:
    """Whether a word before the number denies it; "rather" alone does not."""
    for at, text in enumerate(texts):
        following = texts[at + 1] if at + 1 < len(texts) else ""
        if text in ("rather", "instead"):
            if following in ("than", "of"):
                return True
        elif text == "no" and following in ("", ":"):
            continue
        elif text in w.NEGATIONS:
            return True
    return False


def _bounds(texts: Sequence[str], after: Sequence[str]) -> bool:
    """Whether the words before or after a number make it a limit ("at most", "or more")."""
    for at, text in enumerate(texts):
        if text in ("south", "north", "upward", "upwards") and texts[at + 1 : at + 2] == ["of"]:
            return True
        if text in w.BOUNDS and "by" not in texts[at:]:  # "exceeds the bench by"
            return True
        if text == "than" or (text == "up" and texts[at + 1 : at + 2] == ["to"]):
            return "by" not in texts[at:]
    near = next((text for text in reversed(texts) if text not in w.HEDGES or text == "than"), "")
    if near in w.NEAR_BOUNDS - {"to"}:
        return True
    first, second = (*after, "", "")[:2]
    return first in _LIMITS or (first in ("at", "or") and second in _BEYOND)


def _is_detail(parts: Sequence[Part], start: int, at: int) -> bool:
    """Whether a count follows the total: "5: two red and three blue"."""
    bare = all(p.amounts[0].dimension == "number" for p in (parts[start - 1], parts[at]))
    return bare and any(part.text == ":" for part in parts[start:at])


def _is_arithmetic(parts: Sequence[Part], start: int, at: int) -> bool:
    """Whether a number is an operand of a sum, or stands left of "="."""
    before = parts[at - 1].text if at else ""
    after = parts[at + 1].text if at + 1 < len(parts) else ""
    operand = before in _OPERATORS and start > 0
    if "/" in (before, after):  # "30 cm / 12 in"
        return False
    return operand or after in _OPERATORS or after == "="
