"""sdvlm's messages -> the JSON documents of `sdvlm measure --json` and `sdvlm ask --json`.

The reverse of `conversions`. Does not know nodes or requests.
"""

from __future__ import annotations

from typing import Any

from sdvlm.msg import PairMeasurement, RegionMeasurement
from sdvlm.msg import SpatialAnswer as SpatialAnswerMsg
from sdvlm.srv import MeasureRegions
from sdvlm_core.answer import (
    Measurement,
    Position,
    Quantity,
    Source,
    SpatialAnswer,
    Status,
    Timings,
    Verdict,
    answer_document,
    without_nan,
)
from sdvlm_core.camera.messages import asked_from_message, nanoseconds
from sdvlm_core.cautions import Caution

_LENGTHS = ("camera_distance", "length", "width", "height")


def measured_document(response: MeasureRegions.Response) -> dict[str, Any]:
    """As `geometry.documents.measurement_document`; positions in the header's frame."""
    document: dict[str, Any] = {
        "cautions": list(response.cautions),
        "regions": [_region(region) for region in response.regions],
        "pairs": [_pair(pair) for pair in response.pairs],
    }
    return without_nan(document)


def _region(region: RegionMeasurement) -> dict[str, Any]:
    position, turned = region.pose.position, region.pose.orientation
    *normal, offset = (float(value) for value in region.support_plane)
    return {
        "label": region.label,
        "position_m": [position.x, position.y, position.z],
        "orientation_xyzw": [turned.x, turned.y, turned.z, turned.w],
        **{f"{name}_m": getattr(region, name) for name in _LENGTHS},
        "top_above_support_m": region.top_above_support,
        # Not a number = no surface was found.
        "support_plane": {"normal": normal, "offset_m": offset} if offset == offset else None,
        "std_dev": {
            f"{name}_m": getattr(region, f"{name}_std_dev") for name in ("position", *_LENGTHS)
        },
        "interval_90": {
            f"{name}_m": [float(end) for end in getattr(region, f"{name}_interval")]
            for name in _LENGTHS
        },
        "valid_fraction": region.valid_fraction,
        "warnings": list(region.warnings),
        "distance_warnings": list(region.distance_warnings),
    }


def _pair(pair: PairMeasurement) -> dict[str, Any]:
    return {
        "a": pair.a,
        "b": pair.b,
        "distance_m": pair.distance,
        "gap_m": pair.gap,
        "distance_std_dev_m": pair.distance_std_dev,
        "gap_std_dev_m": pair.gap_std_dev,
        "distance_interval_90_m": [float(end) for end in pair.distance_interval],
        "gap_interval_90_m": [float(end) for end in pair.gap_interval],
        "warnings": list(pair.warnings),
        "distance_warnings": list(pair.distance_warnings),
    }


def answered_document(message: SpatialAnswerMsg) -> dict[str, Any]:
    """The document of `answer.answer_document`; positions in the header's frame.

    The message has one time for prefill, decoding and reading: the document has it as
    `timings.generate`, and null for the three.
    """
    labels = message.position_labels
    answer = SpatialAnswer(
        question=message.question,
        text=message.text,
        asked=asked_from_message(message.asked),
        measurements=tuple(
            Measurement(
                kind=Quantity(one.kind),
                value=one.value,
                std_dev=one.std_dev,
                source=Source(one.source),
                objects=tuple(one.objects),
                text=one.text,
            )
            for one in message.measurements
        ),
        image_points=tuple((point.u, point.v) for point in message.image_points),
        positions=tuple(
            Position(label, point.x, point.y, point.z)
            for label, point in zip(labels, message.positions, strict=True)
        ),
        verdict=Verdict(message.verdict),
        chosen=message.chosen,
        status=Status(message.status),
        confidence=message.confidence,
        model_id=message.model_id,
        depth_source=message.depth_source,
        cautions=tuple(map(Caution, message.cautions)),
        why_none=message.why_none,
        timings=Timings(
            queue=nanoseconds(message.queue_time) / 1e9,
            encode=nanoseconds(message.encode_time) / 1e9,
        ),
    )
    document = answer_document(answer)
    document["timings"] |= {
        "prefill": None,
        "decode": None,
        "measure": None,
        "generate": nanoseconds(message.generate_time) / 1e9,
    }
    return document
