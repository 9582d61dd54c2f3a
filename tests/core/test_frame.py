"""Frames, intrinsics, and the point under a pixel."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.errors import DepthError, FrameError, IntrinsicsError, QueryError
from sdvlm_core.frame import (
    CameraIntrinsics,
    Region,
    RgbdFrame,
    depth_in_metres,
    fraction_from_pixel,
    is_in_image,
    pixel_from_fraction,
    point_at,
)

CAMERA = CameraIntrinsics(fx=60.0, fy=60.0, cx=31.5, cy=23.5, width=64, height=48)


def make_frame(depth: Any = 2.0, **changes: Any) -> RgbdFrame:
    filled = np.full((48, 64), depth, np.float32) if np.isscalar(depth) else depth
    values = {"rgb": np.zeros((48, 64, 3), np.uint8), "depth": filled, "intrinsics": CAMERA}
    return RgbdFrame(**{**values, **changes})


@pytest.mark.parametrize("key", ["fx", "fy", "cx", "cy"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_intrinsics_that_are_not_finite_are_refused(key: str, value: float) -> None:
    values = {"fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48}
    with pytest.raises(IntrinsicsError, match="not finite"):
        CameraIntrinsics.from_mapping({**values, key: value})


@pytest.mark.parametrize("key", ["fx", "fy", "width", "height"])
def test_a_zero_focal_length_or_size_is_refused(key: str) -> None:
    values = {"fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48}
    with pytest.raises(IntrinsicsError, match="positive"):
        CameraIntrinsics.from_mapping({**values, key: 0})


def test_resized_intrinsics_see_the_image_corners_along_the_same_rays() -> None:
    half = CAMERA.scaled(32, 24)
    for corner, small in (((-0.5, -0.5), (-0.5, -0.5)), ((63.5, 47.5), (31.5, 23.5))):
        np.testing.assert_allclose(
            CAMERA.back_project(*corner, 1.0), half.back_project(*small, 1.0)
        )


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.1, 10))
def test_back_projection_inverts_projection(x: float, y: float, z: float) -> None:
    u, v = CAMERA.project(np.array([x, y, z]))
    np.testing.assert_allclose(CAMERA.back_project(u, v, z), (x, y, z), atol=1e-9)


def test_back_projection_of_arrays_keeps_their_shape() -> None:
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    assert CAMERA.back_project(u, v, np.ones((48, 64))).shape == (48, 64, 3)


def test_ray_slopes_are_the_back_projected_pixels_at_one_metre() -> None:
    x, y = CAMERA.ray_slopes()
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    expected = np.stack([*np.meshgrid(x, y), np.ones((48, 64))], axis=-1)
    np.testing.assert_array_equal(CAMERA.back_project(u, v, 1.0), expected)


def test_the_fractions_zero_and_one_are_the_outer_corners_of_the_image() -> None:
    assert pixel_from_fraction(0.0, 0.0, 64, 48) == (-0.5, -0.5)
    assert pixel_from_fraction(1.0, 1.0, 64, 48) == (63.5, 47.5)
    assert pixel_from_fraction(0.5, 0.5, 64, 48) == (CAMERA.cx, CAMERA.cy)


@given(st.floats(0, 1), st.floats(0, 1))
def test_conversion_to_pixels_and_back_preserves_a_fraction(u: float, v: float) -> None:
    pixel = pixel_from_fraction(u, v, 640, 480)
    assert is_in_image(*pixel, 640, 480)
    assert fraction_from_pixel(*pixel, 640, 480) == pytest.approx((u, v), abs=1e-12)


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((0, 64, 3), np.uint8),
    ],
)
def test_colour_of_another_shape_or_type_is_refused(rgb: Any) -> None:
    with pytest.raises(FrameError, match="rgb must be"):
        make_frame(rgb=rgb)


def test_depth_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(DepthError, match=r"32x24.*64x48"):
        make_frame(depth=np.ones((24, 32), np.float32))


def test_depth_that_is_not_float32_is_refused() -> None:
    with pytest.raises(DepthError, match="float32"):
        make_frame(depth=np.ones((48, 64), np.uint16))


def test_intrinsics_of_another_size_are_refused() -> None:
    with pytest.raises(IntrinsicsError, match="32x24"):
        make_frame(intrinsics=CAMERA.scaled(32, 24))


def test_zero_readings_become_nan_and_others_metres() -> None:
    depth = depth_in_metres(np.array([[0, 1500]], np.uint16), 0.001)
    assert depth.dtype == np.float32
    assert np.isnan(depth[0, 0])
    assert depth[0, 1] == pytest.approx(1.5)


def test_a_frame_read_from_files_is_the_one_that_was_written(tmp_path: Path) -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[..., 0] = 200  # red
    cv2.imwrite(str(tmp_path / "rgb.png"), rgb[..., ::-1])
    cv2.imwrite(str(tmp_path / "depth.png"), np.full((48, 64), 3000, np.uint16))
    (tmp_path / "k.json").write_text(json.dumps(CAMERA.__dict__))
    frame = read_frame(tmp_path / "rgb.png", tmp_path / "depth.png", tmp_path / "k.json", 0.0005)
    np.testing.assert_array_equal(frame.rgb, rgb)
    assert frame.depth is not None
    np.testing.assert_allclose(frame.depth, 1.5)
    assert frame.intrinsics == CAMERA


def test_files_that_cannot_be_a_frame_are_refused_by_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "rgb.png"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(FrameError, match=r"none\.png"):
        read_frame(tmp_path / "none.png")
    with pytest.raises(DepthError, match=r"none\.png"):
        read_frame(tmp_path / "rgb.png", tmp_path / "none.png")
    with pytest.raises(DepthError, match=r"rgb\.png must be a single-channel uint16"):
        read_frame(tmp_path / "rgb.png", tmp_path / "rgb.png")
    with pytest.raises(DepthError, match="scale must be positive"):
        read_frame(tmp_path / "rgb.png", tmp_path / "rgb.png", depth_scale=0.0)


def test_an_image_too_large_to_decode_is_refused_by_name(tmp_path: Path) -> None:
    encoded = bytearray(cv2.imencode(".png", np.zeros((48, 64), np.uint16))[1].tobytes())
    encoded[16:24] = struct.pack(">II", 60_000, 60_000)
    encoded[29:33] = struct.pack(">I", zlib.crc32(encoded[12:29]))
    (tmp_path / "huge.png").write_bytes(encoded)
    cv2.imwrite(str(tmp_path / "rgb.png"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(FrameError, match=r"huge\.png has 60000x60000"):
        read_frame(tmp_path / "huge.png")
    with pytest.raises(DepthError, match=r"huge\.png has 60000x60000"):
        read_frame(tmp_path / "rgb.png", tmp_path / "huge.png")


def test_colour_is_not_rotated_by_its_exif_because_depth_is_not(tmp_path: Path) -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:24] = 250
    jpeg = cv2.imencode(".jpg", rgb)[1].tobytes()
    # TIFF, little endian, one entry: tag 0x112 (orientation), one short, 3 = upside down.
    tiff = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, 3, 0, 0)
    exif = b"Exif\0\0" + tiff
    rotated = jpeg[:2] + struct.pack(">HH", 0xFFE1, len(exif) + 2) + exif + jpeg[2:]
    (tmp_path / "rgb.jpg").write_bytes(rotated)
    assert cv2.imread(str(tmp_path / "rgb.jpg"))[0, 0, 0] < 10  # OpenCV rotates it by default
    assert read_frame(tmp_path / "rgb.jpg").rgb[0, 0, 0] > 240


def test_a_region_has_exactly_one_shape() -> None:
    assert Region("cup", point=(1, 2)).point == (1, 2)
    with pytest.raises(QueryError, match="exactly one"):
        Region("cup")
    with pytest.raises(QueryError, match="exactly one"):
        Region("cup", point=(1, 2), box=(0, 0, 1, 1))
    with pytest.raises(QueryError, match="empty box"):
        Region("cup", box=(5, 5, 5, 9))


def test_the_point_under_a_pixel_is_the_back_projected_depth() -> None:
    point = point_at(make_frame(2.0), 61.5, 23.5)
    assert point is not None
    assert (point.x, point.y, point.z) == pytest.approx((1.0, 0.0, 2.0))


def test_holes_and_flying_pixels_do_not_move_the_point() -> None:
    depth = np.full((48, 64), 2.0, np.float32)
    depth[20:25, 30:33] = np.nan
    depth[26, 30:34] = 9.0
    point = point_at(make_frame(depth), 31.5, 23.5)
    assert point is not None
    assert point.z == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("u", "v"), [(-1, 5), (64, 5), (5, -0.6), (5, 47.6), (float("nan"), 5), (5, float("inf"))]
)
def test_a_pixel_outside_the_image_has_no_point(u: float, v: float) -> None:
    assert point_at(make_frame(2.0), u, v) is None


@pytest.mark.parametrize(("u", "v"), [(-0.5, -0.5), (63.5, 47.5)])
def test_the_image_corners_have_a_point(u: float, v: float) -> None:
    assert point_at(make_frame(2.0), u, v) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": None},
        {"intrinsics": None},
        {"depth_source": "estimated_relative"},
        {"depth": np.full((48, 64), np.nan, np.float32)},
        {"depth": np.zeros((48, 64), np.float32)},
    ],
)
def test_without_metric_depth_or_intrinsics_there_is_no_point(changes: dict[str, Any]) -> None:
    frame = make_frame(**{"depth": 2.0, **changes})
    assert point_at(frame, 31.5, 23.5) is None
