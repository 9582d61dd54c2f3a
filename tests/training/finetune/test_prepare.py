"""Preparation by several processes, of data that moves and grows, gives one right result."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.depth_encoding import EncodingSettings
from tests.paths import ROOT
from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.training.written_data import write_data
from training.data.conversations import load as read
from training.finetune import prepare as preparation
from training.finetune.prepare import Preparation, prepare
from training.finetune.samples import INDEX, Samples

IMAGES_PER_PIECE = 5


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("base"), "xyz")


@pytest.fixture(scope="module")
def checkpoint(base):
    return load(str(base))


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch) -> None:
    monkeypatch.setattr(preparation, "_PIECE_IMAGES", IMAGES_PER_PIECE)


def _how(base: Path, turns: str = "packed") -> Preparation:
    return Preparation(str(base), EncodingSettings("xyz"), "", turns, 1500, "train")


def _files(out: Path) -> dict[str, bytes]:
    """What was prepared, by name, without the cache of the data's content."""
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for file in out.rglob("*")
        if file.is_file() and file.parent.name != "content"
    }


def test_four_processes_racing_on_one_folder_give_the_files_of_one_even_after_a_kill(
    base, checkpoint, tmp_path
):
    data = write_data(tmp_path / "data", 60, width=160, height=120)
    prepare(data, tmp_path / "alone", _how(base), checkpoint, processes=1)
    out = tmp_path / "raced"
    command = [
        sys.executable, "-m", "tests.training.finetune.prepare_process",
        str(data), str(out), str(base), "4", str(IMAGES_PER_PIECE),
    ]  # fmt: skip
    killed = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(out.glob("pieces-*/*.arrow")):
        assert killed.poll() is None
        time.sleep(0.001)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not list(out.glob(f"samples-*/{INDEX}"))
    subprocess.run(command, cwd=ROOT, check=True, timeout=200)
    assert _files(out) == _files(tmp_path / "alone")


def test_worker_processes_make_the_same_files(base, checkpoint, tmp_path):
    data = write_data(tmp_path / "data", 11)
    prepare(data, tmp_path / "one", _how(base), checkpoint, processes=1)
    prepare(data, tmp_path / "two", _how(base), checkpoint, processes=2)
    assert _files(tmp_path / "two") == _files(tmp_path / "one")


def test_data_that_moved_is_the_same_data_and_a_new_file_adds_its_own_pieces_only(
    base, checkpoint, tmp_path
):
    data, out = write_data(tmp_path / "data", 11), tmp_path / "out"
    first = prepare(data, out, _how(base), checkpoint)
    moved = tmp_path / "elsewhere" / "train"
    shutil.copytree(data, moved)
    before = {path: path.stat().st_mtime_ns for path in out.glob("pieces-*/*")}
    assert prepare(moved, out, _how(base), checkpoint) == first
    write_data(moved, 11, files=1, start=50)
    larger = prepare(moved, out, _how(base), checkpoint)
    assert larger != first
    assert len(Samples(larger)) == 33
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len([*out.glob("pieces-*/*")]) == len(before) + 3


def test_data_of_the_same_names_and_sizes_with_another_content_is_other_data(
    base, checkpoint, tmp_path
):
    data, out = write_data(tmp_path / "data", 3, files=1), tmp_path / "out"
    first = _how(base).digest(data, out)
    file = next(data.iterdir())
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    assert _how(base).digest(data, out) != first


def test_data_in_a_store_is_prepared_as_the_same_local_data(base, checkpoint, tmp_path):
    data = write_data(tmp_path / "data", 11)
    store = fsspec.filesystem("memory")
    store.put(str(data), "/prepared/msmu", recursive=True)
    prepare(data, tmp_path / "local", _how(base), checkpoint)
    prepare("memory://prepared/msmu", tmp_path / "stored", _how(base), checkpoint)
    prepare(f"file://{data}", tmp_path / "file", _how(base), checkpoint)
    assert _files(tmp_path / "stored") == _files(tmp_path / "local") == _files(tmp_path / "file")


def test_single_turns_share_the_image_and_its_depth(base, checkpoint, tmp_path):
    data = write_data(tmp_path / "data", 4, files=1, turns=20)
    packed = prepare(data, tmp_path / "packed", _how(base), checkpoint)
    single = prepare(data, tmp_path / "single", _how(base, "single"), checkpoint)
    assert len(Samples(single)) == 80
    (file,) = (tmp_path / "single").glob("pieces-*/*.arrow")
    with pa.memory_map(str(file)) as source:
        stored = pa.ipc.open_file(source).read_all().to_pylist()
    pictures = [row["picture"] for row in stored if row["picture"]]
    # The data's own files: nothing was encoded again.
    assert pictures == [sample.encoded for sample in read(data)]
    assert sum(bool(row["coordinates"]) for row in stored) == 4
    for turn in range(80):
        np.testing.assert_array_equal(Samples(single)[turn].rgb, Samples(packed)[turn // 20].rgb)
        np.testing.assert_array_equal(
            Samples(single)[turn].coordinates, Samples(packed)[turn // 20].coordinates
        )


def test_a_picture_of_raw_pixels_is_stored_without_loss(base, checkpoint, tmp_path):
    import base64

    rgb = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    turns = [{"from": "human", "value": "How tall?"}, {"from": "gpt", "value": "1 m."}]
    row = {"image_base64": base64.b64encode(rgb.tobytes()).decode(), "image_size": [32, 24],
           "image_mode": "RGB", "conversations": turns}  # fmt: skip
    table = pa.Table.from_pylist([row])
    pa.parquet.write_table(table, tmp_path / "train.parquet")
    how = Preparation(str(base), EncodingSettings("none"), "", "packed", 1500, "train")
    folder = prepare(tmp_path / "train.parquet", tmp_path / "out", how, checkpoint)
    np.testing.assert_array_equal(Samples(folder)[0].rgb, rgb)


def test_a_damaged_image_is_refused_with_its_file_and_row(base, checkpoint, tmp_path):
    data = write_data(tmp_path / "data", 9, files=1)
    table = pa.parquet.read_table(next(data.iterdir()))
    rows = table.to_pylist()
    rows[7]["image"]["bytes"] = rows[7]["image"]["bytes"][:50]
    pa.parquet.write_table(pa.Table.from_pylist(rows, table.schema), data / "train-00000.parquet")
    with pytest.raises(ValueError, match=r"train-00000.parquet, row 7: .*does not decode"):
        prepare(data, tmp_path / "out", _how(base), checkpoint)
