"""Depth becomes a token grid, and the grid becomes a code, as defined in depth_encoding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.errors import CheckpointError, DepthError, IntrinsicsError
from sdvlm_core.frame import CameraIntrinsics
from sdvlm_core.model.depth_encoding import MIN_WAVELENGTH_M, PARITY, EncodingSettings, encode
from sdvlm_core.model.image_tokens import SquareCanvas
from tests.paths import SHARED
from tests.square_pooling import pool_square

RECORDED = SHARED / "parity"
XYZ = EncodingSettings(kind="xyz")


def _camera(width: int, height: int, focal: float = 300.0) -> CameraIntrinsics:
    return CameraIntrinsics(focal, focal, width / 2 + 3, height / 2 - 5, width, height)


def _pooled_slowly(depth: np.ndarray, camera: CameraIntrinsics, cells: int) -> np.ndarray:
    """The definition, pixel by pixel: mean X, Y, Z of the pixels whose centre is in the cell."""
    canvas = SquareCanvas(camera.width, camera.height)
    sums, counts = np.zeros((cells, cells, 3)), np.zeros((cells, cells, 1))
    for v in range(camera.height):
        for u in range(camera.width):
            if np.isfinite(depth[v, u]) and depth[v, u] > 0:
                row = int((v + canvas.top + 0.5) * cells / canvas.side)
                column = int((u + canvas.left + 0.5) * cells / canvas.side)
                sums[row, column] += camera.back_project(u, v, depth[v, u])
                counts[row, column] += 1
    return np.where(counts > 0, sums / np.maximum(counts, 1), 0).reshape(-1, 3)


@given(
    width=st.integers(5, 40),
    height=st.integers(5, 40),
    cells=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)
def test_pooling_is_the_mean_over_the_valid_pixels_of_each_cell(width, height, cells, seed):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.3, 5, (height, width)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.4] = np.nan
    depth[0, 0] = 1.0
    camera = _camera(width, height)
    grid = pool_square(depth, camera, XYZ, cells)
    slow = _pooled_slowly(depth, camera, cells)
    np.testing.assert_allclose(grid.coordinates, slow, atol=2e-5)
    np.testing.assert_array_equal(grid.valid, slow[:, 2] > 0)


def test_cells_without_a_valid_pixel_get_no_code():
    depth = np.ones((30, 60), np.float32)
    depth[:, :15] = np.nan
    grid = pool_square(depth, _camera(60, 30), XYZ, 4)
    valid = grid.valid.reshape(4, 4)
    assert not valid[0].any()
    assert not valid[3].any()
    assert not valid[1:3, 0].any()
    assert valid[1:3, 1:].all()
    code = encode(torch.from_numpy(grid.coordinates), torch.from_numpy(grid.valid), XYZ, 48)
    assert (code[~torch.from_numpy(grid.valid)] == 0).all()
    assert (code[torch.from_numpy(grid.valid)].norm(dim=1) > 0).all()


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -1.0])
def test_depth_without_a_single_reading_is_refused(bad):
    with pytest.raises(DepthError, match="no valid reading"):
        pool_square(np.full((8, 8), bad, np.float32), _camera(8, 8), XYZ, 2)


def test_xyz_without_intrinsics_is_refused():
    with pytest.raises(IntrinsicsError, match="intrinsics"):
        pool_square(np.ones((8, 8), np.float32), None, XYZ, 2)


def test_xyz_keeps_scale_and_focal_length_where_relative_loses_both():
    rng = np.random.default_rng(1)
    depth = rng.uniform(0.5, 2, (24, 32)).astype(np.float32)
    near, far = (pool_square(d, _camera(32, 24), XYZ, 4) for d in (depth, 2 * depth))
    np.testing.assert_allclose(far.coordinates, 2 * near.coordinates, rtol=1e-5)
    wide = pool_square(depth, _camera(32, 24, focal=150.0), XYZ, 4)
    np.testing.assert_allclose(wide.coordinates[:, 0], 2 * near.coordinates[:, 0], rtol=1e-4)
    np.testing.assert_allclose(wide.coordinates[:, 2], near.coordinates[:, 2], rtol=1e-6)
    relative = EncodingSettings(kind="relative")
    same = [pool_square(d, None, relative, 4).coordinates for d in (depth, 2 * depth)]
    np.testing.assert_allclose(same[0], same[1], atol=1e-3)


def test_relative_spans_0_to_100_and_its_orientation_reverses_it():
    depth = np.linspace(1, 3, 64, dtype=np.float32).reshape(8, 8)
    direct = pool_square(depth, None, EncodingSettings(kind="relative"), 4)
    inverse = pool_square(depth, None, EncodingSettings(kind="relative", orientation="inverse"), 4)
    assert direct.coordinates.min() == 0
    assert direct.coordinates.max() == pytest.approx(100)
    assert direct.coordinates.argmax() == inverse.coordinates.argmin()


def test_flat_depth_gives_a_finite_code():
    grid = pool_square(np.full((8, 8), 1.5, np.float32), None, EncodingSettings(kind="relative"), 4)
    code = encode(
        torch.from_numpy(grid.coordinates),
        torch.from_numpy(grid.valid),
        EncodingSettings(kind="relative"),
        32,
    )
    assert code.isfinite().all()


def test_metric_is_absolute_and_logarithmic():
    kind = EncodingSettings(kind="metric")
    values = [
        float(pool_square(np.full((4, 4), z, np.float32), None, kind, 1).coordinates[0, 0])
        for z in (0.1, 1.0, 10.0, 100.0)
    ]
    assert values == pytest.approx([0, 100 / 3, 200 / 3, 100], abs=1e-3)


def test_codes_differ_for_two_centimetres_and_for_near_and_far_objects():
    z = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.02], [0.0, 0.0, 3.0]])
    code = encode(z, torch.ones(3, dtype=torch.bool), XYZ, 256)
    near, far = (code[0] - code[1]).norm(), (code[0] - code[2]).norm()
    assert 0.5 < near < far
    assert MIN_WAVELENGTH_M > 0.04  # otherwise 2 cm could give the same phase


def test_frequencies_are_float32_for_every_type_of_coordinates():
    coordinates = torch.rand(5, 3)
    valid = torch.ones(5, dtype=torch.bool)
    exact = encode(coordinates.bfloat16().float(), valid, XYZ, 96)
    torch.testing.assert_close(encode(coordinates.bfloat16(), valid, XYZ, 96), exact)


@pytest.mark.parametrize("field", ["kind", "alignment", "orientation"])
def test_an_unknown_setting_is_refused_by_name(field):
    with pytest.raises(CheckpointError, match=field):
        EncodingSettings.from_mapping({field: "sideways"})


def test_an_unknown_key_in_a_config_is_refused():
    with pytest.raises(CheckpointError, match="colour"):
        EncodingSettings.from_mapping({"colour": 1})


@pytest.mark.skipif(not RECORDED.exists(), reason="../shared/parity with the recordings is absent")
@pytest.mark.parametrize("case", ["landscape", "portrait"])
def test_recorded_grids_and_code_of_the_official_release_are_reproduced(case):
    recorded = np.load(RECORDED / f"case_{case}.npz")
    depth = np.where(recorded["gt_depth_m"] > 0, recorded["gt_depth_m"], np.nan)
    sensor = pool_square(depth.astype(np.float32), None, PARITY, 24)
    estimate = pool_square(recorded["inverse_depth"], None, PARITY, 24, "estimated_relative")
    for grid, theirs in ((sensor, recorded["gt_grid"]), (estimate, recorded["est_grid"])):
        assert grid.valid.all()  # as released: a cell without a reading counts as 0 metres
        np.testing.assert_allclose(grid.coordinates.reshape(-1), theirs.reshape(-1), atol=1e-4)
    code = encode(torch.from_numpy(estimate.coordinates), torch.ones(576), PARITY, 64)
    np.testing.assert_allclose(code.numpy(), recorded["dpe"].reshape(576, -1), atol=1e-4)


NEARER_TO_THE_RIGHT = np.tile(np.linspace(2, 1, 48, dtype=np.float32), (48, 1))


@pytest.mark.parametrize("alignment", ["padded", "reference"])
@pytest.mark.parametrize(
    ("orientation", "grows_towards_the_camera"),
    [("inverse", (True, True)), ("direct", (False, False)), ("source", (True, False))],
)
def test_orientation_sets_the_direction_in_which_the_relative_code_grows(
    alignment, orientation, grows_towards_the_camera
):
    settings = EncodingSettings("relative", alignment, orientation)
    estimate = pool_square(1 / NEARER_TO_THE_RIGHT, None, settings, 6, "estimated_relative")
    sensor = pool_square(NEARER_TO_THE_RIGHT, None, settings, 6)
    grows = tuple(
        bool((np.diff(grid.coordinates.reshape(6, 6), axis=1) > 0).all())
        for grid in (estimate, sensor)
    )
    assert grows == grows_towards_the_camera
    for grid in (estimate, sensor):
        assert grid.coordinates.min() == 0
        assert grid.coordinates.max() == pytest.approx(100, abs=1e-3)


@pytest.mark.parametrize("kind", ["metric", "xyz"])
def test_a_relative_estimate_is_refused_where_metres_are_needed(kind):
    with pytest.raises(DepthError, match="needs metres"):
        pool_square(NEARER_TO_THE_RIGHT, None, EncodingSettings(kind), 6, "estimated_relative")


def test_zero_of_a_relative_estimate_is_the_farthest_not_a_missing_reading():
    estimate = 1 / NEARER_TO_THE_RIGHT - 0.5
    grid = pool_square(
        estimate.astype(np.float32), None, EncodingSettings(), 6, "estimated_relative"
    )
    assert grid.valid.all()
