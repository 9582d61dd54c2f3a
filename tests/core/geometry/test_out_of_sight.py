"""What the camera does not see: below a rear edge, below a thing in the air, under a clear part.

Each was measured wrong without a warning: a stack as the thing below, a gap to the top's rear edge.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sdvlm_core.cautions import Caution
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.measure import measure
from tests.core.geometry.test_measure import camera, table

STEEP = camera(elevation=math.radians(56), away=1.0)


@pytest.mark.parametrize("noise", [0.0, 0.001])
@pytest.mark.parametrize("height", [0.05, 0.08])
def test_a_thing_on_a_flatter_one_is_not_taken_for_its_height_from_above(noise, height):
    carton, on_top = (0.0, 0.0, 0.08, 0.065, 0.055), (0.0, 0.0, 0.045, 0.042, height, 0.055)
    frame, regions = table(width=640, things=(carton, on_top), seen_from=STEEP, noise=noise)
    x1, y1, x2, y2 = regions[0].box
    slack = 0.08 * (x2 - x1) / 1.16
    tight = replace(regions[0], box=(x1 + slack, y1 + slack, x2 - slack, y2 - slack))
    for region in (regions[0], tight):
        (one,), _ = measure(frame, [region], "simulated")
        right = one.height_m == pytest.approx(0.055, rel=0.25)
        assert right or Caution.AMBIGUOUS_EXTENT in one.warnings


def test_the_gap_to_a_thing_behind_is_measured_from_the_rear_face_and_not_from_its_upper_edge():
    tall, low = (-0.1, 0.0, 0.06, 0.04, 0.24), (0.08, 0.24, 0.04, 0.04, 0.06)
    frame, regions = table(
        width=640, things=(tall, low), seen_from=camera(elevation=math.radians(30), away=1.0)
    )
    _, (pair,) = measure(frame, regions, "simulated")
    true = math.hypot(0.08 - 0.04 + 0.1 - 0.06, 0.24 - 0.04 - 0.04)
    assert pair.gap_m == pytest.approx(true, rel=0.1)


def ball(radius: float, above: float) -> tuple[RgbdFrame, Region]:
    """A ball in the air over a table, from 60 degrees; metres above the table."""
    eye, turn = camera(elevation=math.radians(60), away=1.0)
    frame, _ = table(width=640, things=(), seen_from=(eye, turn))
    assert frame.depth is not None
    assert frame.intrinsics is not None
    v, u = np.mgrid[0 : frame.height, 0 : frame.width]
    ray = frame.intrinsics.back_project(u, v, 1.0) @ turn.T
    to = eye - np.array([0.0, 0.0, above + radius])
    a, b, c = (ray**2).sum(-1), ray @ to, to @ to - radius**2
    root = b * b - a * c
    hit = root > 0
    depth = frame.depth.copy()
    depth[hit] = ((-b - np.sqrt(np.where(hit, root, 0))) / a)[hit]
    rows, columns = np.nonzero(hit)
    box = (columns.min() - 2.0, rows.min() - 2.0, columns.max() + 3.0, rows.max() + 3.0)
    return replace(frame, depth=depth.astype(np.float32)), Region("ball", box=box)


@pytest.mark.parametrize("above", [0.2, 0.3])
def test_the_underside_of_a_ball_in_the_air_is_part_of_its_std_dev_and_a_warning(above):
    frame, region = ball(0.06, above)
    (one,), _ = measure(frame, [region], "simulated")
    assert one.height_m < 0.12
    assert abs(one.height_m - 0.12) < 2 * one.std_dev["height_m"]
    assert Caution.UNSEEN_EXTENT in one.warnings


def test_a_clear_upper_part_is_no_colour_on_the_table_behind_it():
    """Depth shows the lower part and the table through the rest; colour shows all of it."""
    bottle, lower = (0.0, 0.0, 0.035, 0.035, 0.22), (0.0, 0.0, 0.035, 0.035, 0.10)
    seen_from = camera(elevation=math.radians(35), away=0.9)
    whole, (region,) = table(width=640, things=(bottle,), seen_from=seen_from)
    frame, _ = table(width=640, things=(lower,), seen_from=seen_from)
    empty, _ = table(width=640, things=(), seen_from=seen_from)
    rgb = frame.rgb.copy()
    rgb[whole.depth < empty.depth - 1e-3] = (40, 120, 60)
    (one,), _ = measure(replace(frame, rgb=rgb), [region], "simulated")
    assert Caution.AMBIGUOUS_EXTENT in one.warnings
    assert Caution.AMBIGUOUS_EXTENT in one.distance_warnings
    assert abs(one.length_m - 0.07) < 2 * one.std_dev["length_m"]
    assert abs(one.camera_distance_m - 0.9) < 2 * one.std_dev["camera_distance_m"]


def test_a_box_of_which_only_the_front_is_seen_warns_that_its_width_is_unknown():
    box = (0.0, 0.0, 0.045, 0.125, 0.12)
    frame, (region,) = table(
        width=640, things=(box,), seen_from=camera(elevation=math.radians(8), away=0.8), noise=0.001
    )
    (one,), _ = measure(frame, [region], "simulated")
    shown = one.width_m == pytest.approx(0.09, rel=0.25)
    assert shown or Caution.UNSEEN_EXTENT in one.warnings
