"""intrinsics.json -> calibration and unit of depth, in the forms that camera software writes.

Reads fx, fy, cx, cy (RealSense: ppx, ppy), or a camera matrix (ROS: row-major K; Open3D:
column-major intrinsic_matrix); the distortion as a list or as k1, k2, p1, ..., with the model's
name; and the unit of depth. A key that looks like distortion and is not understood is an error:
ignored distortion makes wrong lengths. Does not know images, and does not check the lens
(`distortion`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdvlm_core.camera.calibration import Calibration
from sdvlm_core.camera.distortion import MAX_COEFFICIENTS, is_distortion, is_fisheye
from sdvlm_core.errors import IntrinsicsError, shown
from sdvlm_core.files import read_json
from sdvlm_core.frame import CameraIntrinsics

_MAX_BYTES = 1 << 20

_MATRIX_KEYS = ("K", "k", "camera_matrix", "intrinsic_matrix")
_MODEL_KEYS = ("distortion_model", "model", "camera_model")
_LIST_KEYS = ("d", "D", "dist", "coeffs", "distortion_coefficients", "dist_coeffs", "distortion")
#: In the order of sensor_msgs/CameraInfo.
_POLYNOMIAL_KEYS = (
    *("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4", "tx", "ty"),
)
_FISHEYE_KEYS = ("k1", "k2", "k3", "k4")
_COUNTS = (4, 5, 8, 12, 14)
#: Names of a camera model that say nothing about distortion.
_NO_MODELS = ("pinhole", "perspective")
_SCALE_KEYS = ("depth_scale", "depth_unit", "depth_units", "depth_unit_m", "png_depth_scale")
_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001, "um": 1e-6}

_LOOKS_LIKE_DISTORTION = re.compile(
    r"distort|dist(_|$)|coef|radial|tangential|fisheye|(^|_)skew|^[kps][1-9]|^tau|^d$"
    # Bouguet, Kalibr, omnidirectional models, FOV
    r"|^k[cd]$|^alpha_c$|^xi$|^omega$|^lens(_params)?$",
    re.IGNORECASE,
)
_LOOKS_LIKE_A_UNIT = re.compile(r"depth.*(scale|unit|factor)", re.IGNORECASE)
#: How files say in words that there is no distortion.
_NO_DISTORTION = re.compile(r"(distortion\.)?(none|no|undistorted|rectified)\b", re.IGNORECASE)


@dataclass(frozen=True)
class StatedCalibration:
    """What an intrinsics.json states.

    Attributes:
        calibration: of the colour image's camera.
        depth_unit_m: metres per unit of the depth image; None = not stated.
    """

    calibration: Calibration
    depth_unit_m: float | None


def read_intrinsics(path: Path) -> StatedCalibration:
    """Read an intrinsics.json of at most 1 MiB.

    Raises:
        IntrinsicsError: the file is unreadable, or it is not understood; names the file.
    """
    values = read_json(Path(path), IntrinsicsError, _MAX_BYTES)
    try:
        return parse_intrinsics(values)
    except IntrinsicsError as error:
        raise IntrinsicsError(f"{path}: {error}") from error


def parse_intrinsics(values: Mapping[str, Any]) -> StatedCalibration:
    """What the JSON object of an intrinsics.json states.

    Raises:
        IntrinsicsError: a value is missing, contradictory, or not a number; or a key looks like
            distortion or a unit of depth and is not understood.
    """
    try:
        return _parsed(values)
    except RecursionError:
        raise IntrinsicsError("lists or objects are nested too deeply") from None


def _parsed(values: Mapping[str, Any]) -> StatedCalibration:
    model, coefficients, understood = _distortion(values)
    others = {key: value for key, value in values.items() if key not in understood}
    for key, value in _nested(others):
        if _LOOKS_LIKE_A_UNIT.search(key) and key not in _SCALE_KEYS and value is not None:
            raise IntrinsicsError(
                f"{shown(key)} = {shown(str(value))} looks like the unit of depth and is not "
                "understood; give depth_scale in metres per unit"
            )
        named_fisheye = isinstance(value, str) and is_fisheye(value)
        if named_fisheye or (_LOOKS_LIKE_DISTORTION.search(key) and not _is_none(value)):
            raise IntrinsicsError(
                f"{shown(key)} = {shown(str(value))} looks like lens distortion and is not "
                f"understood; give distortion_model and d (k1, k2, p1, p2, k3, ...), or remove it "
                "if the images are rectified"
            )
    return StatedCalibration(
        Calibration(k=_intrinsics(values), model=model, coefficients=coefficients),
        _depth_unit(values),
    )


def _intrinsics(values: Mapping[str, Any]) -> CameraIntrinsics:
    width = _number(values, "width", "image_width")
    height = _number(values, "height", "image_height")
    if width is None or height is None:
        raise IntrinsicsError(f"intrinsics lack the key {'width' if width is None else 'height'!r}")
    if width % 1 or height % 1:  # also infinite ones
        raise IntrinsicsError(f"width and height must be whole numbers, got {width} and {height}")
    scalars = {
        "fx": _number(values, "fx"),
        "fy": _number(values, "fy"),
        "cx": _number(values, "cx", "ppx"),
        "cy": _number(values, "cy", "ppy"),
    }
    given = {name: value for name, value in scalars.items() if value is not None}
    matrix = _matrix(values)
    if matrix is None and len(given) < len(scalars):
        missing = next(name for name in scalars if name not in given)
        raise IntrinsicsError(f"intrinsics lack the key {missing!r} or a camera matrix")
    for name, value in given.items():
        if matrix is not None and abs(matrix[name] - value) > 0.01:
            raise IntrinsicsError(
                f"{name} is {value:g}, but the camera matrix of the same file has {matrix[name]:g}"
            )
    return CameraIntrinsics(**({**(matrix or {}), **given}), width=int(width), height=int(height))


def _matrix(values: Mapping[str, Any]) -> dict[str, float] | None:
    """fx, fy, cx and cy of the camera matrix; None without one. Row-major or column-major."""
    for key in _MATRIX_KEYS:
        if key not in values:
            continue
        m = _numbers(values[key], key)
        if len(m) == 9:
            by_columns = not (m[2] or m[5]) and bool(m[6] or m[7])
            if by_columns:
                m = [m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8]]
            if (m[3], m[6], m[7], m[8]) == (0, 0, 0, 1) and abs(m[1]) <= 1e-3 * abs(m[0]):
                return {"fx": m[0], "fy": m[4], "cx": m[2], "cy": m[5]}
        raise IntrinsicsError(
            f"{shown(key)} must be the 9 numbers of a camera matrix without skew, "
            f"fx 0 cx / 0 fy cy / 0 0 1, got {shown(str(m))}"
        )
    return None


def _distortion(values: Mapping[str, Any]) -> tuple[str, tuple[float, ...], set[str]]:
    """Model, coefficients, and the keys that were read for them."""
    understood = {*_MODEL_KEYS}
    names = [values[key] for key in _MODEL_KEYS if isinstance(values.get(key), str)]
    found: list[tuple[str, tuple[float, ...]]] = []
    for key in _LIST_KEYS:
        value = values.get(key)
        if isinstance(value, str) and key == "distortion" and not _is_none(value):
            names.insert(0, value)  # the model's name
            understood.add(key)
        elif value is not None and not isinstance(value, (str, bool)):
            found.append((key, tuple(_numbers(value, key))))
            understood.add(key)
    model = next((name for name in names if name.strip().lower() not in _NO_MODELS), "")
    if any(key in values for key in ("k1", "k2")):
        keys = _FISHEYE_KEYS if is_fisheye(model) else _POLYNOMIAL_KEYS
        found.append(("k1, k2, ...", _from_scalars(values, keys, named=bool(model))))
        understood.update(keys)
    if len({coefficients for _, coefficients in found}) > 1:
        listed = ", ".join(f"{key} = {shown(str(value))}" for key, value in found)
        raise IntrinsicsError(f"the distortion is given several times, and differs: {listed}")
    coefficients = found[0][1][: MAX_COEFFICIENTS + 1] if found else ()  # `lens` refuses more
    if model and _is_none(model) and is_distortion(coefficients):
        raise IntrinsicsError(
            f"the distortion model is {shown(model)}, but {found[0][0]} is not zero: "
            f"{shown(str(coefficients))}"
        )
    return model, coefficients, understood


def _from_scalars(values: Mapping[str, Any], keys: Sequence[str], named: bool) -> tuple[float, ...]:
    """Coefficients k1, k2, p1, ... in the order of the model; absent ones are 0."""
    numbers = [_number(values, key) or 0.0 for key in keys]
    if not named and _number(values, "k4") and not any(values.get(key) for key in ("p1", "p2")):
        raise IntrinsicsError(
            "k1, k2, k3, k4 may be a fisheye's or a polynomial's coefficients; give "
            "distortion_model: equidistant or rational_polynomial"
        )
    used = max((at + 1 for at, value in enumerate(numbers) if value), default=0)
    counts = (4,) if len(keys) == 4 else _COUNTS
    return tuple(numbers[: next(count for count in counts if count >= used)])


def _depth_unit(values: Mapping[str, Any]) -> float | None:
    """Metres per unit of the depth image; None = not stated.

    Above 1 it is units per metre, as Open3D and TUM write it (1000, 5000).
    """
    units = {}
    for key in _SCALE_KEYS:
        value = values.get(key)
        if value is None:
            continue
        unit = _unit_of_text(value) if isinstance(value, str) else _number(values, key)
        if unit is None or not (math.isfinite(unit) and unit > 0):
            raise IntrinsicsError(
                f"{key} = {shown(str(value))} is not a unit of depth; give metres per unit, for "
                "example 0.001"
            )
        units[key] = 1 / unit if unit > 1 else unit
    if units and max(units.values()) > 1.01 * min(units.values()):
        raise IntrinsicsError(
            "the units of depth contradict each other: "
            + ", ".join(f"{key} = {unit:g} m" for key, unit in units.items())
        )
    return next(iter(units.values()), None)


def _unit_of_text(text: str) -> float | None:
    """`mm`, `0.1 mm` -> metres."""
    match = re.fullmatch(r"\s*(\d{0,9}(?:\.\d{1,9})?)\s*(m|cm|mm|um)\s*", text[:64])
    return float(match[1] or 1) * _METRES[match[2]] if match else None


def _is_none(value: object) -> bool:
    """Whether a value says that there is no distortion."""
    if isinstance(value, str):
        return not value.strip() or bool(_NO_DISTORTION.match(value.strip()))
    if isinstance(value, (list, tuple, dict)):
        inner = value.values() if isinstance(value, dict) else value
        return all(_is_none(one) for one in inner)
    return not value  # None, false, 0


def _number(values: Mapping[str, Any], *keys: str) -> float | None:
    """The value of the first key that is present; None without one."""
    for key in keys:
        if values.get(key) is not None:
            found = _numbers([values[key]], key)
            if len(found) != 1:
                raise IntrinsicsError(f"{shown(key)} must be one number, got {len(found)}")
            return found[0]
    return None


def _numbers(value: object, key: str) -> list[float]:
    """Numbers of a list, of nested lists, or of a matrix {rows, cols, data}, one after the other.

    Raises:
        IntrinsicsError: one of them is not a number.
    """
    if isinstance(value, Mapping) and isinstance(value.get("data"), list):
        value = value["data"]
    if isinstance(value, list):
        if len(value) <= 64:
            return [number for one in value for number in _one_or_more(one, key)]
        raise IntrinsicsError(f"{shown(key)} has {len(value)} values")
    raise IntrinsicsError(f"{shown(key)} must be a list of numbers, got {shown(str(value))}")


def _one_or_more(value: object, key: str) -> list[float]:
    row: list[Any] = value if isinstance(value, list) and len(value) <= 64 else [value]
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in row):
        raise IntrinsicsError(f"{shown(key)} is not a number: {shown(str(value))}")
    try:
        return [float(one) for one in row]
    except OverflowError:
        raise IntrinsicsError(f"{shown(key)} is too large: {shown(str(value)[:99])}") from None


def _nested(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key and value of an object, and of the objects in it."""
    for key, value in values.items():
        yield key, value
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping):
                yield from _nested(inner)
