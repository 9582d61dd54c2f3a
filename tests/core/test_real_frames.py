"""Real RGB-D frames with known answers: the frame path keeps their metres.

The frames are read from ../shared/realdata and never copied here (their licences differ).
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from sdvlm_core.frame import point_at, read_frame
from sdvlm_core.model.depth_encoding import EncodingSettings, pool
from sdvlm_core.model.image_tokens import SquareCanvas
from tests.paths import SHARED

REAL = SHARED / "realdata"
pytestmark = pytest.mark.skipif(not REAL.exists(), reason="../shared/realdata is absent")
FOLDERS = sorted(path.parent for path in REAL.glob("*/questions.json"))
CELLS = 12


def _read(folder):
    known = json.loads((folder / "questions.json").read_text())
    frame = read_frame(folder / known["rgb"], folder / known["depth"], folder / "intrinsics.json")
    return frame, known


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_real_frame_reads_and_its_grid_lies_within_its_depth(folder):
    frame, _ = _read(folder)
    grid = pool(frame.depth, frame.intrinsics, EncodingSettings(kind="xyz"), CELLS)
    z = grid.coordinates[grid.valid, 2]
    assert grid.valid.mean() > 0.2
    assert np.nanmin(frame.depth) <= z.min() <= z.max() <= np.nanmax(frame.depth)
    columns = np.arange(CELLS * CELLS) % CELLS
    x = grid.coordinates[:, 0] / np.where(grid.valid, grid.coordinates[:, 2], 1)
    left, right = (grid.valid & (columns == column) for column in (1, CELLS - 2))
    assert np.median(x[left]) < 0 < np.median(x[right])


def test_the_point_under_an_object_lies_on_the_object_that_was_fitted_there():
    off = []
    for folder in FOLDERS:
        frame, known = _read(folder)
        for item in known["objects"]:
            if "center_cam_m" not in item or "cad_extents_mm" not in item:
                continue
            x, y, z = item["center_cam_m"]
            k = frame.intrinsics
            point = point_at(frame, k.fx * x / z + k.cx, k.fy * y / z + k.cy)
            if point is None:
                continue
            distance = float(np.linalg.norm(np.array([point.x, point.y, point.z]) - (x, y, z)))
            # From the centre to the surface is at most half of the object's diagonal.
            off.append(distance - np.linalg.norm(item["cad_extents_mm"]) / 2000)
    assert len(off) >= 10
    assert np.mean(np.array(off) < 0.02) >= 0.9


def test_a_cell_of_the_grid_is_the_mean_of_its_own_pixels():
    folder = next(path for path in FOLDERS if path.name == "ycb_realsense_1")
    frame, _ = _read(folder)
    grid = pool(frame.depth, frame.intrinsics, EncodingSettings(kind="xyz"), CELLS)
    canvas = SquareCanvas(frame.width, frame.height)
    row, column = 7, 5
    rows, columns = np.indices(frame.depth.shape)
    inside = (
        (np.floor((rows + canvas.top + 0.5) * CELLS / canvas.side) == row)
        & (np.floor((columns + canvas.left + 0.5) * CELLS / canvas.side) == column)
        & np.isfinite(frame.depth)
    )
    points = frame.intrinsics.back_project(columns[inside], rows[inside], frame.depth[inside])
    np.testing.assert_allclose(
        grid.coordinates[row * CELLS + column], points.mean(axis=0), atol=1e-5
    )
