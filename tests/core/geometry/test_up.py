"""Which way is up: a turned camera measures as an upright one, or carries UP_UNCERTAIN.

The real frames are turned by quarter turns, exactly. `../shared/realdata2` says which way is up; in
`../shared/realdata` it is the normal of the table that the upright frame shows.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from benchmarks.real_frames import frame_of, regions_of, sensor_of, up_of
from sdvlm_core.cautions import Caution
from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame
from sdvlm_core.geometry.drawing import SUPPORT, draw_measurements
from sdvlm_core.geometry.measure import measure, measure_in
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.quarter_turn import QuarterTurn
from sdvlm_core.geometry.scene import open_scene
from tests import blocks
from tests.core.geometry.test_measure import FAR, NEAR, camera, sizes, table
from tests.paths import SHARED

FIRST, SECOND = (
    sorted(path.parent for path in (SHARED / name).glob("*/questions.json"))
    for name in ("realdata", "realdata2")
)
NO_FRAMES = pytest.param(None, marks=pytest.mark.skip(reason="../shared/realdata is absent"))
FOLDERS = [*FIRST, *SECOND] or [NO_FRAMES]
TURNS = (1, 2, 3)
VALUES = ("camera_distance_m", "length_m", "width_m", "height_m")


def folder_id(folder: Path | None) -> str:
    return "absent" if folder is None else folder.name


def values(found: tuple[Measured, ...]) -> np.ndarray:
    """(N, 4) metres."""
    return np.array([[getattr(one, name) for name in VALUES] for one in found])


def turned(frame: RgbdFrame, turns: int) -> tuple[RgbdFrame, QuarterTurn]:
    """The frame as a camera with another mounting takes it: arrays of its own."""
    turn = QuarterTurn(turns, frame.width, frame.height)
    own = turn.frame(frame)
    copies = {name: np.ascontiguousarray(getattr(own, name)) for name in ("rgb", "depth")}
    return replace(own, **copies), turn


def real(folder: Path) -> tuple[RgbdFrame, list[Region], str]:
    """A real frame with its up vector, its regions and its sensor."""
    known = json.loads((folder / "questions.json").read_text())
    frame = frame_of(folder, known)
    up = up_of(known) or open_scene(frame).upright.planes[0].normal
    return replace(frame, up=up), list(regions_of(known).values()), sensor_of(known)


@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_with_up_every_figure_of_a_turned_real_frame_is_the_upright_one(folder):
    frame, regions, sensor = real(folder)
    upright, pairs = measure_in(open_scene(frame), regions, sensor)
    for turns in TURNS:
        other, turn = turned(frame, turns)
        found, other_pairs = measure(other, [turn.region(one) for one in regions], sensor)
        np.testing.assert_allclose(values(found), values(upright), atol=1e-6)
        for one, same in zip(found, upright, strict=True):
            assert one.warnings == same.warnings
            assert one.std_dev == pytest.approx(same.std_dev, abs=1e-6, nan_ok=True)
            assert turn.vector(same.position_m) == pytest.approx(
                one.position_m, abs=1e-6, nan_ok=True
            )
        for one, same in zip(other_pairs, pairs, strict=True):
            # Surfaces that touch have many nearest points.
            assert one.gap_m == pytest.approx(same.gap_m, abs=5e-4, nan_ok=True)


@pytest.mark.parametrize("folder", FIRST or [NO_FRAMES], ids=folder_id)
def test_the_up_vector_changes_no_figure_of_an_upright_real_frame(folder):
    frame, regions, sensor = real(folder)
    with_up, _ = measure(frame, regions, sensor)
    without, _ = measure(replace(frame, up=None), regions, sensor)
    np.testing.assert_array_equal(values(with_up), values(without))


@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_without_up_a_turned_real_frame_is_right_or_uncertain(folder):
    frame, regions, sensor = real(folder)
    upright, _ = measure(frame, regions, sensor)
    for turns in (0, *TURNS):
        other, turn = turned(replace(frame, up=None), turns)
        scene = open_scene(other)
        found, _ = measure_in(scene, [turn.region(one) for one in regions], sensor)
        for one, same in zip(found, upright, strict=True):
            if Caution.UP_UNCERTAIN in scene.cautions:
                assert Caution.UP_UNCERTAIN in one.warnings
            else:
                np.testing.assert_allclose(values((one,)), values((same,)), atol=1e-6)


@pytest.mark.skipif(not FIRST or not SECOND, reason="../shared/realdata is absent")
def test_few_upright_real_frames_are_uncertain():
    # A bin without a visible support, a bedroom with as much wall as floor; two cameras that are
    # really turned, and one that looks straight down.
    uncertain = {
        folder.name
        for folder in (*FIRST, *SECOND)
        if Caution.UP_UNCERTAIN in open_scene(replace(real(folder)[0], up=None)).cautions
    }
    assert uncertain <= {
        "arc2017_bin",
        "sunrgbd_bedroom",
        "anygrasp_clutter",
        "iphone_stool_portrait",
        "primesense_overhead",
    }


@pytest.mark.skipif(not SECOND, reason="../shared/realdata2 is absent")
def test_the_up_vector_corrects_the_height_that_a_turned_phone_gets_wrong():
    frame, regions, sensor = real(SHARED / "realdata2" / "iphone_stool_portrait")
    stool = next(index for index, one in enumerate(regions) if one.label == "white stool")
    right, _ = measure(frame, regions, sensor)
    wrong, _ = measure(replace(frame, up=None), regions, sensor)
    assert right[stool].height_m == pytest.approx(0.4445, abs=0.01)
    assert Caution.UP_UNCERTAIN not in right[stool].warnings
    assert Caution.UP_UNCERTAIN in wrong[stool].warnings


def table_up(axes: np.ndarray) -> tuple[float, float, float]:
    """Up in the optical frame of a camera over `table`."""
    x, y, z = axes.T @ np.array([0.0, 0.0, 1.0])
    return float(x), float(y), float(z)


@settings(derandomize=True, max_examples=25)
@given(st.floats(0, 2 * math.pi), st.floats(math.radians(35), math.radians(55)))
def test_with_up_a_box_has_its_size_at_any_roll_of_the_camera(roll, elevation):
    eye, axes = camera(elevation=elevation)
    axes = axes @ Rotation.from_euler("z", roll).as_matrix()
    frame, regions = table(width=640, things=(NEAR,), seen_from=(eye, axes))
    (one,), _ = measure(replace(frame, up=table_up(axes)), regions, "simulated")
    np.testing.assert_allclose(sizes(one), (0.12, 0.08, 0.10), atol=0.004)
    assert one.warnings == ()


@settings(derandomize=True, max_examples=25)
@given(st.floats(0, 2 * math.pi), st.floats(math.radians(25), math.radians(85)))
def test_without_up_a_box_has_its_size_at_any_roll_or_is_uncertain(roll, elevation):
    eye, axes = camera(elevation=elevation)
    axes = axes @ Rotation.from_euler("z", roll).as_matrix()
    frame, regions = table(width=640, things=(NEAR, FAR), seen_from=(eye, axes), noise=0.001)
    found, _ = measure(frame, regions, "simulated")
    for one, true in zip(found, ((0.12, 0.08, 0.10), (0.10, 0.10, 0.18)), strict=True):
        if Caution.UP_UNCERTAIN not in one.warnings:
            np.testing.assert_allclose(sizes(one), true, atol=0.008)


def test_an_upside_down_camera_over_a_table_is_found_without_up():
    frame, regions = table(width=640, noise=0.001)
    other, turn = turned(frame, 2)
    found, _ = measure(other, [turn.region(one) for one in regions])
    np.testing.assert_allclose(sizes(found[0]), (0.12, 0.08, 0.10), atol=0.006)
    assert found[0].warnings == ()


def test_a_room_is_right_or_uncertain_in_every_position_and_right_with_up():
    frame = blocks.room_frame()
    x, y, z = blocks.POSES[0][:3, :3].T @ np.array([0.0, 0.0, 1.0])
    region = Region("chair", box=blocks.box_around(blocks.RED))
    for turns in (0, *TURNS):
        other, turn = turned(replace(frame, up=(float(x), float(y), float(z))), turns)
        (one,), _ = measure(other, [turn.region(region)])
        assert one.height_m == pytest.approx(0.9, abs=0.02)
        assert one.warnings == ()
        (one,), _ = measure(replace(other, up=None), [turn.region(region)])
        assert Caution.UP_UNCERTAIN in one.warnings or one.height_m == pytest.approx(0.9, abs=0.02)


def test_an_upright_camera_never_takes_a_wall_or_the_ceiling_for_the_floor():
    grey = (200, 200, 200)
    room = [
        blocks.Block("north", grey, (0, 5, 0), (12, 0.1, 3)),
        blocks.Block("east", grey, (5, 0, 0), (0.1, 12, 3)),
        blocks.Block("west", grey, (-5, 0, 0), (0.1, 12, 3)),
        blocks.Block("ceiling", grey, (0, 0, 3), (12, 12, 0.1)),
        blocks.Block("table", grey, (0.5, 2.5, 0), (1.2, 0.7, 0.7)),
        blocks.Block("shelf", grey, (4.8, 1, 1), (0.3, 1, 0.4)),
        blocks.Block("radiator", grey, (4.9, 3, 0.1), (0.15, 1.2, 0.6)),
    ]
    k = np.array([[100.0, 0, 80], [0, 100.0, 60], [0, 0, 1]])
    rays, rng = blocks.pinhole_rays(k, 160, 120), np.random.default_rng(0)
    certain = 0
    for _ in range(60):
        position = (rng.uniform(-3, 3), rng.uniform(-3, 2), rng.uniform(0.4, 1.8))
        yaw, pitch = rng.uniform(-math.pi, math.pi), rng.uniform(-math.pi / 3, math.pi / 6)
        ahead = (math.sin(yaw), math.cos(yaw), math.tan(pitch))
        pose = blocks.looking(position, tuple(np.add(position, ahead)))
        rgb, depth = blocks.picture(pose, rays, room)
        depth = np.where(depth > 0, depth, np.nan) * (1 + rng.normal(0, 0.002, depth.shape))
        intrinsics = CameraIntrinsics(100.0, 100.0, 80.0, 60.0, 160, 120)
        scene = open_scene(RgbdFrame(rgb, depth.astype(np.float32), intrinsics))
        if Caution.UP_UNCERTAIN not in scene.cautions:
            certain += 1
            normal = scene.upright.turn.back.vector(scene.upright.planes[0].normal)
            assert normal @ pose[:3, :3].T @ (0, 0, 1) > math.cos(math.radians(12))
    assert certain >= 10


def test_a_wall_that_fills_the_picture_is_uncertain_from_every_angle():
    wall, _ = table(things=())
    for elevation in (20, 35, 50, 70, 89):
        for roll in (90, 270):  # the wall stands left or right of an upright camera
            eye, axes = camera(elevation=math.radians(elevation), away=1.0)
            axes = axes @ Rotation.from_euler("z", roll, degrees=True).as_matrix()
            wall, _ = table(things=(), seen_from=(eye, axes), noise=0.001)
            assert Caution.UP_UNCERTAIN in open_scene(wall).cautions
    nothing = replace(wall, depth=np.full_like(wall.depth, np.nan))
    assert Caution.UP_UNCERTAIN in open_scene(nothing).cautions


def test_with_up_a_wall_supports_nothing_and_height_runs_along_up():
    _, axes = camera()
    frame, regions = table(width=640, things=(FAR,))
    x, y, z = axes.T @ np.array([0.0, 1.0, 0.0])  # the table is a wall of this world
    scene = open_scene(replace(frame, up=(float(x), float(y), float(z))))
    assert scene.upright.planes == ()
    (one,), _ = measure_in(scene, regions)
    assert Caution.NO_SUPPORT_PLANE in one.warnings


@pytest.mark.parametrize("tilt", [0, 8])
def test_a_slightly_tilted_table_is_level(tilt):
    _, axes = camera()
    frame, regions = table(width=640)
    up = Rotation.from_euler("x", tilt, degrees=True).apply(table_up(axes))
    found, _ = measure(replace(frame, up=tuple(map(float, up))), regions)
    np.testing.assert_allclose(sizes(found[0]), (0.12, 0.08, 0.10), atol=0.006)
    assert found[0].warnings == ()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_an_up_vector_that_the_table_contradicts_is_uncertain(turns):
    # "Upside-down" is not (0, 1, 0) for a camera that looks down at 45 degrees.
    frame, turn = turned(replace(table(width=640)[0], up=(0.0, -1.0, 0.0)), turns)
    regions = [turn.region(one) for one in table(width=640)[1]]
    found, _ = measure(frame, regions)
    assert found[0].warnings == (Caution.UP_UNCERTAIN,)
    np.testing.assert_allclose(sizes(found[0]), (0.12, 0.08, 0.10), atol=0.006)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_vector_of_another_frame_or_of_the_opposite_sign_is_uncertain(sign):
    _, axes = camera(elevation=math.radians(50))
    frame, regions = table(width=640, seen_from=camera(elevation=math.radians(50)))
    gravity = tuple(-value for value in table_up(axes))
    for up in ((0.0, 0.0, sign), (0.0, sign, 0.0), gravity):
        found, _ = measure(replace(frame, up=up), regions)
        assert Caution.UP_UNCERTAIN in found[0].warnings


@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_range_instead_of_z_is_a_caution_and_real_depth_has_none(folder):
    frame = real(folder)[0]
    x, y = frame.intrinsics.ray_slopes()
    stretch = np.sqrt(1 + x**2 + (y**2)[:, None]).astype(np.float32)
    bin_without_a_large_plane = folder.name == "arc2017_bin"
    for up in (frame.up, None):
        right = replace(frame, up=up)
        assert Caution.IMPLAUSIBLE_DEPTH not in open_scene(right).cautions
        wrong = open_scene(replace(right, depth=frame.depth * stretch))
        assert Caution.IMPLAUSIBLE_DEPTH in wrong.cautions or bin_without_a_large_plane


@pytest.mark.parametrize("turns", TURNS)
def test_pixels_planes_and_drawing_are_in_the_cameras_own_picture(turns):
    _, axes = camera()
    frame, regions = table(width=320)
    frame = replace(frame, up=table_up(axes))
    (one, _), _ = upright = measure(frame, regions)
    other, turn = turned(frame, turns)
    scene = open_scene(other)
    (same, _), pairs = found = measure_in(scene, [turn.region(region) for region in regions])
    pixels, expected = same.pixels, turn.pixels(one.pixels.rows, one.pixels.columns)
    np.testing.assert_array_equal((pixels.rows, pixels.columns), expected)
    assert pixels.plane.normal == pytest.approx(turn.vector(one.pixels.plane.normal))
    np.testing.assert_allclose(same.box.corners, turn.points(one.box.corners), atol=1e-9)
    assert scene.cloud.depth.shape == other.depth.shape
    drawn = [
        draw_measurements(open_scene(picture), some, ())
        for picture, some in ((frame, upright[0]), (other, found[0]))
    ]
    marked = [(np.abs(picture.astype(int) - SUPPORT).max(axis=2) < 60) for picture in drawn]
    assert np.mean(turn.image(marked[0]) & marked[1]) > 0.5 * np.mean(marked[0])
    assert len(pairs) == 1
