"""Messages of the clients: request fields, values from responses, and errors.

Pure functions over messages. Does not know services, nodes or executors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import PointStamped
from sensor_msgs.msg import RegionOfInterest

from sdvlm.msg import (
    Asked,
    Measurement,
    PairMeasurement,
    Region,
    RegionMeasurement,
    SpatialAnswer,
)
from sdvlm.srv import MeasureRegions, SpatialQuery
from sdvlm_core.cautions import UNFIT
from sdvlm_core.errors import ErrorCode, SdvlmError
from sdvlm_ros.conversions import duration_message, time_message

#: Label -> (x1, y1, x2, y2) or (u, v), pixels of the colour image.
Regions = Mapping[str, Sequence[float]]
_UNFIT = frozenset(code.value for code in UNFIT)


class SpatialQueryFailed(SdvlmError):
    """The node replied with an error, did not reply, or replied without the requested value.

    Attributes:
        code: an error code of srv/SpatialQuery; TIMEOUT if there was no reply.
        answer: the incomplete answer (TF_ERROR: in the optical frame), or None.
        answers: the complete answers of several questions.
    """

    def __init__(
        self,
        code: int,
        message: str,
        answer: SpatialAnswer | None = None,
        answers: Sequence[SpatialAnswer] = (),
    ) -> None:
        known = code in ErrorCode._value2member_map_
        super().__init__(f"{ErrorCode(code).name if known else code}: {message}")
        self.code = code
        self.answer = answer
        self.answers = tuple(answers)


class NoMeasurement(SpatialQueryFailed):
    """The node answered (code NONE), but without a usable value; `answer` has its text."""

    def __init__(self, what: str, answer: SpatialAnswer | None = None) -> None:
        text = f"; the answer was {answer.text!r}" if answer is not None else ""
        super().__init__(SpatialQuery.Response.NONE, what + text, answer)


@dataclass(frozen=True)
class Size:
    """Size in metres: length >= width are horizontal, height is along the support's normal."""

    length: Measurement
    width: Measurement
    height: Measurement


def request_fields(
    regions: Regions,
    *,
    target_frame: str = "",
    stamp_ns: int = 0,
    max_age: float = 0.0,
    timeout: float = 0.0,
    camera: str = "",
) -> dict[str, Any]:
    """The fields of all requests; nanoseconds and seconds, zeros as in srv/SpatialQuery.

    Raises:
        SpatialQueryFailed: INVALID_QUERY, a region is not a box or a point.
    """
    return {
        "regions": [_region(label, corners) for label, corners in regions.items()],
        "target_frame": target_frame,
        "stamp": time_message(stamp_ns),
        "max_age": duration_message(max_age),
        "timeout": duration_message(timeout),
        "camera": camera,
    }


def question_fields(questions: Sequence[str | Asked]) -> dict[str, Any]:
    """The fields of a goal that state its questions.

    Raises:
        SpatialQueryFailed: INVALID_QUERY, some are in words and some are typed.
    """
    of_kind = {isinstance(question, Asked) for question in questions}
    if len(of_kind) > 1:
        raise SpatialQueryFailed(
            SpatialQuery.Response.INVALID_QUERY,
            "some questions are in words and some are typed; send two requests",
        )
    return {"asked" if True in of_kind else "questions": list(questions)}


def _region(label: str, corners: Sequence[float]) -> Region:
    pixels = [round(corner) for corner in corners]
    x, y = pixels[:2] if len(pixels) in (2, 4) else (-1, -1)
    width, height = (pixels[2] - x, pixels[3] - y) if len(pixels) == 4 else (0, 0)
    if min(x, y) < 0 or (len(pixels) == 4 and min(width, height) < 1):
        raise SpatialQueryFailed(
            SpatialQuery.Response.INVALID_QUERY,
            f"region {label!r} is {tuple(corners)}; a box is (x1, y1, x2, y2) with x2 > x1 and "
            "y2 > y1, a point is (u, v), in pixels from 0",
        )
    roi = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
    return Region(label=label, roi=roi)


def typed(quantity: int, *objects: str, relation: str = "") -> Asked:
    """A typed question."""
    return Asked(quantity=quantity, objects=objects, relation=relation)


def best(answer: SpatialAnswer, kind: int) -> Measurement:
    """The best measurement of a kind and of the asked objects: fused, else geometry, else language.

    Raises:
        NoMeasurement: there is none, it is unfit to act on, or language and geometry contradict
            each other.
    """
    _check_status(answer)
    wanted = _names(answer.asked.objects)
    found = [m for m in answer.measurements if m.kind == kind and math.isfinite(m.value)]
    of_asked = [m for m in found if _names(m.objects) == wanted]
    if of_asked:
        return max(of_asked, key=lambda measurement: measurement.source)
    if found:
        others = ", ".join(sorted({" and ".join(m.objects) or "unnamed" for m in found}))
        asked = " and ".join(answer.asked.objects)
        raise NoMeasurement(f"the {_KINDS[kind]} is of {others}, not of {asked}", answer)
    raise NoMeasurement(f"no {_KINDS[kind]}{_why(answer)}", answer)


def holds(answer: SpatialAnswer) -> bool:
    """The verdict of an answer, as True or False.

    Raises:
        NoMeasurement: it is undecided, it is unfit to act on, or language and geometry contradict
            each other.
    """
    if answer.asked.quantity == Asked.EXISTS and answer.status == SpatialAnswer.NOT_VISIBLE:
        return False
    _check_status(answer)
    if answer.verdict == SpatialAnswer.UNDECIDED:
        raise NoMeasurement(f"undecided{_why(answer)}", answer)
    return bool(answer.verdict == SpatialAnswer.HOLDS)


def position_in(answer: SpatialAnswer) -> PointStamped:
    """The position that an answer points at.

    Raises:
        NoMeasurement: there is none, it is unfit to act on, or language and geometry contradict
            each other.
    """
    _check_status(answer)
    if not answer.positions:
        raise NoMeasurement(f"no position{_why(answer)}", answer)
    return PointStamped(header=answer.header, point=answer.positions[0])


def _check_status(answer: SpatialAnswer) -> None:
    if answer.status == SpatialAnswer.DISAGREEMENT:
        numbers = ", ".join(
            f"{' and '.join(m.objects)} {m.value:.3g} ({_SOURCES[m.source]})".strip()
            for m in answer.measurements
        )
        raise NoMeasurement(f"language and depth disagree: {numbers}", answer)
    # "There are no mugs" is a count of 0.
    if answer.status == SpatialAnswer.NOT_VISIBLE and answer.asked.quantity != Asked.COUNT:
        raise NoMeasurement("not visible", answer)
    # Neither a count nor an existence depends on lengths.
    unfit = unfit_codes(answer.cautions)
    if unfit and answer.asked.quantity not in (Asked.COUNT, Asked.EXISTS):
        raise NoMeasurement(f"the answer is unfit to act on: {', '.join(unfit)}", answer)


def _names(objects: Sequence[str]) -> list[str]:
    """Names for comparison; a distance has no direction."""
    return sorted(name.strip().casefold() for name in objects)


def _why(answer: SpatialAnswer) -> str:
    return f": {answer.why_none}" if answer.why_none else ""


def measured_size(region: RegionMeasurement) -> Size:
    """The size of a measured region; an unknown side is NaN.

    Raises:
        NoMeasurement: no side is known, or they are unfit to act on; with the warnings.
    """
    sides = [
        _geometry(kind, getattr(region, name), getattr(region, f"{name}_std_dev"), region.label)
        for kind, name in _KINDS.items()
        if kind in (Asked.LENGTH, Asked.WIDTH, Asked.HEIGHT)
    ]
    if not any(math.isfinite(side.value) for side in sides):
        raise NoMeasurement(_unmeasured(region))
    _refuse_unfit(region.label, region.warnings)
    length, width, height = sides
    return Size(length, width, height)


def measured_distance(response: MeasureRegions.Response, a: str, b: str) -> Measurement:
    """The distance between the centres of `a` and `b`, or from the camera to `a` if `b` is "".

    Raises:
        NoMeasurement: a region is missing or could not be measured, or the distance is unfit to
            act on.
    """
    if b:
        pair = _pair(response, a, b)
        _check_measured(response, pair.distance, a, b)
        _refuse_unfit(f"{a} and {b}", pair.distance_warnings)
        return _geometry(Asked.DISTANCE, pair.distance, pair.distance_std_dev, a, b)
    one = _region_of(response, a)
    _check_measured(response, one.camera_distance, a)
    _refuse_unfit(a, one.distance_warnings)
    return _geometry(Asked.CAMERA_DISTANCE, one.camera_distance, one.camera_distance_std_dev, a)


def measured_gap(response: MeasureRegions.Response, a: str, b: str) -> Measurement:
    """The gap between the nearest surfaces of `a` and `b`.

    Raises:
        NoMeasurement: a region is missing or could not be measured, or the gap is unfit to act on.
    """
    pair = _pair(response, a, b)
    _check_measured(response, pair.gap, a, b)
    _refuse_unfit(f"{a} and {b}", pair.warnings)
    return _geometry(Asked.GAP, pair.gap, pair.gap_std_dev, a, b)


def _pair(response: MeasureRegions.Response, a: str, b: str) -> PairMeasurement:
    """The pair of two regions."""
    for label in (a, b):
        _region_of(response, label)
    found = [pair for pair in response.pairs if {pair.a, pair.b} == {a, b}]
    if not found:
        raise NoMeasurement(f"{a} and {b} are no pair of two regions")
    return found[0]


def _region_of(response: MeasureRegions.Response, label: str) -> RegionMeasurement:
    found = [region for region in response.regions if region.label == label]
    if not found:
        raise NoMeasurement(f"`at` has no region for {label}")
    return found[0]


def _check_measured(response: MeasureRegions.Response, value: float, *labels: str) -> None:
    if not math.isfinite(value):
        raise NoMeasurement("; ".join(_unmeasured(_region_of(response, label)) for label in labels))


def measured_position(response: MeasureRegions.Response) -> PointStamped:
    """The centre of the first region, in the response's frame.

    Raises:
        NoMeasurement: the centre is unknown, or unfit to act on; with the warnings.
    """
    region = response.regions[0]
    point = region.pose.position
    if not all(map(math.isfinite, (point.x, point.y, point.z))):
        raise NoMeasurement(_unmeasured(region))
    _refuse_unfit(region.label, region.warnings)
    return PointStamped(header=response.header, point=point)


def _geometry(kind: int, value: float, std_dev: float, *objects: str) -> Measurement:
    source = Measurement.GEOMETRY
    return Measurement(kind=kind, value=value, std_dev=std_dev, source=source, objects=objects)


def _refuse_unfit(name: str, warnings: Sequence[str]) -> None:
    """A value without its warnings must be fit to act on; `measure` returns both."""
    if unfit := unfit_codes(warnings):
        raise NoMeasurement(f"the measurement of {name} is unfit to act on: {', '.join(unfit)}")


def unfit_codes(warnings: Sequence[str]) -> list[str]:
    """Those warnings of a region or a pair that make its values unfit to act on."""
    return [code for code in warnings if code in _UNFIT]


def _unmeasured(region: RegionMeasurement) -> str:
    return f"{region.label} could not be measured: {', '.join(region.warnings) or 'no reading'}"


_KINDS = {
    Asked.DISTANCE: "distance",
    Asked.GAP: "gap",
    Asked.LENGTH: "length",
    Asked.WIDTH: "width",
    Asked.HEIGHT: "height",
    Asked.COUNT: "count",
    Asked.CAMERA_DISTANCE: "camera distance",
}
_SOURCES = {
    Measurement.LANGUAGE: "language",
    Measurement.GEOMETRY: "depth",
    Measurement.FUSED: "fused",
}
