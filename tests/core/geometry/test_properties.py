"""Invariants of measuring: rigid motion, scale, resolution and missing readings.

A rigid motion does not change sizes. The tolerance is 1e-6 from points to sizes. It is about a
pixel through `measure`, because a moved camera samples other points.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sdvlm_core.cautions import Caution
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import smallest_gap
from sdvlm_core.geometry.support_plane import Plane
from sdvlm_core.geometry.upright_box import upright_box
from tests.core.geometry.test_measure import camera, sizes, table

some = settings(derandomize=True)
seeds = st.integers(0, 2**32 - 1)
rotations = st.builds(
    lambda axis, angle: Rotation.from_rotvec(angle * np.array(axis) / np.linalg.norm(axis)),
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1),
    st.floats(-3, 3),
)
azimuths = st.floats(0, 2 * math.pi)
elevations = st.floats(math.radians(30), math.radians(58))
#: Half sides and height of a box in the middle of the table, metres.
boxes = st.tuples(st.floats(0.03, 0.08), st.floats(0.03, 0.08), st.floats(0.05, 0.2))


def seen(box: tuple[float, float, float], seen_from, width: int = 640) -> Measured:
    """The measurement of a box on the table from a given camera."""
    frame, regions = table(things=((0.0, 0.0, *box),), seen_from=seen_from, width=width)
    (one,), _ = measure(frame, regions, "simulated")
    return one


@some
@given(rotations, st.sampled_from(["box", "can", "arc"]))
def test_turning_scene_and_camera_together_changes_no_size(rotation, shape):
    rng = np.random.default_rng(3)
    if shape == "box":
        points = rng.uniform(-1, 1, (2000, 3)) * (0.06, 0.05, 0.04)
    else:
        turn = rng.uniform(np.pi, 2 * np.pi if shape == "arc" else 3 * np.pi, 2000)
        height = rng.uniform(-0.05, 0.05, 2000)
        points = np.stack([0.03 * np.cos(turn), height, 0.03 * np.sin(turn)], axis=1)
    points += np.array([0.1, 0.2, 0.8])
    up = np.array([0.0, -1.0, 0.0])
    before = upright_box(points, Plane(tuple(up), 0.3, 0.001))
    after = upright_box(rotation.apply(points), Plane(tuple(rotation.apply(up)), 0.3, 0.001))
    np.testing.assert_allclose(after.size, before.size, atol=1e-6)
    np.testing.assert_allclose(after.centre, rotation.apply(before.centre), atol=1e-6)


@some
@given(rotations, st.tuples(*[st.floats(-5, 5)] * 3), seeds)
def test_a_rigid_motion_does_not_change_gaps_and_heights(rotation, shift, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 0.1, (300, 3)), rng.normal((0.6, 0.1, 0.0), 0.1, (500, 3))
    moved_a, moved_b = (rotation.apply(points) + shift for points in (a, b))
    assert smallest_gap(moved_a, moved_b) == pytest.approx(smallest_gap(a, b), abs=1e-6)
    up = np.array([0.0, -1.0, 0.0])
    moved_up = rotation.apply(up)
    offset = 0.3 - float(moved_up @ shift)
    moved = Plane(tuple(moved_up), offset, 0.001).heights(moved_a)
    np.testing.assert_allclose(moved, Plane(tuple(up), 0.3, 0.001).heights(a), atol=1e-6)


@some
@given(boxes, azimuths, elevations, st.floats(0.7, 1.2))
def test_a_box_has_its_size_from_any_viewpoint(box, azimuth, elevation, away):
    one = seen(box, camera(azimuth, elevation, away))
    true = np.array([2 * max(box[:2]), 2 * min(box[:2]), box[2]])
    # Two pixels at 1.2 m: the largest error of a silhouette, one pixel at each end.
    np.testing.assert_allclose(sizes(one), true, atol=0.004)
    assert one.height_m == pytest.approx(box[2], abs=1e-3)


@some
@given(boxes, azimuths, elevations, st.tuples(*[st.floats(-0.12, 0.12)] * 3))
def test_rotating_the_camera_in_place_changes_no_size(box, azimuth, elevation, angles):
    eye, axes = camera(azimuth, elevation)
    before = seen(box, (eye, axes))
    after = seen(box, (eye, axes @ Rotation.from_euler("xyz", angles).as_matrix()))
    np.testing.assert_allclose(sizes(after), sizes(before), atol=0.004)
    assert after.height_m == pytest.approx(before.height_m, abs=1e-3)
    assert after.camera_distance_m == pytest.approx(before.camera_distance_m, abs=0.004)


@some
@given(st.floats(0.2, 5.0))
def test_lengths_scale_with_depth(scale):
    frame, regions = table()
    larger = RgbdFrame(frame.rgb, frame.depth * np.float32(scale), frame.intrinsics)
    found, pairs = measure(frame, regions)
    scaled, scaled_pairs = measure(larger, regions)
    for one, other in zip(found, scaled, strict=True):
        np.testing.assert_allclose(sizes(other), scale * sizes(one), rtol=1e-3)
        np.testing.assert_allclose(other.position_m, scale * np.array(one.position_m), rtol=1e-3)
        assert other.camera_distance_m == pytest.approx(scale * one.camera_distance_m, rel=1e-3)
    assert scaled_pairs[0].distance_m == pytest.approx(scale * pairs[0].distance_m, rel=1e-3)
    assert scaled_pairs[0].gap_m == pytest.approx(scale * pairs[0].gap_m, rel=1e-3)


@some
@given(boxes, st.floats(math.radians(8), math.radians(82)), st.integers(0, 3), elevations)
def test_twice_the_resolution_changes_sizes_by_less_than_two_percent(
    box, azimuth, quarter, elevation
):
    # At a grazing view a side covers one or two pixels in depth, so more pixels add information.
    seen_from = camera(azimuth + quarter * math.pi / 2, elevation)
    coarse, fine = seen(box, seen_from), seen(box, seen_from, width=1280)
    np.testing.assert_allclose(sizes(fine), sizes(coarse), rtol=0.02)


@pytest.mark.parametrize("azimuth", [0.0, 0.02, 0.05, 0.1])
def test_a_side_at_a_grazing_view_changes_with_resolution_within_its_std_dev(azimuth):
    box = (0.05, 0.04, 0.1)
    coarse, fine = (seen(box, camera(azimuth), width) for width in (640, 1280))
    assert abs(fine.width_m - coarse.width_m) <= coarse.std_dev["width_m"]


BAD = (np.nan, np.inf, -np.inf, 0.0, -1.0)


@some
@given(
    seeds,
    st.floats(0, 1),
    st.sampled_from(BAD),
    st.sampled_from(["pixels", "rows", "columns", "box", "grid", "all but a patch"]),
)
def test_missing_readings_give_a_result_or_a_warning(seed, share, bad, pattern):
    frame, regions = table(width=160)
    rng = np.random.default_rng(seed)
    depth = frame.depth.copy()
    height, width = depth.shape
    x1, y1, x2, y2 = (round(value) for value in regions[0].box)
    if pattern == "pixels":
        depth[rng.random(depth.shape) < share] = bad
    elif pattern == "rows":
        depth[rng.random(height) < share] = bad
    elif pattern == "columns":
        depth[:, rng.random(width) < share] = bad
    elif pattern == "box":
        depth[y1 : y1 + round(share * (y2 - y1)), x1:x2] = bad
    elif pattern == "grid":
        every = 1 + round(4 * share)
        depth[::every], depth[:, ::every] = bad, bad
    else:
        patch = depth[y1 : y1 + 1 + round(9 * share), x1 : x1 + 9].copy()
        depth[:] = bad
        depth[y1 : y1 + len(patch), x1 : x1 + 9] = patch
    mask = rng.random(depth.shape) < 0.02
    mask[y1, x1] = True
    others = [
        Region("point", point=(float(rng.uniform(0, 159)), float(rng.uniform(0, 119)))),
        Region("mask", mask=mask),
    ]
    holed = RgbdFrame(frame.rgb, depth, frame.intrinsics)
    found, pairs = measure(holed, [*regions, *others])
    assert len(pairs) == 6
    for one in found:
        assert one.warnings or np.isfinite(sizes(one)).all()
        assert not any(value <= 0 for value in one.std_dev.values())
        if Caution.TOO_FEW_POINTS in one.warnings:
            assert np.isnan(sizes(one)).all()
        else:
            assert one.length_m >= one.width_m >= 0
    for pair in pairs:
        assert math.isnan(pair.distance_m) == math.isnan(pair.gap_m)
