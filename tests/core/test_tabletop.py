"""Measurements of the simulated table equal its ground truth: sizes, positions, distances."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.measure import measure
from sdvlm_core.tabletop import (
    CAMERA_HEIGHT_M,
    CAMERA_PITCH_RAD,
    INTRINSICS,
    TABLE,
    UP,
    boxes,
    render,
    sensor_depth_mm,
    to_camera,
)


def test_measurements_of_the_objects_equal_the_ground_truth() -> None:
    rgb, metres, _ = render()
    depth = sensor_depth_mm(metres, np.random.default_rng(0)).astype(np.float32) / 1000
    frame = RgbdFrame(rgb=rgb, depth=depth, intrinsics=INTRINSICS)
    regions = [Region(name, box=tuple(map(float, box))) for name, box in boxes().items()]
    found, pairs = measure(frame, regions, "simulated")
    for item, one in zip(TABLE, found, strict=True):
        assert not one.warnings
        assert (one.length_m, one.width_m, one.height_m) == pytest.approx(item.size, abs=0.004)
        assert math.dist(one.position_m, to_camera(item.centre)) < 0.004
    assert pairs[0].distance_m == pytest.approx(
        math.dist(TABLE[0].centre, TABLE[1].centre), abs=0.004
    )


def test_the_middle_of_the_image_shows_the_table_where_the_camera_points() -> None:
    _, metres, instance = render()
    row, column = round(INTRINSICS.cy), round(INTRINSICS.cx)
    assert instance[row, column] == 0
    assert metres[row, column] == pytest.approx(
        CAMERA_HEIGHT_M / math.sin(CAMERA_PITCH_RAD), rel=0.01
    )


def test_up_is_a_unit_vector_away_from_the_table() -> None:
    above = to_camera(np.array([0.0, 0.5, 1.0])) - to_camera(np.array([0.0, 0.5, 0.0]))
    np.testing.assert_allclose(above, UP, atol=1e-12)


def test_a_box_encloses_every_pixel_of_its_object_tightly() -> None:
    instance = render()[2]
    for number, (x1, y1, x2, y2) in enumerate(boxes().values(), start=1):
        inside = instance[y1:y2, x1:x2] == number
        assert inside.sum() == (instance == number).sum()
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
