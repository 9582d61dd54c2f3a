"""What an object rests on: the table, the thing below it, or the table behind a nearer thing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame
from sdvlm_core.geometry.crops import crop_region
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.region_support import Support, supports_under
from sdvlm_core.geometry.scene import open_scene
from tests import blocks
from tests.core.geometry.test_measure import NEAR, camera, table

#: A tall box on a low one, which reaches further to the front; see `test_measure.NEAR`. Metres.
LOW, ON_LOW = (0.0, 0.0, 0.09, 0.08, 0.07), (0.0, 0.02, 0.035, 0.035, 0.16, 0.07)
#: The same tall box on the table behind the low one.
BEHIND_LOW = (0.0, 0.20, 0.035, 0.035, 0.23)
#: The same tall box right behind the low one, which it touches.
AGAINST_LOW = (0.0, 0.115, 0.035, 0.035, 0.23)
BESIDE = (0.25, 0.0, 0.04, 0.04, 0.10)
ELEVATIONS = [math.radians(degrees) for degrees in (20, 35, 50)]


def seen(things: tuple, elevation: float, scale: float = 1.0) -> tuple[RgbdFrame, list[Region]]:
    """The things from 1 m, with 1.5 mm of noise at every distance."""
    frame, regions = table(scale, 640, 0.0015 * scale, things, camera(0.0, elevation, 1.0))
    return frame, regions


def supports_of(frame: RgbdFrame, region: Region) -> tuple[Support, ...]:
    scene = open_scene(frame).upright
    return supports_under(scene.cloud, crop_region(scene.cloud, region), scene.planes)


def raised(support: Support) -> float:
    """Height of the support above its base, metres."""
    return support.base.offset - support.plane.offset


@pytest.mark.parametrize("elevation", ELEVATIONS)
def test_a_thing_on_another_rests_on_the_lower_ones_top(elevation):
    frame, regions = seen((ON_LOW, LOW, BESIDE), elevation)
    (found,) = supports_of(frame, regions[0])
    assert raised(found) == pytest.approx(0.07, abs=0.006)


@pytest.mark.parametrize("elevation", ELEVATIONS)
def test_the_lower_thing_rests_on_the_table(elevation):
    frame, regions = seen((ON_LOW, LOW, BESIDE), elevation)
    (found,) = supports_of(frame, regions[1])
    assert raised(found) == 0.0


@pytest.mark.parametrize("elevation", ELEVATIONS[:2])
def test_a_thing_behind_another_that_hides_its_foot_rests_on_the_table(elevation):
    frame, regions = seen((BEHIND_LOW, LOW, BESIDE), elevation)
    assert raised(supports_of(frame, regions[0])[0]) == 0.0


@pytest.mark.parametrize("elevation", ELEVATIONS)
def test_a_thing_right_behind_a_lower_one_may_rest_on_the_table(elevation):
    frame, regions = seen((AGAINST_LOW, LOW, BESIDE), elevation)
    assert 0.0 in [raised(support) for support in supports_of(frame, regions[0])]


@pytest.mark.parametrize("elevation", ELEVATIONS)
def test_a_thing_alone_has_one_support(elevation):
    frame, regions = seen((NEAR, BESIDE), elevation)
    for region in regions:
        (found,) = supports_of(frame, region)
        assert raised(found) == 0.0


def test_a_support_in_a_scene_of_twice_the_size_is_twice_as_high():
    one, two = (
        raised(supports_of(*(part[0] if isinstance(part, list) else part for part in found))[0])
        for found in (seen((ON_LOW, LOW, BESIDE), ELEVATIONS[1], scale) for scale in (1.0, 2.0))
    )
    assert two == pytest.approx(2 * one, rel=0.05)


def test_heights_of_a_support_are_above_its_plane():
    frame, regions = seen((ON_LOW, LOW, BESIDE), ELEVATIONS[1])
    cloud = open_scene(frame).upright.cloud
    crop = crop_region(cloud, regions[0])
    (found,) = supports_of(frame, regions[0])
    expected = found.plane.height_image(cloud, crop.rows, crop.columns)
    np.testing.assert_allclose(found.height[crop.valid], expected[crop.valid], atol=1e-5)


def test_the_top_of_a_stacked_thing_is_over_the_table_and_its_height_is_its_own():
    frame, regions = seen((ON_LOW, LOW, BESIDE), ELEVATIONS[1])
    (upper,), _ = measure(replace(frame), regions[:1])
    assert upper.height_m == pytest.approx(0.16, rel=0.08)
    assert upper.top_above_support_m == pytest.approx(0.23, rel=0.05)


@settings(derandomize=True, max_examples=12, deadline=None)
@given(st.floats(0, 2 * math.pi), st.booleans())
def test_with_up_the_roll_of_the_camera_changes_no_height_of_a_stacked_or_occluded_thing(
    roll, stacked
):
    things = (ON_LOW if stacked else BEHIND_LOW, LOW, BESIDE)
    eye, axes = camera(0.0, ELEVATIONS[1], 1.0)
    axes = axes @ Rotation.from_euler("z", roll).as_matrix()
    frame, regions = table(1.0, 640, 0.0015, things, (eye, axes))
    x, y, z = axes.T @ np.array([0.0, 0.0, 1.0])
    frame = replace(frame, up=(float(x), float(y), float(z)))
    (one,), _ = measure(frame, regions[:1])
    assert one.height_m == pytest.approx(0.16 if stacked else 0.23, rel=0.02)
    assert one.top_above_support_m == pytest.approx(0.23, rel=0.02)


#: Four boards of a shelf without a floor in view, and a tin on each: height, metres.
BOARDS, TIN = (0.0, 0.35, 0.70, 1.05), 0.12


def test_every_board_of_a_shelf_is_a_support():
    shelf = [
        blocks.Block("board", (150, 120, 90), (0.0, 1.8, up - 0.02), (0.9, 0.35, 0.02))
        for up in BOARDS
    ]
    tins = [
        blocks.Block("tin", (200, 40, 40), (0.2 * (-1) ** n, 1.72, up), (0.08, 0.08, TIN))
        for n, up in enumerate(BOARDS)
    ]
    wall = blocks.Block("wall", (220, 220, 200), (0.0, 2.0, -3.0), (8.0, 0.1, 8.0))
    pose = blocks.looking((0.0, 0.3, 1.7), (0.0, 1.8, 0.6))
    pose[2, 3] += 2.0  # the ground of `blocks` is two metres below the lowest board
    raised_by_two = [replace(one, base=np.add(one.base, (0, 0, 2.0))) for one in [*shelf, *tins]]
    width, height, focal = 640, 480, 500.0
    k = np.array([[focal, 0, 319.5], [0, focal, 239.5], [0, 0, 1]])
    rgb, depth = blocks.picture(pose, blocks.pinhole_rays(k, width, height), [*raised_by_two, wall])
    depth += np.random.default_rng(0).normal(0, 0.002, depth.shape)
    x, y, z = pose[:3, :3].T @ np.array([0.0, 0.0, 1.0])
    frame = RgbdFrame(
        rgb,
        depth.astype(np.float32),
        CameraIntrinsics(focal, focal, 319.5, 239.5, width, height),
        up=(float(x), float(y), float(z)),
    )
    for tin in raised_by_two[len(shelf) :]:
        corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T * tin.sides
        seen_at = (corners + tin.centre - pose[:3, 3]) @ pose[:3, :3]
        uv = seen_at[:, :2] / seen_at[:, 2:] * focal + (319.5, 239.5)
        (x1, y1), (x2, y2) = uv.min(0) - 2, uv.max(0) + 2
        found = supports_of(frame, Region("tin", box=(x1, y1, x2, y2)))
        foot = (np.array(tin.base) - pose[:3, 3]) @ pose[:3, :3]
        assert abs(float(found[0].plane.heights(foot[None])[0])) < 0.15 * TIN
