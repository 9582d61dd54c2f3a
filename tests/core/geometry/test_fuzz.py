"""No frame and no region ends in anything but values, NaN with a warning, or an SdvlmError.

Tiny and odd image sizes, intrinsics of no camera, depths of no sensor, regions of one pixel and
empty masks. A RuntimeWarning of numpy counts as a failure: it is a number that went wrong.
"""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdvlm_core.cautions import Caution
from sdvlm_core.errors import IntrinsicsError, QueryError
from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame
from sdvlm_core.geometry.drawing import draw_measurements
from sdvlm_core.geometry.measure import measure, measure_in
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import Pair
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.geometry.sensor_noise import SENSORS

SIDES = st.sampled_from([1, 2, 3, 5, 17, 40, 64, 80, 160])
#: Pixels: what cameras have, what the limits still let through, and what overflows.
FOCAL_LENGTHS = st.one_of(
    st.floats(20, 400),
    st.floats(20, 400),
    st.sampled_from([0.02, 1.0, 1e5, 9e6]),
    st.sampled_from([1e-300, 1e-160, 1e-30, 1e30, 1e160, 1e300]),
)
CENTRES = st.sampled_from([0.5, 0.5, 0.5, 0.5, 0.0, 3.0, -1e9, 1e300])
READINGS = st.sampled_from(
    [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-45, 1e-30, 0.002, 0.5, 1.0, 3.0, 60.0, 9e3, 1e6, 3e38]
)
SIZES = ("length_m", "width_m", "height_m", "camera_distance_m")


@st.composite
def depths(draw, width: int, height: int) -> np.ndarray:
    """(H, W) float32: a table with a block, noise, one value, one reading, or everything mixed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["table", "table", "noise", "constant", "one", "mixed", "holes"]))
    rows = np.arange(height)[:, None] / height + np.zeros(width)
    row, column = int(rng.integers(height)), int(rng.integers(width))
    depth = 1.5 - 0.8 * rows
    if kind == "table":
        depth[row : row + height // 3 + 1, column : column + width // 3 + 1] -= 0.1
        depth *= draw(st.sampled_from([1.0, 1.0, 0.002, 5e3]))
    elif kind == "noise":
        depth = rng.lognormal(0, 2, (height, width))
    elif kind == "constant":
        depth[:] = draw(READINGS)
    elif kind == "one":
        depth[:] = np.nan
        depth[row, column] = draw(READINGS)
    elif kind == "mixed":
        depth = rng.choice([draw(READINGS) for _ in range(6)], (height, width))
    else:
        depth[rng.random(depth.shape) < 0.3] = draw(READINGS)
    return depth.astype(np.float32)


@st.composite
def frames(draw) -> RgbdFrame:
    width, height = draw(SIDES), draw(SIDES)
    fx = draw(FOCAL_LENGTHS)
    fy = draw(st.one_of(st.just(fx), FOCAL_LENGTHS))
    k = CameraIntrinsics(fx, fy, draw(CENTRES) * width, draw(CENTRES) * height, width, height)
    up = draw(st.none() | st.tuples(*[st.floats(-1, 1)] * 3))
    size = math.hypot(*up) if up is not None else 0.0
    rgb = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    unit = tuple(value / size for value in up) if up is not None and size > 0.1 else None
    return RgbdFrame(rgb, draw(depths(width, height)), k, up=unit)


@st.composite
def regions(draw, label: str, width: int, height: int) -> Region:
    kind = draw(st.sampled_from(["box", "pixel", "huge", "point", "mask"]))
    x, y = draw(st.floats(-2, width + 1)), draw(st.floats(-2, height + 1))
    if kind == "box":
        box = (x, y, x + draw(st.floats(0.01, width)), y + draw(st.floats(0.01, height)))
        return Region(label, box=box)
    if kind == "pixel":
        return Region(
            label, box=(math.floor(x), math.floor(y), math.floor(x) + 1, math.floor(y) + 1)
        )
    if kind == "huge":
        return Region(label, box=(-1e300, y, 1e300, y + 1))
    if kind == "point":
        return Region(label, point=(x, y))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.0, 0.05, 0.9, 1.0]))
    return Region(label, mask=rng.random((height, width)) < share)


def check(found: tuple[Measured, ...], pairs: tuple[Pair, ...]) -> None:
    """Every value is finite with a finite std_dev, or NaN with a warning."""
    for one in found:
        values = [*(getattr(one, name) for name in SIZES), *one.position_m]
        finite = [math.isfinite(value) for value in values]
        assert all(finite) or (all(map(math.isnan, values)) and one.warnings)
        assert [math.isfinite(value) for value in one.std_dev.values()] == [finite[0]] * 5
        assert 0 <= one.valid_fraction <= 1
    for pair in pairs:
        values = (pair.distance_m, pair.gap_m, pair.distance_std_dev_m, pair.gap_std_dev_m)
        assert all(map(math.isfinite, values)) or all(map(math.isnan, values))


@settings(
    derandomize=True,
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data(), frames(), st.sampled_from(sorted(SENSORS)))
def test_every_frame_and_region_is_measured_or_refused(data, frame, sensor):
    asked = [data.draw(regions(f"r{index}", frame.width, frame.height)) for index in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            scene = open_scene(frame)
        except IntrinsicsError:
            return
        found, pairs = measure_in(scene, asked, sensor)
        check(found, pairs)
        assert draw_measurements(scene, found, pairs).shape == frame.rgb.shape


@pytest.mark.parametrize("focal", [1e-300, 1e-170, 1e-5, 1e9, 1e300])
def test_focal_lengths_of_no_camera_are_refused_with_their_values(focal):
    k = CameraIntrinsics(focal, focal, 31.5, 23.5, 64, 48)
    frame = RgbdFrame(np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), np.float32), k)
    with pytest.raises(IntrinsicsError, match=re.escape(f"{focal:g}")):
        measure(frame, [Region("it", box=(0, 0, 9, 9))])


def test_a_far_reading_in_a_region_of_near_ones_takes_no_memory():
    # The level top of a segment was searched in steps of 0.4 % of the nearest distance.
    depth = np.full((48, 64), 0.0011, np.float32)
    depth[::2] = 9_000.0
    k = CameraIntrinsics(60.0, 60.0, 31.5, 23.5, 64, 48)
    frame = RgbdFrame(np.zeros((48, 64, 3), np.uint8), depth, k)
    (one,), _ = measure(frame, [Region("it", box=(10, 10, 50, 40))])
    assert one.warnings


def test_a_mask_of_another_size_refuses_the_request():
    k = CameraIntrinsics(60.0, 60.0, 31.5, 23.5, 64, 48)
    frame = RgbdFrame(np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), np.float32), k)
    with pytest.raises(QueryError, match="64x48"):
        measure(frame, [Region("it", mask=np.ones((64, 48), bool))])
    (one,), _ = measure(frame, [Region("it", mask=np.zeros((48, 64), bool))])
    assert Caution.TOO_FEW_POINTS in one.warnings
