"""RgbdFrame: one RGB-D image of a camera, the type that every part of sdvlm works on.

Holds colour, depth in metres, intrinsics and the source of the depth, and checks at construction
that they are consistent. All conversions between image fractions, pixels, rays and points are here.
Does not know messages, data sets, models or tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sdvlm_core.answer import Position
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import DepthError, FrameError, IntrinsicsError, QueryError

# Half the side of point_at's window, as a fraction of the image width and at least some pixels:
# 13 x 13 at 640. Large enough to bridge holes of a depth camera, small enough for a mug at 2 m.
_HALF_WINDOW_FRACTION = 0.01
_MIN_HALF_WINDOW_PX = 2
_MIN_VALID_PX = 3  # one or two readings in a hole are noise

# Drivers write the largest value of 16 bits where the sensor is saturated.
_SATURATED = 65535

DepthSource = Literal["sensor", "estimated_metric", "estimated_relative"]
DEPTH_SOURCES: tuple[DepthSource, ...] = ("sensor", "estimated_metric", "estimated_relative")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CameraIntrinsics:
    """Pinhole intrinsics of a rectified image, in pixels of a `width` x `height` image.

    Pixel (u, v) = (0, 0) is the centre of the upper left pixel, as in sensor_msgs/CameraInfo.

    Raises:
        IntrinsicsError: a value is not finite, or a focal length or a size is not positive.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(value) for value in values):
            raise IntrinsicsError(f"intrinsics are not finite: fx, fy, cx, cy = {values}")
        if self.fx <= 0 or self.fy <= 0:
            raise IntrinsicsError(
                f"focal lengths must be positive, got fx={self.fx}, fy={self.fy}; "
                "0 means that the camera is not calibrated"
            )
        if self.width <= 0 or self.height <= 0:
            raise IntrinsicsError(f"image size must be positive, got {self.width}x{self.height}")

    def scaled(self, width: int, height: int) -> CameraIntrinsics:
        """The intrinsics of the same image resized to `width` x `height`.

        Pixel centres are at integers, so the half pixel at the image edge scales as well.
        """
        sx, sy = width / self.width, height / self.height
        return CameraIntrinsics(
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
            width=width,
            height=height,
        )

    def back_project(self, u: Array | float, v: Array | float, z: Array | float) -> Array:
        """Pixels (u, v) at depth z metres -> points (..., 3) in the optical frame, metres.

        The optical frame is REP-103's: X right, Y down, Z forward; z is along +Z, not range.
        """
        x = (np.asarray(u) - self.cx) / self.fx * z
        y = (np.asarray(v) - self.cy) / self.fy * z
        return np.stack(np.broadcast_arrays(x, y, z), axis=-1)

    def project(self, points: Array) -> Array:
        """Points (..., 3) in the optical frame, metres, with Z > 0 -> pixels (..., 2)."""
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        return np.stack([self.fx * x / z + self.cx, self.fy * y / z + self.cy], axis=-1)

    def ray_slopes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """X/Z of each pixel column (width,) and Y/Z of each pixel row (height,)."""
        columns = np.arange(self.width, dtype=np.float64)
        rows = np.arange(self.height, dtype=np.float64)
        return (columns - self.cx) / self.fx, (rows - self.cy) / self.fy

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> CameraIntrinsics:
        """Read `fx, fy, cx, cy, width, height` as sdvlm's own data have them; ignores other keys.

        Files of users are read by `camera.intrinsics_file`, which does not ignore distortion.

        Raises:
            IntrinsicsError: a key is missing or its value is not a number.
        """
        try:
            fx, fy, cx, cy = (float(values[key]) for key in ("fx", "fy", "cx", "cy"))
            return cls(fx, fy, cx, cy, int(values["width"]), int(values["height"]))
        except KeyError as error:
            raise IntrinsicsError(f"intrinsics lack the key {error}") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise IntrinsicsError(f"an intrinsics value is not a number: {error}") from error


@dataclass(frozen=True)
class Lens:
    """The projection of a raw image: intrinsics in its pixels, and the lens's distortion.

    Attributes:
        intrinsics: K of the raw image.
        model: name of the distortion model, as in sensor_msgs/CameraInfo.
        coefficients: D, in the order of sensor_msgs/CameraInfo.
    """

    intrinsics: CameraIntrinsics
    model: str
    coefficients: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class RgbdFrame:
    """A colour image with the depth and the intrinsics of the same pixels, where known.

    Always rectified and registered: a pixel of colour, of depth and of the intrinsics is one ray.

    Attributes:
        rgb: (H, W, 3) uint8, red first.
        depth: (H, W) float32 metres along +Z, NaN = no reading; None = no depth.
        intrinsics: intrinsics of the colour image; None = unknown.
        stamp_ns: acquisition time, nanoseconds; 0 = unknown.
        frame_id: the colour optical frame (REP-103).
        depth_source: `sensor`, `estimated_metric`, or `estimated_relative` (affine-invariant: the
            values are not metres).
        up: unit vector against gravity in the optical frame; None = unknown.
        cautions: what the camera's data made doubtful; every answer and measurement carries them.
        reasons: why, for people: the values that were found and what to set. At least one for each
            of `cautions`.
        lens: the raw image's projection, if the frame was rectified here: callers' pixels are then
            pixels of the raw image (`camera.rectification.rectified_regions`).

    Raises:
        FrameError: rgb is not (H, W, 3) uint8, depth_source is unknown, or up is no direction.
        DepthError: depth is not (H, W) float32, or its size differs from rgb's.
        IntrinsicsError: the intrinsics are for another image size than rgb's.
    """

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32] | None = None
    intrinsics: CameraIntrinsics | None = None
    stamp_ns: int = 0
    frame_id: str = ""
    depth_source: DepthSource = "sensor"
    up: tuple[float, float, float] | None = None
    cautions: tuple[Caution, ...] = ()
    reasons: tuple[str, ...] = ()
    lens: Lens | None = None

    def __post_init__(self) -> None:
        rgb, depth = self.rgb, self.depth
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
            raise FrameError(f"rgb must be (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
        if depth is not None:
            if depth.ndim != 2 or depth.dtype != np.float32:
                raise DepthError(f"depth must be (H, W) float32, got {depth.shape} {depth.dtype}")
            if depth.shape != rgb.shape[:2]:
                raise DepthError(
                    f"depth is {depth.shape[1]}x{depth.shape[0]} but colour is "
                    f"{self.width}x{self.height}; register depth to the colour camera first "
                    "(RealSense: align_depth.enable, OpenNI: depth_registration)"
                )
        if self.intrinsics is not None and (self.intrinsics.width, self.intrinsics.height) != (
            self.width,
            self.height,
        ):
            raise IntrinsicsError(
                f"intrinsics are for {self.intrinsics.width}x{self.intrinsics.height} but colour "
                f"is {self.width}x{self.height}"
            )
        if self.depth_source not in DEPTH_SOURCES:
            raise FrameError(f"depth_source must be one of {DEPTH_SOURCES}: {self.depth_source!r}")
        if self.up is not None and not abs(math.hypot(*self.up) - 1) < 1e-3:
            raise FrameError(f"up must be a unit vector, got {self.up}")

    @property
    def width(self) -> int:
        """Columns of the colour image, pixels."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Rows of the colour image, pixels."""
        return int(self.rgb.shape[0])


def pixel_from_fraction(u: float, v: float, width: int, height: int) -> tuple[float, float]:
    """A point as fractions of the image -> pixel coordinates.

    The fractions (0, 0) and (1, 1) are the outer corners of the image. Pixel centres are at
    integers, so these corners are the pixels (-0.5, -0.5) and (width - 0.5, height - 0.5).
    """
    return u * width - 0.5, v * height - 0.5


def fraction_from_pixel(u: float, v: float, width: int, height: int) -> tuple[float, float]:
    """Pixel coordinates -> fractions of the image; the inverse of `pixel_from_fraction`."""
    return (u + 0.5) / width, (v + 0.5) / height


def is_in_image(u: float, v: float, width: int, height: int) -> bool:
    """Whether a pixel position is inside the image or on its edge; False for NaN."""
    return -0.5 <= u <= width - 0.5 and -0.5 <= v <= height - 0.5


def point_at(frame: RgbdFrame, u: float, v: float) -> Position | None:
    """The 3-D point at pixel (u, v) of the colour image, metres in the optical frame, unlabelled.

    Its z is the median of the valid depth readings in a small square window around the pixel, so
    that holes and flying pixels have no influence; on a depth edge the majority decides.

    Returns:
        None without metric depth or intrinsics, for a pixel outside the image, with fewer than 3
        valid readings in the window, or if the point is not finite.
    """
    if frame.depth is None or frame.intrinsics is None:
        return None
    if frame.depth_source == "estimated_relative":
        return None
    if not is_in_image(u, v, frame.width, frame.height):
        return None
    half = max(_MIN_HALF_WINDOW_PX, round(_HALF_WINDOW_FRACTION * frame.width))
    column, row = round(u), round(v)
    top, left = max(0, row - half), max(0, column - half)
    window = frame.depth[top : row + half + 1, left : column + half + 1]
    valid = window[np.isfinite(window) & (window > 0)]
    if valid.size < _MIN_VALID_PX:
        return None
    with np.errstate(all="ignore"):
        point = frame.intrinsics.back_project(u, v, float(np.median(valid)))
    return Position("", *map(float, point)) if np.isfinite(point).all() else None


def depth_in_metres(raw: Array, scale: float) -> npt.NDArray[np.float32]:
    """Unsigned depth readings (H, W) x `scale` -> float32 metres.

    0 and, of 16 bits, the largest value, which drivers write for saturation, are no reading: NaN.
    """
    depth = np.multiply(raw, np.float32(scale), dtype=np.float32)
    for code in (0, _SATURATED):  # one mask at a time: an image may have 40 megapixels
        depth[raw == code] = np.nan
    return depth


@dataclass(frozen=True, eq=False)
class Region:
    """A named part of the colour image: exactly one of a box, a point, or a mask.

    Attributes:
        label: the caller's name for it.
        box: (x1, y1, x2, y2) pixels, x2 and y2 exclusive.
        point: (u, v) pixels.
        mask: (H, W) bool, of the colour image's size.

    Raises:
        QueryError: no shape or several shapes were given, a coordinate is not finite, or the box is
            empty.
    """

    label: str
    box: tuple[float, float, float, float] | None = None
    point: tuple[float, float] | None = None
    mask: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if sum(shape is not None for shape in (self.box, self.point, self.mask)) != 1:
            raise QueryError(f"region {self.label!r} needs exactly one of box, point or mask")
        coordinates = self.box or self.point or ()
        if not all(map(math.isfinite, coordinates)):
            raise QueryError(f"region {self.label!r} has a coordinate that is not finite")
        if self.box is not None:
            x1, y1, x2, y2 = self.box
            if not (x1 < x2 and y1 < y2):
                raise QueryError(
                    f"region {self.label!r} has an empty box {self.box}: need x1 < x2 and y1 < y2"
                )
