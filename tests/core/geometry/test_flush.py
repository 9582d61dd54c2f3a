"""Things that touch without a step or a crease: the region's box alone shows where one ends."""

from __future__ import annotations

import pytest

from sdvlm_core.cautions import Caution
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.region_objects import find_objects
from sdvlm_core.geometry.scene import open_scene
from tests.core.geometry.test_measure import camera, table

#: Three boxes with one front, and the middle one alone.
ROW = ((-0.10, 0.0, 0.05, 0.04, 0.10), (0.0, 0.0, 0.05, 0.04, 0.10), (0.10, 0.0, 0.05, 0.04, 0.10))
ALONE = ROW[1:2]


def test_an_object_may_end_inside_the_edges_of_its_box_that_its_pixels_cross():
    frame, regions = table(width=640, things=ROW)
    best, other = find_objects(open_scene(frame).upright, regions[1])
    x1, _, x2, _ = best.box
    assert (best.columns.min(), best.columns.max() + 1) == (x1, x2)
    assert other.columns.min() == pytest.approx(x1 + 0.1 * (x2 - x1), abs=1)
    assert other.columns.max() + 1 == pytest.approx(x2 - 0.1 * (x2 - x1), abs=1)
    assert (other.rows.min(), other.rows.max()) == (best.rows.min(), best.rows.max())


@pytest.mark.parametrize("azimuth", [0.0, 0.3, 0.6])
def test_an_object_that_only_its_box_separates_from_the_next_one_is_ambiguous(azimuth):
    seen_from = camera(azimuth)
    frame, _ = table(width=640, things=ROW, seen_from=seen_from)
    bare, regions = table(width=640, things=ALONE, seen_from=seen_from)
    (in_row,), _ = measure(frame, regions, "simulated")
    (alone,), _ = measure(bare, regions, "simulated")
    assert alone.warnings == ()
    assert alone.length_m == pytest.approx(0.10, abs=0.005)
    assert Caution.AMBIGUOUS_EXTENT in in_row.warnings
    assert in_row.std_dev["length_m"] > 0.1 * in_row.length_m


def test_an_object_that_crosses_no_edge_of_its_box_has_one_extent():
    frame, regions = table(width=640, things=ALONE)
    (one,) = find_objects(open_scene(frame).upright, regions[0])
    assert one.bounded
