"""The arguments of the agents' tools: types with bounds and descriptions, for the tools' schemas.

Does not know what a tool does with them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.language.question import MAX_NAME_CHARS, check
from sdvlm_core.model.prompt import MAX_QUESTION_CHARS

MAX_QUESTIONS, MAX_REGIONS, MAX_NAMES = 16, 32, 16

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
Words = Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARS)]
Box = tuple[float, float, float, float]
Point = tuple[float, float]
StampOrNew = Annotated[
    str,
    Field(max_length=32, description="the stamp that capture returned; empty = capture a new one"),
]
BoxInPicture = Annotated[
    Box | None, Field(description="x1, y1, x2, y2 in pixels of the captured picture, loose is fine")
]
PointInPicture = Annotated[
    Point | None, Field(description="u, v in pixels of the captured picture, on the object")
]


class PlaceArgument(BaseModel):
    """An object's name, and its box or its point: exactly one of the two."""

    model_config = ConfigDict(extra="forbid")
    label: Name
    box: BoxInPicture = None
    point: PointInPicture = None


class TypedArgument(BaseModel):
    """A typed question: the number that comes back is of this quantity of these objects."""

    model_config = ConfigDict(extra="forbid")
    quantity: Literal[
        "HEIGHT",
        "WIDTH",
        "LENGTH",
        "SIZE",
        "DISTANCE",
        "GAP",
        "CAMERA_DISTANCE",
        "POSITION",
        "COUNT",
        "EXISTS",
        "COMPARISON",
        "DIFFERENCE",
    ]
    objects: Annotated[list[Name], Field(min_length=1, max_length=10)] = Field(
        description="names without articles; two for DISTANCE (centres), GAP (surfaces), DIFFERENCE"
    )
    relation: Annotated[str, Field(max_length=40)] = Field(
        default="", description="of COMPARISON and DIFFERENCE: taller, closer, left, larger, ..."
    )
    which: bool = Field(default=False, description="a COMPARISON asks which object, not whether")


def asked_from(question: str | TypedArgument) -> str | Asked:
    """A question as a backend takes it.

    Raises:
        QueryError: a typed one is not complete.
    """
    if isinstance(question, str):
        return question
    asked = Asked(
        Quantity[question.quantity], tuple(question.objects), question.relation, question.which
    )
    check(asked)
    return asked
