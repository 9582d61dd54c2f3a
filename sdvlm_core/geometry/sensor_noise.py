"""Noise models of depth cameras: the standard deviation of one reading, per sensor family.

At depth z a reading scatters by floor + square z^2: stereo and structured light measure disparity
(Khoshelham and Elberink, Sensors 2012, for Kinect; Keselman et al., CVPRW 2017, for RealSense);
for time of flight it grows less. Readings are stored in steps that may grow with z^2, and the
calibration has a scale error. Does not know the measured object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdvlm_core.errors import QueryError


@dataclass(frozen=True)
class DepthNoise:
    """Parameters of one family of depth cameras.

    Attributes:
        floor_m: standard deviation of one reading at z = 0, metres.
        square_per_m: growth of that standard deviation with z^2, 1 / metre.
        step_m: resolution of the stored value, metres.
        step_square_per_m: growth of that resolution with z^2, 1 / metre.
        edge_px: 1 sigma of a silhouette's place, pixels of the image: mixed readings.
        edge_rad: the same of the depth camera, an angle: its own pixels and its matching window.
        edge_lost_rad: mean angle by which a silhouette is too narrow, on each side; negative where
            it is too wide.
        scale_fraction: 1 sigma of the calibration, as a fraction of a length.
        range_m: nearest and farthest useful reading of the sensor's data sheet, metres.
        kind: rows of the calibration table: "real" or "simulated".
    """

    floor_m: float
    square_per_m: float
    step_m: float
    step_square_per_m: float
    edge_px: float
    edge_rad: float
    edge_lost_rad: float
    scale_fraction: float
    range_m: tuple[float, float]
    kind: str = "real"

    def reading_std_dev(self, z: float) -> float:
        """Standard deviation of one reading at depth z metres, metres."""
        step = max(self.step_m, self.step_square_per_m * z * z)
        return math.hypot(self.floor_m + self.square_per_m * z * z, step / math.sqrt(12))

    def edge_std_dev(self, z: float, pixel_m: float) -> float:
        """Standard deviation of the place of a silhouette at depth z, metres.

        Args:
            z: depth, metres.
            pixel_m: size of one pixel of the image at that depth, metres.
        """
        return math.hypot(self.edge_px * pixel_m, self.edge_rad * z)


# Silhouettes, from products of known width in the development frames of benchmarks/real_frames.py.
# The error is an angle of the depth camera: the frames of one Xtion are twice as fine as its depth,
# and the error is twice as many pixels there.
#: Structured light has no reading where its window leaves a surface: an outline loses 4 mrad on
#: each side, more than 2 of its pixels of 1.7 mrad.
_STRUCTURED_LIGHT_EDGE = (0.6, 0.005, 0.004)
#: Stereo gives the background within a window the depth of the edge: an outline gains 4 mrad on
#: each side, about 2 of its pixels of 2.2 mrad; up to 12 mrad where there is little texture.
_STEREO_EDGE = (0.6, 0.007, -0.004)
#: Time of flight mixes the depths within its own pixels, of 1.3 (L515) to 2.1 mrad.
_FLIGHT_EDGE = (0.6, 0.004, 0.0)

#: Presets by sensor family. There was no frame of an azure_kinect, d405 or l515.
#:
#: Ranges: RealSense D400 data sheet 337029 (from the least depth of a D435 at low resolution,
#: 0.1 m, to the end of a D455's ideal range, 6 m; D405: 7 to 50 cm); L515 data sheet (0.25 to 9 m);
#: Azure Kinect DK hardware specification (all of its modes, 0.25 to 5.46 m); Kinect for Windows SDK
#: 1.8 (near mode from 0.4 m, extended depth to 8 m).
SENSORS: dict[str, DepthNoise] = {
    "realsense": DepthNoise(0.0020, 0.0020, 0.001, 0.0005, *_STEREO_EDGE, 0.010, (0.1, 6.0)),
    # z^2 times 0.08 px of disparity over (447 px x 18 mm), from the tuning guide of the D400 series
    # with the focal length of 848x480; steps of 1/32 px. 2 % of accuracy at 0.5 m (data sheet) is
    # taken as two standard deviations of the scale.
    "d405": DepthNoise(0.0005, 0.0099, 0.0001, 0.0039, *_STEREO_EDGE, 0.010, (0.07, 0.5)),
    # Data sheet: standard deviation 2.5 mm at 1 m and 15.5 mm at 9 m, average error 5 mm at 1 m.
    "l515": DepthNoise(0.0023, 0.00016, 0.00025, 0.0, *_FLIGHT_EDGE, 0.005, (0.25, 9.0)),
    "kinect": DepthNoise(0.0015, 0.0015, 0.001, 0.0027, *_STRUCTURED_LIGHT_EDGE, 0.010, (0.4, 8.0)),
    "azure_kinect": DepthNoise(0.0020, 0.0004, 0.001, 0.0, *_FLIGHT_EDGE, 0.005, (0.25, 5.46)),
    # Its pixels have independent noise, so smoothing removes most of the scatter.
    "simulated": DepthNoise(
        0.0003, 0.0005, 0.001, 0.0002, 0.6, 0.0, 0.0, 0.0, (0.1, 10.0), "simulated"
    ),
}
#: The preset if the caller names none.
DEFAULT_SENSOR = "realsense"


def sensor_noise(name: str) -> DepthNoise:
    """The preset of that name.

    Raises:
        QueryError: the name is unknown; the message lists the known ones.
    """
    try:
        return SENSORS[name]
    except KeyError:
        known = ", ".join(SENSORS)
        raise QueryError(f"unknown sensor preset {name!r}; choose one of {known}") from None
