"""Refuses a serialized message by its header, before it is stored or decoded.

Reads the CDR header of sensor_msgs messages: stamp, frame_id and, of a raw image, its size, of
detections, their number. What is
refused takes no memory. A compressed image's size is in its data: `camera.decoding` checks it. Does
not know topics or buffers.
"""

from __future__ import annotations

import struct

from sdvlm_core.camera.decoding import serialized_frame_id
from sdvlm_core.camera.pairing import PARTNER_ERRORS, Input
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.errors import FrameError, shown

#: Largest accepted image message, bytes. 40 megapixels of rgba8 are 160 MB.
MAX_IMAGE_BYTES = 256 * 2**20
#: Largest accepted camera_info, bytes; a real one has less than 1 kB.
MAX_INFO_BYTES = 64 * 2**10
#: Largest accepted share of one detection in a message, bytes; one hypothesis has about 400.
MAX_DETECTION_BYTES = 4096
#: Longest accepted frame_id, bytes; every answer repeats it.
MAX_FRAME_ID_BYTES = 255


def refusal(
    kind: Input, data: bytes, settings: CameraSettings, *, raw_image: bool
) -> FrameError | None:
    """Why a message must not be stored; None = it may.

    Args:
        raw_image: the message is a sensor_msgs/Image, not a CompressedImage or CameraInfo.

    Raises:
        FrameError: the message is too short for a header.
    """
    reason = _reason(kind, data, settings, raw_image)
    return PARTNER_ERRORS.get(kind, FrameError)(f"{kind.value}: {reason}") if reason else None


def _reason(kind: Input, data: bytes, settings: CameraSettings, raw_image: bool) -> str:
    limit = MAX_INFO_BYTES if kind is Input.INFO else MAX_IMAGE_BYTES
    if len(data) > limit:
        return f"a message of {len(data)} bytes is refused; at most {limit} are accepted"
    order = "<" if data[1:2] == b"\1" else ">"
    if len(data) < 16:
        raise FrameError(f"a serialized message of {len(data)} bytes has no header")
    (length,) = struct.unpack_from(f"{order}I", data, 12)
    if length - 1 > MAX_FRAME_ID_BYTES:
        start = shown(serialized_frame_id(data[: 16 + MAX_FRAME_ID_BYTES]), 40)
        return (
            f"the frame_id '{start}' has {length - 1} bytes; at most {MAX_FRAME_ID_BYTES} are "
            "accepted"
        )
    if not raw_image:
        return ""
    return _size_reason(data, 16 + length, order, settings)


def detections_reason(data: bytes, limit: int) -> str:
    """Why a serialized array of detections must not be read; "" = it may.

    Args:
        limit: largest number of detections.
    """
    if len(data) > limit * MAX_DETECTION_BYTES:
        return (
            f"a message of {len(data)} bytes is refused; at most {limit} detections (parameter "
            f"max_regions) of {MAX_DETECTION_BYTES} bytes are accepted"
        )
    order = "<" if data[1:2] == b"\1" else ">"
    if len(data) < 20:
        return f"a serialized message of {len(data)} bytes has no header"
    (length,) = struct.unpack_from(f"{order}I", data, 12)
    if length - 1 > MAX_FRAME_ID_BYTES:
        return f"the frame_id has {length - 1} bytes; at most {MAX_FRAME_ID_BYTES} are accepted"
    offset = _aligned(16 + length)
    if len(data) < offset + 4:
        return "the message is truncated"
    (count,) = struct.unpack_from(f"{order}I", data, offset)
    if count > limit:
        return (
            f"{count} detections in one message; at most {limit} are accepted (parameter "
            "max_regions)"
        )
    return ""


def _aligned(end: int) -> int:
    """The next multiple of 4, counted from the end of CDR's own four bytes."""
    return 4 + (end - 4 + 3) // 4 * 4


def _size_reason(data: bytes, end: int, order: str, settings: CameraSettings) -> str:
    """Why the size of a raw image is refused; "" = it is not.

    Args:
        end: offset behind the frame_id; height and width follow.
    """
    offset = _aligned(end)
    if len(data) < offset + 8:
        return ""  # truncated: decoding reports it
    height, width = struct.unpack_from(f"{order}2I", data, offset)
    if width * height > settings.max_pixels:
        return (
            f"an image of {width}x{height} is refused: {width * height} pixels, at most "
            f"{settings.max_pixels} are accepted (parameter max_pixels)"
        )
    short, long = sorted((width, height))
    if short and long / short > settings.max_aspect:
        return (
            f"an image of {width}x{height} is refused: its sides differ by a factor of "
            f"{long / short:.0f}, at most {settings.max_aspect:g} is accepted (parameter "
            "max_aspect)"
        )
    return ""
