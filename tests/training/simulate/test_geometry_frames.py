"""Geometry frames match their scene graphs, and the same settings give the same frames."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip(
    "training.simulate.renderer", reason="the simulator needs mujoco (requirements/train.txt)"
)

from training.simulate.frames import MANIFEST, read_frames, stored_gaps, up_in_camera
from training.simulate.gaps import signed_gaps
from training.simulate.geometry_frames import geometry_renderer, make_geometry_frame
from training.simulate.geometry_scenes import SITUATIONS, compose_geometry
from training.simulate.renderer import Light

WIDTH, SEED = 320, 8


@pytest.fixture(scope="module")
def renderer():
    try:
        return geometry_renderer(WIDTH)
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def frames(renderer):
    return [make_geometry_frame(renderer, SEED, n, WIDTH) for n in range(2 * len(SITUATIONS))]


def own_coordinates(frame, entry, exact):
    """Points (N, 3) of the pixels of an object, in the frame of its true box."""
    rows, columns = np.nonzero(frame.instance == entry["instance"])
    camera = frame.intrinsics.back_project(columns, rows, exact[rows, columns])
    world = camera @ frame.camera_to_world[:3, :3].T + frame.camera_to_world[:3, 3]
    c, s = np.cos(entry["yaw_rad"]), np.sin(entry["yaw_rad"])
    return (world - entry["centre_world_m"]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def test_the_exact_depth_of_an_object_lies_in_its_true_box_and_reaches_its_top(renderer, frames):
    whole = 0
    for frame in frames:
        composed = compose_geometry(SEED, frame.scene)
        things = [s for n, body in enumerate(composed.bodies, 1) for s in body.solids(n)]
        picture = renderer.render(
            [*composed.room, *things],
            [Light((0, 0, -1), 0.5, 0.5, False)],
            frame.intrinsics,
            frame.camera_to_world,
        )
        np.testing.assert_array_equal(picture.instance, frame.instance)
        for entry in frame.objects:
            if entry["visible_pixels"] < 60:
                continue
            own = own_coordinates(frame, entry, picture.depth)
            half = np.array(entry["box_size_m"]) / 2
            assert (np.abs(own) < half + 1e-3).all(), entry
            if entry["visible_fraction"] > 0.97 and not entry["truncated"]:
                pixel = np.linalg.norm(entry["centre_camera_m"]) / frame.intrinsics.fx
                assert own[:, 2].max() > half[2] - 6 * pixel, entry
                whole += 1
    assert whole > 20


def test_sizes_are_the_objects_own_and_tops_are_above_the_plane(frames):
    carried = 0
    for frame in frames:
        for entry in frame.objects:
            assert entry["length_m"] >= entry["width_m"] > 0
            height = entry["top_above_support_m"] - entry["foot_above_plane_m"]
            assert entry["height_m"] == pytest.approx(height)
            if entry["stands_on"]:
                carried += 1
                below = [frame.objects[other - 1] for other in entry["stands_on"]]
                assert entry["foot_above_plane_m"] > 1e-3
                assert any(entry["gaps_m"][str(b["instance"])] < 1e-3 for b in below)
            else:
                assert entry["foot_above_plane_m"] < 1e-3
    assert carried > 5


def test_stored_gaps_are_those_of_the_solids(frames):
    for frame in frames[:6]:
        composed = compose_geometry(SEED, frame.scene)
        things = [s for n, body in enumerate(composed.bodies, 1) for s in body.solids(n)]
        for pair, gap in signed_gaps(things).items():
            assert stored_gaps(frame)[pair] == pytest.approx(max(0.0, gap))


def test_up_is_the_world_s_vertical_in_the_camera(frames):
    for frame in frames:
        up = np.array(up_in_camera(frame))
        np.testing.assert_allclose(frame.camera_to_world[:3, :3] @ up, [0, 0, 1], atol=1e-9)
    turned = [
        frame
        for frame in frames
        if any("camera_turned" in entry["situation"] for entry in frame.objects)
    ]
    assert turned
    assert all(up_in_camera(frame)[1] > -0.98 for frame in turned)


def test_all_situations_occur_in_the_scene_graph(frames):
    named = {name for frame in frames for entry in frame.objects for name in entry["situation"]}
    assert set(SITUATIONS) <= named
    assert {"in_bin", "furniture", "lying"} <= named


def test_what_is_hidden_or_cut_is_named_so(frames):
    for frame in frames:
        for entry in frame.objects:
            assert ("border_cut" in entry["situation"]) == entry["truncated"]
            hidden = entry["visible_fraction"] < 0.85 and not entry["truncated"]
            assert hidden == ("occluded" in entry["situation"])


def test_a_geometry_frame_depends_only_on_seed_and_scene(renderer, frames):
    again = make_geometry_frame(renderer, SEED, 3, WIDTH)
    np.testing.assert_array_equal(again.rgb, frames[3].rgb)
    np.testing.assert_array_equal(again.depth_mm, frames[3].depth_mm)
    assert again.objects == frames[3].objects


def _simulate(out, *options):
    return subprocess.run(
        [
            sys.executable, "-m", "training.simulate", "--seed=3", "--width=64", "--workers=1",
            "--scenes=4", f"--out={out}", *options,
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def test_a_folder_holds_one_kind_of_scene(tmp_path, renderer):
    made = _simulate(tmp_path, "--kind=geometry")
    assert made.returncode == 0, made.stderr
    assert len(list(read_frames(tmp_path))) == 4
    assert json.loads((tmp_path / MANIFEST).read_text())["kind"] == "geometry"
    refused = _simulate(tmp_path)
    assert refused.returncode == 2
    assert "kind was geometry and is room" in refused.stderr


def test_a_folder_of_before_there_were_kinds_holds_rooms(tmp_path, renderer):
    assert _simulate(tmp_path).returncode == 0
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    del manifest["kind"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert _simulate(tmp_path).returncode == 0
