"""Simulated frames match their scene graphs, and the same settings give the same frames."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

# Not mujoco itself: the renderer must choose the GL backend before it is imported.
pytest.importorskip(
    "training.simulate.renderer", reason="the simulator needs mujoco (requirements/train.txt)"
)

from training.simulate.catalogue import CATEGORIES, COLOURS, LARGE, SMALL, make_model
from training.simulate.frames import SHARD_SCENES, read_frames, rgbd_frame, shard_path
from training.simulate.renderer import Light, Renderer, Solid
from training.simulate.sensor import read_depth, sample_sensor
from training.simulate.world import make_frame

WIDTH = 160


@pytest.fixture(scope="module")
def renderer():
    try:
        made = Renderer(WIDTH, WIDTH * 3 // 4)
    except RuntimeError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(scope="module")
def frames(renderer):
    return [make_frame(renderer, 5, scene, WIDTH) for scene in range(30)]


def _points(frame, exact=None):
    """World points of every pixel, from the given depth (metres) or the sensor's."""
    depth = rgbd_frame(frame).depth if exact is None else exact
    rows, columns = np.indices(depth.shape)
    camera = frame.intrinsics.back_project(columns, rows, depth)
    return camera @ frame.camera_to_world[:3, :3].T + frame.camera_to_world[:3, 3]


def test_there_are_twelve_categories_in_ten_colours():
    assert len(CATEGORIES) >= 12
    assert len(COLOURS) == 10


@pytest.mark.parametrize("kinds", [SMALL, LARGE])
def test_an_object_fills_its_box_and_stands_on_the_ground(kinds):
    rng = np.random.default_rng(0)
    for category in kinds:
        model = make_model(category, kinds, rng)
        low = np.min([np.array(p.centre) - p.half_extents() for p in model.parts], axis=0)
        high = np.max([np.array(p.centre) + p.half_extents() for p in model.parts], axis=0)
        np.testing.assert_allclose(high - low, model.size, atol=1e-9)
        np.testing.assert_allclose(low[2], 0, atol=1e-9)
        np.testing.assert_allclose((low + high)[:2], 0, atol=1e-9)


def test_rendered_depth_is_exact_for_an_off_centre_camera(renderer):
    from sdvlm_core.frame import CameraIntrinsics

    camera = CameraIntrinsics(150, 150, 70.0, 66.0, WIDTH, 120)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # level, looking along +y
    pose[:3, 3] = [0, -2, 1]
    box = Solid("box", (0.2, 0.1, 0.3), np.array([0.3, 0.0, 0.7]), np.eye(3), (1, 0, 0), 1)
    seen = renderer.render([box], [Light((0, 0, -1), 0.5, 0.5, False)], camera, pose)
    rows, columns = np.where(seen.instance == 1)
    points = camera.back_project(columns, rows, seen.depth[rows, columns])
    pixel = 2.0 / 150
    np.testing.assert_allclose(points.min(axis=0), [0.1, 0.0, 1.9], atol=pixel)
    np.testing.assert_allclose(points.max(axis=0)[:2], [0.5, 0.6], atol=pixel)


def test_the_pixels_of_an_object_lie_in_its_box(frames):
    checked = 0
    for frame in frames:
        world = _points(frame)
        for item in frame.objects:
            mask = (frame.instance == item["instance"]) & (frame.depth_mm > 0)
            if mask.sum() < 50:
                continue
            c, s = np.cos(item["yaw_rad"]), np.sin(item["yaw_rad"])
            own = (world[mask] - item["centre_world_m"]) @ np.array(
                [[c, -s, 0], [s, c, 0], [0, 0, 1]]
            )
            beyond = np.abs(own) - np.array(item["box_size_m"]) / 2
            noise = 0.01 + 0.02 * np.median(rgbd_frame(frame).depth[mask]) ** 2
            assert np.quantile(beyond, 0.95) < noise, item
            checked += 1
    assert checked > 40


def test_visible_fractions_and_truncation_match_the_image(frames):
    for frame in frames:
        for item in frame.objects:
            assert item["visible_pixels"] == (frame.instance == item["instance"]).sum()
            assert 0 <= item["visible_fraction"] <= 1
            if item["visible_pixels"]:
                x1, y1, x2, y2 = item["box_xyxy"]
                touches = x1 == 0 or y1 == 0 or x2 == frame.rgb.shape[1] or y2 == frame.rgb.shape[0]
                assert item["truncated"] or not touches
    whole = [
        item["visible_fraction"]
        for frame in frames
        for item in frame.objects
        if item["visible_pixels"] > 300 and not item["truncated"]
    ]
    assert np.quantile(whole, 0.8) > 0.93


def test_cameras_cover_the_documented_ranges(frames):
    fields = [np.degrees(2 * np.arctan(f.intrinsics.width / 2 / f.intrinsics.fx)) for f in frames]
    assert min(fields) >= 44.9
    assert max(fields) <= 85.1
    assert np.ptp(fields) > 20
    assert {f.intrinsics.width * 9 == f.intrinsics.height * 16 for f in frames} == {True, False}
    assert np.ptp([f.intrinsics.cx for f in frames]) > 5


def test_the_depth_sensor_is_noisier_far_away_and_blind_at_edges_and_out_of_range():
    rng = np.random.default_rng(0)
    sensor = sample_sensor(rng)
    near, far = (np.full((100, 100), z, np.float32) for z in (1.0, 4.0))
    spread = [
        np.std(np.where(raw > 0, raw, np.nan)[raw > 0])
        for raw in (read_depth(plane, sensor, rng) for plane in (near, far))
    ]
    assert spread[1] > 3 * spread[0]
    step = near.copy()
    step[:, 50:] = 2.0
    lost = read_depth(step, sensor, rng) == 0
    assert lost[:, 49:51].mean() > 0.2 > lost[:, :40].mean()
    assert not read_depth(np.full((5, 5), 20, np.float32), sensor, rng).any()


def test_a_frame_depends_only_on_seed_and_scene(renderer, frames):
    again = make_frame(renderer, 5, 3, WIDTH)
    np.testing.assert_array_equal(again.rgb, frames[3].rgb)
    np.testing.assert_array_equal(again.depth_mm, frames[3].depth_mm)
    assert again.objects == frames[3].objects
    assert make_frame(renderer, 6, 3, WIDTH).objects != frames[3].objects


def _simulate(out, scenes, seed=3):
    arguments = f"--scenes {scenes} --seed {seed} --width 64 --workers 1".split()
    return subprocess.run(
        [sys.executable, "-m", "training.simulate", *arguments, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_resumed_run_gives_the_same_bytes(tmp_path, renderer):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    scenes = SHARD_SCENES + 5
    assert _simulate(whole, scenes).returncode == 0
    assert _simulate(resumed, SHARD_SCENES - 3).returncode == 0
    (resumed / ".shard-00001.parquet.999.tmp").write_bytes(b"half a shard")
    grown = _simulate(resumed, scenes)
    assert grown.returncode == 0, grown.stderr
    assert len(list(read_frames(resumed))) == scenes
    for shard in (0, 1):
        assert shard_path(whole, shard).read_bytes() == shard_path(resumed, shard).read_bytes()
    assert not list(resumed.glob(".*"))
    assert json.loads((resumed / "simulation.json").read_text())["scenes"] == scenes


def test_other_settings_in_the_same_folder_are_refused(tmp_path, renderer):
    assert _simulate(tmp_path, 2).returncode == 0
    refused = _simulate(tmp_path, 2, seed=4)
    assert refused.returncode == 2
    assert "already holds" in refused.stderr


def test_sigterm_leaves_no_renderer_behind(tmp_path, renderer):
    command = [
        sys.executable,
        "-m",
        "training.simulate",
        "--scenes=1280",
        "--seed=5",
        "--workers=2",
    ]
    process = subprocess.Popen(
        [*command, f"--out={tmp_path}"], stderr=subprocess.DEVNULL, start_new_session=True
    )

    def alive() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    try:
        deadline = time.monotonic() + 300
        while not shard_path(tmp_path, 0).exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 128 + signal.SIGTERM
        while alive():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        if alive():
            os.killpg(process.pid, signal.SIGKILL)
    assert not list(tmp_path.glob(".*"))
