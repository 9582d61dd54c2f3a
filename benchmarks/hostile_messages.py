"""Malformed and extreme camera messages: Image, CompressedImage, CameraInfo.

Three kinds: bytes of a valid serialized message that are changed, fields with extreme values, and
consistent frames of an unusual shape or calibration that pass every check of a single message.
Everything is drawn from a `random.Random`, so a seed repeats it. Does not know nodes or topics.
"""

from __future__ import annotations

import random
import struct
import zlib
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sdvlm_core.frame import CameraIntrinsics
from sdvlm_core.tabletop import INTRINSICS, render, sensor_depth_mm
from sdvlm_ros.conversions import camera_info_message, header_message, image_message

FRAME_ID = "camera_color_optical_frame"
#: (width, height) of unusual images that are consistent in colour, depth and intrinsics.
SHAPES = ((1, 1), (1, 8), (8, 1), (2, 2), (3, 24), (200, 25), (7, 5), (64, 48), (160, 120))
SIZES = (0, 1, 2, 7, 100, 640, 30_000, 65_535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)
NUMBERS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 600.0, 1e-9, 1e9, 5e-324, 1e-200, 1e200, 1e308, -1e308),
    *(float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *("", "rgb8", "bgr8", "mono8", "16UC1", "32FC1", "rgba8", "bayer_rggb8", "yuv422", "64FC4"),
    *(
        "8UC0",
        "16UC1; compressedDepth",
        "\n[ERROR] [0.0] [spatial_query]: FORGED",
        "\x1b[2J\x1b[31m",
    ),
    *("plumb_bob", "rational_polynomial", "equidistant", "fisheye", "thin_prism", "\u202e\u0000é"),
    *("jpeg", "png", "rgb8; jpeg compressed bgr8", "32FC1; compressedDepth png", "x" * 200_000),
)
DEPTHS_M = (0.0, -1.0, 1e-30, 1e-3, 0.5, 2.0, 70.0, 3.4e38, float("nan"), float("inf"))


@cache
def table() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Colour (480, 640, 3) and depth (480, 640), millimetres, of the simulated table."""
    rgb, metres, _ = render()
    return rgb, sensor_depth_mm(metres, np.random.default_rng(0))


def good(stamp_ns: int, compressed: bool, scale: int = 1) -> list[Image | CompressedImage]:
    """Valid messages of the table, every `scale`-th pixel: colour, depth, camera_info."""
    rgb, depth = (image[::scale, ::scale] for image in table())
    height, width = depth.shape
    intrinsics = INTRINSICS.scaled(width, height)
    return [*images(rgb, depth, stamp_ns, compressed), calibrated(intrinsics, stamp_ns)]


def calibrated(intrinsics: CameraIntrinsics, stamp_ns: int) -> CameraInfo:
    """A valid camera_info."""
    return camera_info_message(intrinsics, stamp_ns, FRAME_ID)


def images(
    rgb: npt.NDArray[np.uint8],
    depth: npt.NDArray[np.uint16] | npt.NDArray[np.float32],
    stamp_ns: int,
    compressed: bool,
) -> list[Image | CompressedImage]:
    """Colour and depth messages of arrays; depth is uint16 millimetres or float32 metres."""
    if not compressed:
        encoding = "16UC1" if depth.dtype == np.uint16 else "32FC1"
        return [
            image_message(rgb, "rgb8", stamp_ns, FRAME_ID),
            image_message(depth, encoding, stamp_ns, FRAME_ID),
        ]
    if depth.dtype != np.uint16:
        depth = np.nan_to_num(depth.clip(0, 65) * 1000, nan=0).astype(np.uint16)
    return [
        packed("jpeg", _encoded(".jpg", rgb[..., ::-1]), stamp_ns),
        packed("16UC1; compressedDepth png", bytes(12) + _encoded(".png", depth), stamp_ns),
    ]


def packed(form: str, data: bytes, stamp_ns: int) -> CompressedImage:
    """A CompressedImage."""
    message = CompressedImage(format=form)
    message.header = header_message(stamp_ns, FRAME_ID)
    message.data.frombytes(data)
    return message


def hostile(rng: random.Random, index: int, stamp_ns: int, compressed: bool) -> bytes:
    """One malformed message, serialized. `index`: 0 colour, 1 depth, 2 camera_info."""
    small = good(stamp_ns, compressed, scale=8)
    if rng.random() < 0.1:  # another input's message
        return mutated(rng, bytes(serialize_message(rng.choice(small))))
    message = small[index]
    if rng.random() < 0.35:
        return mutated(rng, bytes(serialize_message(message)))
    if index == 2:
        _spoil_info(rng, message)
    elif compressed:
        _spoil_compressed(rng, message, index)
    else:
        _spoil_image(rng, message)
    if rng.random() < 0.1:
        message.header.frame_id = rng.choice(TEXTS)
    if rng.random() < 0.1:
        message.header.stamp.sec = rng.choice((0, 1, 3600, -1, (1 << 31) - 1, -(1 << 31)))
        message.header.stamp.nanosec = rng.choice((0, 1, 999_999_999, (1 << 32) - 1))
    data = bytes(serialize_message(message))
    return mutated(rng, data) if rng.random() < 0.1 else data


def unusual(rng: random.Random, stamp_ns: int, compressed: bool) -> list[bytes]:
    """A consistent frame of unusual shape, depth and calibration: colour, depth, camera_info."""
    width, height = rng.choice(SHAPES)
    noise = np.random.default_rng(rng.getrandbits(32))
    rgb = noise.integers(0, 255, (height, width, 3), np.uint8)
    depth = np.full((height, width), rng.choice(DEPTHS_M), np.float32)
    style = rng.randrange(4)
    if style == 0:  # one reading
        depth[:] = np.nan
        depth[rng.randrange(height), rng.randrange(width)] = rng.choice((0.5, 3.0))
    elif style == 1:
        depth = noise.uniform(0.3, 3.0, (height, width)).astype(np.float32)
    elif style == 2:
        depth[:, : width // 2] = rng.choice(DEPTHS_M)
    # Mostly a calibration that passes for one of a camera, so that the frame is used.
    focal, center = 0.9 * max(width, height), ((width - 1) / 2, (height - 1) / 2)
    if rng.random() < 0.3:
        focal = rng.choice((1e-3, 0.1, 1.0, 10.0, 60.0, 600.0, 1e5, 1e200, 5e-324))
        center = rng.choice(((0.0, 0.0), center, (-1e9, 1e9), (0.5, 0.5)))
    try:
        info = calibrated(CameraIntrinsics(focal, focal, *center, width, height), stamp_ns)
    except Exception:  # noqa: BLE001 - the plan refuses this calibration; send the table's
        info = calibrated(INTRINSICS.scaled(width, height), stamp_ns)
    if rng.random() < 0.2:
        _distort(rng, info)
    messages = [*images(rgb, depth, stamp_ns, compressed), info]
    return [bytes(serialize_message(message)) for message in messages]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Bytes of a message with a few changes: overwritten, truncated, extended, repeated."""
    changed = bytearray(data)
    style = rng.randrange(6)
    if style == 0:
        return bytes(changed[: rng.randrange(len(changed))])
    if style == 1:
        return bytes(changed + rng.randbytes(rng.choice((1, 4, 1000))))
    if style == 2:
        return rng.randbytes(rng.choice((1, 3, 4, 12, 16, 200)))
    for _ in range(rng.randrange(1, 8)):
        # Most fields are at the beginning.
        at = rng.randrange(min(len(changed), 400) if rng.random() < 0.8 else len(changed))
        if style == 3:
            changed[at] ^= 1 << rng.randrange(8)
        elif style == 4:
            changed[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"))
        else:
            changed[at] = rng.randrange(256)
    return bytes(changed)


def _spoil_image(rng: random.Random, message: Image) -> None:
    for _ in range(rng.randrange(1, 4)):
        field = rng.choice(("width", "height", "step", "encoding", "is_bigendian", "data"))
        if field in ("width", "height", "step"):
            setattr(message, field, rng.choice(SIZES))
        elif field == "encoding":
            message.encoding = rng.choice(TEXTS)
        elif field == "is_bigendian":
            message.is_bigendian = rng.choice((0, 1, 255))
        else:
            message.data = message.data[: rng.randrange(len(message.data) + 1)]


def _spoil_info(rng: random.Random, message: CameraInfo) -> None:
    for _ in range(rng.randrange(1, 4)):
        field = rng.choice(("k", "p", "r", "d", "size", "roi", "binning", "model"))
        if field in ("k", "p", "r"):
            values = list(getattr(message, field))
            for _ in range(rng.randrange(1, len(values))):
                values[rng.randrange(len(values))] = rng.choice(NUMBERS)
            setattr(message, field, values)
        elif field == "d":
            _distort(rng, message)
        elif field == "size":
            message.width, message.height = rng.choice(SIZES), rng.choice(SIZES)
        elif field == "roi":
            roi = message.roi
            roi.x_offset, roi.y_offset = rng.choice(SIZES), rng.choice(SIZES)
            roi.width, roi.height = rng.choice(SIZES), rng.choice(SIZES)
            roi.do_rectify = rng.random() < 0.5
        elif field == "binning":
            message.binning_x, message.binning_y = rng.choice(SIZES), rng.choice(SIZES)
        else:
            message.distortion_model = rng.choice(TEXTS)


def _distort(rng: random.Random, info: CameraInfo) -> None:
    info.distortion_model = rng.choice(("plumb_bob", "rational_polynomial", "equidistant", ""))
    count = rng.choice((0, 1, 4, 5, 8, 12, 14, 15, 1000))
    extreme = rng.random() < 0.5
    info.d = [rng.choice(NUMBERS) if extreme else rng.uniform(-0.4, 0.4) for _ in range(count)]


def _spoil_compressed(rng: random.Random, message: CompressedImage, index: int) -> None:
    """`index`: 0 colour, 1 depth."""
    style = rng.randrange(5)
    if style == 0:
        message.format = rng.choice(TEXTS)
        return
    if style == 1:
        data = message.data.tobytes()
        data = data[: rng.randrange(len(data) + 1)]
    elif style == 2:
        data = rng.choice(bombs())
    elif style == 3:
        data = rng.randbytes(rng.choice((0, 1, 11, 12, 13, 500)))
    else:  # another kind of PNG, or another header
        data = _encoded(".png", np.zeros(rng.choice(((4, 4), (4, 4, 3), (60, 80))), np.uint8))
    if index == 1:
        quantization = (rng.choice((0, 1, -1)), *(rng.choice(NUMBERS) for _ in range(2)))
        data = _packed_floats(*quantization) + data
        message.format = rng.choice(("16UC1", "32FC1")) + "; compressedDepth png"
    else:
        message.format = rng.choice(("jpeg", "png", "bgr8; jpeg compressed bgr8"))
    message.data = type(message.data)("B", data)


def _packed_floats(form: int, a: float, b: float) -> bytes:
    limit = float(np.finfo(np.float32).max)
    return struct.pack("<iff", form, *(max(-limit, min(limit, v)) if v == v else v for v in (a, b)))


@cache
def bombs() -> tuple[bytes, ...]:
    """Small files of huge images: PNGs as deep as wide, and headers that promise more."""
    return (
        _flat_png(30_000, 1, 8, 2),
        _flat_png(1, 30_000, 16, 0),
        _flat_png(14_000, 14_000, 8, 0),
        _flat_png(14_000, 14_000, 16, 0),
        _flat_png(6_000, 6_000, 16, 0),
        _flat_png(6_000, 6_000, 8, 2),
        _flat_png(65_535, 65_535, 8, 2, rows=2),
        _jpeg_of_size(65_500, 65_500),
        _jpeg_of_size(6_300, 6_300),
    )


def _flat_png(width: int, height: int, bits: int, color: int, rows: int | None = None) -> bytes:
    """A black PNG; color 0 = grey, 2 = RGB. Only the first `rows` rows are in the file."""
    row = bytes(1 + width * bits // 8 * (3 if color == 2 else 1))
    packer = zlib.compressobj(9)
    data = b"".join([packer.compress(row) for _ in range(rows or height)] + [packer.flush()])

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header states another size."""
    data = bytearray(_encoded(".jpg", np.zeros((16, 16, 3), np.uint8)))
    start = data.index(b"\xff\xc0")  # SOF0: length, precision, height, width
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _encoded(suffix: str, pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(pixels))
    assert done
    return data.tobytes()
