"""Glass: what missing readings and readings behind the support do to the warnings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from sdvlm_core.cautions import Caution
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.measure import measure
from tests.core.geometry.test_measure import NEAR, table

GLASS = Caution.TRANSPARENT_OR_REFLECTIVE


def near_box(frame: RgbdFrame, region: Region) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(value) for value in region.box)
    return x1, y1, x2, y2


def with_depth(frame: RgbdFrame, depth: npt.NDArray[np.float32]) -> RgbdFrame:
    return replace(frame, depth=depth)


def warned(frame: RgbdFrame, region: Region) -> bool:
    (one,), _ = measure(frame, [region])
    return GLASS in one.warnings


def test_a_point_on_a_fragment_amid_holes_is_warned():
    frame, regions = table(width=640, things=(NEAR,), noise=0.001)
    x1, y1, x2, y2 = near_box(frame, regions[0])
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    depth = frame.depth.copy()
    depth[y1 - 10 : y2 + 10, x1 - 10 : x2 + 10] = np.nan
    fragment = (slice((y1 + y2) // 2 - 12, (y1 + y2) // 2 + 12), slice(x1 + 50, x2 - 50))
    depth[fragment] = frame.depth[fragment]
    assert warned(with_depth(frame, depth), Region("glass", point=middle))
    assert not warned(frame, Region("box", point=middle))


def test_the_shadow_of_an_active_sensor_is_no_glass():
    frame, regions = table(width=640, things=(NEAR,), noise=0.001)
    x1, y1, x2, y2 = near_box(frame, regions[0])
    depth = frame.depth.copy()
    depth[y1 - 5 : y2 - 5, x1 - 15 : x1 + 8] = np.nan
    point = ((x1 + x2) / 2, (y1 + y2) / 2)
    assert not warned(with_depth(frame, depth), Region("box", point=point))
    assert not warned(with_depth(frame, depth), regions[0])


def test_a_mirror_image_under_the_table_is_warned():
    frame, regions = table(width=640, things=(NEAR,), noise=0.001)
    x1, y1, x2, y2 = near_box(frame, regions[0])
    depth = frame.depth.copy()
    patch = (slice((y1 + y2) // 2, y2 - 5), slice(x1 + 10, x2 - 10))
    depth[patch] = 1.15 * table(width=640, things=())[0].depth[patch]
    assert warned(with_depth(frame, depth), regions[0])


def test_a_bent_plane_below_an_object_is_not_warned():
    frame, regions = table(width=640, things=(NEAR,), noise=0.001)
    x1, _, x2, y2 = near_box(frame, regions[0])
    depth = frame.depth.copy()
    patch = (slice(y2 - 25, y2 - 5), slice(x1 + 10, x2 - 10))
    depth[patch] = 1.015 * table(width=640, things=())[0].depth[patch]
    assert not warned(with_depth(frame, depth), regions[0])


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_the_size_of_the_scene_changes_no_warning(scale):
    frame, regions = table(width=640, things=(NEAR,))
    x1, y1, x2, y2 = near_box(frame, regions[0])
    depth = frame.depth.copy()
    depth[y1 + 20 : y2 - 20, x1 + 20 : x2 - 20] = np.nan
    assert warned(with_depth(frame, depth), regions[0])
    assert warned(with_depth(frame, (scale * depth).astype(np.float32)), regions[0])
    assert not warned(with_depth(frame, (scale * frame.depth).astype(np.float32)), regions[0])
