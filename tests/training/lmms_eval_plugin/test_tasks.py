"""The tasks of lmms-eval without lmms-eval: their controls are those of `training.evaluate`."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import yaml

from tests.training.evaluate.test_flat import ITEMS, benchmark, frame
from training.data.tables import read_rows
from training.evaluate.controls import Controls, shown
from training.evaluate.flat import write_flat
from training.evaluate.items import Picture
from training.lmms_eval_plugin import functions
from training.lmms_eval_plugin.__main__ import write_tasks
from training.lmms_eval_plugin.functions import CONTROLS

FRAMES = [frame(shift) for shift in range(3)]


@pytest.fixture
def rows(tmp_path):
    pictures = [Picture(n, one, ITEMS) for n, one in enumerate(FRAMES)]
    write_flat(benchmark(*pictures), tmp_path / "a.parquet")
    return list(read_rows(tmp_path / "a.parquet"))


def with_next(rows):
    """As `functions.with_next`, of a list."""
    following = {row["frame"]: rows[(n + 1) % len(rows)] for n, row in enumerate(rows)}
    names = ("rgb", "depth", "depth_source", "intrinsics")
    return [row | {f"next_{k}": following[row["frame"]][k] for k in names} for row in rows]


@pytest.mark.parametrize("control", sorted(CONTROLS))
def test_a_control_shows_what_training_evaluate_shows(rows, control):
    for row in with_next(rows)[:: len(ITEMS)]:
        number = row["number"]
        other = FRAMES[(number + 1) % len(FRAMES)]
        wanted = shown(FRAMES[number], other, Controls.parse(*CONTROLS[control]), number)
        rgb, *depth = functions.images(row, {"control": control, "depth_as": "metres"})
        assert (np.asarray(rgb) == wanted.rgb).all()
        assert len(depth) == (wanted.depth is not None)
        for image in depth:
            assert image.mode == "F"
            np.testing.assert_allclose(np.asarray(image), wanted.depth, atol=1e-6)
        assert f'"fx": {wanted.intrinsics.fx}' in rgb.info["intrinsics"]


def test_models_of_colour_images_get_depth_as_asked_for_and_by_default_none(rows):
    row = rows[0]
    assert len(functions.images(row)) == 1
    assert functions.words(row) == ITEMS[0].question
    assert len(functions.images(row, {"depth_as": "picture"})) == 2
    assert "white is at most" in functions.words(row, {"depth_as": "picture"})
    assert len(functions.images(row, {"depth_as": "text"})) == 1
    table, other = (
        functions.words(row, {"depth_as": "text", "control": control})
        for control in ("own", "constant")
    )
    assert "Depth of the image in metres" in table
    assert other.count("1.00") == 48


def test_the_data_set_of_shuffled_tasks_has_the_next_picture(rows, tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    loaded = datasets.Dataset.from_parquet(
        str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache")
    )
    made = functions.with_next(loaded)
    assert [dict(row) for row in made] == with_next(rows)


def test_an_answer_gets_both_marks_and_the_mean_is_over_the_types_of_the_benchmark(rows):
    marks = [functions.marks(row, ["The desk is at (0.5, 0.3)."])["strict"] for row in rows[1:2]]
    assert marks[0]["correct"]
    assert functions.macro(marks) == 12.5  # one type of eight
    wrong = functions.marks(rows[0], ["There is no desk."])
    assert not wrong["strict"]["correct"]
    assert not wrong["official"]["correct"]


class _Loader(yaml.SafeLoader):
    """Reads `!function a.b.c` as the function."""


def _function(loader, node):
    module, _, name = loader.construct_scalar(node).rpartition(".")
    return getattr(importlib.import_module(module), name)


_Loader.add_constructor("!function", _function)


def test_every_task_names_existing_functions_and_the_table_beside_it(tmp_path):
    names = write_tasks(tmp_path, "msmu", "picture")
    assert len(names) == len(set(names)) == len(CONTROLS)
    for name in names:
        task = yaml.load((tmp_path / f"{name}.yaml").read_text(), _Loader)
        assert task["task"] == name
        assert task["dataset_kwargs"]["data_files"]["test"] == "msmu.parquet"
        control = task["lmms_eval_specific_kwargs"]["sdvlm"]["control"]
        assert control == (name.removeprefix("sdvlm_msmu_") if name != "sdvlm_msmu" else "own")
        assert task["lmms_eval_specific_kwargs"]["sdvlm"]["depth_as"] == "metres"
        assert task["lmms_eval_specific_kwargs"]["default"]["depth_as"] == "picture"
        assert ("process_docs" in task) == (control in functions.OF_NEXT)
        assert callable(task["doc_to_visual"])
