"""Distance and gap of two objects: their values, their errors and their warnings."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core.cautions import Caution
from sdvlm_core.frame import Region
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.measured import Measured, unmeasured
from sdvlm_core.geometry.pairs import Pair, measure_pair, smallest_gap
from tests.core.geometry.test_measure import camera, table

some = settings(derandomize=True, max_examples=20, deadline=None)
clouds = st.builds(
    lambda seed, count: np.random.default_rng(seed).normal(0, 0.1, (count, 3)),
    st.integers(0, 2**32 - 1),
    st.integers(5, 600),
)
#: Two boxes beside each other across the view, 8 cm apart: as in `test_measure.table`.
LEFT, RIGHT = (-0.10, 0.0, 0.06, 0.04, 0.10), (0.09, 0.0, 0.05, 0.04, 0.12)
FROM_LOW = camera(elevation=math.radians(25), away=1.2)


def seen(
    *things: tuple[float, ...], sensor: str = "simulated", **options
) -> tuple[list[Measured], Pair]:
    """The measurements of some boxes, and the pair of the first two."""
    found, pairs = measure(*table(width=640, things=things, **options), sensor)
    return list(found), pairs[0]


@some
@given(clouds, clouds, st.floats(0.3, 3.0))
def test_the_smallest_gap_is_symmetric_and_scales_with_the_scene(a, b, scale):
    b = b + np.array([1.0, 0.0, 0.0])
    gap = smallest_gap(a, b)
    assert gap == pytest.approx(smallest_gap(b, a), rel=1e-9)
    assert smallest_gap(scale * a, scale * b) == pytest.approx(scale * gap, rel=1e-9)


@some
@given(st.floats(0.0, 6.0), st.floats(0.4, 0.9), st.floats(0.13, 0.3))
def test_a_pair_is_the_same_from_either_object(azimuth, elevation, apart):
    (a, b), _ = seen(
        (0.0, 0.0, 0.05, 0.04, 0.1),
        (apart, 0.0, 0.05, 0.05, 0.12),
        seen_from=camera(azimuth, elevation),
    )
    one, other = measure_pair(a, b), measure_pair(b, a)
    assert one.distance_m == pytest.approx(other.distance_m)
    assert one.gap_m == pytest.approx(other.gap_m, abs=0.003)
    assert one.distance_std_dev_m == pytest.approx(other.distance_std_dev_m)
    assert one.gap_std_dev_m == pytest.approx(other.gap_std_dev_m, rel=0.1)
    assert set(one.warnings) == set(other.warnings)


@some
@given(st.floats(0.5, 4.0))
def test_a_larger_scene_has_a_larger_distance_and_gap_and_no_smaller_errors(scale):
    _, before = seen(LEFT, RIGHT)
    _, after = seen(LEFT, RIGHT, scale=scale)
    assert after.distance_m == pytest.approx(scale * before.distance_m, rel=0.02)
    assert after.gap_m == pytest.approx(scale * before.gap_m, rel=0.05)
    larger, smaller = (after, before) if scale > 1 else (before, after)
    assert larger.distance_std_dev_m >= smaller.distance_std_dev_m
    assert larger.gap_std_dev_m >= smaller.gap_std_dev_m


@some
@given(st.floats(0.0, 6.0), st.floats(0.3, 1.2), st.floats(0.11, 0.5))
def test_errors_are_positive_and_intervals_contain_their_values(azimuth, elevation, apart):
    _, pair = seen(
        (0.0, 0.0, 0.05, 0.05, 0.1),
        (apart, 0.02, 0.05, 0.05, 0.12),
        seen_from=camera(azimuth, elevation),
    )
    for value, std_dev, (low, high) in (
        (pair.distance_m, pair.distance_std_dev_m, pair.distance_interval_90_m),
        (pair.gap_m, pair.gap_std_dev_m, pair.gap_interval_90_m),
    ):
        assert value >= 0
        assert std_dev > 0
        assert 0 <= low <= value < high


def test_a_gap_across_the_view_is_that_of_the_boxes():
    _, pair = seen(LEFT, RIGHT)
    assert pair.gap_m == pytest.approx(0.08, abs=0.006)
    assert pair.warnings == ()


def test_a_covered_side_raises_the_std_dev_of_the_gap_that_it_faces():
    """A post hides the right end of the left box; the gap on the right of it is less certain."""
    things = (LEFT, (0.07, *RIGHT[1:]))
    post = (-0.03, -0.25, 0.05, 0.02, 0.16)
    (free, _), before = seen(*things, seen_from=FROM_LOW)
    (covered, _, _), after = seen(*things, post, seen_from=FROM_LOW)
    assert Caution.OCCLUDED not in free.warnings
    assert covered.pixels is not None
    assert covered.pixels.outline.covered_fraction > 0.05
    assert after.gap_spread.physical > 1.5 * before.gap_spread.physical
    assert Caution.UNSEEN_EXTENT in after.warnings


def test_a_far_side_that_is_not_seen_raises_the_std_dev_of_the_gap_behind_it():
    """A wide box hides its own depth: the gap to a box behind it, not to one in front."""
    wide = (0.0, 0.0, 0.15, 0.03, 0.2)
    _, behind = seen(wide, (0.0, 0.3, 0.2, 0.05, 0.4), seen_from=FROM_LOW)
    _, in_front = seen(wide, (0.0, -0.25, 0.03, 0.03, 0.05), seen_from=FROM_LOW)
    assert behind.gap_spread.physical > in_front.gap_spread.physical


def test_a_stereo_camera_s_wide_outlines_and_an_xtion_s_narrow_ones_are_corrected():
    """The same surfaces: stereo shows them too near to each other, structured light too far."""
    gaps = {
        sensor: seen(LEFT, RIGHT, sensor=sensor)[1].gap_m
        for sensor in ("realsense", "simulated", "kinect")
    }
    assert gaps["kinect"] < gaps["simulated"] < gaps["realsense"]


def test_two_plausible_extents_are_within_two_std_devs_and_within_the_interval():
    (a, b), before = seen(LEFT, RIGHT)
    doubtful = replace(
        a,
        warnings=(Caution.AMBIGUOUS_EXTENT,),
        spreads={key: replace(spread, alternative=0.02) for key, spread in a.spreads.items()},
    )
    pair = measure_pair(doubtful, b)
    assert pair.gap_std_dev_m > max(0.02, before.gap_std_dev_m)
    _, high = pair.gap_interval_90_m
    assert high - pair.gap_m > 0.04
    assert Caution.AMBIGUOUS_EXTENT in pair.warnings


def test_a_warning_about_a_region_s_height_does_not_concern_the_pair():
    (a, b), _ = seen(LEFT, RIGHT)
    pair = measure_pair(replace(a, warnings=(Caution.NO_SUPPORT_PLANE, Caution.TRUNCATED)), b)
    assert pair.warnings == (Caution.TRUNCATED,)


def test_a_doubtful_extent_does_not_make_the_distance_of_a_pair_doubtful():
    """Only a difference that is large compared with the distance itself does."""
    (a, b), _ = seen(LEFT, RIGHT)

    def doubted(by: float) -> tuple[Measured, Pair]:
        spreads = {key: replace(spread, alternative=by) for key, spread in a.spreads.items()}
        one = replace(
            a, warnings=(Caution.AMBIGUOUS_EXTENT, Caution.UNSEEN_EXTENT), spreads=spreads
        )
        return one, measure_pair(one, b)

    one, pair = doubted(0.015)
    assert Caution.AMBIGUOUS_EXTENT in pair.warnings  # of the gap of 0.08 m
    assert pair.distance_warnings == ()
    assert one.distance_warnings == (Caution.AMBIGUOUS_EXTENT,)  # its readings may be another's
    _, pair = doubted(0.2 * a.camera_distance_m)
    assert Caution.AMBIGUOUS_EXTENT in pair.distance_warnings


def test_the_distance_warnings_are_among_the_warnings():
    (a, _), pair = seen(LEFT, RIGHT)
    one, other = replace(a, warnings=(Caution.TRUNCATED, Caution.IMPRECISE)), pair
    assert one.distance_warnings == (Caution.TRUNCATED,)
    assert set(other.distance_warnings) <= set(other.warnings)


def test_a_pair_with_an_unmeasured_object_is_unknown():
    (a, _), _ = seen(LEFT, RIGHT)
    nothing = unmeasured(Region("it", point=(0.0, 0.0)), (Caution.TOO_FEW_POINTS,))
    pair = measure_pair(a, nothing)
    values = (
        pair.distance_m,
        pair.gap_m,
        pair.distance_std_dev_m,
        pair.gap_std_dev_m,
        *pair.distance_interval_90_m,
        *pair.gap_interval_90_m,
    )
    assert all(math.isnan(value) for value in values)
    assert Caution.TOO_FEW_POINTS in pair.warnings
