"""intrinsics.json in the forms of camera software; distortion is read or refused, not ignored."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.camera.intrinsics_file import parse_intrinsics, read_intrinsics
from sdvlm_core.errors import IntrinsicsError, SdvlmError
from sdvlm_core.frame import CameraIntrinsics
from tests.paths import SHARED

PLAIN = {"fx": 600.0, "fy": 601.0, "cx": 320.0, "cy": 240.0, "width": 640, "height": 480}
K = CameraIntrinsics(600, 601, 320, 240, 640, 480)
SIZE = {"width": 640, "height": 480}
D = [-0.1, 0.02, 0.001, -0.001, 0.003]


@pytest.mark.parametrize(
    "values",
    [
        PLAIN,
        {**SIZE, "fx": 600, "fy": 601, "ppx": 320, "ppy": 240, "model": "none", "coeffs": [0] * 5},
        {**SIZE, "intrinsic_matrix": [600, 0, 0, 0, 601, 0, 320, 240, 1]},  # Open3D: by columns
        {**SIZE, "intrinsic_matrix": [[600, 0, 320], [0, 601, 240], [0, 0, 1]]},
        {**SIZE, "K": [600, 0, 320, 0, 601, 240, 0, 0, 1]},
        {
            "image_width": 640,
            "image_height": 480,
            "camera_matrix": {
                "rows": 3,
                "cols": 3,
                "data": [600, 0, 320, 0, 601, 240, 0, 0, 1],
            },
        },
        {**PLAIN, "K": [600, 0, 320, 0, 601, 240, 0, 0, 1]},
    ],
)
def test_the_forms_of_intrinsics_state_the_same_camera(values: dict[str, Any]) -> None:
    assert parse_intrinsics(values).calibration.k == K


@pytest.mark.parametrize(
    "values",
    [
        *[{key: D} for key in ("d", "D", "dist", "coeffs", "distortion_coefficients")],
        {"distortion": D},
        {"distortion": "plumb_bob", "d": D},
        {"distortion_coefficients": {"rows": 1, "cols": 5, "data": D}},
        {"dist": [D]},
        {"model": "distortion.brown_conrady", "coeffs": D},
        {"camera_model": "pinhole", "distortion_model": "plumb_bob", "D": D},
        dict(zip(("k1", "k2", "p1", "p2", "k3"), D, strict=True)),
        {"d": D, "coeffs": D},
    ],
)
def test_the_forms_of_distortion_state_the_same_lens(values: dict[str, Any]) -> None:
    lens = parse_intrinsics({**PLAIN, **values}).calibration.lens()
    assert lens.coefficients == tuple(D)
    assert lens.model in ("plumb_bob", "brown_conrady")


def test_fisheye_coefficients_are_read_by_the_models_name() -> None:
    scalars = {"k1": 0.01, "k2": 0.02, "k3": -0.01, "k4": 0.001}
    lens = parse_intrinsics({**PLAIN, **scalars, "model": "equidistant"}).calibration.lens()
    assert (lens.model, lens.coefficients) == ("equidistant", (0.01, 0.02, -0.01, 0.001))
    with pytest.raises(IntrinsicsError, match="may be a fisheye's or a polynomial's"):
        parse_intrinsics({**PLAIN, **scalars})


@pytest.mark.parametrize(
    "values",
    [
        {"distortion": "none / undistorted assumed"},
        {"distortion": None},
        {"model": "distortion.inverse_brown_conrady", "coeffs": [0, 0, 0, 0, 0]},
        {"radial_distortion": [0.0, 0.0]},
        {"is_undistorted": False},
        {"distortion_model": "plumb_bob", "d": []},
    ],
)
def test_a_file_that_states_no_distortion_has_none(values: dict[str, Any]) -> None:
    assert parse_intrinsics({**PLAIN, **values}).calibration.lens() is None


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"radial_distortion": [0.1, 0.2]}, "radial_distortion .* not understood"),
        ({"lens_distortion_parameters": D}, "lens_distortion_parameters .* not understood"),
        ({"color": {"coeffs": D}}, "coeffs .* not understood"),
        ({"d": "0.1 0.2"}, "d = 0.1 0.2 .* not understood"),
        ({"skew": 1.5}, "skew .* not understood"),
        ({"fisheye": True}, "fisheye .* not understood"),
        ({"kc": D}, "kc .* not understood"),  # Bouguet
        ({"k1k2p1p2": D[:4]}, "k1k2p1p2 .* not understood"),  # Kalibr
        ({"camera_model": "ds", "xi": -0.2, "alpha": 0.6}, "xi .* not understood"),
        ({"lens": D}, "lens .* not understood"),
        ({"calib_dist": D}, "calib_dist .* not understood"),
        ({"projection_type": "fisheye"}, "fisheye .* not understood"),  # OpenSfM
        ({"depthScale": 0.0001}, "depthScale .* unit of depth"),
        ({"depth_factor": 5000}, "depth_factor .* unit of depth"),
        ({"camera": {"depth_factor": 5000}}, "depth_factor .* unit of depth"),
        ({"d": D, "dist": [0.2, 0, 0, 0]}, "several times, and differs"),
        ({"d": [0.1, "x", 0, 0]}, "d is not a number"),
        ({"d": [True, 0, 0, 0]}, "d is not a number"),
        ({"model": "none", "d": D}, "model is none, but d is not zero"),
        ({"fx": "wide"}, "fx is not a number"),
        ({"fx": float("nan")}, "not finite"),
        ({"width": 640.5}, "whole numbers"),
        ({"width": float("inf")}, "whole numbers"),
        ({"fx": 10**400}, "too large"),
        ({"K": [500, 0, 320, 0, 601, 240, 0, 0, 1]}, "fx is 600, but the camera matrix .* 500"),
        ({"K": [600, 9, 320, 0, 601, 240, 0, 0, 1]}, "without skew"),
        ({"K": [1, 2, 3]}, "9 numbers"),
        ({"depth_unit": "furlong"}, "not a unit of depth"),
        ({"depth_scale": 0}, "not a unit of depth"),
        ({"depth_unit": "mm", "depth_scale": 0.0001}, "contradict"),
    ],
)
def test_what_is_not_understood_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(IntrinsicsError, match=reason):
        parse_intrinsics({**PLAIN, **values})


@pytest.mark.parametrize(
    ("coefficients", "model", "reason"),
    [
        (D, "distortion.inverse_brown_conrady", "inverse_brown_conrady .* not supported"),
        ([0.1, 0.2, 0.3], "", "coefficients, got"),
        ([0.001] * 30, "", "more than 14"),
    ],
)
def test_a_distortion_that_is_not_supported_makes_no_lens(coefficients, model, reason) -> None:
    stated = parse_intrinsics({**PLAIN, "coeffs": coefficients, "model": model})
    with pytest.raises(IntrinsicsError, match=reason):
        stated.calibration.lens()


@pytest.mark.parametrize("missing", [*PLAIN])
def test_an_incomplete_file_names_the_missing_key(missing: str) -> None:
    with pytest.raises(IntrinsicsError, match=f"lack the key '{missing}'"):
        parse_intrinsics({key: value for key, value in PLAIN.items() if key != missing})


@pytest.mark.parametrize(
    ("values", "unit_m"),
    [
        ({}, None),
        ({"depth_scale": 0.0001}, 0.0001),
        ({"depth_scale": 1000.0}, 0.001),  # Open3D, TUM: units per metre
        ({"depth_unit": "mm"}, 0.001),
        ({"depth_unit": "0.1mm", "depth_scale": 0.0001}, 0.0001),
        ({"depth_unit_m": 0.00025}, 0.00025),
        ({"depth_units": 0.0001}, 0.0001),  # RealSense
        ({"png_depth_scale": 5000.0}, 0.0002),
    ],
)
def test_the_unit_of_depth_is_read(values: dict[str, Any], unit_m: float | None) -> None:
    assert parse_intrinsics({**PLAIN, **values}).depth_unit_m == pytest.approx(unit_m)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1, 2]",
        b"{",
        b'{"fx": "wide"}',
        b"\xff\xfe\x00",
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"fx": 1e999, "fy": 1, "cx": 1, "cy": 1, "width": 4, "height": 4}',
        b" " * (1 << 20) + b"{}",
    ],
)
def test_a_damaged_hostile_or_large_file_is_refused_in_one_line(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "intrinsics.json"
    path.write_bytes(content)
    with pytest.raises(IntrinsicsError, match=r"intrinsics\.json") as caught:
        read_intrinsics(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=14) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)
KEYS = [*PLAIN, *"dDKk", "dist", "coeffs", "distortion", "model", "distortion_model", "k1", "k4"]
KEYS += ["ppx", "camera_matrix", "intrinsic_matrix", "p1", "depth_scale", "depth_unit", "color"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_values_make_a_calibration_or_are_refused(values: dict[str, Any]) -> None:
    for document in (values, {**PLAIN, **values}):
        with suppress(SdvlmError):
            parse_intrinsics(document).calibration.lens()


@pytest.mark.skipif(not (SHARED / "realdata").exists(), reason="../shared/realdata is absent")
def test_the_intrinsics_of_real_frames_are_read() -> None:
    paths = sorted((SHARED / "realdata").glob("*/intrinsics.json"))
    assert len(paths) > 5
    for path in paths:
        stated = read_intrinsics(path)
        assert stated.calibration.k == CameraIntrinsics.from_mapping(json.loads(path.read_text()))
        assert stated.calibration.lens() is None
        assert stated.depth_unit_m == 0.001
