"""RGB-D frames in real formats with known answers: lengths stay correct in metres.

The repository contains two generated frames (tests/fixtures). Real frames are read from
../shared/realdata if it exists. They are never copied here, because their licences differ.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdvlm_core.frame import point_at
from sdvlm_core.model.depth_encoding import EncodingSettings
from sdvlm_core.model.image_tokens import SquareCanvas
from tests.fixtures.frames import FRAMES, read, write
from tests.paths import SHARED
from tests.square_pooling import pool_square

REAL = tuple(sorted(path.parent for path in (SHARED / "realdata").glob("*/questions.json")))
needs_real = pytest.mark.skipif(not REAL, reason="../shared/realdata is absent")
CELLS = 12


def test_the_generated_frames_are_what_their_generator_writes(tmp_path: Path) -> None:
    write(tmp_path)
    for folder in FRAMES:
        (kept, known), (frame, truth) = read(folder), read(tmp_path / folder.name)
        np.testing.assert_array_equal(kept.rgb, frame.rgb)
        np.testing.assert_array_equal(kept.depth, frame.depth)
        assert (kept.intrinsics, known) == (frame.intrinsics, truth)


@pytest.mark.parametrize("folder", [*FRAMES, *REAL], ids=lambda folder: folder.name)
def test_a_frame_reads_and_its_grid_lies_within_its_depth(folder: Path) -> None:
    frame, _ = read(folder)
    grid = pool_square(frame.depth, frame.intrinsics, EncodingSettings(kind="xyz"), CELLS)
    z = grid.coordinates[grid.valid, 2]
    assert grid.valid.mean() > 0.2
    assert np.nanmin(frame.depth) <= z.min() <= z.max() <= np.nanmax(frame.depth)
    columns = np.arange(CELLS * CELLS) % CELLS
    x = grid.coordinates[:, 0] / np.where(grid.valid, grid.coordinates[:, 2], 1)
    left, right = (grid.valid & (columns == column) for column in (1, CELLS - 2))
    assert np.median(x[left]) < 0 < np.median(x[right])


@pytest.mark.parametrize(
    ("folders", "objects"),
    [
        pytest.param(FRAMES, 7, id="generated"),
        pytest.param(REAL, 10, id="real", marks=needs_real),
    ],
)
def test_the_point_under_an_object_lies_on_the_object(
    folders: tuple[Path, ...], objects: int
) -> None:
    off = []
    for folder in folders:
        frame, known = read(folder)
        for item in known["objects"]:
            if "center_cam_m" not in item or "cad_extents_mm" not in item:
                continue
            centre = np.array(item["center_cam_m"])
            point = point_at(frame, *frame.intrinsics.project(centre))
            if point is None:
                continue
            distance = float(np.linalg.norm(np.array([point.x, point.y, point.z]) - centre))
            # From the centre to the surface is at most half of the object's diagonal.
            off.append(distance - np.linalg.norm(item["cad_extents_mm"]) / 2000)
    assert len(off) >= objects
    assert np.mean(np.array(off) < 0.02) >= 0.9


@pytest.mark.parametrize(
    "folder",
    [*FRAMES, pytest.param(SHARED / "realdata" / "ycb_realsense_1", marks=needs_real)],
    ids=lambda folder: folder.name,
)
def test_a_cell_of_the_grid_is_the_mean_of_its_own_pixels(folder: Path) -> None:
    frame, _ = read(folder)
    grid = pool_square(frame.depth, frame.intrinsics, EncodingSettings(kind="xyz"), CELLS)
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
