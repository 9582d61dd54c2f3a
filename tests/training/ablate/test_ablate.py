"""The ablation gives every row its own kind of depth, and asks as the engine asks."""

from __future__ import annotations

import json
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("training.simulate.renderer", reason="no headless OpenGL here")

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.language.question import Dialect
from sdvlm_core.model.checkpoint import load
from tests.paths import ROOT
from training.ablate import run as command
from training.ablate import training
from training.ablate.asking import applies, row_under_control
from training.ablate.config import read_config
from training.ablate.model import answer, prefix_of, untrained
from training.ablate.paired import METRIC, Marks, difference, score
from training.ablate.rows import ROWS, as_estimated, cells_in_words, in_words, inputs_of
from training.build.questions import TYPES
from training.evaluate import predict
from training.evaluate.benchmarks import questions_of
from training.nano import stage
from training.nano.tower import tower_features
from training.simulate.frames import read_frames, rgbd_frame
from training.simulate.render import render_frames

CONFIGS = [ROOT / "training" / "configs" / f"ablation_{name}.yaml" for name in ("cpu", "gpu")]


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    render_frames(folder, 4, seed=5, width=160)
    return folder


def test_questions_decoded_together_are_answered_as_the_engine_answers_them(frames):
    """nano is the row xyz, so both ways must give the same answers to the same words."""
    # In this dialect a question is put as it is, not in a template.
    checkpoint = replace(load("nano", "cpu", dtype="float32"), dialect=Dialect.MSMU)
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


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A configuration file of one step a training; values may be changed."""
    monkeypatch.setattr(command, "_pool", OneProcess)
    # Weights of a few steps never end an answer.
    monkeypatch.setattr(predict, "MAX_NEW_TOKENS", 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)

    def write(**values) -> Path:
        stored = yaml.safe_load(CONFIGS[0].read_text()) | {
            "data": str(tmp_path / "data"),
            "out": str(tmp_path / "out"),
            "train": {"scenes": 9, "seed": 1, "width": 96},
            "test": {"scenes": 2, "seed": 2, "width": 96},
            "base_steps": 1,
            "steps": 1,
            "variants": {
                "standard": {"rows": {"none": [0], "token": [0]}, "asked_under_controls": True}
            },
            "controls": ["constant"],
            "workers": os.cpu_count(),  # so that no training has batch processes of its own
        }
        file = tmp_path / "small.yaml"
        file.write_text(yaml.safe_dump(stored | values))
        return file

    return write


def test_a_small_ablation_writes_its_table_and_repeats_no_work(tmp_path, small, capsys):
    file = small()
    command.ablate(file, device="cpu")
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["variants"]["standard"]
    assert [(row["row"], sorted(row.get("controls", {}))) for row in rows] == [
        ("base", []),
        ("none", ["blind"]),
        ("token", ["constant"]),
    ]
    assert rows[2]["tokens"] == 2 * rows[1]["tokens"] == 288
    assert rows[1]["metric_minus_none"]["value"] == 0
    table = (tmp_path / "out" / "ablation.md").read_text()
    assert "| token | 1 |" in table
    assert (tmp_path / "out" / "ablation.png").stat().st_size > 1000
    # What a machine sends back: no file above 16 MB, and no state of a finished training.
    assert max(f.stat().st_size for f in (tmp_path / "out").rglob("*") if f.is_file()) < 16e6
    assert not list((tmp_path / "out").rglob("*.state"))
    weights = tmp_path / "out" / "standard" / "token-0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    command.ablate(file, device="cpu")
    assert weights.stat().st_mtime_ns == before


def test_all_kinds_of_rows_train_in_a_variant_with_answers_alone_and_features_as_they_are(
    tmp_path, small, monkeypatch
):
    seen = []
    train = training.train_language

    def spy(model, tokenizer, frames, see, recipe, *more):
        seen.append((dict(recipe.losses), model.config.depth_encoding["normalize_features"]))
        train(model, tokenizer, frames, see, recipe, *more)

    monkeypatch.setattr(training, "train_language", spy)
    rows = {"none": [0], "image": [0], "prompt": [0], "relative_estimated": [0]}
    plain = {"auxiliary": False, "normalize_features": False, "asked_under_controls": True}
    variants = {"plain": {"rows": rows} | plain}
    command.ablate(small(variants=variants, controls=["other_estimator"], blind=False), "cpu")
    assert seen == [({"answer": 1.0}, False)] * 5
    found = json.loads((tmp_path / "out" / "ablation.json").read_text())["variants"]["plain"]
    # Base and none have 144 tokens; a second picture as many again, a prompt 80 more.
    tokens = {"base": 144, "none": 144, "image": 288, "prompt": 224, "relative_estimated": 144}
    assert {row["row"]: row["tokens"] for row in found} == tokens
    controls = {row["row"]: [*row["controls"]] for row in found if row.get("controls")}
    assert controls == {"relative_estimated": ["other_estimator"]}


def test_a_part_that_is_out_of_time_is_resumed_and_the_last_part_reports(
    tmp_path, small, capsys, monkeypatch
):
    rows = {"none": [0, 1], "projected": [1]}
    file = small(variants={"standard": {"rows": rows}}, base_steps=3)
    begun = time.time()
    # The clock of the trainings passes the limit in the second step of the first base.
    clock = iter([begun, begun])
    monkeypatch.setattr(stage.time, "time", lambda: next(clock, begun + 3600))
    command.ablate(file, device="cpu", minutes=30, part="2/2")
    folder = tmp_path / "out" / "standard" / "base-1"
    assert "out of time" in capsys.readouterr().err
    assert (folder / "language.state").exists()
    monkeypatch.setattr(stage.time, "time", lambda: begun)
    command.ablate(file, device="cpu", part="2/2")
    assert "5 trainings" not in capsys.readouterr().err
    assert not (folder / "language.state").exists()
    assert not (tmp_path / "out" / "ablation.json").exists()
    command.ablate(file, device="cpu", part="1/2")
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["seeds"] for row in summary["variants"]["standard"]] == [[0, 1], [0, 1], [1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 3}, "unknown: stepz"),
        ({"variants": {"a": {"rows": {"none": [0], "magic": [0]}}}}, "no such rows"),
        ({"variants": {"a": {"rows": {"none": [0], "xyz": [1]}}}}, "which row none lacks"),
        ({"variants": {"a": {"row": {}}}}, "variant a: keys missing or unknown: row, rows"),
        ({"controls": ["upside_down"]}, "upside_down"),
    ],
)
def test_a_configuration_with_a_mistake_is_refused(tmp_path, change, message):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(CONFIGS[0].read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_config(file)


@pytest.mark.parametrize("file", CONFIGS)
def test_a_recipe_has_every_row_of_the_issue_with_three_seeds_and_500_frames(file):
    config = read_config(file)
    wanted = ("none", "image", "prompt", "token", "relative_estimated", "relative", "metric")
    wanted += ("xyz", "projected")
    assert all(len(config.variants["standard"].rows[row]) >= 3 for row in wanted)
    assert config.test["scenes"] == 500
    assert {(one.auxiliary, one.normalize_features) for one in config.variants.values()} == {
        (True, True),
        (False, True),
        (True, False),
    }


def test_each_word_of_the_prompt_shows_the_cells_of_its_distance():
    tokenizer = load("nano", "cpu").tokenizer
    metres = np.where(np.arange(16) == 5, np.nan, np.arange(16) * 0.7).astype(np.float32)
    text = in_words(metres)
    (encoded,) = tokenizer.backend_tokenizer.encode_batch([text], add_special_tokens=False)
    shows = cells_in_words(text, encoded.offsets, 100)
    # Every cell has a distance; every distance has its nine cells.
    assert shows.any(0).all()
    words = [tokenizer.decode([id]) for id in encoded.ids]
    last = len(words) - 1
    assert shows[last].reshape(12, 12)[9:, 9:].all()
    assert shows[last].sum() == 9
    assert not shows[len(words) :].any()
    heading = [at for at, (_, end) in enumerate(encoded.offsets) if end <= len("\ndepth")]
    assert heading
    assert not shows[heading].any()


@torch.inference_mode()
def test_a_learned_projection_starts_at_the_row_without_depth(frames):
    projected = untrained(ROWS["projected"], 0, True, torch.device("cpu"))
    none = untrained(ROWS["none"], 0, True, torch.device("cpu"))
    none.set_weights(projected.weights() | {})
    data = row_under_control(ROWS["projected"], frames, "own")
    projected.extra.set_data(data)
    at = np.array([0, 1])
    before = prefix_of(none.model, data, None, at)
    projected.set_weights(projected.weights())
    torch.testing.assert_close(prefix_of(projected.model, data, projected.extra, at), before)
    projected.extra.own.weight.fill_(0.1)
    assert not torch.equal(prefix_of(projected.model, data, projected.extra, at), before)


def test_another_estimator_is_another_error_of_the_same_depth():
    frame = _frame()
    fine, coarse = (as_estimated(frame.depth, kind) for kind in ("fine", "coarse"))
    assert np.corrcoef(fine.ravel(), coarse.ravel())[0, 1] > 0.8
    assert np.abs(np.log(coarse / fine)).mean() > 0.02
    np.testing.assert_array_equal(coarse, as_estimated(frame.depth, "coarse"))
    assert applies(ROWS["relative_estimated"], "other_estimator")
    assert not applies(ROWS["xyz"], "other_estimator")


def _marks(right: np.ndarray) -> Marks:
    """Marks (seeds, frames) of one question a frame, of a type of the metric score."""
    counts = np.zeros((2, *right.shape, len(TYPES)))
    counts[0, ..., TYPES.index(METRIC[0])] = right
    counts[1, ..., TYPES.index(METRIC[0])] = 1
    return Marks(*counts)


def test_a_difference_is_paired_by_frame():
    rng = np.random.default_rng(1)
    none = (rng.random((2, 500)) < 0.5).astype(float)
    better = none.copy()
    better[:, :20] = 1.0
    paired = difference(_marks(better), _marks(none), METRIC[:1])
    assert paired.value == pytest.approx(100 * (better - none).mean())
    # Only the few frames that differ make the interval: far less than the scores' own 4 points.
    assert paired.excludes_zero
    assert paired.high - paired.low < 3
    own = score(_marks(none), METRIC[:1])
    assert own.high - own.low > 4
    same = difference(_marks(none), _marks(none), METRIC[:1])
    assert (same.value, same.low, same.high) == (0, 0, 0)
