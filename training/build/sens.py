"""ScanNet's .sens files (version 4), frame by frame, without unpacking.

Knows the binary layout and the compression of the SensorData format. Does not know scenes. Frames
that are not wanted are skipped without reading their images.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from training.build.bounded_files import decode_colour
from training.build.camera_checks import image_size, rigid_pose
from training.build.reasons import Reason
from training.build.scene import SceneError, Vector

VERSION = 4
_RAW, _PNG, _JPEG = 0, 1, 2  # colour compression
_RAW_DEPTH, _ZLIB_DEPTH = 0, 1
_FRAME = struct.Struct("<16f4Q")
#: No valid frame is larger; a damaged length must not cause a huge allocation.
_MAX_FRAME_BYTES = 1 << 28
#: Units per metre: 1000 in every released scan.
_DEPTH_SHIFT = (1.0, 1e6)


@dataclass(frozen=True, eq=False)
class SensHeader:
    """Cameras of a recording: (4, 4) matrices, sizes (width, height), and depth units per metre.

    depth_to_color: the identity if both cameras have one pose, or the file gives none.
    """

    color_intrinsics: Vector
    depth_intrinsics: Vector
    depth_to_color: Vector
    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_shift: float
    frames: int
    color_compression: int
    depth_compression: int


@dataclass(frozen=True, eq=False)
class SensFrame:
    """One frame: index, (4, 4) camera_to_world, rgb (H, W, 3) uint8, depth (h, w) uint16 raw."""

    index: int
    camera_to_world: Vector
    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.uint16]


def _take(file: BinaryIO, pattern: struct.Struct) -> tuple[float, ...]:
    data = file.read(pattern.size)
    if len(data) < pattern.size:
        raise SceneError(Reason.SENS_TRUNCATED, f"{getattr(file, 'name', '')} ends within a record")
    return pattern.unpack(data)


def read_header(file: BinaryIO) -> SensHeader:
    """The header; leaves `file` at the first frame.

    Raises:
        SceneError: another version, a truncated file, absurd image sizes, or no unit of depth.
    """
    (version,) = _take(file, struct.Struct("<I"))
    if version != VERSION:
        raise SceneError(Reason.SENS_VERSION, f"version {version}; only {VERSION} is supported")
    (length,) = _take(file, struct.Struct("<Q"))
    if length > 4096:
        raise SceneError(Reason.SENS_DAMAGED, f"a sensor name of {length} bytes")
    file.seek(int(length), 1)
    matrices = np.array(_take(file, struct.Struct("<64f")), np.float64).reshape(4, 4, 4)
    color_compression, depth_compression = _take(file, struct.Struct("<2i"))
    sizes = _take(file, struct.Struct("<4I"))
    (shift,) = _take(file, struct.Struct("<f"))
    (frames,) = _take(file, struct.Struct("<Q"))
    if not _DEPTH_SHIFT[0] <= shift <= _DEPTH_SHIFT[1]:  # NaN is not within
        raise SceneError(Reason.DEPTH_UNIT, f"depth_shift is {shift} units per metre")
    color_size = image_size(sizes[0], sizes[1], Reason.SENS_DAMAGED, "colour")
    depth_size = image_size(sizes[2], sizes[3], Reason.SENS_DAMAGED, "depth")
    return SensHeader(
        color_intrinsics=matrices[0],
        depth_intrinsics=matrices[2],
        depth_to_color=_depth_to_color(matrices[3], matrices[1]),
        color_size=color_size,
        depth_size=depth_size,
        depth_shift=float(shift),
        frames=int(frames),
        color_compression=int(color_compression),
        depth_compression=int(depth_compression),
    )


def _depth_to_color(depth: Vector, color: Vector) -> Vector:
    """(4, 4) depth camera -> colour camera, from their extrinsics; zeros mean unset."""
    if not np.isfinite([depth, color]).all():
        return np.eye(4)
    try:
        return np.linalg.inv(color) @ depth if np.linalg.det(depth) else np.eye(4)
    except np.linalg.LinAlgError:
        return np.eye(4)


def read_frames(
    path: Path, wanted: Callable[[Vector], bool], skip: Callable[[SceneError], None]
) -> Iterator[SensFrame]:
    """The frames whose pose is wanted, in order.

    Args:
        wanted: camera_to_world (4, 4) -> whether to decode the frame.
        skip: called with the error of each frame that cannot be decoded.

    Raises:
        SceneError: the header cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = read_header(file)
        for index in range(header.frames):
            try:
                *pose, _, _, color_bytes, depth_bytes = _take(file, _FRAME)
                if max(color_bytes, depth_bytes) > _MAX_FRAME_BYTES:
                    raise SceneError(Reason.SENS_DAMAGED, f"frame {index} of {path} is too large")
            except SceneError as error:
                skip(error)
                return  # the position of the next frame is unknown
            after = file.tell() + int(color_bytes) + int(depth_bytes)
            try:
                matrix = rigid_pose(np.reshape(pose, (4, 4)), f"frame {index} of {path}")
                if wanted(matrix):
                    # `read` takes the memory first, so no more than the file has is asked for.
                    color = file.read(min(int(color_bytes), size))
                    depth = file.read(min(int(depth_bytes), size))
                    yield SensFrame(index, matrix, _color(header, color), _depth(header, depth))
            except SceneError as error:
                skip(error)
            file.seek(after)


def _color(header: SensHeader, data: bytes) -> npt.NDArray[np.uint8]:
    width, height = header.color_size
    if header.color_compression == _RAW:
        if len(data) != 3 * width * height:
            raise SceneError(Reason.COLOUR_DAMAGED, f"{len(data)} bytes of raw colour")
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    rgb = decode_colour(data, "a colour image")
    if rgb.shape[:2] != (height, width):
        raise SceneError(
            Reason.OTHER_SIZE,
            f"colour of {rgb.shape[1]}x{rgb.shape[0]}, the header states {width}x{height}",
        )
    return rgb


def _depth(header: SensHeader, data: bytes) -> npt.NDArray[np.uint16]:
    width, height = header.depth_size
    if header.depth_compression not in (_RAW_DEPTH, _ZLIB_DEPTH):
        raise SceneError(
            Reason.DEPTH_COMPRESSION, f"type {header.depth_compression} is not supported"
        )
    if header.depth_compression == _ZLIB_DEPTH:
        try:  # bounded: a few bytes can expand to gigabytes
            data = zlib.decompressobj().decompress(data, 2 * width * height + 1)
        except zlib.error as error:
            raise SceneError(Reason.DEPTH_DAMAGED, str(error)) from error
    if len(data) != 2 * width * height:
        raise SceneError(Reason.DEPTH_DAMAGED, f"{len(data)} bytes for {width}x{height}")
    return np.frombuffer(data, "<u2").astype(np.uint16).reshape(height, width)
