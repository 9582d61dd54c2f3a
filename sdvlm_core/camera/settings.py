"""CameraSettings: how a camera's data become a frame, the same for the node, a bag and files.

Plain values with their defaults. Does not know the names of sensors, parameters or options.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: `auto`: by the topic's name, see `camera.calibration`. `always`: the images are raw.
#: `never`: they are rectified already.
Rectify = Literal["auto", "always", "never"]
RECTIFY: tuple[Rectify, ...] = ("auto", "always", "never")


@dataclass(frozen=True)
class CameraSettings:
    """What the messages and files of a camera do not say, and what is refused.

    Attributes:
        depth_unit_m: metres per unit of integer depth (16UC1, PNG); REP-118: millimetres.
        range_m: the depth camera's nearest and farthest useful reading, metres.
        rectify: whether images with lens distortion are raw.
        max_pixels: largest accepted image, pixels; checked before decoding.
        max_aspect: largest accepted ratio of an image's sides; checked before decoding.
    """

    depth_unit_m: float = 0.001
    range_m: tuple[float, float] = (0.1, 6.0)  # of the default sensor, realsense
    rectify: Rectify = "auto"
    max_pixels: int = 40_000_000
    max_aspect: float = 8.0


#: What REP-118 and the usual cameras imply.
DEFAULT_SETTINGS = CameraSettings()
