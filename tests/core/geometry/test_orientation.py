"""The box's axes and the support plane are those of the scene, from wherever the camera looks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sdvlm_core.frame import Region
from sdvlm_core.geometry.measure import measure
from sdvlm_core.geometry.quarter_turn import QuarterTurn
from tests.core.geometry.test_measure import NEAR, camera, table

AZIMUTHS = st.floats(-math.pi, math.pi)
ELEVATIONS = st.floats(math.radians(30), math.radians(60))


def axes(one) -> np.ndarray:
    """(3, 3): length, width and up as columns, in the optical frame."""
    return Rotation.from_quat(one.orientation).as_matrix()


@given(AZIMUTHS, ELEVATIONS)
def test_axes_run_along_the_sides_and_the_plane_is_the_table(azimuth, elevation):
    eye, turn = camera(azimuth, elevation)
    frame, regions = table(things=(NEAR,), seen_from=(eye, turn))
    ((one,), _) = measure(frame, regions)
    world = turn @ axes(one)  # columns in the table's frame
    assert abs(world[0, 0]) == pytest.approx(1.0, abs=0.03)  # the longer side is along x
    np.testing.assert_allclose(world[:, 2], (0, 0, 1), atol=0.01)
    assert np.linalg.det(world) == pytest.approx(1.0)
    plane = one.support_plane
    np.testing.assert_allclose(turn @ plane.normal, (0, 0, 1), atol=0.01)
    assert plane.offset == pytest.approx(eye[2], abs=0.01)
    top = np.array(one.position_m) + axes(one)[:, 2] * one.height_m / 2
    assert plane.heights(top[None])[0] == pytest.approx(one.top_above_support_m, abs=1e-6)


@given(AZIMUTHS)
def test_the_length_points_away_from_the_camera_or_across_its_view(azimuth):
    frame, regions = table(things=(NEAR,), seen_from=camera(azimuth))
    ((one,), _) = measure(frame, regions)
    level = np.array(one.position_m)
    level -= (level @ axes(one)[:, 2]) * axes(one)[:, 2]
    assert axes(one)[:, 0] @ level >= -0.02 * np.linalg.norm(level)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_axes_and_plane_turn_with_a_turned_camera(turns):
    eye, turn = camera(0.3)
    frame, (region,) = table(things=(NEAR,), seen_from=(eye, turn))
    own = QuarterTurn(turns, frame.width, frame.height)
    up = tuple(float(value) for value in turn[2])
    frame = replace(frame, up=up)
    ((one,), _) = measure(frame, [region])
    turned_region = Region(region.label, box=own.box(region.box))
    ((other,), _) = measure(own.frame(frame), [turned_region])
    expected = np.column_stack([own.vector(tuple(axis)) for axis in axes(one).T])
    np.testing.assert_allclose(axes(other), expected, atol=1e-6)
    assert other.support_plane.normal == pytest.approx(own.vector(one.support_plane.normal))
    assert other.support_plane.offset == pytest.approx(one.support_plane.offset)


def test_what_was_not_measured_has_neither_axes_nor_plane():
    frame, _ = table(things=(NEAR,))
    ((gone,), _) = measure(frame, [Region("gone", box=(5000.0, 5.0, 5010.0, 9.0))])
    assert all(map(math.isnan, gone.orientation))
    assert gone.support_plane is None
