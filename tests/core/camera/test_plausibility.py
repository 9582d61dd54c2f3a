"""Each rule refuses what cannot be right, and cautions against what may be wrong."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.camera.assembly import frame_from_messages
from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, Rectify
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import DepthError, IntrinsicsError, SdvlmError
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR, SENSORS
from tests import bags
from tests.bags import HEIGHT, START_NS, WIDTH
from tests.paths import SHARED

MIDDLE = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)


def matrices(fx: float, fy: float, cx: float, cy: float) -> dict[str, Any]:
    """K and P of a camera_info."""
    return {
        "k": np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0]),
        "p": np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1.0, 0]),
    }


def framed(
    depth: npt.NDArray[Any] | None = None, sensor: str = "realsense", **info: Any
) -> RgbdFrame:
    """A frame of a plausible camera, with some fields of its camera_info replaced."""
    pixels = bags.millimetres(0) if depth is None else depth
    encoding = "32FC1" if pixels.dtype == np.float32 else "16UC1"
    return frame_from_messages(
        bags.image(bags.picture(0), "rgb8", START_NS),
        bags.image(pixels, encoding, START_NS),
        replace(bags.camera_info(START_NS), **info),
        replace(DEFAULT_SETTINGS, range_m=SENSORS[sensor].range_m),
    )


def test_a_plausible_frame_has_no_caution() -> None:
    frame = framed()
    assert (frame.cautions, frame.reasons) == ((), ())


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1.0, 1.0, *MIDDLE), "the field of view is 176.4 degrees"),
        ((1e-200, 1e-200, *MIDDLE), "the field of view is 180.0 degrees"),
        ((5e-324, 1e308, *MIDDLE), "the field of view is 180.0 degrees"),
        ((1e308, 1e308, *MIDDLE), "the field of view is 0.0 degrees"),
        ((900.0, 900.0, *MIDDLE), "the field of view is 4.1 degrees, not 20 to 130"),
        ((64.0, 64.0, 0.5, 0.5), "cx=0.5 is 48% of the side from the middle (31.5)"),
        ((64.0, 64.0, 31.5, 60.0), "cy=60 is outside the image (0 to 47)"),
        ((64.0, 64.0, -5.0, 23.5), "cx=-5 is outside the image (0 to 63)"),
        ((64.0, 130.0, *MIDDLE), "fx=64 and fy=130 differ, but pixels are square"),
    ],
)
def test_intrinsics_that_no_camera_has_are_refused_with_their_values(
    values: tuple[float, float, float, float], text: str
) -> None:
    with pytest.raises(IntrinsicsError) as caught:
        framed(**matrices(*values))
    assert text in str(caught.value)
    assert f"fx={values[0]:g}, fy={values[1]:g}" in str(caught.value)
    assert "64x48" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((240.0, 240.0, *MIDDLE), "the field of view is 15.2 degrees, not 20 to 130"),
        ((14.0, 14.0, *MIDDLE), "the field of view is 132.7 degrees"),
        ((64.0, 56.0, *MIDDLE), "fx=64 and fy=56 differ"),
        ((64.0, 64.0, 16.0, 23.5), "cx=16 is 24% of the side from the middle (31.5)"),
        ((64.0, 64.0, 31.5, 35.0), "cy=35 is 24% of the side from the middle (23.5)"),
        ((64.0, 64.0, 23.5, 31.5), "cy=31.5 is 17% of the side from the middle (23.5)"),
        ((57.6, 57.6, 28.3, 21.1), "cx and cy are those of an image of 58x43"),
        ((80.0, 80.0, 39.5, 29.5), "cx and cy are those of an image of 80x60"),
    ],
)
def test_unusual_intrinsics_are_a_caution_with_their_values(
    values: tuple[float, float, float, float], text: str
) -> None:
    frame = framed(**matrices(*values))
    assert frame.cautions == (Caution.IMPLAUSIBLE_INTRINSICS,)
    assert text in frame.reasons[0]


def test_intrinsics_of_an_image_of_half_the_size_are_a_caution() -> None:
    full = bags.camera_info(START_NS, 640, 480)
    small = bags.camera_info(START_NS, 320, 240)
    frame = frame_from_messages(
        bags.image(bags.picture(0, 640, 480), "rgb8", START_NS),
        bags.image(bags.millimetres(0, 640, 480), "16UC1", START_NS),
        replace(full, k=small.k, p=small.p),
    )
    assert frame.cautions == (Caution.IMPLAUSIBLE_INTRINSICS,)
    assert "cx=159.5 is 25% of the side" in frame.reasons[0]


def test_k_and_p_that_contradict_each_other_are_a_caution() -> None:
    k, p = matrices(64.0, 64.0, *MIDDLE), matrices(150.0, 150.0, *MIDDLE)
    frame = framed(k=k["k"], p=p["p"])
    assert frame.cautions == (Caution.IMPLAUSIBLE_INTRINSICS,)
    assert "fx is 64 in K but 150 in P" in frame.reasons[0]


@pytest.mark.parametrize("off", [(4.0, -3.0), (4.0, 0.0), (1.4, 1.0)])
def test_the_principal_point_of_real_cameras_has_no_caution(off: tuple[float, float]) -> None:
    centre = (MIDDLE[0] + off[0], MIDDLE[1] + off[1])
    assert framed(**matrices(64.0, 64.0, *centre)).cautions == ()


@pytest.mark.parametrize(
    ("d", "turn", "contradict"),
    [(0.0, 0.0, True), (-0.1, 0.0, False), (0.0, 0.01, False)],
)
def test_without_distortion_and_rotation_k_and_p_have_one_focal_length(
    d: float, turn: float, contradict: bool
) -> None:
    k, p = matrices(64.0, 64.0, *MIDDLE), matrices(72.0, 72.0, *MIDDLE)
    c, s = math.cos(turn), math.sin(turn)
    r = np.array([1.0, 0, 0, 0, c, -s, 0, s, c])
    frame = framed(k=k["k"], p=p["p"], d=np.array([d, 0, 0, 0, 0]), r=r)
    assert frame.cautions == ((Caution.IMPLAUSIBLE_INTRINSICS,) if contradict else ())


@pytest.mark.parametrize(
    ("rectify", "doubtful"), [("auto", True), ("always", True), ("never", False)]
)
def test_a_fisheye_without_coefficients_may_be_rectified_or_not(
    rectify: Rectify, doubtful: bool
) -> None:
    frame = frame_from_messages(
        bags.image(bags.picture(0), "rgb8", START_NS),
        bags.image(bags.millimetres(0), "16UC1", START_NS),
        replace(bags.camera_info(START_NS), distortion_model="equidistant", d=np.zeros(4)),
        replace(DEFAULT_SETTINGS, rectify=rectify),
    )
    assert frame.cautions == ((Caution.IMPLAUSIBLE_INTRINSICS,) if doubtful else ())


@pytest.mark.parametrize("empty", ["k", "p"])
def test_the_matrix_that_is_filled_is_used(empty: str) -> None:
    frame = framed(**{empty: np.zeros(9 if empty == "k" else 12)})
    assert frame.intrinsics is not None
    assert (frame.intrinsics.fx, frame.cautions) == (64.0, ())


def test_a_region_of_interest_and_binning_are_judged_on_the_full_sensor() -> None:
    roi = bags.make(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=0,
        y_offset=0,
        height=2 * HEIGHT,
        width=2 * WIDTH,
        do_rectify=False,
    )
    sensor = bags.camera_info(START_NS, 640, 480)  # the image is its upper left corner, binned
    frame = framed(k=sensor.k, p=sensor.p, width=640, height=480, roi=roi, binning_x=2, binning_y=2)
    assert frame.intrinsics is not None
    assert frame.intrinsics.cx == pytest.approx(159.75)
    assert frame.cautions == ()


def test_a_region_of_interest_is_named_if_the_sizes_differ() -> None:
    roi = replace(bags.camera_info(START_NS).roi, width=32, height=24, x_offset=8)
    with pytest.raises(
        IntrinsicsError, match=r"camera_info is 32x24 \(region of interest 32x24 at 8, 0; binning"
    ):
        framed(roi=roi)


@pytest.mark.parametrize("size", [(0, 0), (WIDTH, HEIGHT)])
def test_a_region_of_interest_beyond_the_sensor_is_refused(size: tuple[int, int]) -> None:
    whole = bags.camera_info(START_NS).roi
    with pytest.raises(IntrinsicsError, match="64x48 at 8, 0, which is not within its size 64x48"):
        framed(roi=replace(whole, x_offset=8, width=size[0], height=size[1]))


@given(st.lists(st.floats(width=64), min_size=4, max_size=4))
def test_any_intrinsics_give_a_frame_or_an_error_of_this_package(values: list[float]) -> None:
    with suppress(SdvlmError):
        framed(**matrices(*values))


def test_without_settings_the_range_is_that_of_the_default_sensor() -> None:
    assert SENSORS[DEFAULT_SENSOR].range_m == DEFAULT_SETTINGS.range_m


METRES = bags.millimetres(0).astype(np.float32) / 1000


@pytest.mark.parametrize(
    ("depth", "sensor", "text"),
    [
        (METRES * 1000, "realsense", "does the driver publish millimetres in 32FC1"),
        (bags.millimetres(0) * 30, "realsense", "set the unit of depth, now 0.001 m"),
        (METRES * 10, "d405", "the sensor's range is 0.07 to 0.5 m"),
        (METRES / 1000, "realsense", "the sensor's range is 0.1 to 6 m"),
    ],
)
def test_depth_far_beyond_the_range_is_refused_with_both_values(
    depth: npt.NDArray[Any], sensor: str, text: str
) -> None:
    with pytest.raises(DepthError) as caught:
        framed(depth, sensor)
    assert text in str(caught.value)
    assert "the median depth is " in str(caught.value)


@pytest.mark.parametrize(
    ("depth", "sensor"),
    [(METRES * 10, "realsense"), (METRES * 0.05, "realsense"), (METRES * 0.5, "d405")],
)
def test_depth_outside_the_range_is_a_caution(depth: npt.NDArray[Any], sensor: str) -> None:
    frame = framed(depth, sensor)
    assert frame.cautions == (Caution.IMPLAUSIBLE_DEPTH,)
    assert "the median depth is" in frame.reasons[0]


def test_depth_normalised_to_256_values_is_a_caution() -> None:
    high = METRES.max()
    for low in (0.0, METRES[METRES > 0].min()):
        frame = framed(((METRES - low) / (high - low) * 255).clip(0).astype(np.uint16))
        assert frame.cautions == (Caution.IMPLAUSIBLE_DEPTH,)
        assert "normalised to 0 to 255" in frame.reasons[0]


def test_a_few_readings_nearer_than_the_sensor_can_measure_are_noise() -> None:
    depth = METRES.copy()
    depth.flat[::200] = 0.01
    assert framed(depth).cautions == ()


@pytest.mark.parametrize(
    ("depth", "code"),
    [
        (bags.millimetres(0), 65535),
        (METRES, 3.4028235e38),
        (METRES, 1e30),
        (METRES, np.inf),
        (METRES, -np.inf),
        (METRES, np.nan),
        (METRES, 0),
    ],
)
def test_codes_of_saturation_are_no_reading(depth: npt.NDArray[Any], code: float) -> None:
    saturated = depth.copy()
    saturated[10:20] = code
    frame = framed(saturated)
    assert frame.depth is not None
    assert np.isnan(frame.depth[10:20]).all()
    assert float(np.nanmax(frame.depth)) < 3
    assert frame.cautions == ()
    with pytest.raises(DepthError, match="no usable reading: all 3072 pixels"):
        framed(np.full_like(depth, code))


def test_equal_readings_are_a_caution() -> None:
    frame = framed(np.full((HEIGHT, WIDTH), 1500, np.uint16))
    assert frame.cautions == (Caution.CONSTANT_DEPTH,)
    assert "all depth readings are 1.5 m" in frame.reasons[0]
    almost = np.full((480, 640), 1500, np.uint16)
    almost[3, 5] = 1501  # a sample of the pixels misses it
    image = bags.image(almost, "16UC1", START_NS)
    color = bags.image(bags.picture(0, 640, 480), "rgb8", START_NS)
    assert frame_from_messages(color, image, bags.camera_info(START_NS, 640, 480)).cautions == ()


@pytest.mark.parametrize(("every", "sparse"), [(8, False), (11, True)])
def test_few_readings_are_a_caution_whatever_their_pattern(every: int, sparse: bool) -> None:
    depth = bags.millimetres(0, 640, 480)
    depth[depth == 0] = 1000
    columns = np.arange(640) % every != 0
    depth[:, columns] = 0
    image = bags.image(depth, "16UC1", START_NS)
    color = bags.image(bags.picture(0, 640, 480), "rgb8", START_NS)
    frame = frame_from_messages(color, image, bags.camera_info(START_NS, 640, 480))
    assert frame.cautions == ((Caution.SPARSE_DEPTH,) if sparse else ())


FOLDERS = sorted((SHARED / "realdata").glob("*/depth.png")) + sorted(
    (SHARED / "realdata2").glob("*/depth.png")
)


@pytest.mark.skipif(not FOLDERS, reason="the real frames are not on this machine")
@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: path.parent.name)
def test_a_real_frame_has_no_caution(path: Path) -> None:
    folder = path.parent
    known = json.loads((folder / "questions.json").read_text())
    text = json.dumps(known).lower()
    sensor = "kinect" if any(w in text for w in ("kinect", "xtion", "carmine")) else "realsense"
    settings = replace(DEFAULT_SETTINGS, range_m=SENSORS[sensor].range_m)
    frame = read_frame(
        next(folder.glob("rgb.*")), path, folder / "intrinsics.json", settings=settings
    )
    assert (frame.cautions, frame.reasons) == ((), ())
