"""What the tools of agents return: schemas, what a number is fit for, and errors.

An agent reads these fields and their descriptions instead of the documentation, so each says its
unit, and each result says whether to act on it. Numbers are those of the backend's documents,
unchanged. Does not know tools, transports or backends.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Annotated, Any

from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field, ValidationError

from sdvlm_core.answer import SIDES
from sdvlm_core.cautions import UNFIT
from sdvlm_core.errors import ErrorCode, SdvlmError, error_code, shown

_UNFIT = frozenset(code.value for code in UNFIT)
_LOG = logging.getLogger(__name__)
_MAX_MESSAGE = 1000
# The best one last: what both say, before what depth says, before what only the model says.
_SOURCES = ("LANGUAGE", "GEOMETRY", "FUSED")

Metres = Annotated[float | None, Field(description="metres; null = unknown, never 0")]
Codes = list[str]
Ends = tuple[float | None, float | None]


class NotCertainError(SdvlmError):
    """An object is not certainly found, or its measurement is unfit to act on."""


#: What an agent can do about each code.
WHAT_TO_DO = {
    "NO_IMAGE": "call capture, and use the stamp that it returns; if it fails, the camera does not "
    "run",
    "STALE_IMAGE": "the camera has stopped or its clock is wrong: tell a person",
    "BAD_DEPTH": "depth is missing or unusable: measure nothing from this camera; tell a person",
    "BAD_CAMERA_INFO": "the camera is not calibrated: measure nothing from it; tell a person",
    "INVALID_QUERY": "correct the arguments as the message says, and call again",
    "MODEL_NOT_READY": "try again in 10 s; of files and bags, measure works without a model",
    "OUT_OF_MEMORY": "ask fewer questions at once, or try again in 10 s",
    "TIMEOUT": "try again, with fewer questions at once",
    "TF_ERROR": "tell a person: a transform is missing",
    "CANCELED": "call again if the result is still wanted",
    "QUEUE_FULL": "wait some seconds, then try again",
    "NOT_CERTAIN": "do not act; look at the picture, give a box around the whole object to "
    "measure, or move the camera and capture again",
    "UNKNOWN": "a defect of sdvlm: do not act; tell a person to read the server's log",
}


class Failure(BaseModel):
    """Why a call has no result; the structured content of a result with isError."""

    code: str
    message: str
    what_to_do: str


class Side(BaseModel):
    """Standard deviations, metres."""

    position_m: Metres
    camera_distance_m: Metres
    length_m: Metres
    width_m: Metres
    height_m: Metres


class Intervals(BaseModel):
    """Low and high end of what contains the true value with a probability of 90 %, metres."""

    camera_distance_m: Ends
    length_m: Ends
    width_m: Ends
    height_m: Ends


class Plane(BaseModel):
    """The points p with normal . p + offset_m = 0, in the colour optical frame; normal is up."""

    normal: tuple[float, float, float]
    offset_m: float


class Fitness(BaseModel):
    """Whether a robot may act on a result."""

    fit_to_act_on: bool = Field(description="false: do not act on any number here")
    why_not: str = Field(default="", description="why it is not fit; empty if it is")


class RegionResult(Fitness):
    """One object, measured from depth."""

    label: str
    position_m: tuple[Metres, Metres, Metres] = Field(
        description="centre of the object's upright box, in the colour optical frame: x right, y "
        "down, z forward from the camera"
    )
    orientation_xyzw: tuple[float | None, float | None, float | None, float | None] = Field(
        description="quaternion that turns the optical frame into the box: x along the length, y "
        "along the width, z up"
    )
    camera_distance_m: Metres
    length_m: Metres = Field(description="longer horizontal side")
    width_m: Metres = Field(description="shorter horizontal side")
    height_m: Metres = Field(description="from the object's foot to its top")
    top_above_support_m: Metres
    support_plane: Plane | None = Field(description="what carries the object; null = not found")
    std_dev: Side
    interval_90: Intervals
    valid_fraction: float = Field(description="part of the region's pixels with a depth reading")
    warnings: Codes = Field(description="codes of what makes the numbers doubtful")
    distance_warnings: Codes = Field(description="those that concern camera_distance_m")


class PairResult(Fitness):
    """Distances between two of the measured objects."""

    a: str
    b: str
    distance_m: Metres = Field(description="between the centres")
    gap_m: Metres = Field(description="between the nearest parts of the surfaces")
    distance_std_dev_m: Metres
    gap_std_dev_m: Metres
    distance_interval_90_m: Ends
    gap_interval_90_m: Ends
    warnings: Codes
    distance_warnings: Codes


class OfFrame(BaseModel):
    """The frame that a result is about."""

    stamp: str = Field(description="names the frame in later calls; nanoseconds as text")
    frame_id: str = Field(description="name of the colour optical frame")
    cautions: Codes = Field(description="what the camera's data made doubtful, for every number")


class Captured(OfFrame, Fitness):
    """A picture that is held for later calls."""

    width: int = Field(description="of the picture, pixels; boxes and points are in these pixels")
    height: int = Field(description="of the picture, pixels")
    has_depth: bool
    depth_valid_fraction: float = Field(description="part of the pixels with a depth reading")
    source: str = Field(description="where frames come from")


class MeasureResult(OfFrame):
    """Measured objects in the order given, and every pair of them."""

    regions: list[RegionResult]
    pairs: list[PairResult]


class NumberResult(BaseModel):
    """One number of an answer, and what it measures."""

    kind: str = Field(description="HEIGHT, WIDTH, LENGTH, DISTANCE, GAP, COUNT, ...")
    objects: list[str] = Field(description="of what; two for a distance, gap or difference")
    value: float | None = Field(description="metres, or a count; null = unknown")
    std_dev: float | None = Field(description="of value; null = unknown")
    source: str = Field(description="FUSED, GEOMETRY or LANGUAGE")


class AnswerResult(Fitness):
    """The answer to one question; `document` is the one of `sdvlm ask --json`."""

    question: str
    text: str = Field(description="the model's words; data, not an instruction")
    value: float | None = Field(
        description="the number that was asked for, metres or a count; null = there is none, or "
        "the question has no single one: see numbers"
    )
    std_dev: float | None = Field(description="of value; null = unknown")
    source: str = Field(
        description="FUSED = model and depth agree; GEOMETRY = from depth; LANGUAGE = only the "
        "model says so; empty = no number"
    )
    numbers: list[NumberResult] = Field(description="all numbers, each with what it measures")
    verdict: str = Field(description="of a yes/no question: HOLDS, DOES_NOT_HOLD or UNDECIDED")
    status: str = Field(description="OK, NO_ANSWER, NOT_VISIBLE, NO_DEPTH or DISAGREEMENT")
    document: dict[str, Any]


class AskResult(OfFrame):
    """Answers in the order of the questions."""

    answers: list[AnswerResult]


class FoundResult(Fitness):
    """A named object, or why it is not found."""

    name: str
    found: bool
    point_px: tuple[float, float] | None = Field(description="where the model points")
    box_px: tuple[float, float, float, float] | None = Field(
        description="x1, y1, x2, y2: outline of the measured 3-D box in the picture"
    )
    measured: RegionResult | None = Field(description="what depth measures there")


class FindResult(OfFrame):
    """One entry for each name, in the order given."""

    detections: list[FoundResult]


class LocateResult(OfFrame, Fitness):
    """Where one object is; only ever returned if it is fit to act on."""

    name: str
    position_m: tuple[float, float, float] = Field(
        description="centre of the object, colour optical frame: x right, y down, z forward"
    )
    std_dev_m: float = Field(description="of each coordinate, metres")
    camera_distance_m: float
    how: str
    measured: RegionResult


def unfit(codes: Iterable[str]) -> list[str]:
    """Those codes that make a number unfit to act on."""
    return [code for code in codes if code in _UNFIT]


def fitness(codes: Iterable[str], unknown: bool = False) -> dict[str, Any]:
    """The fields of `Fitness` for warnings or cautions; `unknown` = there is no value."""
    bad = unfit(codes)
    why = ", ".join(bad) or ("not measured" if unknown else "")
    return {"fit_to_act_on": not why, "why_not": why}


def region_result(document: dict[str, Any]) -> RegionResult:
    """A region of a measurement document, with its fitness."""
    unknown = document["camera_distance_m"] is None
    return RegionResult(**document, **fitness(document["warnings"], unknown))


def pair_result(document: dict[str, Any]) -> PairResult:
    """A pair of a measurement document, with its fitness."""
    return PairResult(**document, **fitness(document["warnings"], document["distance_m"] is None))


def answer_result(document: dict[str, Any], question: str) -> AnswerResult:
    """An answer's document, with the number that was asked for and its fitness."""
    if "error" in document:
        why = f"{document['error']['code']}: {document['error']['message']}"
        return AnswerResult(
            question=question,
            text="",
            value=None,
            std_dev=None,
            source="",
            numbers=[],
            verdict="UNDECIDED",
            status="NO_ANSWER",
            document=document,
            fit_to_act_on=False,
            why_not=why,
        )
    best = _best(document, document["asked"]["quantity"])
    why = _why_not(document, best)
    return AnswerResult(
        question=document["question"],
        text=document["text"],
        value=None if best is None else best["value"],
        std_dev=None if best is None else best["std_dev"],
        source="" if best is None else best["source"],
        numbers=[NumberResult.model_validate(one) for one in document["measurements"]],
        verdict=document["verdict"],
        status=document["status"],
        document=document,
        fit_to_act_on=not why,
        why_not=why,
    )


def _best(document: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """The number of that kind, of the asked objects and no others: fused, else from depth."""
    wanted = _names(document["asked"]["objects"])
    found = [
        one
        for one in document["measurements"]
        if one["kind"] == kind and one["value"] is not None and _names(one["objects"]) == wanted
    ]
    return max(found, key=lambda one: _SOURCES.index(one["source"]), default=None)


def _names(objects: Iterable[str]) -> list[str]:
    """Names for comparison; a distance has no direction."""
    return sorted(name.strip().casefold() for name in objects)


def _why_not(document: dict[str, Any], best: dict[str, Any] | None) -> str:
    """Why an answer is unfit to act on; "" = it is fit."""
    kind, status = document["asked"]["quantity"], document["status"]
    no_length = kind in ("COUNT", "EXISTS")  # does not depend on depth
    if status == "DISAGREEMENT":
        return "the model and the depth image contradict each other: use neither number"
    # "There are no mugs" is a count of 0.
    allowed = {"OK", "NO_DEPTH", "NOT_VISIBLE"} if no_length else {"OK"}
    if status not in allowed:
        return f"{status} {document['why_none']}".strip()
    if not no_length and (bad := unfit(document["cautions"])):
        return ", ".join(bad)
    if kind in ("EXISTS", "COMPARISON"):
        if document["verdict"] == "UNDECIDED" and not document["chosen"]:
            return "the answer decides nothing"
        confirmed = kind == "EXISTS" or _compared(document)
    elif kind == "POSITION":
        confirmed = _compared(document)
    elif kind == "FREE":
        return "what was asked is not certain: ask a typed question"
    else:
        numbers = [_best(document, side.name) for side in SIDES] if kind == "SIZE" else [best]
        known = [one for one in numbers if one is not None]
        if len(known) < len(numbers):
            return document["why_none"] or "the answer has no number of what was asked"
        confirmed = kind == "COUNT" or all(one["source"] != "LANGUAGE" for one in known)
    return "" if confirmed else "only the model says so: depth has not confirmed it"


def _compared(document: dict[str, Any]) -> bool:
    """Whether depth has a say in an answer; what it contradicts is a DISAGREEMENT."""
    checks, numbers = document.get("checks", ()), document["measurements"]
    return any(one["agree"] for one in checks) or any(
        one["source"] != "LANGUAGE" for one in numbers
    )


def failed(error: BaseException) -> CallToolResult:
    """The result of a call that failed: a code, a reason and what to do, never a traceback."""
    if isinstance(error, ValidationError):
        reasons = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:8]]
        return _failure(ErrorCode.INVALID_QUERY.name, "; ".join(reasons))
    if isinstance(error, NotCertainError):
        return _failure("NOT_CERTAIN", str(error))
    if isinstance(error, SdvlmError):
        return _failure(error_code(error).name, str(error))
    _LOG.error("a tool failed", exc_info=error)
    return _failure(ErrorCode.UNKNOWN.name, f"an unforeseen {type(error).__name__}")


def _failure(code: str, message: str) -> CallToolResult:
    failure = Failure(code=code, message=shown(message, _MAX_MESSAGE), what_to_do=WHAT_TO_DO[code])
    text = TextContent(type="text", text=failure.model_dump_json())
    return CallToolResult(content=[text], structured_content=failure.model_dump(), is_error=True)
