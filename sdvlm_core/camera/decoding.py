"""Messages of a camera -> frames: sensor_msgs/Image, CompressedImage and CameraInfo, decoded.

Reads attributes only, so the messages may be rclpy's or those that `rosbags` deserialises: the
frames are the same to the bit. Decides by `encoding` alone (REP-118: 16UC1 is millimetres with 0
invalid, 32FC1 is metres with NaN or Inf invalid) and refuses by name what it does not read. Does
not know ROS, topics, time, or where a message came from.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.errors import DepthError, FrameError, IntrinsicsError, QueryError
from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame, depth_in_metres

# A message of whatever library made it.
Message = Any

MILLIMETRE = 0.001

# Encoding -> (channels, where red, green and blue are among them).
_COLOR: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
}
_DEPTH: dict[str, npt.DTypeLike] = {"16UC1": np.uint16, "32FC1": np.float32}

_COMPRESSED_DEPTH_HEADER = struct.Struct("<iff")  # format, depthQuantA, depthQuantB
_PNG_MAGIC = b"\x89PNG"


def serialized_stamp_ns(data: bytes) -> int:
    """The header stamp, nanoseconds, of a serialized message that begins with a Header.

    CDR: four bytes that name the byte order, then sec (int32) and nanosec (uint32). Reading twelve
    bytes is what lets the node keep images undecoded.

    Raises:
        FrameError: the message is too short to hold a header.
    """
    if len(data) < 12:
        raise FrameError(f"a serialized message of {len(data)} bytes holds no header")
    seconds, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanosec)


def serialized_frame_id(data: bytes) -> str:
    """The header's frame_id of a serialized message that begins with a Header; "" = not set.

    Raises:
        FrameError: the message is too short to hold a header.
    """
    if len(data) < 16:
        raise FrameError(f"a serialized message of {len(data)} bytes holds no header")
    (length,) = struct.unpack_from("<I" if data[1] & 1 else ">I", data, 12)
    # CDR counts the terminating zero.
    return data[16 : 16 + max(0, length - 1)].decode("utf-8", errors="replace")


def frame_from_messages(color: Message, depth: Message | None, info: Message) -> RgbdFrame:
    """One frame of its messages, with the colour image's stamp and frame_id.

    Raises:
        FrameError: colour is truncated or in an encoding that is not read.
        DepthError: the same for depth; or it is of another size than colour; or has no reading.
        IntrinsicsError: the camera is not calibrated, or the info is for another image size.
    """
    rgb = color_from_message(color)
    metres = depth_from_message(depth) if depth is not None else None
    intrinsics = intrinsics_from_message(info)
    _check_registered(rgb, metres, intrinsics)
    frame = RgbdFrame(
        rgb=rgb,
        depth=metres,
        intrinsics=intrinsics,
        stamp_ns=nanoseconds(color.header.stamp),
        frame_id=color.header.frame_id,
    )
    if metres is not None and np.isnan(metres).all():
        raise DepthError(
            f"depth has no usable reading: all {metres.size} pixels are zero, NaN or Inf; is the "
            "sensor covered, too close, or its depth stream off?"
        )
    return frame


def _check_registered(
    rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32] | None, intrinsics: CameraIntrinsics
) -> None:
    """Refuse three sizes that are not one, naming all three."""
    height, width = rgb.shape[:2]
    color_text, info_text = f"{width}x{height}", f"{intrinsics.width}x{intrinsics.height}"
    depth_text = color_text if depth is None else f"{depth.shape[1]}x{depth.shape[0]}"
    if depth_text != color_text:
        raise DepthError(
            f"depth is {depth_text} but colour is {color_text} (and camera_info is {info_text}); "
            "register depth to the colour camera (RealSense: align_depth.enable, OpenNI: "
            "depth_registration)"
        )
    if info_text != color_text:
        also = "" if depth is None else f" (and depth is {depth_text})"
        raise IntrinsicsError(
            f"camera_info is {info_text} but colour is {color_text}{also}; give the camera_info "
            "that belongs to the colour image"
        )


def color_from_message(message: Message) -> npt.NDArray[np.uint8]:
    """Colour (H, W, 3) uint8, red first; a view into the message where the layout allows it."""
    if _is_compressed(message):
        return _decode_color(message)
    if message.encoding not in _COLOR:
        raise FrameError(
            f"colour image is in encoding {message.encoding!r}; {', '.join(_COLOR)} are read "
            "(convert Bayer and YUV with image_proc)"
        )
    channels, order = _COLOR[message.encoding]
    pixels = _pixels(message, np.uint8, channels, FrameError)
    if order == (0, 1, 2):
        return pixels[..., :3]
    # Copied, because what reads it (torch) takes no negative strides.
    return np.ascontiguousarray(pixels[..., list(order)])


def depth_from_message(message: Message) -> npt.NDArray[np.float32]:
    """Depth (H, W) float32 metres, NaN = no reading.

    Zero or less is no reading in both encodings: drivers write 0 into 32FC1 too.
    """
    if _is_compressed(message):
        return _decode_depth(message)
    if message.encoding not in _DEPTH:
        raise DepthError(
            f"depth image is in encoding {message.encoding!r}; 16UC1 (millimetres) and 32FC1 "
            "(metres) are read"
        )
    raw = _pixels(message, _DEPTH[message.encoding], 1, DepthError)[..., 0]
    if message.encoding == "16UC1":
        return depth_in_metres(raw, MILLIMETRE)
    return _valid_metres(raw.astype(np.float32))


def intrinsics_from_message(message: Message) -> CameraIntrinsics:
    """Pinhole intrinsics of the image the info came with, binning and region of interest applied.

    P where it is set (it is the rectified camera's), else K.

    Raises:
        IntrinsicsError: not calibrated (focal length 0), not finite, or without a size.
    """
    p, k = message.p, message.k
    fx, fy, cx, cy = (p[0], p[5], p[2], p[6]) if p[0] else (k[0], k[4], k[2], k[5])
    if not fx or not fy:
        raise IntrinsicsError(
            "camera_info is not calibrated: its focal length is 0; calibrate the camera, or set "
            "the driver's calibration file"
        )
    bin_x, bin_y = max(1, message.binning_x), max(1, message.binning_y)
    roi = message.roi
    return CameraIntrinsics(
        fx=float(fx) / bin_x,
        fy=float(fy) / bin_y,
        cx=(float(cx) - roi.x_offset) / bin_x,
        cy=(float(cy) - roi.y_offset) / bin_y,
        width=(roi.width or message.width) // bin_x,
        height=(roi.height or message.height) // bin_y,
    )


#: Regions of one request; each costs a few milliseconds.
MAX_REGIONS = 64


def regions_from_messages(messages: Sequence[Message]) -> tuple[Region, ...]:
    """sdvlm/Region messages -> regions: a mask wins over the roi, a roi without size is a point.

    Raises:
        QueryError: too many, a label twice, or a mask that is not mono8; names the region.
    """
    if len(messages) > MAX_REGIONS:
        raise QueryError(f"{len(messages)} regions, at most {MAX_REGIONS} are taken")
    labels = [message.label for message in messages]
    if len(set(labels)) != len(labels):
        raise QueryError(f"regions need a label each, got {labels}")
    return tuple(_region(message) for message in messages)


def _region(message: Message) -> Region:
    mask, roi = message.mask, message.roi
    if len(mask.data):
        if mask.encoding != "mono8":
            raise QueryError(
                f"the mask of region {message.label!r} is {mask.encoding!r}; mono8 is taken"
            )
        try:
            pixels = _pixels(mask, np.uint8, 1, FrameError)
        except FrameError as error:
            raise QueryError(f"the mask of region {message.label!r}: {error}") from error
        return Region(message.label, mask=pixels[..., 0] > 0)
    if roi.width == 0 and roi.height == 0:
        return Region(message.label, point=(float(roi.x_offset), float(roi.y_offset)))
    x, y = float(roi.x_offset), float(roi.y_offset)
    return Region(message.label, box=(x, y, x + roi.width, y + roi.height))


def is_color(message: Message | None) -> bool:
    """Whether an Image or CompressedImage says that it is colour, read or not."""
    if message is None or is_depth(message):
        return False
    if _is_compressed(message):
        return "compresseddepth" not in message.format.lower()
    coding = message.encoding.lower()
    return coding in _COLOR or coding.startswith(("bayer", "yuv", "8uc3", "8uc4", "rgb", "bgr"))


def is_depth(message: Message | None) -> bool:
    """Whether an Image or CompressedImage says that it is depth that is read."""
    if message is None:
        return False
    encoding = message.format if _is_compressed(message) else message.encoding
    return encoding.partition(";")[0].strip() in _DEPTH


def _is_compressed(message: Message) -> bool:
    """CompressedImage has a format where Image has an encoding."""
    return hasattr(message, "format")


def _pixels(
    message: Message, dtype: npt.DTypeLike, channels: int, refusal: type[FrameError]
) -> npt.NDArray[Any]:
    """View (H, W, channels) of an uncompressed image; honours `step` and `is_bigendian`."""
    height, width, step = message.height, message.width, message.step
    item = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    row = width * channels * item.itemsize
    name = f"{width}x{height} {message.encoding} image"
    if row == 0 or height == 0:
        raise refusal(f"{name} is empty")
    if step < row:
        raise refusal(f"{name} has a step of {step} bytes, but a row needs {row}")
    if len(message.data) < step * height:
        raise refusal(
            f"{name} is truncated: {len(message.data)} bytes of data, step x height is "
            f"{step * height}"
        )
    data = np.frombuffer(message.data, np.uint8, count=step * height).reshape(height, step)
    return data[:, :row].view(item).reshape(height, width, channels)


def _valid_metres(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """In place: whatever is not a finite positive distance becomes NaN."""
    with np.errstate(invalid="ignore"):
        depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def _decode(data: Any, flags: int, what: str, refusal: type[FrameError]) -> npt.NDArray[Any]:
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise refusal(f"{what} cannot be decoded: {error}") from error
    if image is None:
        raise refusal(f"{what} is truncated or not of that format ({len(data)} bytes)")
    return image


def _decode_color(message: Message) -> npt.NDArray[np.uint8]:
    import cv2

    coding = message.format.lower()
    if "compresseddepth" in coding or not any(name in coding for name in ("jpeg", "jpg", "png")):
        raise FrameError(f"compressed colour has format {message.format!r}; jpeg and png are read")
    # A turned phone picture is turned back by its Exif; a camera's intrinsics are not.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    what = f"compressed colour of format {message.format!r}"
    bgr = _decode(message.data, flags, what, FrameError)
    return np.ascontiguousarray(bgr[..., ::-1])


def _decode_depth(message: Message) -> npt.NDArray[np.float32]:
    """compressedDepth: a header of 12 bytes, then a 16-bit PNG; or such a PNG alone.

    For 32FC1 the PNG holds quantised inverse depth: metres = A / (value - B), 0 = no reading.
    """
    import cv2

    what = f"compressed depth of format {message.format!r}"
    encoding, _, coding = (part.strip() for part in message.format.partition(";"))
    data = bytes(message.data)
    if "jpeg" in coding.lower() or "jpg" in coding.lower():
        raise DepthError(f"{what}: JPEG destroys depth; use the compressedDepth transport (PNG)")
    if encoding not in _DEPTH or "rvl" in coding.lower():
        raise DepthError(f"{what} is not read; 16UC1 or 32FC1 with compressedDepth png is")
    bare = data.startswith(_PNG_MAGIC)
    if not bare and len(data) <= _COMPRESSED_DEPTH_HEADER.size:
        raise DepthError(f"{what} is truncated ({len(data)} bytes)")
    png = data if bare else data[_COMPRESSED_DEPTH_HEADER.size :]
    stored = _decode(png, cv2.IMREAD_UNCHANGED, what, DepthError)
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise DepthError(f"{what} holds {stored.shape} {stored.dtype}, not one channel of 16 bits")
    if encoding == "16UC1":
        return depth_in_metres(stored, MILLIMETRE)
    if bare:
        raise DepthError(f"{what} lacks the compressedDepth header that says how to undo it")
    _, quant_a, quant_b = _COMPRESSED_DEPTH_HEADER.unpack_from(data)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.float32(quant_a) / (stored.astype(np.float32) - np.float32(quant_b))
    depth[stored == 0] = np.nan
    return _valid_metres(depth)
