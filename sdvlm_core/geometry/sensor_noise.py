"""What a depth camera's readings are worth: standard deviations per sensor, metres.

A reading at depth z scatters by floor + square z^2 (stereo and structured light measure
disparity; Khoshelham and Elberink, Sensors 2012, for Kinect; Keselman et al., CVPRW 2017, for
RealSense; time of flight grows less), is stored in steps that may grow as z^2, and is off as a
whole by a part of z (calibration). Does not know what is measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdvlm_core.errors import QueryError


@dataclass(frozen=True)
class DepthNoise:
    """Parameters of one family of depth cameras.

    Attributes:
        floor: standard deviation of one reading at no distance, metres.
        square: its growth with z^2, per metre.
        step: what the stored value is rounded to, metres.
        step_square: growth of that step with z^2, per metre.
        edge: how many pixels of a silhouette are lost or mixed, each side.
        scale: standard deviation of the calibration, as a part of the length.
    """

    floor: float
    square: float
    step: float
    step_square: float
    edge: float
    scale: float

    def reading(self, z: float) -> float:
        """Standard deviation of one reading at depth z metres."""
        step = max(self.step, self.step_square * z * z)
        return math.hypot(self.floor + self.square * z * z, step / math.sqrt(12))


SENSORS: dict[str, DepthNoise] = {
    "realsense": DepthNoise(0.0020, 0.0020, 0.001, 0.0005, 4.0, 0.010),
    "kinect": DepthNoise(0.0015, 0.0015, 0.001, 0.0027, 4.0, 0.010),
    "azure_kinect": DepthNoise(0.0020, 0.0004, 0.001, 0.0, 4.0, 0.005),
    # Its pixels share nothing, so that most of the scatter is evened out.
    "simulated": DepthNoise(0.0003, 0.0005, 0.001, 0.0002, 0.6, 0.0),
}
#: What is assumed of a camera nobody named.
DEFAULT_SENSOR = "realsense"


def sensor_noise(name: str) -> DepthNoise:
    """The preset of that name.

    Raises:
        QueryError: there is none; names those there are.
    """
    try:
        return SENSORS[name]
    except KeyError:
        known = ", ".join(SENSORS)
        raise QueryError(f"no sensor preset is called {name!r}; there are {known}") from None
