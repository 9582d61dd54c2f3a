"""RgbdFrame's parts and SpatialAnswer -> rclpy's messages; `camera.decoding` does the reverse.

Works on message objects without a node; does not know topics, time, or where a message goes.
"""

from __future__ import annotations

import array
import math
import sys
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Duration, Time
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from sdvlm.msg import Latency as LatencyMsg
from sdvlm.msg import PairMeasurement, RegionMeasurement
from sdvlm.msg import SpatialAnswer as SpatialAnswerMsg
from sdvlm.srv import MeasureRegions
from sdvlm_core.answer import SpatialAnswer, Timings
from sdvlm_core.camera import messages
from sdvlm_core.errors import FrameError
from sdvlm_core.frame import CameraIntrinsics
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair
from sdvlm_ros.ticket import RegionMeasurements

MessageT = TypeVar("MessageT")


@cache
def message_class(type_name: str) -> type[Any]:
    """The class of a type name, e.g. of `sensor_msgs/msg/Image`.

    Raises:
        ImportError, AttributeError: its package is not installed, or has no such type.
    """
    package, kind, name = type_name.split("/")
    found: type[Any] = getattr(import_module(f"{package}.{kind}"), name)
    return found


def make_message(type_name: str, /, **fields: object) -> Any:
    """A message of rclpy; see `camera.messages.MessageFactory`."""
    return message_class(type_name)(**fields)


def read_serialized(
    data: bytes, kind: type[MessageT], what: str, refusal: type[FrameError]
) -> MessageT:
    """Deserialize a message; bytes of another type raise `refusal` with a text that names it."""
    try:
        message: MessageT = deserialize_message(data, kind)
    except RuntimeError as error:  # raised by every middleware
        raise refusal(
            f"{what} of {len(data)} bytes is truncated or not a {kind.__name__}: {error}"
        ) from error
    return message


def time_message(stamp_ns: int) -> Time:
    """Nanoseconds -> builtin_interfaces Time."""
    return messages.time_message(make_message, stamp_ns)


def duration_message(seconds: float) -> Duration:
    """Seconds >= 0 -> builtin_interfaces Duration."""
    return messages.duration_message(make_message, seconds)


def header_message(stamp_ns: int, frame_id: str) -> Header:
    """Nanoseconds and frame_id -> std_msgs Header."""
    return messages.header_message(make_message, stamp_ns, frame_id)


def image_message(
    pixels: npt.NDArray[Any], encoding: str, stamp_ns: int = 0, frame_id: str = ""
) -> Image:
    """(H, W) or (H, W, C) -> Image without row padding; `encoding` must match the pixels."""
    pixels = np.ascontiguousarray(pixels)
    message = Image()
    message.header = header_message(stamp_ns, frame_id)
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.is_bigendian = int(sys.byteorder == "big")
    message.step = pixels.nbytes // pixels.shape[0]
    # rclpy takes an array as it is; it would check a list or bytes element by element.
    message.data = array.array("B", pixels.tobytes())
    return message


def camera_info_message(
    intrinsics: CameraIntrinsics, stamp_ns: int = 0, frame_id: str = ""
) -> CameraInfo:
    """Intrinsics of a rectified image -> CameraInfo without distortion."""
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    message = CameraInfo()
    message.header = header_message(stamp_ns, frame_id)
    message.width, message.height = intrinsics.width, intrinsics.height
    message.distortion_model = "plumb_bob"
    message.d = [0.0] * 5
    message.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def answer_message(
    answer: SpatialAnswer, stamp_ns: int, frame_id: str, answer_id: str, camera: str = ""
) -> SpatialAnswerMsg:
    """SpatialAnswer -> message, with the stamp and frame_id of the image, and its camera."""
    header = header_message(stamp_ns, frame_id)
    return messages.answer_message(make_message, answer, header, answer_id, camera)


def latency_message(timings: Timings, total: float, stamp_ns: int, frame_id: str) -> LatencyMsg:
    """Timings of one answer, seconds -> message; `total` is from the request to the reply."""
    return LatencyMsg(
        header=header_message(stamp_ns, frame_id),
        queue=timings.queue,
        encode=timings.encode,
        prefill=timings.prefill,
        decode=timings.decode,
        measure=timings.measure,
        total=total,
    )


def measured_response(
    measured: RegionMeasurements, stamp_ns: int, frame_id: str
) -> MeasureRegions.Response:
    """Measurements -> response, with the stamp and frame_id of the image."""
    header = header_message(stamp_ns, frame_id)
    return MeasureRegions.Response(
        header=header,
        cautions=[code.value for code in measured.cautions],
        regions=[region_message(one) for one in measured.found],
        pairs=[pair_message(pair) for pair in measured.pairs],
        points=[point_cloud_message(points, header) for points in measured.points],
    )


def point_cloud_message(points: npt.NDArray[np.float32], header: Header) -> PointCloud2:
    """(N, 3) float32 metres -> an unorganized PointCloud2 with the fields x, y and z."""
    little = points.astype("<f4", copy=False)
    fields = [
        PointField(name=name, offset=offset, datatype=PointField.FLOAT32, count=1)
        for name, offset in (("x", 0), ("y", 4), ("z", 8))
    ]
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=fields,
        point_step=12,
        row_step=12 * len(points),
        # rclpy takes an array as it is; it would check a list or bytes element by element.
        data=array.array("B", little.tobytes()),
        is_dense=True,
    )


def cloud_points(cloud: PointCloud2) -> npt.NDArray[np.float32]:
    """(N, 3) of a PointCloud2 that `point_cloud_message` made."""
    return np.frombuffer(cloud.data, "<f4").reshape(-1, 3).astype(np.float32, copy=False)


def region_message(one: Measured) -> RegionMeasurement:
    """One region's measurement -> message; NaN = unknown."""
    plane = one.support_plane
    return RegionMeasurement(
        label=one.label,
        pose=messages.pose_message(make_message, one.position_m, one.orientation),
        camera_distance=one.camera_distance_m,
        length=one.length_m,
        width=one.width_m,
        height=one.height_m,
        support_plane=[math.nan] * 4 if plane is None else [*plane.normal, plane.offset],
        top_above_support=one.top_above_support_m,
        **{f"{_field(key)}_std_dev": value for key, value in one.std_dev.items()},
        **{f"{_field(key)}_interval": ends for key, ends in one.interval_90.items()},
        valid_fraction=float(one.valid_fraction),
        warnings=[code.value for code in one.warnings],
        distance_warnings=[code.value for code in one.distance_warnings],
    )


def pair_message(pair: Pair) -> PairMeasurement:
    """One pair's measurement -> message; NaN = unknown."""
    return PairMeasurement(
        a=pair.a,
        b=pair.b,
        distance=pair.distance_m,
        gap=pair.gap_m,
        distance_std_dev=pair.distance_std_dev_m,
        gap_std_dev=pair.gap_std_dev_m,
        distance_interval=pair.distance_interval_90_m,
        gap_interval=pair.gap_interval_90_m,
        warnings=[code.value for code in pair.warnings],
        distance_warnings=[code.value for code in pair.distance_warnings],
    )


def _field(key: str) -> str:
    """The name of a quantity in messages, where the unit is not part of it."""
    return key.removesuffix("_m")
