"""Parts of one object between which depth readings are lost, and things that look like parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sdvlm_core.cautions import Caution
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.region_objects import find_objects
from sdvlm_core.geometry.scene import open_scene
from tests.core.geometry.test_measure import camera, table

TALL = (0.0, 0.0, 0.04, 0.04, 0.24)
LOW = camera(elevation=0.3, away=1.2)


def test_a_part_beyond_lost_readings_completes_an_object_that_misses_an_edge_of_its_box():
    frame, (region,) = table(width=640, things=(TALL,), seen_from=LOW)
    assert region.box is not None
    x1, y1, x2, y2 = (round(value) for value in region.box)
    depth = frame.depth
    depth[y1 + (y2 - y1) // 5 : y1 + 2 * (y2 - y1) // 5, x1:x2] = np.nan
    (one,), _ = measure(frame, [region], "simulated")
    assert one.height_m == pytest.approx(0.24, abs=0.01)
    assert one.warnings == (Caution.UNSEEN_EXTENT,)  # of the width: only its front is seen


def test_a_farther_thing_at_the_edge_of_a_box_does_not_complete_the_object():
    near, far = (0.0, -0.2, 0.05, 0.05, 0.10), (0.0, 0.4, 0.05, 0.02, 0.22)
    frame, regions = table(width=640, things=(near, far), seen_from=camera(elevation=0.3, away=1.2))
    box = np.array([region.box for region in regions])
    x1, y1, x2, y2 = *box[0, :2], *box[0, 2:]
    region = replace(regions[0], box=(x1, min(y1, box[1, 1]), x2, y2))
    found = find_objects(open_scene(frame).upright, region)
    for one in found:
        z = frame.depth[one.rows, one.columns]
        assert z.max() - z.min() < 0.3


def test_a_thing_beside_an_object_does_not_complete_it_where_the_camera_sees_between_them():
    things = ((-0.06, 0.0, 0.04, 0.04, 0.12), (0.06, 0.0, 0.03, 0.04, 0.10))
    frame, regions = table(width=640, things=things)
    box = np.array([region.box for region in regions])
    both = replace(regions[0], box=(*box[:, :2].min(axis=0), *box[:, 2:].max(axis=0)))
    for one in find_objects(open_scene(frame).upright, both):
        assert np.ptp(one.columns) < 0.7 * (box[:, 2].max() - box[:, 0].min())


def test_what_stands_on_a_flat_object_and_hides_a_third_of_it_makes_its_height_ambiguous():
    tray, can = (0.0, 0.0, 0.10, 0.08, 0.02), (0.0, -0.01, 0.04, 0.04, 0.09, 0.02)
    frame, regions = table(width=640, things=(tray, can))
    (one,), _ = measure(frame, regions[:1], "simulated")
    assert Caution.AMBIGUOUS_EXTENT in one.warnings
    assert one.height_m - 2 * one.std_dev["height_m"] < 0.03
