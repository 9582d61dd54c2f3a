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
from std_srvs.srv import Trigger

from sdvlm.msg import Asked, Measurement, Region, RegionMeasurement, SpatialAnswer
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
    }


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


def held_stamp_ns(response: Trigger.Response) -> int:
    """The stamp of the frame held by ~/capture, nanoseconds.

    Raises:
        SpatialQueryFailed: no frame is held; with the error code of the response.
    """
    if not response.success:
        name, _, text = response.message.partition(": ")
        raise SpatialQueryFailed(ErrorCode[name], text)
    seconds, _, nanoseconds = response.message.partition(".")
    return int(seconds) * 10**9 + int(nanoseconds)


def best(answer: SpatialAnswer, kind: int) -> Measurement:
    """The best measurement of a kind: fused, else from geometry, else from the model.

    Raises:
        NoMeasurement: there is none, or language and geometry contradict each other.
    """
    if answer.status == SpatialAnswer.DISAGREEMENT:
        numbers = ", ".join(f"{m.value:.3g} ({_SOURCES[m.source]})" for m in answer.measurements)
        raise NoMeasurement(f"language and depth disagree: {numbers}", answer)
    if answer.status == SpatialAnswer.NOT_VISIBLE:
        raise NoMeasurement("not visible", answer)
    found = [m for m in answer.measurements if m.kind == kind and math.isfinite(m.value)]
    if not found:
        raise NoMeasurement(f"no {_KINDS[kind]}", answer)
    return max(found, key=lambda measurement: measurement.source)


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
    regions = {region.label: region for region in response.regions}
    absent = [label for label in (a, b) if label and label not in regions]
    if absent:
        raise NoMeasurement(f"`at` has no region for {', '.join(absent)}")
    if not b:
        one = regions[a]
        value, spread, of = one.camera_distance, one.camera_distance_std_dev, one
    else:
        pair = next(pair for pair in response.pairs if {pair.a, pair.b} == {a, b})
        value, spread, of = pair.distance, pair.distance_std_dev, pair
    if not math.isfinite(value):
        raise NoMeasurement("; ".join(_unmeasured(regions[label]) for label in (a, b) if label))
    name = f"{a} and {b}" if b else a
    _refuse_unfit(name, of.distance_warnings)
    if b:
        return _geometry(Asked.DISTANCE, value, spread, a, b)
    return _geometry(Asked.CAMERA_DISTANCE, value, spread, a)


def measured_position(response: MeasureRegions.Response) -> PointStamped:
    """The centre of the first region, in the response's frame.

    Raises:
        NoMeasurement: the centre is unknown, or unfit to act on; with the warnings.
    """
    region = response.regions[0]
    point = region.position
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
