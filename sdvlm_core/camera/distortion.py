"""Lens distortion: rays of a camera <-> the directions in which its raw image shows them.

Both are slopes, X/Z and Y/Z without unit, so binning and regions of interest do not change the
coefficients. The models are those of sensor_msgs/CameraInfo, by their names there and in
RealSense's files; OpenCV computes them. A lens that cannot be inverted over its image is refused.
Does not know images or maps (`rectification`), or where coefficients were read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sdvlm_core.errors import IntrinsicsError, shown
from sdvlm_core.frame import CameraIntrinsics, Lens

Slopes = npt.NDArray[np.float64]
Family = Literal["polynomial", "fisheye"]

#: Model name -> its family and the numbers of coefficients it can have.
#: polynomial: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tx ty]]]], fisheye: k1 k2 k3 k4, as OpenCV.
_MODELS: dict[str, tuple[Family, tuple[int, ...]]] = {
    "plumb_bob": ("polynomial", (4, 5, 8, 12, 14)),
    "rational_polynomial": ("polynomial", (8, 12, 14)),
    "brown_conrady": ("polynomial", (5,)),
    "equidistant": ("fisheye", (4,)),
    "fisheye": ("fisheye", (4,)),
    "kannala_brandt4": ("fisheye", (4,)),
}
MAX_COEFFICIENTS = 14
_FISHEYE_NAMES = ("fisheye", "equidistant", "kannala")

_NEGLIGIBLE = 1e-9  # a smaller coefficient moves no pixel
# A lens function is examined up to this angle from the optical axis: a pinhole image cannot show
# more.
_MAX_ANGLE_RAD = math.radians(87)
_ANGLES = 2048
_MAX_SLOPE = 100.0  # of a raw pixel: a fisheye that sees 180 degrees has 1.6
_NEWTON_STEPS = 20
_DIFFERENCE = 1e-6  # of slopes, for derivatives
_TOLERANCE = 1e-5  # of slopes: a hundredth of a pixel at a focal length of 1000


def is_distortion(coefficients: Sequence[float]) -> bool:
    """Whether a coefficient is not 0; also true of NaN."""
    return not all(abs(value) <= _NEGLIGIBLE for value in coefficients)


def is_fisheye(model: str) -> bool:
    """Whether the name of a model, in any software's spelling, is a fisheye's."""
    return any(name in model[:64].lower() for name in _FISHEYE_NAMES)


@lru_cache(maxsize=32)
@np.errstate(all="ignore")  # hostile values overflow; what is not finite is refused
def checked_lens(intrinsics: CameraIntrinsics, model: str, coefficients: tuple[float, ...]) -> Lens:
    """A lens whose distortion can be removed; its model has a name of sensor_msgs/CameraInfo.

    Args:
        intrinsics: K of the raw image.
        model: a name of sensor_msgs/CameraInfo or of RealSense (`distortion.brown_conrady`,
            `Brown Conrady`); "" = unknown: taken as plumb_bob.
        coefficients: D.

    Raises:
        IntrinsicsError: a coefficient is not finite, the model is not supported or has another
            number of coefficients, or the lens cannot be inverted over the image. Has the values.
    """
    if not all(map(math.isfinite, coefficients)):
        raise IntrinsicsError(f"distortion coefficients are not finite: {_listed(coefficients)}")
    name = model[:64].strip().lower().replace(" ", "_").replace("-", "_")
    name = name.removeprefix("distortion.").removeprefix("rs2_distortion_") or "plumb_bob"
    if name not in _MODELS:
        raise IntrinsicsError(
            f"distortion model {shown(model)} with the coefficients {_listed(coefficients)} is not "
            f"supported; supported are {', '.join(_MODELS)}: calibrate with one of them, or use "
            "rectified images and their own camera_info"
        )
    family, counts = _MODELS[name]
    if family == "fisheye" and len(coefficients) == 5 and coefficients[4] == 0:
        coefficients = coefficients[:4]  # RealSense writes five for every model
    if len(coefficients) not in counts:
        raise IntrinsicsError(
            f"distortion model {name} has {' or '.join(map(str, counts))} coefficients, got "
            f"{_listed(coefficients)}"
        )
    lens = Lens(intrinsics, name, coefficients)
    _check_invertible(lens)
    return lens


def _listed(coefficients: tuple[float, ...]) -> str:
    """The coefficients as text, of bounded length."""
    if len(coefficients) > MAX_COEFFICIENTS:
        return f"more than {MAX_COEFFICIENTS} values"
    return f"({', '.join(f'{value:g}' for value in coefficients)})"


def distort(lens: Lens, slopes: Slopes) -> Slopes:
    """Slopes (N, 2) of rays -> slopes (N, 2) at which the raw image shows them.

    NaN for a ray beyond the angle up to which the lens function is monotone: polynomials fold
    there and would show the middle of the image a second time.
    """
    seen = _distorted(lens.model, lens.coefficients, slopes)
    seen[
        np.hypot(slopes[:, 0], slopes[:, 1]) >= _monotone_radius(lens.model, lens.coefficients)
    ] = np.nan
    return seen


def raw_pixels(lens: Lens, target: CameraIntrinsics, rows: slice) -> npt.NDArray[np.float32]:
    """Pixels of the raw image (h, W, 2) that show what some rows of a rectified image show.

    Far outside of the image where it does not show a ray, see `distort`.
    """
    import cv2

    size = (target.width, rows.stop - rows.start)
    to = np.array([[target.fx, 0, target.cx], [0, target.fy, target.cy - rows.start], [0, 0, 1]])
    k = lens.intrinsics
    of = np.array([[k.fx, 0, k.cx], [0, k.fy, k.cy], [0, 0, 1]])
    d = np.array(lens.coefficients)
    fisheye = _MODELS[lens.model][0] == "fisheye"
    make = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    maps = np.stack(make(of, d, np.eye(3), to, size, cv2.CV_32FC1), axis=-1)
    x, y = target.ray_slopes()
    square = (x**2)[None, :] + (y[rows] ** 2)[:, None]
    folded = square >= _monotone_radius(lens.model, lens.coefficients) ** 2
    maps[folded | ~np.isfinite(maps).all(axis=-1)] = -1e6
    return maps


def undistort(lens: Lens, seen: Slopes) -> Slopes:
    """Slopes (N, 2) in the raw image -> slopes of the rays; NaN where the image shows none.

    Newton's method from the inverse of the lens function along a radius.
    """
    radii, shown_at = _radial_curve(lens.model, lens.coefficients)
    reach = np.searchsorted(radii, _monotone_radius(lens.model, lens.coefficients))
    distance = np.hypot(seen[:, 0], seen[:, 1])
    start = np.interp(distance, shown_at[:reach], radii[:reach])
    rays = seen * (start / np.maximum(distance, 1e-12))[:, None]
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            off = _distorted(lens.model, lens.coefficients, rays) - seen
            if not np.nanmax(np.abs(off), initial=0.0) > _TOLERANCE / 1000:
                break
            (a, b), (c, d) = _derivatives(lens, rays)
            step = np.stack([d * off[:, 0] - b * off[:, 1], a * off[:, 1] - c * off[:, 0]], axis=1)
            rays = rays - step / (a * d - b * c)[:, None]
        # A ray that the raw image shows elsewhere is none of it.
        wrong = ~(np.abs(distort(lens, rays) - seen).max(axis=1) < _TOLERANCE)
    rays[wrong] = np.nan
    return rays


def _check_invertible(lens: Lens) -> None:
    """Raise an error unless every pixel of the raw image shows one ray, or a ray beyond 87 degrees.

    Raises:
        IntrinsicsError: the lens function is not monotone over the image; has the values.
    """
    k = lens.intrinsics
    u = np.linspace(-0.5, k.width - 0.5, 33)
    v = np.linspace(-0.5, k.height - 0.5, 33)
    seen = k.back_project(*np.meshgrid(u, v), 1.0)[..., :2].reshape(-1, 2)
    farthest = float(np.hypot(seen[:, 0], seen[:, 1]).max())
    radii, shown_at = _radial_curve(lens.model, lens.coefficients)
    fold = _monotone_radius(lens.model, lens.coefficients)
    at_fold = shown_at[max(0, int(np.searchsorted(radii, fold)) - 1)]
    reason = ""
    if not farthest < _MAX_SLOPE:
        reason = f"its corner is {farthest:g} focal lengths from the principal point"
    elif fold < radii[-1] and at_fold < farthest:
        reason = (
            f"its function folds {at_fold * k.fx:.0f} pixels from the principal point, and the "
            f"corner of the image is {farthest * k.fx:.0f} pixels away"
        )
    else:
        rays = undistort(lens, seen)
        rays = rays[np.isfinite(rays[:, 0])]
        (a, b), (c, d) = _derivatives(lens, rays)
        if len(rays) < len(seen) / 4 or not np.all(a * d - b * c > 0):
            reason = "its function maps several rays to one pixel"
    if reason:
        raise IntrinsicsError(
            f"lens distortion {lens.model} with the coefficients {_listed(lens.coefficients)} "
            f"cannot be removed from {k.width}x{k.height} with fx={k.fx:g}: {reason}; check the "
            "calibration, or use rectified images with their own camera_info"
        )


def _derivatives(lens: Lens, rays: Slopes) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """((dx/dX, dx/dY), (dy/dX, dy/dY)) of `distort`, each (N,)."""
    columns = []
    for axis in ((_DIFFERENCE, 0.0), (0.0, _DIFFERENCE)):
        ahead = _distorted(lens.model, lens.coefficients, rays + axis)
        behind = _distorted(lens.model, lens.coefficients, rays - np.array(axis))
        columns.append((ahead - behind) / (2 * _DIFFERENCE))
    (x, y) = columns
    return (x[:, 0], y[:, 0]), (x[:, 1], y[:, 1])


@lru_cache(maxsize=32)
def _radial_curve(model: str, coefficients: tuple[float, ...]) -> tuple[Slopes, Slopes]:
    """Radii of rays, increasing, and the radii at which the lens shows them without decentring."""
    radii = np.tan(np.linspace(0.0, _MAX_ANGLE_RAD, _ANGLES))
    d = coefficients
    if _MODELS[model][0] == "polynomial":
        # Without p1, p2 and what follows k6, which displace without folding.
        d = (d[0], d[1], 0.0, 0.0, *d[4:8])
    along = np.stack([radii, np.zeros_like(radii)], axis=1)
    return radii, _distorted(model, d, along)[:, 0]


@lru_cache(maxsize=32)
def _monotone_radius(model: str, coefficients: tuple[float, ...]) -> float:
    """Up to which radius of rays the lens function is monotone; of those examined."""
    radii, shown_at = _radial_curve(model, coefficients)
    with np.errstate(invalid="ignore"):
        rising = np.diff(shown_at) > 0
    return float(radii[-1] if rising.all() else radii[int(np.argmin(rising))])


def _distorted(model: str, coefficients: tuple[float, ...], rays: Slopes) -> Slopes:
    import cv2

    if not len(rays):
        return np.zeros((0, 2))
    d = np.array(coefficients)
    if _MODELS[model][0] == "fisheye":
        seen = cv2.fisheye.distortPoints(np.ascontiguousarray(rays[:, None]), np.eye(3), d)
    else:
        points = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
        zero = np.zeros(3)
        seen = cv2.projectPoints(points, zero, zero, np.eye(3), d)[0]
    return np.asarray(seen, np.float64).reshape(-1, 2)
