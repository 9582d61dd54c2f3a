"""SpatialAnswer, the result of a question, and its parts; SI units.

Plain data and its JSON form. Does not know how an answer is found (`engine`), how text is read
(`language.reading`), or how it becomes a message (`camera.messages`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

from sdvlm_core.cautions import Caution


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


class Kind(IntEnum):
    """What a measurement measures; the numbers are those of msg/Measurement."""

    DISTANCE = 0
    WIDTH = 1
    HEIGHT = 2
    LENGTH = 3
    DEPTH = 4
    ANGLE = 5
    COUNT = 6


class Source(IntEnum):
    """Where a value comes from; the numbers are those of msg/Measurement."""

    LANGUAGE = 0
    GEOMETRY = 1
    FUSED = 2


@dataclass(frozen=True)
class Measurement:
    """One measured number: metres, radians, or a count.

    `std_dev` is in the unit of `value`; NaN = unknown, never 0. `text` is the part of the answer
    that states the number. `label` is the object, "" = unnamed.
    """

    kind: Kind
    value: float
    std_dev: float = math.nan
    source: Source = Source.LANGUAGE
    label: str = ""
    text: str = ""


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
    """

    question: str
    text: str
    measurements: tuple[Measurement, ...] = ()
    image_points: tuple[tuple[float, float], ...] = ()
    positions: tuple[Position, ...] = ()
    verdict: Verdict = Verdict.UNDECIDED
    status: Status = Status.OK
    confidence: float = math.nan
    model_id: str = ""
    depth_source: str = ""
    cautions: tuple[Caution, ...] = ()
    timings: Timings = field(default_factory=Timings)


UNITS = {Kind.COUNT: "", Kind.ANGLE: "rad"}  # all others are metres


def answer_document(answer: SpatialAnswer) -> dict[str, Any]:
    """A SpatialAnswer as plain JSON values: enumerations by name, NaN as null, SI units."""
    document: dict[str, Any] = without_nan(asdict(answer))
    document["status"] = answer.status.name
    document["verdict"] = answer.verdict.name
    document["cautions"] = [code.value for code in answer.cautions]
    for written, measurement in zip(document["measurements"], answer.measurements, strict=True):
        written["kind"] = measurement.kind.name
        written["source"] = measurement.source.name
        written["unit"] = UNITS.get(measurement.kind, "m")
    return document


def answer_from_document(document: Mapping[str, Any]) -> SpatialAnswer:
    """The answer of which `answer_document` made a document; null becomes NaN."""
    return SpatialAnswer(
        question=document["question"],
        text=document["text"],
        measurements=tuple(
            Measurement(
                kind=Kind[m["kind"]],
                value=_or_nan(m["value"]),
                std_dev=_or_nan(m["std_dev"]),
                source=Source[m["source"]],
                label=m["label"],
                text=m["text"],
            )
            for m in document["measurements"]
        ),
        image_points=tuple((u, v) for u, v in document["image_points"]),
        positions=tuple(Position(**position) for position in document["positions"]),
        verdict=Verdict[document["verdict"]],
        status=Status[document["status"]],
        confidence=_or_nan(document["confidence"]),
        model_id=document["model_id"],
        depth_source=document["depth_source"],
        cautions=tuple(map(Caution, document.get("cautions", ()))),
        timings=Timings(**document["timings"]),
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
