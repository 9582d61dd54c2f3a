"""Surfaces without an annotation are measured by the largest disc within them."""

from __future__ import annotations

import numpy as np
import pytest

from sdvlm_core.frame import CameraIntrinsics
from tests.blocks import looking
from training.build.labels_unlabelled import surface_depth, unlabelled

K = CameraIntrinsics(200.0, 200.0, 160.0, 120.0, 320, 240)
LEVEL = looking((0.0, 0.0, 1.0), (0.0, 3.0, 1.0))


def _found(owner: np.ndarray, depth_m: float = 2.0, stride: int = 2, floor_z: float = -5.0):
    return unlabelled(owner, np.full(owner.shape, depth_m), K, stride, LEVEL, floor_z)


def test_a_view_in_which_all_is_annotated_has_no_such_entry():
    assert _found(np.ones((120, 160), int)) is None


@pytest.mark.parametrize("depth_m", [1.0, 3.0])
def test_the_disc_is_as_wide_as_the_surface_in_metres(depth_m):
    owner = np.ones((120, 160), int)
    owner[40:80, 60:100] = 0  # 80 x 80 pixels of the full-size image
    entry = _found(owner, depth_m)
    assert entry["disc_m"] == pytest.approx(80 / 200 * depth_m, rel=0.06)
    assert entry["floor_disc_m"] == 0.0
    assert entry["visible_pixels"] == 80 * 80
    assert (entry["label"], entry["instance"]) == ("", 0)


def test_a_long_seam_is_slim():
    owner = np.ones((120, 160), int)
    owner[60:62] = 0
    assert _found(owner)["disc_m"] < 0.1


def test_surfaces_at_the_floor_are_told_apart():
    owner = np.ones((120, 160), int)
    owner[100:] = 0  # below the horizon: lower than the camera
    entry = _found(owner, floor_z=0.6)
    assert entry["disc_m"] == 0.0
    assert entry["floor_disc_m"] > 0.3


def test_where_nothing_is_seen_nothing_is_said():
    owner = np.zeros((120, 160), int)
    assert _found(owner, np.nan) is None
    assert _found(owner)["disc_m"] > 2.0


def test_owner_and_depth_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        unlabelled(np.zeros((2, 3), int), np.ones((3, 2)), K, 1, LEVEL, 0.0)


def test_the_sensor_tells_what_the_mesh_has_a_hole_at():
    rendered = np.array([[1.0, np.nan], [np.nan, 2.0]])
    sensor = np.zeros((4, 4), np.uint16)
    sensor[1, 1], sensor[1, 3] = 5000, 3000
    np.testing.assert_equal(surface_depth(rendered, sensor, 2), [[1.0, 3.0], [np.nan, 2.0]])
    assert surface_depth(rendered, None, 2) is rendered
    with pytest.raises(ValueError, match="expected"):
        surface_depth(rendered, sensor, 1)
