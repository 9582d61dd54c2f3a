"""Standard deviations of an object's position, distance and size: the error sources and their sum.

Error sources are taken as independent, so they add as squares:

- reading: scatter of one depth reading. The extreme of many readings scatters about as much as one
  reading.
- silhouette: pixels at the outline that are lost or mixed with the background, on each side.
- calibration: scale error of the depth camera, a fraction of every length.
- support: unevenness of the support plane, where height starts.
- hidden depth: extent behind the visible side.
- base: the object may end anywhere between its lowest reading and the support.
- cut: extent that an occluder or the image's border hides.

Does not know pixels, planes or depth images beyond these numbers, and issues no warnings.
"""

from __future__ import annotations

import math

import numpy as np

from sdvlm_core.geometry.object_pixels import ObjectPixels
from sdvlm_core.geometry.point_cloud import Points
from sdvlm_core.geometry.robust import median
from sdvlm_core.geometry.sensor_noise import DepthNoise
from sdvlm_core.geometry.upright_box import UprightBox

#: Keys of `Measured.std_dev`; all in metres.
STD_DEV_KEYS = ("position_m", "camera_distance_m", "length_m", "width_m", "height_m")

# Fractions tuned on the development frames of benchmarks/real_frames.py and on training.simulate.
#: 1 sigma of a depth inferred from symmetry, as a fraction of it.
_INFERRED_DEPTH_FRACTION = 0.25
#: 1 sigma of a size, as a fraction of it, per fraction of the outline that an occluder hides.
_CUT_FRACTION = 1.0
#: Half of a Gaussian's 90 % interval, in standard deviations.
_HALF_INTERVAL = 1.645
#: A smaller fraction of an outline is covered by noise.
_MIN_CUT_FRACTION = 0.1


def interval_90(value: float, std_dev: float) -> tuple[float, float]:
    """(low, high) that contains the true length with a probability of 90 %; low is at least 0."""
    half = _HALF_INTERVAL * std_dev
    return max(0.0, value - half), value + half


def hidden_depth_std_dev(box: UprightBox) -> float:
    """1 sigma of the depth that the visible side may hide, metres along the horizontal view.

    An object may be as deep as it is wide; the steeper the view, the less can be hidden.
    """
    depth = box.visible_depth + box.inferred_depth
    unseen = (1 - _elevation_sine(box)) * max(0.0, box.visible_width - depth) / math.sqrt(12)
    return math.hypot(unseen, box.inferred_depth * _INFERRED_DEPTH_FRACTION)


def std_devs(
    box: UprightBox,
    pixels: ObjectPixels,
    points: Points,
    pixel_m: float,
    noise: DepthNoise,
    clearance_m: float,
) -> dict[str, float]:
    """1 sigma of each measured value, metres, by STD_DEV_KEYS.

    Args:
        box: the object's upright box.
        pixels: the object's pixels and its surroundings.
        points: (N, 3) the object's points, metres.
        pixel_m: size of one pixel at the object's distance, metres.
        noise: noise model of the depth camera.
        clearance_m: height of the lowest reading above the support, if the object may extend down
            to the support; 0 = the object ends at its lowest reading.
    """
    z = median(points[:, 2])
    reading, silhouette = noise.reading_std_dev(z), noise.edge_std_dev(z, pixel_m)
    length, width, height = (float(value) for value in box.size)
    distance = float(np.linalg.norm(box.centre))
    hidden, cut = hidden_depth_std_dev(box), _cut_fraction(pixels)
    scale = noise.scale_fraction

    def horizontal(value: float, along_view: float) -> float:
        visible = math.hypot(math.sqrt(2) * silhouette, reading, scale * value, cut * value)
        return math.hypot(visible, along_view * hidden)

    view = _horizontal_view(box)
    length_along_view, width_along_view = (abs(float(axis @ view)) for axis in box.axes[:2])
    support = pixels.plane.spread * z if pixels.plane.detected else 0.0
    base = clearance_m / math.sqrt(12)
    outline = silhouette * math.sqrt(1 - _elevation_sine(box) ** 2)
    vertical = math.hypot(outline, reading, support, scale * height, base)
    centre = math.hypot(silhouette, reading, hidden / 2, scale * distance, cut * length / 2)
    centre = math.hypot(centre, base / 2)
    return {
        "position_m": centre,
        "camera_distance_m": centre,
        "length_m": horizontal(length, length_along_view),
        "width_m": horizontal(width, width_along_view),
        "height_m": math.hypot(vertical, cut * height),
    }


def _elevation_sine(box: UprightBox) -> float:
    """Sine of the camera's elevation over the object; 1 = straight from above."""
    distance = float(np.linalg.norm(box.centre))
    return min(1.0, abs(float(box.centre @ box.axes[2])) / distance)


def _horizontal_view(box: UprightBox) -> Points:
    """Unit vector (3,) from the camera to the object along the support."""
    up = box.axes[2]
    view = box.centre - (box.centre @ up) * up
    size = float(np.linalg.norm(view))
    return view / size if size > 1e-9 else box.axes[0]


def _cut_fraction(pixels: ObjectPixels) -> float:
    """1 sigma of the extent that an occluder or the border hides, as a fraction of a size."""
    cut = _CUT_FRACTION * pixels.outline.covered_fraction
    if cut < _MIN_CUT_FRACTION:  # noise beside an outline
        cut = 0.0
    return max(cut, _CUT_FRACTION / 2 if pixels.truncated else 0.0)
