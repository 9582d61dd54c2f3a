"""Files of a scan, read within bounds: bytes, text, JSON, matrices and images.

A small file can state a large content, so sizes are checked before memory is taken. Does not know
what the files of a data set are called.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.image_header import check_header
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.errors import FrameError
from training.build.camera_checks import MAX_PIXELS
from training.build.reasons import Reason
from training.build.scene import SceneError, Vector

_MAX_TEXT_BYTES = 1 << 20
#: Segments of a mesh of ten million vertices.
_MAX_JSON_BYTES = 1 << 27
_MAX_IMAGE_BYTES = 1 << 28
_LIMITS = CameraSettings(max_pixels=MAX_PIXELS)


def read_bytes(path: Path, limit: int, damaged: Reason) -> bytes:
    """The content of a file of at most `limit` bytes.

    Raises:
        SceneError: `missing file`, `file too large`, or `damaged` if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise SceneError(Reason.MISSING_FILE, str(path)) from error
    except (OSError, ValueError) as error:
        raise SceneError(damaged, f"{path}: {error}") from error
    if len(data) > limit:
        raise SceneError(Reason.FILE_TOO_LARGE, f"{path} has more than {limit} bytes")
    return data


def read_text(path: Path) -> str:
    """A short text about a camera; bytes that are not UTF-8 are replaced."""
    data = read_bytes(path, _MAX_TEXT_BYTES, Reason.CAMERA_DAMAGED)
    return data.decode("utf-8", errors="replace")


def read_object(path: Path, damaged: Reason) -> dict[str, Any]:
    """A JSON file which holds one object; a key with two different values has the value None.

    Raises:
        SceneError: `missing file`, `file too large` or `damaged`; names it.
    """
    data = read_bytes(path, _MAX_JSON_BYTES, damaged)
    try:
        values = json.loads(data.decode("utf-8"), object_pairs_hook=_without_contradictions)
    except (ValueError, RecursionError) as error:
        raise SceneError(damaged, f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise SceneError(damaged, f"{path} must hold one object, found {type(values).__name__}")
    return values


def _without_contradictions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):  # JSON itself would silently take the last one
        for key, value in pairs:
            if values[key] is not value and values[key] != value:
                values[key] = None
    return values


def read_matrix(path: Path) -> Vector:
    """(4, 4) numbers as text, perhaps infinite.

    Raises:
        SceneError: `missing file`, `file too large` or `camera file damaged`.
    """
    words = read_text(path).split()
    try:
        return np.array(words, np.float64).reshape(4, 4)
    except (ValueError, OverflowError) as error:
        raise SceneError(Reason.CAMERA_DAMAGED, f"{path}: {error}") from error


def decode_colour(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """A PNG or JPEG image as (H, W, 3) uint8, red first; as stored, without turning it.

    Raises:
        SceneError: `colour damaged`.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return np.ascontiguousarray(_decode(data, flags, Reason.COLOUR_DAMAGED, name)[..., ::-1])


def decode_plane(data: bytes, reason: Reason, name: str) -> npt.NDArray[Any]:
    """A PNG image of one channel as (H, W) uint8 or uint16.

    Raises:
        SceneError: `reason`.
    """
    plane = _decode(data, cv2.IMREAD_UNCHANGED, reason, name)
    if plane.ndim != 2:
        raise SceneError(reason, f"{name} has the shape {plane.shape}, expected one channel")
    return plane


def _decode(data: bytes, flags: int, reason: Reason, name: str) -> npt.NDArray[Any]:
    if not data:
        raise SceneError(reason, f"{name} is empty")
    try:
        check_header(data, _LIMITS, name, FrameError)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (FrameError, cv2.error) as error:
        raise SceneError(reason, f"{name}: {error}") from error
    if image is None:
        raise SceneError(reason, f"{name}: {len(data)} bytes do not decode")
    return np.asarray(image)


def read_colour(path: Path) -> npt.NDArray[np.uint8]:
    """A PNG or JPEG file as (H, W, 3) uint8, red first.

    Raises:
        SceneError: `colour damaged`, or that the file is missing.
    """
    return decode_colour(read_bytes(path, _MAX_IMAGE_BYTES, Reason.COLOUR_DAMAGED), str(path))


def read_depth(path: Path) -> npt.NDArray[np.uint16]:
    """A PNG file of depth as (H, W) uint16.

    Raises:
        SceneError: `depth damaged`, or that the file is missing.
    """
    data = read_bytes(path, _MAX_IMAGE_BYTES, Reason.DEPTH_DAMAGED)
    plane = decode_plane(data, Reason.DEPTH_DAMAGED, str(path))
    if plane.dtype != np.uint16:
        raise SceneError(Reason.DEPTH_DAMAGED, f"{path} has {plane.dtype}, expected uint16")
    return plane
