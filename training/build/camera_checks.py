"""Poses, intrinsics and image sizes as scans store them: checked before anything is built on them.

Knows pinhole cameras and rigid motions. Does not know files, or what a view shows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sdvlm_core.errors import SdvlmError
from sdvlm_core.frame import CameraIntrinsics
from training.build.reasons import Reason
from training.build.scene import SceneError, Vector

#: Largest image; a full frame of ScanNet++'s DSLR has 33 megapixels.
MAX_PIXELS = 64_000_000
MAX_SIDE = 16_384
#: Poses are stored with six decimals at least; a scale of 1 % is no rounding.
_RIGID_TOLERANCE = 5e-3
_MAX_TRANSLATION_M = 1000.0
_FIELD_OF_VIEW = (math.radians(15), math.radians(160))
_MAX_ANISOTROPY = 1.25
#: Distance of the principal point from the image centre, as part of the size. Intrinsics of the
#: full image with an image of half the size give 0.5.
_MAX_OFF_CENTRE = 0.12


def number(value: Any) -> float:
    """A finite number of a JSON document.

    Raises:
        ValueError: it is text, a truth value, null, NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    result = float(value) if abs(value) < 1e300 else math.inf
    if not math.isfinite(result):
        raise ValueError(f"{value!r} is not finite")
    return result


def rigid_pose(matrix: Any, name: str) -> Vector:
    """camera_to_world (4, 4) of a view.

    Raises:
        SceneError: `no pose`: it is not 4 x 4 finite numbers. `pose not rigid`: it is zero, scales,
            shears or mirrors, or is a kilometre away.
    """
    try:
        pose = np.array(matrix, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SceneError(Reason.NO_POSE, f"{name}: {error}") from error
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise SceneError(Reason.NO_POSE, f"{name}: the pose is not 4 x 4 finite numbers")
    if not is_rigid(pose):
        raise SceneError(
            Reason.POSE_NOT_RIGID,
            f"{name}: columns of length {np.round(lengths(pose), 4).tolist()}, "
            f"last row {pose[3].tolist()}; expected a rotation and (0, 0, 0, 1)",
        )
    return pose


def lengths(matrix: Vector) -> Vector:
    """Lengths of the three axes of a (4, 4) matrix; infinite if too large for a number."""
    with np.errstate(over="ignore"):
        return np.asarray(np.linalg.norm(matrix[:3, :3], axis=0))


def is_rigid(matrix: Vector) -> bool:
    """Whether a (4, 4) matrix is a rotation and a translation."""
    if np.abs(matrix[:3, :3]).max() > 2 or np.abs(matrix[:3, 3]).max() > _MAX_TRANSLATION_M:
        return False
    rotation = matrix[:3, :3]
    return bool(
        np.abs(rotation.T @ rotation - np.eye(3)).max() < _RIGID_TOLERANCE
        and np.linalg.det(rotation) > 0
        and np.abs(matrix[3] - (0, 0, 0, 1)).max() < _RIGID_TOLERANCE
    )


def pinhole(matrix: Vector, size: tuple[int, int], name: str) -> CameraIntrinsics:
    """The intrinsics of a matrix (at least 3 x 3) and an image size (width, height).

    Raises:
        SceneError: `bad intrinsics`: not finite, not positive, skewed, or a field of view that no
            pinhole camera has. `intrinsics of another size`: the principal point is far from the
            centre of the image.
    """
    width, height = size
    fx, fy, cx, cy = (float(matrix[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    try:
        k = CameraIntrinsics(fx, fy, cx, cy, width, height)
    except SdvlmError as error:
        raise SceneError(Reason.BAD_INTRINSICS, f"{name}: {error}") from error
    rest = np.abs([matrix[0, 1], matrix[1, 0], matrix[2, 0], matrix[2, 1], matrix[2, 2] - 1])
    if not rest.max() < 1.0:  # a skew of a pixel is a rounding; NaN is not
        raise SceneError(Reason.BAD_INTRINSICS, f"{name}: {matrix[:3, :3].tolist()} is skewed")
    off = max(abs((cx + 0.5) / width - 0.5), abs((cy + 0.5) / height - 0.5))
    if off > _MAX_OFF_CENTRE:
        raise SceneError(
            Reason.OTHER_INTRINSICS,
            f"{name}: principal point ({cx:.1f}, {cy:.1f}) of an image of {width}x{height}",
        )
    fields = (2 * math.atan(width / (2 * fx)), 2 * math.atan(height / (2 * fy)))
    low, high = _FIELD_OF_VIEW
    if min(fields) < low or max(fields) > high or max(fx / fy, fy / fx) > _MAX_ANISOTROPY:
        raise SceneError(
            Reason.BAD_INTRINSICS,
            f"{name}: fx={fx:g}, fy={fy:g} for {width}x{height}, a field of view of "
            f"{math.degrees(fields[0]):.1f} x {math.degrees(fields[1]):.1f} degrees",
        )
    return k


def image_size(width: Any, height: Any, reason: Reason, name: str) -> tuple[int, int]:
    """An image size that a file states.

    Raises:
        SceneError: `reason`: it is not two whole positive numbers, or too large.
    """
    sides = []
    for value in (width, height):
        try:
            side = number(value)
        except ValueError as error:
            raise SceneError(reason, f"{name}: {error}") from error
        if not (1 <= side <= MAX_SIDE and side == int(side)):
            raise SceneError(reason, f"{name}: a side of {value!r} pixels")
        sides.append(int(side))
    if sides[0] * sides[1] > MAX_PIXELS:
        raise SceneError(reason, f"{name}: {sides[0]}x{sides[1]} pixels, more than {MAX_PIXELS}")
    return sides[0], sides[1]
