"""Every released form of MSMU is read; text in it is never evaluated."""

from __future__ import annotations

import base64
import json

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.conversations import load

_TURNS = [
    {"from": "human", "value": '<image>\nHow tall is the "old" lamp\'s shade?'},
    {"from": "gpt", "value": "The height is 0.2 m."},
]


def _jpeg() -> bytes:
    return bytes(cv2.imencode(".png", np.full((6, 8, 3), (10, 20, 30), np.uint8))[1])


def _released(form: str) -> dict:
    raw = np.full((6, 8, 3), (30, 20, 10), np.uint8).tobytes()
    return {
        "base64 file": {"image_base64": base64.b64encode(_jpeg()).decode(), "image_size": [8, 6],
                        "image_mode": "RGB", "conversations": _TURNS},
        "base64 pixels": {"image_base64": base64.b64encode(raw).decode(), "image_size": [8, 6],
                          "image_mode": "RGB", "conversations": _TURNS, "type": "height"},
        "python text": {"image": {"bytes": _jpeg(), "path": None}, "conversations": str(_TURNS)},
        "json text": {"image": {"bytes": _jpeg(), "path": None},
                      "conversations": json.dumps(_TURNS)},
        "columns": {"image": {"bytes": _jpeg(), "path": None}, "type": "height",
                    "conversations": {key: [turn[key] for turn in _TURNS] for key in _TURNS[0]}},
    }[form]  # fmt: skip


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize(
    "form", ["base64 file", "base64 pixels", "python text", "json text", "columns"]
)
def test_every_form_of_the_released_data_loads_the_same(tmp_path, form, suffix):
    table = pa.Table.from_pylist([_released(form)] * 3)
    file = tmp_path / "train" / f"data-00000-of-00001.{suffix}"
    file.parent.mkdir()
    if suffix == "parquet":
        pq.write_table(table, file)
    else:
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    samples = list(load(tmp_path, "train"))
    assert len(samples) == 3
    for sample in samples:
        assert sample.turns == (('How tall is the "old" lamp\'s shade?', "The height is 0.2 m."),)
        assert sample.rgb.shape == (6, 8, 3)
        assert sample.rgb[0, 0].tolist() == [30, 20, 10]
        assert sample.types in ((), ("height",))


def test_text_that_is_not_a_conversation_is_refused_and_never_evaluated(tmp_path):
    row = {"image": {"bytes": _jpeg(), "path": None}, "conversations": "__import__('os').getcwd()"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="row 0"):
        list(load(tmp_path))


@pytest.mark.parametrize("parent", ["msmu_train", "deeper/msmu_train"])
def test_the_name_of_a_folder_never_adds_test_data_to_the_training_split(tmp_path, parent):
    """Neither the name of the folder itself nor of one below it."""
    folder = tmp_path / parent
    for file, rows in (
        ("train-0.parquet", 3),
        ("test-0.parquet", 2),
        ("test/data.parquet", 2),
        ("val/data.parquet", 1),
    ):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([_released("python text")] * rows), folder / file)
    for path in (folder, tmp_path):
        assert len(list(load(path, "train"))) == 3
        assert len(list(load(path, "test"))) == 4
        assert len(list(load(path, "val"))) == 1
        assert len(list(load(path))) == 8
    with pytest.raises(ValueError, match=r"no .* files of split train \(use the split ''"):
        list(load(folder / "test", "train"))
    assert len(list(load(folder / "train-0.parquet", "train"))) == 3
