"""The question types, and one question with its answer.

Does not know how a question is generated or scored.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdvlm_core.answer import Asked

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
#: What nano is asked beyond the eight types of MSMU.
MORE_TYPES = ("camera_distance", "gap", "difference", "off_domain")

Number = float | tuple[float, ...]


@dataclass(frozen=True)
class Question:
    """One question with its answer as text, and the reference that it is scored against.

    Attributes:
        type: one of `TYPES` or `MORE_TYPES`.
        question, answer: text.
        reference: SI number(s), the name of an object, or "yes" / "no" / "absent" / "refused".
        names: the object names that the question mentions, in order (a comparison's candidates).
        instances: the instance numbers of `names`; 0 = no object.
        asked: the typed question, or several that are asked as one; () = it has no type.
        given: typed questions whose answers the question states as known.
        stated: typed questions that the answer answers beside `asked`.
    """

    type: str
    question: str
    answer: str
    reference: Number | str
    names: tuple[str, ...]
    instances: tuple[int, ...]
    asked: tuple[Asked, ...] = ()
    given: tuple[Asked, ...] = ()
    stated: tuple[Asked, ...] = ()
