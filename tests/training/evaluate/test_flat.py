"""A benchmark as a table of questions: what is read back is what was written."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from training.data.tables import read_rows
from training.evaluate.flat import frame_of, item_of, write_flat
from training.evaluate.items import Benchmark, Item, Picture
from training.evaluate.judges import judged

INTRINSICS = CameraIntrinsics(60.0, 61.0, 40.0, 30.0, 80, 60)
ITEMS = (
    Item("0/0", "scale_estimation", "ratio", "How wide is the desk?", "1.2 m", 1.2,
         (Asked(Quantity.WIDTH, ("desk",)),)),
    Item("0/1", "grounding", "position", "Where is the desk?", "(0.5,0.25)", (0.5, 0.25)),
    Item("0/2", "existence", "mark", "How wide is the pipe?", "There is no pipe.", "absent"),
    Item("0/3", "count", "ratio", "How many?", "several", None),
)  # fmt: skip


def frame(shift=0, depth=True):
    rgb = np.random.default_rng(shift).integers(0, 255, (60, 80, 3), np.uint8)
    metres = np.tile(np.arange(80, dtype=np.float32) * 0.05 + shift, (60, 1)).round(3)
    metres[:, 0] = np.nan
    return RgbdFrame(
        rgb, metres.astype(np.float32) if depth else None, INTRINSICS if depth else None
    )


def benchmark(*pictures):
    return Benchmark("folder", ("count", "grounding"), 8, lambda: iter(pictures), len(pictures))


def test_items_and_frames_are_read_back_as_they_were_written(tmp_path):
    pictures = [Picture(0, frame(), ITEMS), Picture(1, frame(1, depth=False), ITEMS[:1])]
    assert write_flat(benchmark(*pictures), tmp_path / "a.parquet") == 5
    rows = list(read_rows(tmp_path / "a.parquet"))
    assert [item_of(row) for row in rows] == [*ITEMS, ITEMS[0]]
    for row, picture in zip(rows, [pictures[0]] * 4 + [pictures[1]], strict=True):
        back = frame_of(row)
        assert (back.rgb == picture.frame.rgb).all()
        assert back.intrinsics == picture.frame.intrinsics
        if picture.frame.depth is None:
            assert back.depth is None
        else:
            np.testing.assert_allclose(back.depth, picture.frame.depth, atol=1e-6)
    assert {(row["frame"], row["number"]) for row in rows} == {("0", 0), ("1", 1)}
    assert json.loads(rows[0]["types"]) == ["count", "grounding"]
    assert judged(item_of(rows[0]), "The desk is 1.25 m wide.").correct


def test_depth_beyond_sixteen_bits_is_no_reading(tmp_path):
    far = frame()
    far.depth[0, 5], far.depth[0, 6] = 70.0, 65.5
    write_flat(benchmark(Picture(0, far, ITEMS)), tmp_path / "a.parquet")
    back = frame_of(next(read_rows(tmp_path / "a.parquet")))
    assert np.isnan(back.depth[0, 5])
    assert back.depth[0, 6] == pytest.approx(65.5)


def test_a_limit_counts_pictures(tmp_path):
    pictures = [Picture(n, frame(n), ITEMS) for n in range(3)]
    assert write_flat(benchmark(*pictures), tmp_path / "a.parquet", limit=2) == 8
    assert pq.read_metadata(tmp_path / "a.parquet").num_rows == 8
