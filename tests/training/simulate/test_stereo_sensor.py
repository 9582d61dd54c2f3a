"""The errors of real depth cameras: where they are, how wide, and on what they depend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("cv2")

from training.simulate.stereo_sensor import (
    FAMILIES,
    DepthCamera,
    cosine_to_normal,
    draw_camera,
    fill_holes,
    grow_foreground,
    hidden_from_second_view,
    read_stereo_depth,
    smooth_noise,
)

SHAPE = (240, 640)
FOCAL = 600.0
#: No errors but those that a test adds.
CLEAN = DepthCamera("realsense", near=0.1, far=20.0, baseline=0.05, step_px=1 / 1024)


def textured(shape=SHAPE):
    return np.random.default_rng(1).integers(0, 255, (*shape, 3)).astype(np.uint8)


def step(shape=SHAPE, near=0.6, far=1.0, left=260, right=380):
    depth = np.full(shape, far, np.float32)
    depth[:, left:right] = near
    return depth


def read(depth, camera, rgb=None, absorbs=0.0):
    picture = textured(depth.shape) if rgb is None else rgb
    lost = np.full(depth.shape, absorbs, np.float32)
    return read_stereo_depth(depth, picture, lost, FOCAL, camera, np.random.default_rng(0)) / 1000.0


def test_without_errors_the_reading_is_the_depth():
    depth = np.full(SHAPE, 0.8, np.float32)
    np.testing.assert_allclose(read(depth, CLEAN), depth, atol=0.001)


@pytest.mark.parametrize("growth", [2.0, 5.0])
def test_the_foreground_grows_and_the_background_shrinks(growth):
    seen = read(step(), replace(CLEAN, growth=(growth, growth), window=5.0))
    near = np.abs(seen - 0.6) < 0.02
    wide = near[100:140].sum(axis=1)
    assert abs(np.median(wide) - (120 + 2 * growth)) <= 1.5


def test_a_slope_does_not_grow():
    slope = np.tile(1 / np.linspace(1.7, 0.1, SHAPE[1], dtype=np.float32), (SHAPE[0], 1))
    grown = grow_foreground(slope, np.full(SHAPE, 5.0, np.float32))
    np.testing.assert_array_equal(grown, slope)


@pytest.mark.parametrize("window", [3.0, 9.0])
def test_noise_is_as_wide_as_the_matching_window(window):
    noise = smooth_noise((400, 400), window, np.random.default_rng(0))
    assert np.std(noise) == pytest.approx(1.0, abs=0.1)
    # Correlation falls below a half near the half width of the window.
    near = float(np.mean(noise[:, 1:] * noise[:, :-1]))
    far = float(np.mean(noise[:, round(2 * window) :] * noise[:, : -round(2 * window)]))
    assert near > 0.6
    assert abs(far) < 0.15


def test_kinect_steps_grow_with_the_square_of_depth():
    camera = replace(CLEAN, baseline=0.075, step_px=0.125, noise_px=0.3)
    gaps = []
    for z in (1.0, 2.0):
        values = np.unique(read(np.full(SHAPE, z, np.float32), camera))
        gaps.append(float(np.median(np.diff(values[values > 0]))))
    assert gaps[1] / gaps[0] == pytest.approx(4.0, rel=0.3)


def test_a_surface_without_texture_has_holes_and_a_textured_one_has_none():
    camera = replace(CLEAN, texture=2.0, window=7.0)
    depth = np.full(SHAPE, 0.8, np.float32)
    rgb = textured()
    rgb[:, :320] = 200
    lost = read(depth, camera, rgb) == 0
    assert lost[:, :300].mean() > 0.2
    assert lost[:, 340:].mean() < 0.01


def test_smeared_matches_are_readings_not_holes():
    flat = np.full((*SHAPE, 3), 200, np.uint8)
    depth = np.full(SHAPE, 0.8, np.float32)
    holes = [
        (read(depth, replace(CLEAN, texture=2.0, window=7.0, smear=smear), flat) == 0).mean()
        for smear in (0.0, 0.9)
    ]
    assert holes[1] < 0.5 * holes[0]


def test_the_shadow_lies_left_of_the_foreground_and_is_as_wide_as_the_disparities_differ():
    depth = step()
    disparity = (FOCAL * 0.05 / depth).astype(np.float32)
    hidden = hidden_from_second_view(disparity)
    wide = FOCAL * 0.05 * (1 / 0.6 - 1 / 1.0)
    columns = np.flatnonzero(hidden[120])
    assert columns.max() < 260
    assert abs(len(columns) - wide) <= 2
    assert columns.min() >= 260 - wide - 2


def test_grazing_dark_and_absorbing_surfaces_lose_readings():
    slope = np.tile(1 / np.linspace(2.0, 0.06, SHAPE[1], dtype=np.float32), (SHAPE[0], 1))
    cosine = cosine_to_normal(slope, FOCAL)
    lost = read(slope, replace(CLEAN, grazing=0.2)) == 0
    assert lost[cosine < 0.1].mean() > 0.6
    assert lost[cosine > 0.35].mean() < 0.05
    depth = np.full(SHAPE, 0.8, np.float32)
    black = np.full((*SHAPE, 3), 3, np.uint8)
    assert (read(depth, replace(CLEAN, dark=0.1), black) == 0).mean() > 0.3
    assert (read(depth, CLEAN, absorbs=0.5) == 0).mean() == pytest.approx(0.5, abs=0.15)


def test_a_surface_that_faces_the_camera_has_cosine_one_in_the_middle():
    cosine = cosine_to_normal(np.full(SHAPE, 1.0, np.float32), FOCAL)
    assert cosine[120, 320] == pytest.approx(1.0, abs=1e-3)


def test_hole_filling_closes_small_holes_only():
    depth = np.full((60, 60), 1.0, np.float32)
    depth[10:12, 10:12] = 0
    depth[30:50, 30:50] = 0
    filled = fill_holes(depth, 2)
    assert (filled[10:12, 10:12] == 1.0).all()
    assert (filled[36:44, 36:44] == 0).all()


def test_time_of_flight_has_pixels_between_near_and_far_at_edges_only():
    camera = DepthCamera("time_of_flight", near=0.1, far=20.0, noise_m=0.0005, flying=1.5)
    seen = read(step(), camera)
    between = (seen > 0.65) & (seen < 0.95)
    columns = np.flatnonzero(between.any(axis=0))
    assert len(columns) > 0
    assert min(abs(columns - 260).min(), abs(columns - 380).min()) <= 2
    assert all(min(abs(c - 259.5), abs(c - 379.5)) < 4 for c in columns)
    assert not (seen == 0).any()


def test_depth_is_shifted_from_colour_by_the_drawn_pixels():
    seen = read(step(), replace(CLEAN, shift=(2.0, 0.0)))
    assert np.flatnonzero(np.abs(seen[120] - 0.6) < 0.01)[[0, -1]].tolist() == [262, 381]


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_cameras_are_within_two_percent_of_the_scale(family):
    depth = np.full(SHAPE, 1.0, np.float32)
    for seed in range(5):
        camera = draw_camera(np.random.default_rng(seed), family)
        assert camera.family == family
        seen = read(depth, camera)
        assert (seen > 0).mean() > 0.8
        assert np.median(seen[seen > 0]) == pytest.approx(1.0, abs=0.025)


def test_readings_are_lost_beside_depth_steps_only():
    seen = read(step(), replace(CLEAN, edge_loss=0.6)) == 0
    shadow = 30  # columns left of the near surface
    assert seen[:, 259:261].mean() > 0.4
    assert seen[:, 378:382].mean() > 0.2
    assert seen[:, 263:376].mean() < 0.01
    assert seen[:, : 258 - shadow].mean() < 0.01
