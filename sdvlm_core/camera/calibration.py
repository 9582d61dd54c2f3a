"""Calibration: what camera_info states about a camera, and which of it describes an image.

K and the distortion D describe the raw image, P the rectified one. `image_projection` says which of
the two an image is: by its topic's name, as ROS names topics, or as the settings say. Does not know
pixels (`rectification`), and does not judge whether the values are plausible.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from sdvlm_core.camera.distortion import (
    MAX_COEFFICIENTS,
    checked_lens,
    is_distortion,
    is_fisheye,
)
from sdvlm_core.camera.protocols import CameraInfoLike
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.errors import IntrinsicsError
from sdvlm_core.frame import CameraIntrinsics, Lens


class Projection(Enum):
    """Which projection an image has."""

    RAW = "raw"  #: K and D
    RECTIFIED = "rectified"  #: P
    ASSUMED_RECTIFIED = "assumed rectified"  #: P by the topic's name, although D is not 0


@dataclass(frozen=True)
class Window:
    """The part of the sensor that the image shows.

    Attributes:
        x, y, width, height: region of interest, pixels of the full sensor.
        bin_x, bin_y: sensor pixels per image pixel.
    """

    x: int
    y: int
    width: int
    height: int
    bin_x: int = 1
    bin_y: int = 1

    def seen(self, full: CameraIntrinsics) -> CameraIntrinsics:
        """The intrinsics of the full sensor -> those of the image."""
        return CameraIntrinsics(
            fx=full.fx / self.bin_x,
            fy=full.fy / self.bin_y,
            cx=(full.cx - self.x) / self.bin_x,
            cy=(full.cy - self.y) / self.bin_y,
            width=self.width // self.bin_x,
            height=self.height // self.bin_y,
        )


@dataclass(frozen=True)
class Calibration:
    """What one camera_info or intrinsics.json states; at least one of K and P.

    Attributes:
        k, p: intrinsics of the raw and of the rectified image in pixels of the full sensor, before
            binning and region of interest; None = all zero.
        window: the part of the sensor in the image; None = all of it.
        model, coefficients: distortion of the raw image as it is stated; `lens` checks it.
        rotated: R is not the identity: the rectified image has other axes than the raw one.
        frame_id: of the camera_info; "" = unknown.

    Raises:
        IntrinsicsError: K and P are None.
    """

    k: CameraIntrinsics | None
    p: CameraIntrinsics | None = None
    window: Window | None = None
    model: str = ""
    coefficients: tuple[float, ...] = ()
    rotated: bool = False
    frame_id: str = ""

    def __post_init__(self) -> None:
        if self.k is None and self.p is None:
            raise IntrinsicsError(
                "camera_info is not calibrated: its focal length is 0; calibrate the camera, or "
                "set the driver's calibration file"
            )

    def sensor(self, projection: Projection) -> CameraIntrinsics:
        """Intrinsics of the full sensor: K for a raw image, else P; the other one if it is None."""
        first, second = (self.p, self.k) if projection is not Projection.RAW else (self.k, self.p)
        found = first if first is not None else second
        assert found is not None  # checked at construction
        return found

    def intrinsics(self, projection: Projection) -> CameraIntrinsics:
        """Intrinsics of the image, after binning and region of interest."""
        full = self.sensor(projection)
        return full if self.window is None else self.window.seen(full)

    @property
    def distorted(self) -> bool:
        """Whether a coefficient is not 0."""
        return is_distortion(self.coefficients)

    @property
    def bare_fisheye(self) -> bool:
        """Whether the model is a fisheye's, but no coefficient is different from 0."""
        return is_fisheye(self.model) and not self.distorted

    def lens(self) -> Lens | None:
        """Projection of the raw image with its distortion; None = no distortion.

        Raises:
            IntrinsicsError: the distortion is not supported or cannot be inverted.
        """
        if not self.distorted:
            return None
        return checked_lens(self.intrinsics(Projection.RAW), self.model, self.coefficients)


def calibration_from_message(message: CameraInfoLike) -> Calibration:
    """What a camera info states.

    Raises:
        IntrinsicsError: not calibrated (K and P are 0), not finite, without a size, or with a
            region of interest that is not within the sensor.
    """
    k, p, roi = message.k, message.p, message.roi
    bin_x, bin_y = max(1, message.binning_x), max(1, message.binning_y)
    window = Window(
        roi.x_offset,
        roi.y_offset,
        roi.width or message.width,
        roi.height or message.height,
        bin_x,
        bin_y,
    )
    full = Window(0, 0, message.width, message.height)
    found = Calibration(
        k=_filled(k[0], k[4], k[2], k[5], message),
        p=_filled(p[0], p[5], p[2], p[6], message),
        window=None if window == full else window,
        model=message.distortion_model,
        coefficients=tuple(float(value) for value in message.d[: MAX_COEFFICIENTS + 1]),
        rotated=_is_rotated([float(value) for value in message.r]),
        frame_id=message.header.frame_id,
    )
    if window.x + window.width > full.width or window.y + window.height > full.height:
        # K may be that of the full sensor or that of the region: which one is not known.
        raise IntrinsicsError(
            f"camera_info has a region of interest of {window.width}x{window.height} at "
            f"{window.x}, {window.y}, which is not within its size {full.width}x{full.height}; "
            "width and height are those of the full sensor, or publish no region of interest and "
            "the K of the image"
        )
    return found


def image_projection(topic: str, calibration: Calibration, settings: CameraSettings) -> Projection:
    """Which projection the images of a topic have.

    A ROS camera has one camera_info for its raw and its rectified images, so D does not tell:
    image_rect is rectified although its camera_info keeps the raw image's D. A camera_info without
    distortion describes both.

    Args:
        topic: the topic's resolved name; "" = files or unknown.
    """
    if settings.rectify == "always":
        return Projection.RAW
    if settings.rectify == "never":
        return Projection.RECTIFIED
    distorted = calibration.distorted
    if _named_rectified(topic):
        return Projection.ASSUMED_RECTIFIED if distorted else Projection.RECTIFIED
    raw = distorted or topic or calibration.bare_fisheye
    return Projection.RAW if raw else Projection.RECTIFIED


def depth_projection(
    topic: str, color: Projection, calibration: Calibration, settings: CameraSettings
) -> Projection:
    """Which projection registered depth has: by its own topic's name, else that of colour."""
    if _named_rectified(topic) or "raw" in _words(topic):
        return image_projection(topic, calibration, settings)
    return color


def _named_rectified(topic: str) -> bool:
    """Whether a word of the name says rectified: image_rect_color, undistorted; not `direct`."""
    return any(
        word.startswith(("rect", "undistort")) and not word.startswith("rectang")
        for word in _words(topic)
    )


def _words(topic: str) -> list[str]:
    """The words of a topic's name in lower case: /Cam1/imageRect_raw -> cam, image, rect, raw."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", topic[:256])]


def _filled(
    fx: float, fy: float, cx: float, cy: float, message: CameraInfoLike
) -> CameraIntrinsics | None:
    """Intrinsics of the full sensor; None if both focal lengths are 0."""
    if fx == 0 and fy == 0:
        return None
    return CameraIntrinsics(
        float(fx), float(fy), float(cx), float(cy), message.width, message.height
    )


def _is_rotated(r: list[float]) -> bool:
    """Whether R (row-major 3x3) is a rotation of more than 0.1 degree; all zero = not set."""
    identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    return any(r) and any(
        abs(value - expected) > 2e-3 for value, expected in zip(r, identity, strict=True)
    )
