"""Image messages of a camera -> arrays: decodes sensor_msgs/Image and CompressedImage.

Reads attributes only, so messages of rclpy and of `rosbags` give bit-identical arrays. `encoding`
alone decides (REP-118: 16UC1 is millimetres with 0 invalid, 32FC1 is metres with NaN or Inf
invalid); an unsupported encoding is refused by name. Does not know ROS, topics, time, or how arrays
become a frame (`assembly`).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.protocols import (
    AnyImage,
    ByteArray,
    CompressedImageLike,
    ImageLike,
)
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.errors import DepthError, FrameError
from sdvlm_core.frame import depth_in_metres

# Encoding -> (channels, indices of red, green and blue).
_COLOR: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
}
_DEPTH: dict[str, npt.DTypeLike] = {"16UC1": np.uint16, "32FC1": np.float32}

# A 32FC1 value from here on is no distance but a code for "no reading": FLT_MAX, 1e30, Inf. Smaller
# values stay readings, so that millimetres in 32FC1 are found by their median.
_NO_READING_M = 1e6

_COMPRESSED_DEPTH_HEADER = struct.Struct("<iff")  # format, depthQuantA, depthQuantB
_PNG_MAGIC = b"\x89PNG"


def serialized_stamp_ns(data: bytes) -> int:
    """The header stamp, nanoseconds, of a serialized message that begins with a Header.

    CDR: four bytes with the byte order, then sec (int32) and nanosec (uint32). Because these twelve
    bytes suffice, the node stores images undecoded.

    Raises:
        FrameError: the message is too short for a header.
    """
    if len(data) < 12:
        raise FrameError(f"a serialized message of {len(data)} bytes has no header")
    seconds, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanosec)


def serialized_frame_id(data: bytes) -> str:
    """The header's frame_id of a serialized message that begins with a Header; "" = not set.

    Raises:
        FrameError: the message is too short for a header.
    """
    if len(data) < 16:
        raise FrameError(f"a serialized message of {len(data)} bytes has no header")
    (length,) = struct.unpack_from("<I" if data[1] & 1 else ">I", data, 12)
    # CDR's length includes the terminating zero.
    return data[16 : 16 + max(0, length - 1)].decode("utf-8", errors="replace")


def color_from_message(message: AnyImage) -> npt.NDArray[np.uint8]:
    """Colour (H, W, 3) uint8, red first; a view into the message if its layout allows it."""
    if isinstance(message, CompressedImageLike):
        return _decode_color(message)
    if message.encoding not in _COLOR:
        raise FrameError(
            f"the colour image has encoding {message.encoding!r}; supported are "
            f"{', '.join(_COLOR)} (convert Bayer and YUV with image_proc)"
        )
    channels, order = _COLOR[message.encoding]
    pixels = image_pixels(message, np.uint8, channels, FrameError)
    if order == (0, 1, 2):
        return pixels[..., :3]
    # Copied, because torch does not accept negative strides.
    return np.ascontiguousarray(pixels[..., list(order)])


def depth_from_message(
    message: AnyImage, settings: CameraSettings = DEFAULT_SETTINGS
) -> npt.NDArray[np.float32]:
    """Depth (H, W) float32 metres, NaN = no reading.

    Zero, negative values and the codes of saturation (65535 of 16UC1; 1e6 m and more, FLT_MAX or
    Inf of 32FC1) mean "no reading".
    """
    if isinstance(message, CompressedImageLike):
        return _decode_depth(message, settings.depth_unit_m)
    if message.encoding not in _DEPTH:
        raise DepthError(
            f"the depth image has encoding {message.encoding!r}; supported are 16UC1 (millimetres) "
            "and 32FC1 (metres)"
        )
    raw = image_pixels(message, _DEPTH[message.encoding], 1, DepthError)[..., 0]
    if message.encoding == "16UC1":
        return depth_in_metres(raw, settings.depth_unit_m)
    return _valid_metres(raw.astype(np.float32))


def is_color(message: AnyImage) -> bool:
    """Whether the encoding or format is one of colour, supported or not."""
    if is_depth(message):
        return False
    if isinstance(message, CompressedImageLike):
        return "compresseddepth" not in message.format.lower()
    encoding = message.encoding.lower()
    return encoding in _COLOR or encoding.startswith(("bayer", "yuv", "8uc3", "8uc4", "rgb", "bgr"))


def is_depth(message: AnyImage) -> bool:
    """Whether the encoding or format is one of supported depth."""
    encoding = message.format if isinstance(message, CompressedImageLike) else message.encoding
    return encoding.partition(";")[0].strip() in _DEPTH


def image_pixels(
    message: ImageLike, dtype: npt.DTypeLike, channels: int, refusal: type[FrameError]
) -> npt.NDArray[Any]:
    """View (H, W, channels) of an uncompressed image; honours `step` and `is_bigendian`."""
    height, width, step = message.height, message.width, message.step
    item = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    row = width * channels * item.itemsize
    name = f"{width}x{height} {message.encoding} image"
    if row == 0 or height == 0:
        raise refusal(f"{name} is empty")
    if step < row:
        raise refusal(f"{name} has a step of {step} bytes; a row needs at least {row}")
    if len(message.data) < step * height:
        raise refusal(
            f"{name} is truncated: {len(message.data)} bytes of data, step x height is "
            f"{step * height}"
        )
    data = np.frombuffer(message.data, np.uint8, count=step * height).reshape(height, step)
    return data[:, :row].view(item).reshape(height, width, channels)


def _valid_metres(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """In place: every value that is not positive, or a code for "too far", becomes NaN."""
    with np.errstate(invalid="ignore"):
        depth[~((depth > 0) & (depth < _NO_READING_M))] = np.nan
    return depth


def _decode(data: ByteArray, flags: int, what: str, refusal: type[FrameError]) -> npt.NDArray[Any]:
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise refusal(f"{what} cannot be decoded: {error}") from error
    if image is None:
        raise refusal(f"{what} is truncated or has another format ({len(data)} bytes)")
    return image


def _decode_color(message: CompressedImageLike) -> npt.NDArray[np.uint8]:
    import cv2

    coding = message.format.lower()
    if "compresseddepth" in coding or not any(name in coding for name in ("jpeg", "jpg", "png")):
        raise FrameError(
            f"compressed colour has format {message.format!r}; supported are jpeg and png"
        )
    # The Exif orientation would rotate colour only, not depth and intrinsics.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    what = f"compressed colour of format {message.format!r}"
    bgr = _decode(message.data, flags, what, FrameError)
    return np.ascontiguousarray(bgr[..., ::-1])


def _decode_depth(message: CompressedImageLike, unit_m: float) -> npt.NDArray[np.float32]:
    """compressedDepth: a header of 12 bytes, then a 16-bit PNG; or a 16-bit PNG alone.

    For 32FC1 the PNG holds quantised inverse depth: metres = A / (value - B), 0 = no reading.
    """
    import cv2

    what = f"compressed depth of format {message.format!r}"
    encoding, _, coding = (part.strip() for part in message.format.partition(";"))
    data = bytes(message.data)
    if "jpeg" in coding.lower() or "jpg" in coding.lower():
        raise DepthError(f"{what}: JPEG is lossy; use the compressedDepth transport (PNG)")
    if encoding not in _DEPTH or "rvl" in coding.lower():
        raise DepthError(
            f"{what} is not supported; supported are 16UC1 and 32FC1 as compressedDepth png"
        )
    bare = data.startswith(_PNG_MAGIC)
    if not bare and len(data) <= _COMPRESSED_DEPTH_HEADER.size:
        raise DepthError(f"{what} is truncated ({len(data)} bytes)")
    png = data if bare else data[_COMPRESSED_DEPTH_HEADER.size :]
    stored = _decode(png, cv2.IMREAD_UNCHANGED, what, DepthError)
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise DepthError(f"{what} contains {stored.shape} {stored.dtype}, not one 16-bit channel")
    if encoding == "16UC1":
        return depth_in_metres(stored, unit_m)
    if bare:
        raise DepthError(f"{what} has no compressedDepth header, so it cannot be dequantised")
    _, quant_a, quant_b = _COMPRESSED_DEPTH_HEADER.unpack_from(data)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.float32(quant_a) / (stored.astype(np.float32) - np.float32(quant_b))
    depth[stored == 0] = np.nan
    return _valid_metres(depth)
