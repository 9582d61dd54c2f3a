"""What the page's requests and replies hold: bounds of what comes in, JSON of what goes out.

A stamp is text in JSON: a browser's numbers do not hold nanoseconds. Does not know HTTP.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sdvlm_core.answer import without_nan
from sdvlm_core.camera.as_taken import project
from sdvlm_core.errors import ErrorCode, QueryError, SdvlmError, error_code, shown
from sdvlm_core.frame import Region
from sdvlm_core.front.backend import Shot

#: Regions of one request; every pair of them is measured too.
MAX_REGIONS = 16
MAX_LABEL_CHARS = 80
#: Largest stamp: that of builtin_interfaces/Time in 2106.
_MAX_STAMP_NS = 1 << 62
# Of a bag, seconds: three centuries.
_MAX_TIME_S = 1e10
# A frame's stamp is by this machine's clock if it is at most so old, or so far in the future.
_MAX_AGE_S, _MAX_AHEAD_S = 24 * 3600.0, 1.0


@dataclass(frozen=True, eq=False)
class Taken:
    """A frame that the page shows.

    Attributes:
        at_s: the time in a bag that it was taken at; None = the source's own.
        age_s: of a live frame when it was taken; NaN = its stamp is by another clock.
    """

    shot: Shot
    at_s: float | None
    age_s: float


def taken_now(shot: Shot, at_s: float | None, live: bool) -> Taken:
    """A frame that was captured now."""
    age_s = time.time() - shot.stamp_ns / 1e9
    if not (live and -_MAX_AHEAD_S <= age_s <= _MAX_AGE_S):
        age_s = math.nan
    return Taken(shot, at_s, max(0.0, age_s) if math.isfinite(age_s) else math.nan)


def parse_body(data: bytes) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        QueryError: it is none.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise QueryError("the body is not JSON") from error
    if not isinstance(body, dict):
        raise QueryError("the body is not a JSON object")
    return body


def parse_stamp(value: object) -> int:
    """A stamp in nanoseconds, from its text; raises QueryError."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        stamp_ns = int(value)
        if stamp_ns <= _MAX_STAMP_NS:
            return stamp_ns
    raise QueryError(f"stamp is a text of digits, not {shown(repr(value), 40)}")


def parse_time(value: object) -> float | None:
    """Seconds in a bag; None = not given. Raises QueryError."""
    if value is None:
        return None
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 <= value <= _MAX_TIME_S
    ):
        return float(value)
    raise QueryError(f"at_s is a number of seconds, not {shown(repr(value), 40)}")


def parse_regions(value: object) -> list[Region]:
    """The regions of a request: {"label", "box": [x1, y1, x2, y2]} or {"label", "point": [u, v]}.

    Raises:
        QueryError: a region is malformed, a label is repeated, or there are too many.
    """
    if not isinstance(value, list):
        raise QueryError("regions is a list")
    if len(value) > MAX_REGIONS:
        raise QueryError(f"at most {MAX_REGIONS} regions are measured together, not {len(value)}")
    regions = [_parse_region(one) for one in value]
    if len({region.label for region in regions}) < len(regions):
        raise QueryError("every region needs its own label")
    return regions


def _parse_region(value: object) -> Region:
    if not isinstance(value, dict):
        raise QueryError("a region is a JSON object")
    label = value.get("label")
    if not isinstance(label, str) or not label.strip():
        raise QueryError("a region needs a label")
    label = label.strip()
    if len(label) > MAX_LABEL_CHARS or not label.isprintable():
        raise QueryError(f"a label has at most {MAX_LABEL_CHARS} printable characters")
    box, point = value.get("box"), value.get("point")
    if box is not None and point is None:
        x1, y1, x2, y2 = _pixels(box, 4)
        return Region(label, box=(x1, y1, x2, y2))
    if point is not None and box is None:
        u, v = _pixels(point, 2)
        return Region(label, point=(u, v))
    raise QueryError(f"region {label!r} needs a box or a point")


def _pixels(value: object, count: int) -> list[float]:
    numbers = value if isinstance(value, list) else []
    if len(numbers) != count or not all(
        isinstance(one, (int, float)) and not isinstance(one, bool) and abs(one) < 1e6
        for one in numbers
    ):
        raise QueryError(f"pixels are {count} numbers below a million")
    return [float(one) for one in numbers]


def shot_document(taken: Taken) -> dict[str, Any]:
    """A frame for the page, without its pixels."""
    shot = taken.shot
    height, width = shot.rgb.shape[:2]
    document = {
        "stamp": str(shot.stamp_ns),
        "frame_id": shown(shot.frame_id),
        "width": width,
        "height": height,
        "cautions": list(shot.cautions),
        "at_s": taken.at_s,
        "age_s": taken.age_s,
        "depth": None if shot.depth is None else _depth_document(shot.depth),
    }
    return without_nan(document)


def _depth_document(depth: npt.NDArray[np.float32]) -> dict[str, float]:
    """The ends of the colour scale, and the part of the pixels that have a reading."""
    known = depth[np.isfinite(depth)]
    if not known.size:
        return {"near_m": math.nan, "far_m": math.nan, "valid_fraction": 0.0}
    near, far = (float(value) for value in np.percentile(known, (1, 99)))
    return {"near_m": near, "far_m": far, "valid_fraction": known.size / depth.size}


def depth_bytes(depth: npt.NDArray[np.float32]) -> bytes:
    """Depth for the page: (H, W) uint16 little-endian, millimetres, 0 = no reading."""
    millimetres = np.nan_to_num(depth * 1000.0, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(np.round(millimetres), 0, 65535).astype("<u2").tobytes()


def boxes_document(shot: Shot, regions: Sequence[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """How the box of each measured region is drawn: None = not measured, or not in view.

    `corners` are 8 pixels (u, v); bit 0 of a corner's number is the end along the length, bit 1
    along the width, bit 2 along the height. `nearest` is the lower corner nearest to the camera, at
    which the three axes are drawn. `centre` is the pixel of the box's centre.
    """
    return [_box_document(shot, region) for region in regions]


def _box_document(shot: Shot, region: dict[str, Any]) -> dict[str, Any] | None:
    sizes = [region[key] for key in ("length_m", "width_m", "height_m")]
    centre, turn = region["position_m"], region["orientation_xyzw"]
    if shot.camera is None or any(value is None for value in (*sizes, *centre, *turn)):
        return None
    ends = np.array([[(i >> axis & 1) - 0.5 for axis in range(3)] for i in range(8)])
    corners = (ends * sizes) @ _rotation(turn).T + centre
    pixels = project(shot.camera, np.concatenate([corners, [centre]]))
    if not np.isfinite(pixels).all():
        return None
    pixels = np.clip(pixels, -1e5, 1e5).round(1)
    nearest = int(np.argmin(np.linalg.norm(corners[:4], axis=1)))
    return {"corners": pixels[:8].tolist(), "nearest": nearest, "centre": pixels[8].tolist()}


def _rotation(quaternion: Sequence[float]) -> npt.NDArray[np.float64]:
    """The (3, 3) matrix of a quaternion (x, y, z, w)."""
    x, y, z, w = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def error_document(error: Exception) -> dict[str, Any]:
    """{"error": {"code", "message"}}; an unforeseen error has the code UNKNOWN and its type."""
    code = getattr(error, "code", None)  # of a client's error, which is the node's
    if isinstance(error, SdvlmError):
        return _error(error_code(error).name, str(error))
    if isinstance(code, int) and code in set(ErrorCode):
        return _error(ErrorCode(code).name, str(error))
    text = f"{type(error).__name__}: {error}: this is a defect; the server's output has more"
    return _error(ErrorCode.UNKNOWN.name, text)


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": shown(message, 1000)}}
