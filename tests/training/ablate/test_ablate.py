"""The ablation gives every row its own kind of depth, and asks as the engine asks."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("training.simulate.renderer", reason="no headless OpenGL here")

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model.checkpoint import load
from tests.paths import ROOT
from training.ablate import run as command
from training.ablate.asking import row_under_control
from training.ablate.config import read_config
from training.ablate.model import answer, prefix_of
from training.ablate.rows import ROWS, as_estimated, in_words, inputs_of
from training.evaluate import predict
from training.evaluate.benchmarks import questions_of
from training.nano.tower import tower_features
from training.simulate.frames import read_frames, rgbd_frame
from training.simulate.render import render_frames

CONFIG = ROOT / "training" / "configs" / "ablation_nano.yaml"


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    render_frames(folder, 4, seed=5, width=160)
    return folder


def test_questions_decoded_together_are_answered_as_the_engine_answers_them(frames):
    """nano is the row xyz, so both ways must give the same answers."""
    checkpoint = load("nano", "cpu", dtype="float32")
    engine = SpatialEngine(checkpoint)
    tower = checkpoint.model.model.vision_tower
    from safetensors.torch import save_file

    from training.nano.frames import load as load_frames

    pictures = load_frames(frames).picture
    save_file({"features": tower_features(tower, pictures)}, frames / "colour.safetensors")
    data = row_under_control(ROWS["xyz"], frames, "own")
    same = asked = 0
    for at, frame in enumerate(read_frames(frames)):
        questions = [question.question for question in questions_of(frame)]
        session = engine.open(rgbd_frame(frame))
        prefix = prefix_of(checkpoint.model, data, None, np.array([at]))
        (texts,) = answer(checkpoint.model, checkpoint.tokenizer, prefix, [questions])
        asked += len(questions)
        same += sum(session.ask(q).text == text for q, text in zip(questions, texts, strict=True))
    # The tower's features are kept in half precision: a tie may fall the other way.
    assert same >= 0.95 * asked > 20


def _frame() -> RgbdFrame:
    depth = np.full((48, 64), 2.0, np.float32)
    depth[:, :32] = 1.0
    depth[10:20, 10:20] = np.nan
    rgb = np.zeros((48, 64, 3), np.uint8)
    return RgbdFrame(rgb, depth, CameraIntrinsics(60, 60, 31.5, 23.5, 64, 48))


def test_depth_as_an_estimator_gives_it_is_inverse_and_has_no_holes():
    near = as_estimated(_frame().depth)
    assert np.isfinite(near).all()
    assert near[15, 15] == pytest.approx(1.0, abs=0.01)  # in the hole: its neighbour's
    assert near[24, 60] == pytest.approx(0.5, abs=0.01)


def test_each_row_is_given_its_own_kind_of_depth():
    frame = _frame()
    assert not inputs_of(ROWS["none"], frame).valid.any()
    xyz, reference = (inputs_of(ROWS[name], frame) for name in ("xyz", "xyz_reference"))
    assert xyz.coordinates.shape == (144, 3)
    # Padding has no depth on the square; the un-padded grid is stretched over it.
    assert not xyz.valid.reshape(12, 12)[0].any()
    assert reference.valid.reshape(12, 12)[0].all()
    picture = inputs_of(ROWS["image"], frame).picture
    assert picture[96, 20].mean() > picture[96, 170].mean()  # near is bright
    words = in_words(inputs_of(ROWS["prompt"], frame).metres)
    assert words.startswith("\ndepth - - - -") or " 1.0" in words
    assert " 2.0" in words
    estimated, sensor = (
        inputs_of(ROWS[name], frame).coordinates.reshape(12, 12)
        for name in ("relative_estimated", "relative")
    )
    assert estimated[6, 1] > estimated[6, 10]  # grows towards the camera
    assert sensor[6, 1] < sensor[6, 10]


def test_a_frame_whose_depth_has_no_reading_gives_no_code():
    nothing = RgbdFrame(np.zeros((48, 64, 3), np.uint8), np.full((48, 64), np.nan, np.float32))
    for row in ROWS.values():
        assert not inputs_of(row, nothing).valid.any()


class OneProcess(ThreadPoolExecutor):
    """Rows run here, one after the other: starting processes takes longer than their steps."""

    def __init__(self, workers: int) -> None:
        super().__init__(1)

    def submit(self, task, *arguments):
        # What a process would receive.
        task, arguments = pickle.loads(pickle.dumps((task, arguments)))  # noqa: S301
        return super().submit(task, *arguments)


def test_a_small_ablation_writes_its_table_and_repeats_no_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_pool", OneProcess)
    # Weights of two steps never end an answer.
    monkeypatch.setattr(predict, "MAX_NEW_TOKENS", 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    recipe = yaml.safe_load(CONFIG.read_text()) | {
        "out": str(tmp_path / "out"),
        "train": {"scenes": 9, "seed": 1, "width": 96},
        "test": {"scenes": 2, "seed": 2, "width": 96},
        "base_steps": 1,
        "steps": 1,
        "rows": {"none": [0], "token": [0]},
        "controls": ["constant"],
    }
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(recipe))
    command.ablate(file)
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [(row["row"], sorted(row["shown"])) for row in rows] == [
        ("none", ["blind", "own"]),
        ("token", ["constant", "own"]),
    ]
    assert rows[1]["tokens"] == 2 * rows[0]["tokens"] == 288
    table = (tmp_path / "out" / "ablation.md").read_text()
    assert "| token | 0 |" in table
    assert (tmp_path / "out" / "ablation.png").stat().st_size > 1000
    weights = tmp_path / "out" / "token-0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    command.ablate(file)
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "message"),
    [({"stepz": 3}, "unknown: stepz"), ({"rows": {"magic": [0]}}, "no such rows")],
)
def test_a_configuration_with_a_mistake_is_refused(tmp_path, change, message):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(CONFIG.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_config(file)


def test_the_rows_of_the_recipe_exist():
    assert set(read_config(CONFIG).rows) == set(ROWS)
