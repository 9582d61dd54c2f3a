"""Plausibility: can a camera's data be right? Shared by the node, a bag and image files.

`find_cautions` applies every rule to one decoded frame. A rule raises an error if the data cannot
be right. If they may be wrong, it returns a `FrameCaution`: a caution, and the reason with the
values and what to set. `RgbdFrame.cautions` and `RgbdFrame.reasons` carry both. The rules only
compare what the camera states with what cameras can do: a wrong unit of depth that stays within the
sensor's range, or the intrinsics of a similar camera, are not found (docs/troubleshooting.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sdvlm_core.camera.calibration import Calibration, Projection
from sdvlm_core.camera.registration import edge_shift
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import DepthError, IntrinsicsError, shown
from sdvlm_core.frame import CameraIntrinsics

# Field of view along the longer side, degrees: what pinhole images of cameras have, and what
# no such image can have. A telephoto camera of 20 degrees is rare, of 5 is not a robot's.
_USUAL_FOV_DEG = (20.0, 130.0)
_POSSIBLE_FOV_DEG = (5.0, 150.0)
# Distance of the principal point from the middle, as a fraction of the side. The K of an image of
# half the size lies at 0.25; the calibrated cameras of our data lie below 0.03, one of YCB-Video at
# 0.085.
_USUAL_OFF_CENTRE = 0.12
_POSSIBLE_OFF_CENTRE = 0.4
# The intrinsics of an image of another size: cx and cy are the same fraction of the middle, within
# the second value, and this far from 1. The cameras of our data lie below 0.05.
_RESIZED, _SAME_FRACTION = 0.08, 0.03
# Ratio of the larger to the smaller of fx and fy: pixels are square.
_USUAL_ASPECT = 1.1
_POSSIBLE_ASPECT = 2.0
# Ratio of the focal lengths of K and P: rectification changes the focal length less. Without
# distortion and rotation there is nothing to rectify.
_USUAL_K_TO_P, _EQUAL_K_TO_P = 2.0, 1.05
# The intrinsics of registered depth are those of colour: largest difference, as a fraction of the
# focal length, and of the width for the principal point.
_SAME_INTRINSICS = 0.02
# Beyond the range of the sensor by this factor, the unit of depth is wrong, not the scene.
_IMPOSSIBLE_RANGE = 3.0
# A depth camera has no readings nearer than its range by this factor, except for noise and for a
# gripper before the lens: below this share.
_TOO_NEAR, _MANY_TOO_NEAR = 2.0, 0.1
# Share of pixels with a reading below which depth is sparse.
_SPARSE = 0.1
# Pixels of depth that are examined: the median of 4096 is exact enough, and costs 0.1 ms.
_SAMPLE_PX = 4096

#: What to do about depth that is not registered.
REGISTER = (
    "register depth to the colour camera (RealSense: align_depth.enable, OpenNI: "
    "depth_registration)"
)


@dataclass(frozen=True)
class FrameCaution:
    """A caution about a frame, and its reason: what was found, both values, what to set."""

    caution: Caution
    reason: str


@dataclass(frozen=True)
class Origin:
    """What is known about the source of a frame's images besides their pixels.

    Attributes:
        color_id, depth_id: frame_id of each image; "" = unknown, which proves nothing.
        depth_unit_m: metres per unit of integer depth; None = the readings are metres (32FC1).
        depth_calibration: what the depth camera's own info states; None = unknown.
    """

    color_id: str = ""
    depth_id: str = ""
    depth_unit_m: float | None = None
    depth_calibration: Calibration | None = None


#: Nothing is known.
UNKNOWN_ORIGIN = Origin()


def find_cautions(
    rgb: npt.NDArray[np.uint8],
    depth: npt.NDArray[np.float32] | None,
    calibration: Calibration | None,
    projection: Projection,
    settings: CameraSettings,
    origin: Origin,
) -> tuple[FrameCaution, ...]:
    """Every caution about a frame.

    Args:
        rgb: (H, W, 3), red first.
        depth: (H, W) metres, NaN = no reading.
        calibration: None = no intrinsics.
        projection: which part of the calibration describes the images.

    Raises:
        IntrinsicsError: the intrinsics cannot be those of a camera.
        DepthError: depth has no reading, a wrong unit, or is not registered to colour.
    """
    cautions: list[FrameCaution] = []
    if calibration is not None:
        cautions += _intrinsics_cautions(calibration, projection)
        cautions += _info_cautions(calibration, origin)
    if depth is not None:
        cautions += _depth_cautions(depth, settings, origin.depth_unit_m)
        if calibration is not None and origin.depth_calibration is not None:
            _check_same_intrinsics(calibration, origin.depth_calibration, projection)
        cautions += _registration_cautions(rgb, depth, origin)
    return tuple(cautions)


def assumed_rectified(calibration: Calibration, color_topic: str, depth_topic: str) -> FrameCaution:
    """The caution about images that are rectified only by the name of their topic."""
    reason = (
        f"camera_info has lens distortion ({shown(calibration.model)}), but the images are assumed "
        f"to be rectified, by the name of their topics (colour '{shown(color_topic)}', depth "
        f"'{shown(depth_topic)}'): set the parameter or option rectify to never if they are, to "
        "always if not"
    )
    return FrameCaution(Caution.ASSUMED_RECTIFIED, reason)


def _intrinsics_cautions(calibration: Calibration, projection: Projection) -> list[FrameCaution]:
    """Rules for the intrinsics of the full sensor: field of view, principal point, aspect."""
    full = calibration.sensor(projection)
    usual, possible = [], []
    for text, is_usual, is_possible in (
        _field_of_view(full),
        _off_centre("cx", full.cx, full.width),
        _off_centre("cy", full.cy, full.height),
        _aspect(full),
        _resized(full),
    ):
        if not is_possible:
            possible.append(text)
        elif not is_usual:
            usual.append(text)
    values = (
        f"fx={full.fx:g}, fy={full.fy:g}, cx={full.cx:g}, cy={full.cy:g} in an image of "
        f"{full.width}x{full.height}"
    )
    remedy = "calibrate the camera, or give the intrinsics of this resolution in pixels"
    if possible:
        raise IntrinsicsError(
            f"the intrinsics cannot be those of this image: {'; '.join(possible)} ({values}); "
            f"{remedy}"
        )
    cautions = []
    if usual:
        reason = f"the intrinsics are unusual: {'; '.join(usual)} ({values}); {remedy}"
        cautions.append(FrameCaution(Caution.IMPLAUSIBLE_INTRINSICS, reason))
    contradiction = _contradiction(calibration)
    if contradiction:
        reason = f"camera_info contradicts itself: {contradiction}; calibrate the camera"
        cautions.append(FrameCaution(Caution.IMPLAUSIBLE_INTRINSICS, reason))
    if calibration.bare_fisheye and projection is Projection.RAW:
        reason = (
            f"the distortion model is {shown(calibration.model)}, but all its coefficients are 0: "
            "if the images are rectified, set the parameter or option rectify to never; else "
            "calibrate the lens"
        )
        cautions.append(FrameCaution(Caution.IMPLAUSIBLE_INTRINSICS, reason))
    return cautions


def _field_of_view(full: CameraIntrinsics) -> tuple[str, bool, bool]:
    """Text, whether usual, whether possible: of the field of view along the longer side."""
    # atan2 neither overflows nor divides by a focal length near 0.
    across, down = (
        math.degrees(2 * math.atan2(side, 2 * focal))
        for side, focal in ((full.width, full.fx), (full.height, full.fy))
    )
    degrees = max(across, down)
    low, high = _USUAL_FOV_DEG
    lowest, highest = _POSSIBLE_FOV_DEG
    text = f"the field of view is {degrees:.1f} degrees, not {low:g} to {high:g}"
    return text, low <= degrees <= high, lowest <= degrees <= highest


def _off_centre(name: str, value: float, side: int) -> tuple[str, bool, bool]:
    """Text, whether usual, whether possible: of one coordinate of the principal point."""
    middle = (side - 1) / 2
    fraction = abs(value - middle) / side
    text = f"{name}={value:g} is {fraction:.0%} of the side from the middle ({middle:g})"
    if not 0 <= value <= side - 1:
        text = f"{name}={value:g} is outside the image (0 to {side - 1})"
    # A one-pixel side has its principal point at 0 within a pixel.
    distance = max(0.0, abs(value - middle) - 1) / side
    return text, distance <= _USUAL_OFF_CENTRE, distance <= _POSSIBLE_OFF_CENTRE


def _aspect(full: CameraIntrinsics) -> tuple[str, bool, bool]:
    """Text, whether usual, whether possible: of the ratio of fx and fy."""
    small, large = sorted((full.fx, full.fy))
    text = f"fx={full.fx:g} and fy={full.fy:g} differ, but pixels are square"
    return text, large <= _USUAL_ASPECT * small, large <= _POSSIBLE_ASPECT * small


def _resized(full: CameraIntrinsics) -> tuple[str, bool, bool]:
    """Text, whether usual, whether possible: of the size for which the principal point is central.

    The intrinsics of an image of another size have cx and cy at the same fraction of this one.
    """
    across, down = (2 * full.cx + 1) / full.width, (2 * full.cy + 1) / full.height
    resized = min(abs(across - 1), abs(down - 1)) > _RESIZED
    resized = resized and abs(across - down) < _SAME_FRACTION
    size = f"{across * full.width:.0f}x{down * full.height:.0f}"
    return f"cx and cy are those of an image of {size}", not resized, True


def _contradiction(calibration: Calibration) -> str:
    """Focal lengths of K and P that differ by more than rectification explains; "" = none."""
    k, p = calibration.k, calibration.p
    if k is None or p is None:
        return ""
    same = not (calibration.distorted or calibration.rotated)
    most = _EQUAL_K_TO_P if same else _USUAL_K_TO_P
    return "; ".join(
        f"{name} is {a:g} in K but {b:g} in P"
        for name, a, b in (("fx", k.fx, p.fx), ("fy", k.fy, p.fy))
        if max(a, b) > most * min(a, b)
    )


def _info_cautions(calibration: Calibration, origin: Origin) -> list[FrameCaution]:
    """Whether camera_info is of another camera than the colour image."""
    if not _differ(calibration.frame_id, origin.color_id):
        return []
    reason = (
        f"camera_info has frame_id '{shown(calibration.frame_id)}' but colour "
        f"'{shown(origin.color_id)}': publish the camera_info of the colour camera"
    )
    return [FrameCaution(Caution.CAMERA_INFO_MISMATCH, reason)]


def _depth_cautions(
    depth: npt.NDArray[np.float32], settings: CameraSettings, unit_m: float | None
) -> list[FrameCaution]:
    """Rules for the readings: range, all equal, few."""
    readings, share = _readings(depth)
    cautions = _range_cautions(float(np.median(readings)), settings, unit_m)
    too_near = float(np.mean(readings < np.float32(settings.range_m[0] / _TOO_NEAR)))
    if not cautions and too_near > _MANY_TOO_NEAR:
        reason = (
            f"{too_near:.0%} of the depth readings are nearer than "
            f"{settings.range_m[0] / _TOO_NEAR:g} m; the sensor's range begins at "
            f"{settings.range_m[0]:g} m: is depth a picture normalised to 0 to 255, or a disparity?"
        )
        cautions.append(FrameCaution(Caution.IMPLAUSIBLE_DEPTH, reason))
    lowest, highest = readings.min(), readings.max()
    if not cautions and unit_m is not None and _ends_at_byte(depth, float(highest), unit_m):
        reason = (
            "the largest value of depth is 255: is it a picture normalised to 0 to 255, instead of "
            f"readings of {unit_m:g} m?"
        )
        cautions.append(FrameCaution(Caution.IMPLAUSIBLE_DEPTH, reason))
    if lowest == highest:
        lowest, highest = np.nanmin(depth), np.nanmax(depth)
    if lowest == highest:
        reason = (
            f"all depth readings are {lowest:g} m: does the driver publish a replacement while the "
            "sensor gives no depth?"
        )
        cautions.append(FrameCaution(Caution.CONSTANT_DEPTH, reason))
    if share < _SPARSE:
        reason = (
            f"only {share:.1%} of the depth pixels have a reading (usual are more than "
            f"{_SPARSE:.0%}): is the sensor covered, too close, or dazzled?"
        )
        cautions.append(FrameCaution(Caution.SPARSE_DEPTH, reason))
    return cautions


def _ends_at_byte(depth: npt.NDArray[np.float32], highest_m: float, unit_m: float) -> bool:
    """Whether the largest of integer values is 255; `highest_m` is that of a sample."""
    return highest_m < 255.5 * unit_m and round(float(np.nanmax(depth)) / unit_m) == 255


def _readings(depth: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
    """Valid readings, all or a regular sample of them, and the share of pixels with a reading.

    Raises:
        DepthError: there is none.
    """
    stride = max(1, math.isqrt(depth.size // _SAMPLE_PX))
    start = stride // 2
    sample = depth[start::stride, start::stride]
    readings = sample[~np.isnan(sample)]
    # The exact share, if a regular sample may miss the rows of a sparse sensor.
    if stride > 1 and readings.size < 2 * _SPARSE * sample.size:
        sample, readings = depth, depth[~np.isnan(depth)]
    if not readings.size:
        raise DepthError(
            f"depth has no usable reading: all {depth.size} pixels are zero, NaN, Inf or the "
            "code of saturation; is the sensor covered, too close, or its depth stream off?"
        )
    return readings, readings.size / sample.size


def _range_cautions(
    median_m: float, settings: CameraSettings, unit_m: float | None
) -> list[FrameCaution]:
    """Whether the median depth is outside the range of the sensor."""
    near_m, far_m = settings.range_m
    if near_m <= median_m <= far_m:
        return []
    found = f"the median depth is {median_m:.4g} m; the sensor's range is {near_m:g} to {far_m:g} m"
    if unit_m is None:
        remedy = (
            "does the driver publish millimetres in 32FC1 (REP-118 requires metres)? Else set the "
            "parameter or option sensor"
        )
    else:
        remedy = (
            f"set the unit of depth, now {unit_m:g} m (parameter depth_unit, option "
            "--depth-scale), or the parameter or option sensor"
        )
    if median_m > _IMPOSSIBLE_RANGE * far_m or median_m < near_m / _IMPOSSIBLE_RANGE:
        raise DepthError(f"{found}; {remedy}")
    return [FrameCaution(Caution.IMPLAUSIBLE_DEPTH, f"{found}; {remedy}")]


def _check_same_intrinsics(color: Calibration, depth: Calibration, projection: Projection) -> None:
    """Raise an error if the depth camera's info is not that of depth registered to colour."""
    a, b = color.intrinsics(projection), depth.intrinsics(projection)
    same = (
        (a.width, a.height) == (b.width, b.height)
        and abs(a.fx - b.fx) <= _SAME_INTRINSICS * a.fx
        and abs(a.fy - b.fy) <= _SAME_INTRINSICS * a.fy
        and abs(a.cx - b.cx) <= _SAME_INTRINSICS * a.width
        and abs(a.cy - b.cy) <= _SAME_INTRINSICS * a.width
    )
    if not same:
        raise DepthError(
            f"depth is not registered to colour: the depth camera's info is {_listed(b)}, colour's "
            f"{_listed(a)}; {REGISTER}"
        )


def _listed(one: CameraIntrinsics) -> str:
    return (
        f"{one.width}x{one.height} fx={one.fx:.4g} fy={one.fy:.4g} cx={one.cx:.4g} cy={one.cy:.4g}"
    )


def _registration_cautions(
    rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32], origin: Origin
) -> list[FrameCaution]:
    """Whether depth is seen from another camera than colour.

    Edges of depth beside those of colour prove it if the frame_ids differ. Without frame_ids,
    as in files, they are a caution. Equal frame_ids state registration.
    """
    known = bool(origin.depth_id and origin.color_id)
    if known and not _differ(origin.depth_id, origin.color_id):
        return []
    shift = edge_shift(rgb, depth)
    if not known:
        found = "" if shift is None else _shifted(shift)
        return [FrameCaution(Caution.UNREGISTERED_DEPTH, f"{found}; {REGISTER}")] if found else []
    ids = f"depth has frame_id '{shown(origin.depth_id)}' but colour '{shown(origin.color_id)}'"
    if shift is not None:
        raise DepthError(f"{ids}, and {_shifted(shift)}; {REGISTER}")
    return [FrameCaution(Caution.UNREGISTERED_DEPTH, f"{ids}; {REGISTER}")]


def _shifted(shift: tuple[int, int]) -> str:
    return (
        f"the edges of depth are {shift[0]:+d} columns and {shift[1]:+d} rows from those of colour"
    )


def _differ(one: str, other: str) -> bool:
    """Whether two frame_ids are known and different; the leading slash of ROS 1 is ignored."""
    one, other = one.lstrip("/"), other.lstrip("/")
    return bool(one and other and one != other)
