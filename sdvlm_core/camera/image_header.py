"""Image headers: the size of a PNG or JPEG image, read without decoding, and the limits of size.

A few kilobytes can state an image of gigabytes, so every image is checked before memory is taken
for its pixels. Does not know whether the rest of the data is valid.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.errors import FrameError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = struct.Struct(">I4sIIB")  # length and type of the chunk; width, height, bits
_JPEG_START = b"\xff\xd8"
_JPEG_FRAME = struct.Struct(">BHH")  # bits, height, width
# Markers SOF0 to SOF15 begin a frame header, except those of tables and arithmetic coding.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA  # compressed pixels follow: there is no frame header any more
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_MAX_JPEG_SEGMENTS = 1024  # a colour profile in pieces has up to 255

# Compressed data longer than this is no image of the stated size: 16 bits in 4 channels per pixel,
# and metadata.
_MAX_BYTES_PER_PX = 8
_MAX_METADATA_BYTES = 4 << 20
# Compressed data shorter than this is no camera's image either, but made to fill memory: one byte
# for 16 pixels. Images up to 16 megapixels are exempt: a wall of one colour compresses better.
_MAX_PX_PER_BYTE = 16
_EXEMPT_PX = 16_000_000


@dataclass(frozen=True)
class ImageHeader:
    """What the header of a compressed image states.

    Attributes:
        coding: `png` or `jpeg`.
        width, height: pixels.
        bits: per channel.
    """

    coding: str
    width: int
    height: int
    bits: int


def read_header(data: bytes | memoryview) -> ImageHeader | None:
    """The header of a PNG or JPEG image; None = another format, or the header is damaged.

    Args:
        data: the image from its first byte; 8-bit items.
    """
    start = bytes(data[: len(_PNG_SIGNATURE) + _PNG_HEADER.size])
    if start.startswith(_PNG_SIGNATURE):
        return _png_header(start)
    return _jpeg_header(data) if start.startswith(_JPEG_START) else None


def check_size(
    width: int, height: int, settings: CameraSettings, what: str, refusal: type[FrameError]
) -> None:
    """Raise `refusal` if an image of this size is not accepted.

    Args:
        what: names the image in the error text.
    """
    if width <= 0 or height <= 0:
        raise refusal(f"{what} is empty: {width}x{height} pixels")
    if width * height > settings.max_pixels:
        raise refusal(
            f"{what} has {width}x{height} = {width * height} pixels; at most "
            f"{settings.max_pixels} are accepted (parameter max_pixels)"
        )
    if max(width, height) > settings.max_aspect * min(width, height):
        raise refusal(
            f"{what} is {width}x{height}; a ratio of its sides up to {settings.max_aspect:g} is "
            "accepted (parameter max_aspect)"
        )


def check_header(
    data: bytes | memoryview, settings: CameraSettings, what: str, refusal: type[FrameError]
) -> ImageHeader:
    """The header of a PNG or JPEG image of an accepted size.

    Raises:
        FrameError: `refusal`: no header, or more pixels or bytes than accepted.
    """
    header = read_header(data)
    if header is None:
        raise refusal(f"{what} is truncated or has another format ({len(data)} bytes)")
    check_size(header.width, header.height, settings, what, refusal)
    limit = _MAX_BYTES_PER_PX * header.width * header.height + _MAX_METADATA_BYTES
    if len(data) > limit:
        raise refusal(
            f"{what} has {len(data)} bytes; an image of {header.width}x{header.height} has at most "
            f"{limit}"
        )
    pixels = header.width * header.height
    if pixels > max(_EXEMPT_PX, _MAX_PX_PER_BYTE * len(data)):
        raise refusal(
            f"{what} states {header.width}x{header.height} = {pixels} pixels in {len(data)} bytes; "
            f"at most {_MAX_PX_PER_BYTE} pixels per byte are accepted above {_EXEMPT_PX} pixels"
        )
    return header


def _png_header(start: bytes) -> ImageHeader | None:
    """The IHDR chunk, which must be the first one."""
    if len(start) < len(_PNG_SIGNATURE) + _PNG_HEADER.size:
        return None
    _, kind, width, height, bits = _PNG_HEADER.unpack_from(start, len(_PNG_SIGNATURE))
    return ImageHeader("png", width, height, bits) if kind == b"IHDR" else None


def _jpeg_header(data: bytes | memoryview) -> ImageHeader | None:
    """The first frame header, found by the lengths of the segments before it."""
    at = len(_JPEG_START)
    for _ in range(_MAX_JPEG_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _JPEG_WITHOUT_LENGTH:
            at += 2
            continue
        if marker in _JPEG_FRAMES:
            if at + 4 + _JPEG_FRAME.size > len(data):
                return None
            bits, height, width = _JPEG_FRAME.unpack_from(data, at + 4)
            return ImageHeader("jpeg", width, height, bits)
        if marker == _JPEG_SCAN:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
