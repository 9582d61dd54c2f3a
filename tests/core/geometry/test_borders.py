"""Borders: objects that the image or the depth camera's view cuts, and regions outside of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sdvlm_core.camera.rectification import hidden_border
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import QueryError
from sdvlm_core.frame import Lens, Region, RgbdFrame
from sdvlm_core.geometry.measure import measure, measure_in
from sdvlm_core.geometry.scene import open_scene
from tests.core.geometry.test_measure import FAR, NEAR, camera, table


def test_an_object_at_the_image_border_is_reported_as_truncated():
    frame, regions = table(width=640, things=((-0.55, 0.0, 0.1, 0.1, 0.1),))
    (one,), _ = measure(frame, regions)
    assert Caution.TRUNCATED in one.warnings


@pytest.mark.parametrize("side", ["left", "right", "bottom"])
@pytest.mark.parametrize("width", [640, 1280])
def test_an_object_at_the_border_of_the_depth_view_is_reported_as_truncated(side, width):
    frame, regions = table(width=width, things=(NEAR,), noise=0.001)
    x1, y1, x2, y2 = (round(value) for value in regions[0].box)
    column, row = (x1 + x2) // 2, (y1 + y2) // 2
    gone = {
        "left": np.s_[:, :column],
        "right": np.s_[:, column:],
        "bottom": np.s_[row:],
    }
    depth = frame.depth.copy()
    depth[gone[side]] = np.nan
    holes = np.random.default_rng(0).random(depth.shape) < 0.02
    depth[holes] = np.nan
    point = Region("it", point=(column + (-8 if side == "right" else 8), row))
    hints = regions if side == "bottom" else [*regions, point]
    found, _ = measure(RgbdFrame(frame.rgb, depth, frame.intrinsics), hints)
    for one in found:
        assert Caution.TRUNCATED in one.warnings
        assert abs(one.length_m - 0.12) < 2 * one.std_dev["length_m"]


def test_an_object_at_the_border_of_a_rectified_raw_image_is_reported_as_truncated():
    cut = (0.0, 0.2, 0.06, 0.04, 0.30)  # at the top, where the depth view's end alone says nothing
    frame, regions = table(width=640, things=(cut, NEAR))
    raw = replace(frame, lens=Lens(frame.intrinsics, "plumb_bob", (0.3, 0.1, 0.0, 0.0, 0.0)))
    depth = np.where(hidden_border(raw), np.float32(np.nan), frame.depth)
    found, _ = measure_in(open_scene(replace(raw, depth=depth)), regions)
    assert [Caution.TRUNCATED in one.warnings for one in found] == [True, False]
    found, _ = measure_in(open_scene(replace(frame, depth=depth)), regions)
    # Of the width: only its front is seen.
    assert [one.warnings for one in found] == [(Caution.UNSEEN_EXTENT,), ()]


def test_an_object_inside_a_narrow_view_is_not_reported_as_truncated():
    frame, regions = table(width=640, noise=0.001)
    x1 = regions[0].box[0]
    depth = frame.depth.copy()
    depth[:, : round(x1) - 8] = np.nan
    depth[:, round(regions[1].box[2]) + 8 :] = np.nan
    found, _ = measure(RgbdFrame(frame.rgb, depth, frame.intrinsics), regions)
    assert not any(Caution.TRUNCATED in one.warnings for one in found)


def test_an_object_in_front_of_a_wall_out_of_range_is_not_reported_as_truncated():
    things = (NEAR, FAR)
    frame, regions = table(width=640, things=things, seen_from=camera(elevation=0.2, away=2.0))
    depth = np.where((frame.depth > 0) & (frame.depth < 4.0), frame.depth, np.nan)
    found, _ = measure(RgbdFrame(frame.rgb, depth.astype(np.float32), frame.intrinsics), regions)
    assert not any(Caution.TRUNCATED in one.warnings for one in found)


@pytest.mark.parametrize(
    ("region", "code"),
    [
        (Region("it", box=(900, 10, 950, 40)), Caution.OUTSIDE_IMAGE),
        (Region("it", box=(-1e300, -1e300, 0.0, 1e300)), Caution.OUTSIDE_IMAGE),
        (Region("it", point=(-20.0, 5.0)), Caution.OUTSIDE_IMAGE),
        (Region("it", mask=np.zeros((240, 320), bool)), Caution.TOO_FEW_POINTS),
    ],
    ids=["right", "left and huge", "point", "empty mask"],
)
def test_a_region_without_a_pixel_has_no_values_and_the_others_are_measured(region, code):
    frame, regions = table()
    alone, _ = measure(frame, regions)
    found, pairs = measure(frame, [regions[0], region, regions[1]])
    assert found[1].warnings == (code,)
    assert found[1].valid_fraction == 0
    for key in ("length_m", "width_m", "height_m", "camera_distance_m"):
        assert math.isnan(getattr(found[1], key))
        assert [getattr(one, key) for one in found[::2]] == [getattr(one, key) for one in alone]
    assert [math.isnan(pair.distance_m) for pair in pairs] == [True, False, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_region_with_a_coordinate_that_is_not_finite_is_refused(bad):
    with pytest.raises(QueryError, match="not finite"):
        Region("it", box=(0.0, 0.0, bad, 5.0))
    with pytest.raises(QueryError, match="not finite"):
        Region("it", point=(bad, 5.0))
