"""Images in the cells of a table or in files beside it: encoded and decoded.

Knows JPEG and PNG. Does not know what an image shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

#: (H, W, 3) uint8, red first.
Rgb = npt.NDArray[np.uint8]
#: An encoded image as a table stores it: bytes, or {"bytes", "path"} as `datasets` does.
Stored = bytes | Mapping[str, Any] | None

_PNG_COMPRESSION = 1  # levels above 1 cost time and save little


def encode_jpeg(rgb: Rgb, quality: int) -> bytes:
    """(H, W, 3) uint8 as JPEG."""
    return _encode(".jpg", rgb[..., ::-1], cv2.IMWRITE_JPEG_QUALITY, quality)


def encode_png(image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    """(H, W) uint8 or uint16, or (H, W, 3) uint8 with red first, as PNG."""
    pixels = image[..., ::-1] if image.ndim == 3 else image
    return _encode(".png", pixels, cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION)


def _encode(suffix: str, pixels: npt.NDArray[Any], option: int, value: int) -> bytes:
    encoded, data = cv2.imencode(suffix, np.ascontiguousarray(pixels), [option, value])
    if not encoded:
        raise RuntimeError(f"OpenCV could not encode a {suffix} image of shape {pixels.shape}")
    return bytes(data)


def decode_rgb(stored: Stored) -> Rgb:
    """An encoded colour image as (H, W, 3) uint8.

    Raises:
        ValueError: there is no image, or it does not decode.
    """
    return np.ascontiguousarray(_decode(stored, cv2.IMREAD_COLOR)[..., ::-1])


def decode_plane(stored: Stored) -> npt.NDArray[Any]:
    """An encoded image of one channel as (H, W), with the pixel type of the file.

    Raises:
        ValueError: there is no image, it does not decode, or it has several channels.
    """
    image = _decode(stored, cv2.IMREAD_UNCHANGED)
    if image.ndim != 2:
        raise ValueError(f"expected an image of one channel, found shape {image.shape}")
    return image


def _decode(stored: Stored, flags: int) -> npt.NDArray[Any]:
    data = stored.get("bytes") if isinstance(stored, Mapping) else stored
    if not data:
        raise ValueError("the row holds no image")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError(f"an image of {len(data)} bytes does not decode")
    return np.asarray(image)


def read_rgb(stored: Stored, path: str, root: Path) -> Rgb:
    """An image stored in the row, else the file `path` below `root`; (H, W, 3) uint8.

    Raises:
        ValueError: there is no image, it does not decode, or `path` leads out of `root`.
        FileNotFoundError: the file does not exist; the message has the expected path.
    """
    data = stored.get("bytes") if isinstance(stored, Mapping) else stored
    if data is None and path:
        file = (root / path).resolve()
        if not file.is_relative_to(root.resolve()):
            raise ValueError(f"{path} leads out of {root}")
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; put the benchmark's images below {root}")
        data = file.read_bytes()
    return decode_rgb(data)
