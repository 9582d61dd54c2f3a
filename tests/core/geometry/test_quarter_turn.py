"""A quarter turn keeps every ray, reading and region, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame
from sdvlm_core.geometry.crops import crop_region
from sdvlm_core.geometry.point_cloud import make_cloud
from sdvlm_core.geometry.quarter_turn import QuarterTurn, turns_to_upright

some = settings(derandomize=True)
sides = st.integers(1, 9)
turn_counts = st.integers(0, 3)


def numbered(width: int, height: int) -> RgbdFrame:
    """A frame whose readings all differ."""
    depth = 1 + np.arange(width * height, dtype=np.float32).reshape(height, width)
    rgb = np.zeros((height, width, 3), np.uint8)
    return RgbdFrame(rgb, depth, CameraIntrinsics(7.5, 8.25, 2.25, 1.5, width, height))


@some
@given(sides, sides, turn_counts)
def test_a_pixel_has_the_same_reading_and_the_same_point(width, height, turns):
    frame = numbered(width, height)
    turn = QuarterTurn(turns, width, height)
    turned = turn.frame(frame)
    rows, columns = (part.ravel() for part in np.indices(frame.depth.shape))
    new_rows, new_columns = turn.pixels(rows, columns)
    np.testing.assert_array_equal(turned.depth[new_rows, new_columns], frame.depth[rows, columns])
    np.testing.assert_allclose(
        make_cloud(turned).points(new_rows, new_columns),
        turn.points(make_cloud(frame).points(rows, columns)),
        atol=1e-12,
    )
    assert (turn.back.width, turn.back.height) == (turned.width, turned.height)


@some
@given(sides, sides, turn_counts)
def test_turning_back_restores_the_frame(width, height, turns):
    frame = numbered(width, height)
    turn = QuarterTurn(turns, width, height)
    again = turn.back.frame(turn.frame(frame))
    np.testing.assert_array_equal(again.depth, frame.depth)
    assert again.intrinsics == frame.intrinsics
    assert turn.back.vector(turn.vector((1.0, 2.0, 3.0))) == (1.0, 2.0, 3.0)


@some
@given(turn_counts, st.tuples(*[st.floats(-2, 11)] * 4))
def test_a_region_covers_the_same_pixels(turns, corners):
    frame = numbered(9, 7)
    turn = QuarterTurn(turns, 9, 7)
    x1, x2 = sorted((corners[0], min(corners[2], 8.5)))
    y1, y2 = sorted((corners[1], min(corners[3], 6.5)))
    if not (x2 > 0 and y2 > 0 and x1 < x2 - 0.5 and y1 < y2 - 0.5):
        return
    box = Region("it", box=(x1, y1, x2, y2))
    mask = np.zeros((7, 9), bool)
    mask[3, 2] = True
    for region in (box, Region("it", mask=mask)):
        crop = crop_region(make_cloud(frame), region)
        other = crop_region(make_cloud(turn.frame(frame)), turn.region(region))
        assert set(crop.depth[crop.inside]) == set(other.depth[other.inside])
    u, v = turn.region(Region("it", point=(2.0, 3.0))).point
    assert turn.image(mask)[round(v), round(u)]


@pytest.mark.parametrize(
    ("up", "turns"),
    [
        ((0.0, -1.0, 0.0), 0),
        ((1.0, 0.0, 0.0), 1),
        ((0.0, 1.0, 0.0), 2),
        ((-1.0, 0.0, 0.0), 3),
        ((0.3, -0.4, -0.87), 0),
        ((0.7, 0.1, -0.7), 1),
        ((0.0, 0.0, -1.0), 0),
    ],
)
def test_up_is_turned_to_the_top_of_the_picture(up, turns):
    assert turns_to_upright(up) == turns
    x, y, _ = QuarterTurn(turns, 4, 3).vector(up)
    assert y <= -abs(x)
