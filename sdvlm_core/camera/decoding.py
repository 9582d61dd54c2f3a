"""Image messages of a camera -> arrays: decodes sensor_msgs/Image and CompressedImage.

Reads attributes only, so messages of rclpy and of `rosbags` give bit-identical arrays. `encoding`
alone decides (REP-118: 16UC1 is millimetres with 0 invalid, 32FC1 is metres with NaN or Inf
invalid); an unsupported encoding is refused by name. Does not know ROS, topics, time, or how arrays
become a frame (`assembly`).
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.image_header import check_header, check_size
from sdvlm_core.camera.pairing import Input
from sdvlm_core.camera.protocols import AnyImage, CompressedImageLike, ImageLike
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.errors import DepthError, FrameError, shown
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
# The encodings that image_transport calls colour, in a compressed image's format.
_STORED_COLOR = frozenset(
    {f"{order}{bits}" for order in ("rgb", "bgr", "rgba", "bgra") for bits in (8, 16)}
)
# Pixels whose channels are exchanged at once.
_BAND_PX = 1 << 20
# After the semicolon of a format: the publisher has converted the image to bgr8.
_CONVERTED = "compressed bgr"
_SUPPORTED_COLOR = f"supported are {', '.join(_COLOR)} (convert Bayer and YUV with image_proc)"
_REFUSALS: dict[Input, type[FrameError]] = {Input.COLOR: FrameError, Input.DEPTH: DepthError}

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


def image_size(message: AnyImage, settings: CameraSettings, kind: Input) -> tuple[int, int]:
    """(width, height) of a colour or depth image, from its header, without decoding it.

    Raises:
        FrameError, DepthError: the encoding is not supported, the header is damaged, or the image
            is larger than `settings` accept.
    """
    what, refusal = _name(message, kind), _REFUSALS[kind]
    (_check_color_encoding if kind is Input.COLOR else _check_depth_encoding)(message)
    if isinstance(message, CompressedImageLike):
        header = check_header(_coded(message, kind), settings, what, refusal)
        return header.width, header.height
    check_size(message.width, message.height, settings, what, refusal)
    return message.width, message.height


def color_from_message(
    message: AnyImage, settings: CameraSettings = DEFAULT_SETTINGS
) -> npt.NDArray[np.uint8]:
    """Colour (H, W, 3) uint8, red first; a view into the message if its layout allows it.

    Raises:
        FrameError: as for `image_size`; or the data are truncated.
    """
    size = image_size(message, settings, Input.COLOR)
    if isinstance(message, CompressedImageLike):
        return _decode_color(message, size)
    channels, order = _COLOR[message.encoding]
    pixels = image_pixels(message, np.uint8, channels, "the colour image", FrameError)
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

    Raises:
        DepthError: as for `image_size`; or the data are truncated.
    """
    size = image_size(message, settings, Input.DEPTH)
    if isinstance(message, CompressedImageLike):
        return _decode_depth(message, size, settings.depth_unit_m)
    dtype = _DEPTH[message.encoding]
    raw = image_pixels(message, dtype, 1, "the depth image", DepthError)[..., 0]
    if message.encoding == "16UC1":
        return depth_in_metres(raw, settings.depth_unit_m)
    return _valid_metres(raw.astype(np.float32))


def integer_depth(message: AnyImage) -> bool:
    """Whether depth is stored as integers, so that its unit is not in the message."""
    return _encoding(message) == "16UC1"


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
    return _encoding(message) in _DEPTH


def image_pixels(
    message: ImageLike, dtype: npt.DTypeLike, channels: int, what: str, refusal: type[FrameError]
) -> npt.NDArray[Any]:
    """View (H, W, channels) of an uncompressed image; honours `step` and `is_bigendian`.

    Args:
        what: names the image in the error text.

    Raises:
        FrameError: `refusal`: the fields of the message contradict each other.
    """
    height, width, step = message.height, message.width, message.step
    item = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    row = width * channels * item.itemsize
    name = f"{what} ({width}x{height} {shown(message.encoding)})"
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


def _encoding(message: AnyImage) -> str:
    """The encoding of the pixels: before the semicolon of a compressed image's format."""
    if isinstance(message, CompressedImageLike):
        return message.format.partition(";")[0].strip()
    return message.encoding


def _name(message: AnyImage, kind: Input) -> str:
    """Names an image in an error text."""
    if isinstance(message, CompressedImageLike):
        return f"compressed {kind.value} of format '{shown(message.format)}'"
    return f"the {kind.value} image"


def _coded(message: CompressedImageLike, kind: Input) -> memoryview:
    """The PNG or JPEG bytes: all, or those after the header of compressedDepth."""
    data = _bytes_of(message)
    bare = kind is not Input.DEPTH or bytes(data[: len(_PNG_MAGIC)]) == _PNG_MAGIC
    return data if bare else data[_COMPRESSED_DEPTH_HEADER.size :]


def _bytes_of(message: CompressedImageLike) -> memoryview:
    """A view of the data of any library's message."""
    return np.frombuffer(message.data, np.uint8).data


def _check_color_encoding(message: AnyImage) -> None:
    """Raise an error that names the encoding or format unless colour is supported in it."""
    if not isinstance(message, CompressedImageLike):
        if message.encoding not in _COLOR:
            raise FrameError(
                f"the colour image has encoding '{shown(message.encoding)}'; {_SUPPORTED_COLOR}"
            )
        return
    name, coding = _name(message, Input.COLOR), message.format.lower()
    if "compresseddepth" in coding or not any(known in coding for known in ("jpeg", "jpg", "png")):
        raise FrameError(f"{name} is not supported; supported are jpeg and png")
    encoding = _encoding(message)
    known = (*_STORED_COLOR, "mono8")
    if ";" in coding and _CONVERTED not in coding and encoding not in known:
        raise FrameError(f"{name} has encoding '{shown(encoding)}'; {_SUPPORTED_COLOR}")


def _check_depth_encoding(message: AnyImage) -> None:
    """Raise an error that names the encoding or format unless depth is supported in it."""
    if not isinstance(message, CompressedImageLike):
        if message.encoding not in _DEPTH:
            raise DepthError(
                f"the depth image has encoding '{shown(message.encoding)}'; supported are 16UC1 "
                "(millimetres) and 32FC1 (metres)"
            )
        return
    name, coding = _name(message, Input.DEPTH), message.format.partition(";")[2].lower()
    if "jpeg" in coding or "jpg" in coding:
        raise DepthError(f"{name}: JPEG is lossy; use the compressedDepth transport (PNG)")
    if _encoding(message) not in _DEPTH or "rvl" in coding:
        raise DepthError(
            f"{name} is not supported; supported are 16UC1 and 32FC1 as compressedDepth png"
        )


def _decode(
    message: CompressedImageLike, flags: int, size: tuple[int, int], kind: Input
) -> npt.NDArray[Any]:
    """The decoded PNG or JPEG, which must have the size (width, height) of its header."""
    import cv2

    what, refusal = _name(message, kind), _REFUSALS[kind]
    data = _coded(message, kind)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise refusal(f"{what} cannot be decoded: {shown(str(error))}") from error
    if image is None or image.shape[1::-1] != size:
        raise refusal(f"{what} is truncated or has another format ({len(data)} bytes)")
    return image


def _decode_color(message: CompressedImageLike, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Colour with the rule of image_transport for the order of the channels.

    Its publisher converts colour to bgr8 and says so after "compressed": then the image file shows
    the scene's colours. A driver that leaves this out has compressed its array as it was, red in
    the channel that the file format calls blue; image_transport's subscriber turns it back, and so
    does this function. A format without an encoding, `jpeg`, is an ordinary image file.
    """
    import cv2

    # The Exif orientation would rotate colour only, not depth and intrinsics.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    decoded: npt.NDArray[np.uint8] = _decode(message, flags, size, Input.COLOR)
    if _encoding(message) in _STORED_COLOR and _CONVERTED not in message.format.lower():
        return decoded  # it is red first
    rows = max(1, _BAND_PX // size[0])
    for top in range(0, size[1], rows):  # in place, because an image may have 40 megapixels
        band = decoded[top : top + rows]
        band[:] = cv2.cvtColor(band, cv2.COLOR_BGR2RGB)
    return decoded


def _decode_depth(
    message: CompressedImageLike, size: tuple[int, int], unit_m: float
) -> npt.NDArray[np.float32]:
    """compressedDepth: a header of 12 bytes, then a 16-bit PNG; or a 16-bit PNG alone.

    For 32FC1 the PNG holds quantised inverse depth: metres = A / (value - B), 0 = no reading.
    """
    import cv2

    name, data = _name(message, Input.DEPTH), _bytes_of(message)
    stored = _decode(message, cv2.IMREAD_UNCHANGED, size, Input.DEPTH)
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise DepthError(f"{name} contains {stored.shape} {stored.dtype}, not one 16-bit channel")
    if _encoding(message) == "16UC1":
        return depth_in_metres(stored, unit_m)
    if bytes(data[: len(_PNG_MAGIC)]) == _PNG_MAGIC:
        raise DepthError(f"{name} has no compressedDepth header, so it cannot be dequantised")
    _, quant_a, quant_b = _COMPRESSED_DEPTH_HEADER.unpack_from(data)
    if not (0 < quant_a < math.inf and math.isfinite(quant_b)):
        raise DepthError(
            f"{name} has the quantisation parameters A = {quant_a:g} and B = {quant_b:g}, with "
            "which no value is a distance; the publisher must write those of "
            "compressed_depth_image_transport (A > 0), or publish 16UC1"
        )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        depth = np.float32(quant_a) / (stored.astype(np.float32) - np.float32(quant_b))
    depth[stored == 0] = np.nan
    return _valid_metres(depth)
