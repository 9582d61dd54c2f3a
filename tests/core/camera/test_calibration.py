"""What a camera_info states: K or P, raw or rectified, and which distortion is refused."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.camera.calibration import (
    Calibration,
    Projection,
    calibration_from_message,
    depth_projection,
    image_projection,
)
from sdvlm_core.camera.distortion import distort, undistort
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, CameraSettings
from sdvlm_core.errors import IntrinsicsError, SdvlmError
from sdvlm_core.frame import CameraIntrinsics
from tests import bags, lenses

RAW, RECTIFIED, ASSUMED = Projection.RAW, Projection.RECTIFIED, Projection.ASSUMED_RECTIFIED
K = CameraIntrinsics(400, 402, 319.5, 239.5, 640, 480)
D = (-0.30, 0.10, 0.001, -0.0005, 0.0)
DISTORTED = Calibration(k=K, model="plumb_bob", coefficients=D)
STRAIGHT = Calibration(k=K, model="plumb_bob", coefficients=(0.0,) * 5)


def camera_info(**changes):
    info = bags.camera_info(bags.START_NS, 640, 480)
    for name, value in changes.items():
        setattr(info, name, np.array(value, float) if name in ("d", "k", "r", "p") else value)
    return info


def k_of(f: float) -> list[float]:
    return [f, 0, 320, 0, f, 240, 0, 0, 1]


def p_of(f: float) -> list[float]:
    return [f, 0, 320, 0, 0, f, 240, 0, 0, 0, 1, 0]


def test_k_describes_raw_images_and_p_rectified_ones() -> None:
    found = calibration_from_message(camera_info(k=k_of(500), p=p_of(450)))
    assert found.intrinsics(RAW).fx == 500
    assert found.intrinsics(RECTIFIED).fx == found.intrinsics(ASSUMED).fx == 450


def test_the_filled_one_of_k_and_p_describes_both() -> None:
    only_p = calibration_from_message(camera_info(k=[0] * 9, p=p_of(450)))
    only_k = calibration_from_message(camera_info(k=k_of(500), p=[0] * 12))
    for projection in Projection:
        assert only_p.intrinsics(projection).fx == 450
        assert only_k.intrinsics(projection).fx == 500


def test_a_camera_info_without_k_and_p_is_refused() -> None:
    with pytest.raises(IntrinsicsError, match="not calibrated"):
        calibration_from_message(camera_info(k=[0] * 9, p=[0] * 12))


def test_binning_and_region_of_interest_move_k_and_p_and_keep_the_full_sensor() -> None:
    info = camera_info(k=k_of(500), p=p_of(450), d=D, binning_x=2, binning_y=2)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 40, 400, 300
    found = calibration_from_message(info)
    assert found.sensor(RAW) == CameraIntrinsics(500, 500, 320, 240, 640, 480)
    assert found.intrinsics(RAW) == CameraIntrinsics(250, 250, 110, 100, 200, 150)
    assert found.intrinsics(RECTIFIED).fx == 225
    # Distortion acts on slopes, which binning does not change.
    assert found.lens().intrinsics == found.intrinsics(RAW)
    assert found.lens().coefficients == D


@pytest.mark.parametrize("index", range(9))
def test_the_rotation_of_a_stereo_camera_is_known(index: int) -> None:
    r = np.eye(3).ravel()
    assert not calibration_from_message(camera_info(r=r)).rotated
    assert not calibration_from_message(camera_info(r=[0] * 9)).rotated
    r[index] += 0.01
    assert calibration_from_message(camera_info(r=r)).rotated


@pytest.mark.parametrize(
    ("topic", "straight", "distorted"),
    [
        ("/camera/color/image_raw", RAW, RAW),
        ("/camera/color/image_raw/compressed", RAW, RAW),
        ("/rgb/image_rect_color", RECTIFIED, ASSUMED),
        ("/rgb/image_rect/compressed", RECTIFIED, ASSUMED),
        ("/zed/rgb/color/rect/image", RECTIFIED, ASSUMED),
        ("/camera/imageRect", RECTIFIED, ASSUMED),
        ("/cam_1/image_rectified", RECTIFIED, ASSUMED),
        ("/rgb/image_undistorted", RECTIFIED, ASSUMED),
        ("/direct_camera/image", RAW, RAW),
        ("/corrected/image_color", RAW, RAW),
        ("/rectangle_detector/image", RAW, RAW),
        ("/image_unrectified", RAW, RAW),
        ("", RECTIFIED, RAW),
    ],
)
def test_the_topics_name_tells_raw_from_rectified(topic, straight, distorted) -> None:
    assert image_projection(topic, STRAIGHT, DEFAULT_SETTINGS) is straight
    assert image_projection(topic, DISTORTED, DEFAULT_SETTINGS) is distorted


@pytest.mark.parametrize("topic", ["", "/rgb/image_raw", "/rgb/image_rect"])
def test_always_and_never_override_the_name(topic: str) -> None:
    assert image_projection(topic, DISTORTED, CameraSettings(rectify="always")) is RAW
    assert image_projection(topic, DISTORTED, CameraSettings(rectify="never")) is RECTIFIED


@pytest.mark.parametrize(
    ("topic", "raw_color", "rectified_color"),
    [
        ("/depth_registered/image", RAW, ASSUMED),
        ("", RAW, ASSUMED),
        ("/depth_registered/image_rect", ASSUMED, ASSUMED),
        ("/depth/image_rect_raw", ASSUMED, ASSUMED),
        ("/aligned_depth_to_color/image_raw", RAW, RAW),
    ],
)
def test_depth_is_decided_by_its_own_name_and_follows_colour_otherwise(
    topic, raw_color, rectified_color
) -> None:
    for color, expected in ((RAW, raw_color), (ASSUMED, rectified_color)):
        assert depth_projection(topic, color, DISTORTED, DEFAULT_SETTINGS) is expected


@pytest.mark.parametrize(
    ("model", "count"),
    [
        *[("plumb_bob", count) for count in (4, 5, 8, 12, 14)],
        *[("rational_polynomial", count) for count in (8, 12, 14)],
        ("equidistant", 4),
        ("fisheye", 4),
        ("distortion.brown_conrady", 5),
        ("Brown Conrady", 5),
        ("RS2_DISTORTION_KANNALA_BRANDT4", 5),  # RealSense writes a fifth 0
        ("", 5),
    ],
)
def test_a_supported_model_makes_a_lens(model: str, count: int) -> None:
    coefficients = (-0.01, 0.002, *[0.0] * (count - 2))
    lens = replace(DISTORTED, model=model, coefficients=coefficients).lens()
    assert lens.coefficients == coefficients[: len(lens.coefficients)]
    assert lens.intrinsics == K


@pytest.mark.parametrize(
    ("model", "coefficients", "reason"),
    [
        ("inverse_brown_conrady", D, r"inverse_brown_conrady .*-0\.3.* not supported"),
        ("distortion.modified_brown_conrady", D, "modified_brown_conrady .* not supported"),
        ("ftheta", D, "ftheta .* not supported"),
        ("fov", (0.9,), "fov .* not supported"),
        ("a\x1b[31m", D, r"\\x1b.* not supported"),
        ("plumb_bob", D[:3], r"plumb_bob has 4 or .* got \(-0\.3, 0\.1, 0\.001\)"),
        ("rational_polynomial", D, "has 8 or 12 or 14 coefficients"),
        ("equidistant", D[:3], "has 4 coefficients"),
        ("plumb_bob", (0.1,) * 15, "got more than 14 values"),
        ("plumb_bob", (float("nan"), 0, 0, 0), "not finite"),
        ("plumb_bob", (float("inf"), 0, 0, 0), "not finite"),
        ("plumb_bob", (-0.6, 0, 0, 0), r"folds 19\d pixels .* the corner .* [34]\d\d pixels"),
        ("plumb_bob", (-1e9, 1e9, 0, 0), "folds"),
        ("plumb_bob", (1e200, 1e200, 1e200, 1e200), "folds|several rays"),
        ("plumb_bob", (0, 0, 5.0, 0), "several rays|folds"),
        ("rational_polynomial", (0, 0, 0, 0, 0, 2.0, 0, 0), "folds"),
        ("equidistant", (-0.5, 0, 0, 0), "folds"),
    ],
)
def test_a_distortion_that_cannot_be_removed_is_refused(model, coefficients, reason) -> None:
    calibration = replace(DISTORTED, model=model, coefficients=coefficients)
    with pytest.raises(IntrinsicsError, match=reason):
        calibration.lens()


@pytest.mark.parametrize("model", ["plumb_bob", "inverse_brown_conrady", "ftheta", "anything"])
def test_coefficients_that_are_all_zero_are_no_distortion(model: str) -> None:
    assert replace(DISTORTED, model=model, coefficients=(0.0,) * 5).lens() is None
    assert replace(DISTORTED, model=model, coefficients=()).lens() is None


def test_a_nan_coefficient_counts_as_distortion() -> None:
    assert replace(DISTORTED, coefficients=(float("nan"),) * 5).distorted


@pytest.mark.parametrize("name", lenses.CAMERAS)
def test_the_lens_functions_are_the_published_ones(name: str) -> None:
    camera = lenses.CAMERAS[name]
    lens = Calibration(k=camera.k, model=camera.model, coefficients=camera.d).lens()
    rays = np.random.default_rng(0).uniform(-0.6, 0.6, (500, 2))
    expected = lenses.forward(camera.model, camera.d, rays)
    np.testing.assert_allclose(distort(lens, rays), expected, atol=1e-9)


@given(st.sampled_from(sorted(lenses.CAMERAS)), st.floats(0, 639), st.floats(0, 479))
def test_distortion_inverts_its_removal_everywhere_in_the_image(
    name: str, u: float, v: float
) -> None:
    camera = lenses.CAMERAS[name]
    lens = Calibration(k=camera.k, model=camera.model, coefficients=camera.d).lens()
    seen = np.array([[(u - camera.k.cx) / camera.k.fx, (v - camera.k.cy) / camera.k.fy]])
    ray = undistort(lens, seen)
    np.testing.assert_allclose(distort(lens, ray), seen, atol=1e-5)
    np.testing.assert_allclose(ray, lenses.invert(camera.model, camera.d, seen), atol=1e-4)


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-2, 2)


@given(
    st.lists(NUMBERS, max_size=20),
    st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", "", "x"]),
    st.lists(NUMBERS, min_size=9, max_size=9),
    st.lists(NUMBERS, min_size=12, max_size=12),
)
def test_any_camera_info_makes_a_lens_or_is_refused(d, model, k, p) -> None:
    with suppress(SdvlmError):
        found = calibration_from_message(camera_info(d=d, distortion_model=model, k=k, p=p))
        found.lens()
