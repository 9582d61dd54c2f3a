"""Asked, a typed question, and SpatialAnswer, its result; SI units.

Plain data and its JSON form. Does not know how an answer is found (`engine`), how text is read
(`language.reading`), or how it becomes a message (`camera.messages`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum, IntEnum
from typing import Any

from sdvlm_core.cautions import Caution
from sdvlm_core.errors import QueryError


class Status(IntEnum):
    """How the question ended; the numbers are those of msg/SpatialAnswer."""

    OK = 0
    NO_ANSWER = 1
    NOT_VISIBLE = 2
    NO_DEPTH = 3
    DISAGREEMENT = 4
    TF_UNAVAILABLE = 5


class Verdict(IntEnum):
    """The answer to a yes/no question; the numbers are those of msg/SpatialAnswer."""

    UNDECIDED = 0
    HOLDS = 1
    DOES_NOT_HOLD = 2


class Quantity(IntEnum):
    """What is asked, and what a measurement measures; docs/definitions.md says what each means.

    The numbers are those of msg/Asked.
    """

    FREE = 0  # a question of no other kind, or one whose words were not understood for certain
    HEIGHT = 1
    WIDTH = 2
    LENGTH = 3
    SIZE = 4
    DISTANCE = 5
    GAP = 6
    CAMERA_DISTANCE = 7
    POSITION = 8
    COUNT = 9
    EXISTS = 10
    COMPARISON = 11
    DIFFERENCE = 12


#: The sides of a box, in the order of "length x width x height".
SIDES = (Quantity.LENGTH, Quantity.WIDTH, Quantity.HEIGHT)


@dataclass(frozen=True)
class Asked:
    """A typed question. A planner states one; `language.question.parse` makes one of words.

    Attributes:
        quantity: what is asked.
        objects: names of the objects that it is asked of, in the order of the question, without
            articles: one for a side, SIZE, CAMERA_DISTANCE, POSITION, COUNT and EXISTS, two or
            more for the others.
        relation: of COMPARISON and DIFFERENCE, a word of `language.question.RELATIONS`
            ("taller", "closer", "left"): A COMPARISON of two objects asks whether it holds between
            the first and the second; one whose `which` is true asks of which object it holds.
        which: a COMPARISON asks which object, not whether.
        unit: the unit that the answer is asked in ("cm"); "" = not stated.
        reference: what the question states as known, in its words ("the bed is 0.81 m high").
    """

    quantity: Quantity = Quantity.FREE
    objects: tuple[str, ...] = ()
    relation: str = ""
    which: bool = False
    unit: str = ""
    reference: str = ""


class Source(IntEnum):
    """Where a value comes from; the numbers are those of msg/Measurement."""

    LANGUAGE = 0
    GEOMETRY = 1
    FUSED = 2


class AnswerBy(str, Enum):
    """Whose numbers an answer has."""

    LANGUAGE = "language"  # the model's
    GEOMETRY = "geometry"  # those measured from depth, of every question
    BOTH = "both"  # the model's, and for a question that is to be verified also geometry's


def answered_by(setting: AnswerBy, verify: bool) -> AnswerBy:
    """Whose numbers one answer has, where `setting` holds for all questions.

    Args:
        verify: the question is to be verified.

    Raises:
        QueryError: it is, and geometry is switched off: it must not go out unverified.
    """
    if setting is AnswerBy.LANGUAGE and verify:
        raise QueryError(
            "verify needs geometry, and answer_by is language: set answer_by to both or geometry"
        )
    if setting is AnswerBy.BOTH and not verify:
        return AnswerBy.LANGUAGE
    return setting


@dataclass(frozen=True)
class Measurement:
    """One measured number: metres, or a count.

    `std_dev` is in the unit of `value`; NaN = unknown, never 0. `objects` are the names of what was
    measured: two for DISTANCE, GAP and DIFFERENCE. `text` is the part of the answer that states the
    number.
    """

    kind: Quantity
    value: float
    std_dev: float = math.nan
    source: Source = Source.LANGUAGE
    objects: tuple[str, ...] = ()
    text: str = ""

    @property
    def name(self) -> str:
        """The objects as one name, for people and logs."""
        return " and ".join(self.objects)


@dataclass(frozen=True)
class Position:
    """A named point in the colour optical frame, metres (REP-103: X right, Y down, Z forward)."""

    label: str
    x: float
    y: float
    z: float


@dataclass(frozen=True)
class Timings:
    """Duration of each stage, seconds.

    Waiting in the queue, encoding the image, prefill of the question, decoding of the answer's
    tokens, and reading measurements from its text.
    """

    queue: float = 0.0
    encode: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    measure: float = 0.0


@dataclass(frozen=True)
class SpatialAnswer:
    """An answer about one frame.

    `confidence` is the probability in [0, 1] that the answer is right, if the model is calibrated
    (`model.confidence`); else the geometric mean probability of the tokens of the answer's numbers
    (of all its tokens if it has no number). NaN = not available.
    `image_points` are (u, v) as fractions of the colour image (`frame.pixel_from_fraction`);
    `positions` are the same points in 3-D, if the frame has depth and intrinsics.
    `cautions` are the frame's, and those of what was measured to verify the answer.
    `chosen` is the asked object that the answer to a `which` comparison names; "" = none.
    `asked` is the question as it was understood or stated; `why_none` says why the text gives no
    number for it, "" = it gives one, or none was asked for.
    """

    question: str
    text: str
    asked: Asked = Asked()
    measurements: tuple[Measurement, ...] = ()
    image_points: tuple[tuple[float, float], ...] = ()
    positions: tuple[Position, ...] = ()
    verdict: Verdict = Verdict.UNDECIDED
    chosen: str = ""
    status: Status = Status.OK
    confidence: float = math.nan
    model_id: str = ""
    depth_source: str = ""
    cautions: tuple[Caution, ...] = ()
    why_none: str = ""
    timings: Timings = field(default_factory=Timings)


UNITS = {Quantity.COUNT: ""}  # all others are metres


def answer_document(answer: SpatialAnswer) -> dict[str, Any]:
    """A SpatialAnswer as plain JSON values: enumerations by name, NaN as null, SI units."""
    document: dict[str, Any] = without_nan(asdict(answer))
    document["status"] = answer.status.name
    document["verdict"] = answer.verdict.name
    document["asked"] = asked_document(answer.asked)
    document["cautions"] = [code.value for code in answer.cautions]
    for written, measurement in zip(document["measurements"], answer.measurements, strict=True):
        written["kind"] = measurement.kind.name
        written["source"] = measurement.source.name
        written["unit"] = UNITS.get(measurement.kind, "m")
    return document


def asked_document(asked: Asked) -> dict[str, Any]:
    """An Asked as plain JSON values, with the quantity by name."""
    return asdict(asked) | {"quantity": asked.quantity.name, "objects": [*asked.objects]}


def answer_from_document(document: Mapping[str, Any]) -> SpatialAnswer:
    """The answer of which `answer_document` made a document; null becomes NaN."""
    return SpatialAnswer(
        question=document["question"],
        text=document["text"],
        asked=_asked_from(document["asked"]),
        measurements=tuple(
            Measurement(
                kind=Quantity[m["kind"]],
                value=_or_nan(m["value"]),
                std_dev=_or_nan(m["std_dev"]),
                source=Source[m["source"]],
                objects=tuple(m["objects"]),
                text=m["text"],
            )
            for m in document["measurements"]
        ),
        image_points=tuple((u, v) for u, v in document["image_points"]),
        positions=tuple(Position(**position) for position in document["positions"]),
        verdict=Verdict[document["verdict"]],
        chosen=document["chosen"],
        status=Status[document["status"]],
        confidence=_or_nan(document["confidence"]),
        model_id=document["model_id"],
        depth_source=document["depth_source"],
        cautions=tuple(map(Caution, document.get("cautions", ()))),
        why_none=document["why_none"],
        timings=Timings(**document["timings"]),
    )


def _asked_from(document: Mapping[str, Any]) -> Asked:
    return Asked(
        quantity=Quantity[document["quantity"]],
        objects=tuple(document["objects"]),
        relation=document["relation"],
        which=document["which"],
        unit=document["unit"],
        reference=document["reference"],
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def without_nan(value: Any) -> Any:
    """The same JSON value with null in place of NaN and infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return value
