"""What an object rests on: the table, the thing below it, or the table behind a nearer thing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.crops import crop_region
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.region_support import Support, supports_under
from sdvlm_core.geometry.scene import open_scene
from tests.core.geometry.test_measure import NEAR, camera, table

#: A tall box on a low one, which reaches further to the front; see `test_measure.NEAR`. Metres.
LOW, ON_LOW = (0.0, 0.0, 0.09, 0.08, 0.07), (0.0, 0.02, 0.035, 0.035, 0.16, 0.07)
#: The same tall box on the table behind the low one.
BEHIND_LOW = (0.0, 0.20, 0.035, 0.035, 0.23)
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
