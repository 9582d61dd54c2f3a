"""RgbdFrame's parts and SpatialAnswer -> messages; `sdvlm_core.camera.decoding` does the reverse.

Does not know topics, time, or where a message goes; works on plain message objects, without a
node. What reads messages needs no ROS and is only handed on here, for one import in this room.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from sdvlm.msg import Latency as LatencyMsg
from sdvlm.msg import Measurement as MeasurementMsg
from sdvlm.msg import PairMeasurement, RegionMeasurement
from sdvlm.msg import SpatialAnswer as SpatialAnswerMsg
from sdvlm.srv import MeasureRegions
from sdvlm_core.answer import SpatialAnswer, Timings
from sdvlm_core.camera.decoding import (
    color_from_message,
    depth_from_message,
    frame_from_messages,
    intrinsics_from_message,
    nanoseconds,
    serialized_frame_id,
    serialized_stamp_ns,
)
from sdvlm_core.errors import FrameError
from sdvlm_core.frame import CameraIntrinsics
from sdvlm_core.geometry.measure import Measured, Pair

__all__ = [
    "answer_message",
    "camera_info_message",
    "color_from_message",
    "depth_from_message",
    "duration_message",
    "frame_from_messages",
    "image_message",
    "intrinsics_from_message",
    "latency_message",
    "measured_response",
    "nanoseconds",
    "read_serialized",
    "serialized_frame_id",
    "serialized_stamp_ns",
    "time_message",
]


def read_serialized(data: bytes, kind: type, what: str, refusal: type[FrameError]) -> Any:
    """The message of its bytes; raises `refusal`, naming it, if they are not one."""
    try:
        return deserialize_message(data, kind)
    except RuntimeError as error:  # what every middleware's error is
        raise refusal(
            f"{what} of {len(data)} bytes is cut short or no {kind.__name__}: {error}"
        ) from error


def time_message(stamp_ns: int) -> Time:
    """Nanoseconds -> builtin_interfaces Time."""
    seconds, nanosec = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=seconds, nanosec=nanosec)


def duration_message(seconds: float) -> Duration:
    """Seconds >= 0 -> builtin_interfaces Duration."""
    whole, nanosec = divmod(round(seconds * 1e9), 1_000_000_000)
    return Duration(sec=whole, nanosec=nanosec)


def image_message(
    pixels: npt.NDArray[Any], encoding: str, stamp_ns: int = 0, frame_id: str = ""
) -> Image:
    """(H, W) or (H, W, C) -> Image without row padding; the caller vouches for the encoding."""
    import array

    pixels = np.ascontiguousarray(pixels)
    message = Image()
    message.header = Header(stamp=time_message(stamp_ns), frame_id=frame_id)
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.is_bigendian = int(sys.byteorder == "big")
    message.step = pixels.nbytes // pixels.shape[0]
    # An array is taken as it is; a list or bytes would be checked element by element.
    message.data = array.array("B", pixels.tobytes())
    return message


def camera_info_message(
    intrinsics: CameraIntrinsics, stamp_ns: int = 0, frame_id: str = ""
) -> CameraInfo:
    """Intrinsics of a rectified image -> CameraInfo without distortion."""
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    message = CameraInfo()
    message.header = Header(stamp=time_message(stamp_ns), frame_id=frame_id)
    message.width, message.height = intrinsics.width, intrinsics.height
    message.distortion_model = "plumb_bob"
    message.d = [0.0] * 5
    message.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def answer_message(
    answer: SpatialAnswer, stamp_ns: int, frame_id: str, answer_id: str
) -> SpatialAnswerMsg:
    """SpatialAnswer -> message, with the stamp of the image that was looked at."""
    timings = answer.timings
    return SpatialAnswerMsg(
        header=Header(stamp=time_message(stamp_ns), frame_id=frame_id),
        id=answer_id,
        question=answer.question,
        status=int(answer.status),
        text=answer.text,
        measurements=[
            MeasurementMsg(
                kind=int(measurement.kind),
                value=float(measurement.value),
                std_dev=float(measurement.std_dev),
                source=int(measurement.source),
                label=measurement.label,
                text=measurement.text,
            )
            for measurement in answer.measurements
        ],
        positions=[Point(x=p.x, y=p.y, z=p.z) for p in answer.positions],
        position_labels=[position.label for position in answer.positions],
        verdict=int(answer.verdict),
        confidence=float(answer.confidence),
        model_id=answer.model_id,
        depth_source=answer.depth_source,
        queue_time=duration_message(timings.queue),
        encode_time=duration_message(timings.encode),
        generate_time=duration_message(timings.prefill + timings.decode + timings.measure),
    )


def latency_message(timings: Timings, total: float, stamp_ns: int, frame_id: str) -> LatencyMsg:
    """Timings of one answer, seconds -> message; `total` is from the request to the reply."""
    return LatencyMsg(
        header=Header(stamp=time_message(stamp_ns), frame_id=frame_id),
        queue=timings.queue,
        encode=timings.encode,
        prefill=timings.prefill,
        decode=timings.decode,
        measure=timings.measure,
        total=total,
    )


def measured_response(
    found: Sequence[Measured], pairs: Sequence[Pair], stamp_ns: int, frame_id: str
) -> MeasureRegions.Response:
    """What geometry found -> response, with the stamp of the image it was measured in."""
    return MeasureRegions.Response(
        header=Header(stamp=time_message(stamp_ns), frame_id=frame_id),
        regions=[
            RegionMeasurement(
                label=one.label,
                position=Point(**dict(zip("xyz", one.position_m, strict=True))),
                camera_distance=one.camera_distance_m,
                length=one.length_m,
                width=one.width_m,
                height=one.height_m,
                **{f"{key.removesuffix('_m')}_std_dev": v for key, v in one.std_dev.items()},
                valid_fraction=float(one.valid_fraction),
                warnings=[code.value for code in one.warnings],
            )
            for one in found
        ],
        pairs=[
            PairMeasurement(
                a=pair.a,
                b=pair.b,
                distance=pair.distance_m,
                gap=pair.gap_m,
                std_dev=pair.std_dev_m,
            )
            for pair in pairs
        ],
    )
