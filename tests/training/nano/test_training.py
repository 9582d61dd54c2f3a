"""nano's training: any number of frames, several processes, and no step lost when it is killed."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("training.simulate.renderer", reason="no headless OpenGL here")

from sdvlm_core.model.checkpoint import load as load_checkpoint
from tests.paths import ROOT
from training.nano import language, tower
from training.nano.batches import FEW, make_batch
from training.nano.frames import TrainingFrames, load
from training.nano.muon import orthogonalise
from training.nano.progress import Journal
from training.nano.vocabulary import word_id
from training.simulate.catalogue import CATEGORIES, COLOURS

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    command = [sys.executable, "-m", "training.simulate", "--scenes=80", "--seed=3"]
    command += ["--width=96", f"--out={folder}"]
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    return folder


def test_frames_are_read_from_disk_and_prepared_once(data):
    frames = load(data)
    assert len(frames) == 80
    assert isinstance(frames.picture, np.memmap)
    assert frames.graphs[0][0]["instance"] == 1
    assert len(frames.graphs[2:5]) == 3
    before = {path: path.stat().st_mtime_ns for path in (data / "prepared").iterdir()}
    assert len(load(data)) == 80
    assert before == {path: path.stat().st_mtime_ns for path in (data / "prepared").iterdir()}


def test_every_frame_comes_once_an_epoch_whatever_was_done_before():
    seen = np.concatenate([tower.chosen_frames(12, 4, step, 0) for step in (0, 1, 2)])
    assert sorted(seen.tolist()) == list(range(12))
    assert tower.chosen_frames(12, 4, 5, 0).tolist() == tower.chosen_frames(12, 4, 5, 0).tolist()
    assert tower.chosen_frames(12, 4, 0, 0).tolist() != tower.chosen_frames(12, 4, 3, 0).tolist()


def test_a_frame_whose_depth_is_not_shown_gets_no_code(data):
    frames, nano = load(data), load_checkpoint("nano", dtype="float32")
    words = {
        name: torch.tensor([word_id(nano.tokenizer, word) for word in known])
        for name, known in (("category", CATEGORIES), ("colour", COLOURS))
    }
    readout = language._Readout(256, None)
    losses = []
    for share in (0.0, 1.0):
        rng = np.random.default_rng(0)
        batch = make_batch(frames, np.arange(8), nano.tokenizer, rng, FEW, share)
        assert batch.shown.tolist() == [share == 0.0] * 8
        seen = torch.zeros(8, 144, 192)
        with torch.no_grad():
            losses.append(
                float(language._losses(nano.model, readout, batch, frames, seen, words)["answer"])
            )
    # The same questions: only the depth code is gone.
    assert losses[0] != losses[1]


def test_muon_makes_every_direction_of_an_update_count_the_same():
    torch.manual_seed(0)
    for shape in ((2, 64, 64), (2, 160, 64), (2, 64, 160)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        # All but those that were next to nothing.
        assert float(values.quantile(0.05)) > 0.6
        assert float(values.max()) < 1.3


class Cut(Exception):
    """The power is gone."""


def _train(frames: TrainingFrames, out: Path) -> dict[str, torch.Tensor]:
    out.mkdir(exist_ok=True)
    nano = load_checkpoint("nano", dtype="float32")
    model = nano.model.requires_grad_(True)
    tower.train_tower(model.model.vision_tower, frames, 10, out, rate=0.1)
    features = torch.zeros(len(frames), 144, 192)
    recipe = language.Recipe(10, 4, FEW, without_depth=0.5, rate=0.1)
    language.train_language(
        model, nano.tokenizer, frames, lambda chosen: features[chosen], recipe, out
    )
    return model.state_dict()


def test_a_training_that_is_cut_off_goes_on_as_if_nothing_had_happened(data, tmp_path, monkeypatch):
    frames = load(data)
    monkeypatch.setattr(tower, "SAVE_EVERY", 3)
    monkeypatch.setattr(language, "SAVE_EVERY", 3)
    whole = _train(frames, tmp_path / "whole")
    step, steps = Journal.step, itertools.count(1)

    def step_or_cut(journal: Journal, values: dict[str, torch.Tensor]) -> None:
        step(journal, values)
        # The 7th of the first stage; after its last four from the 6th on, the 7th of the second.
        if next(steps) in (7, 7 + 4 + 7):
            raise Cut

    monkeypatch.setattr(Journal, "step", step_or_cut)
    for _ in range(2):
        with pytest.raises(Cut):
            _train(frames, tmp_path / "cut")
    again = _train(frames, tmp_path / "cut")
    assert next(steps) == 7 + 4 + 7 + 4 + 1
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name


def test_two_processes_learn_one_model(data, tmp_path):
    """Each saw half of the frames: had they not shared what they learnt, they would differ."""
    load(data)  # prepared before two processes look for it
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [sys.executable, *run, Path(__file__).with_name("nano_process.py"), data, tmp_path],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
    )
    one, other = (load_file(tmp_path / f"{number}.safetensors") for number in (0, 1))
    before = load_checkpoint("nano", dtype="float32").model.state_dict()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert any(not torch.equal(value, before[name]) for name, value in one.items())


def test_the_command_makes_a_model_that_loads(data, tmp_path):
    command = [sys.executable, "-m", "training.nano", f"--data={data}", f"--out={tmp_path}"]
    command += ["--base=nano", "--rate=0.1", "--tower-steps=1", "--steps=1"]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=ENVIRONMENT)
    checkpoint = load_checkpoint(str(tmp_path / "model"))
    assert checkpoint.model.num_parameters() < 8_000_000
    assert checkpoint.model.config.depth_encoding["optional"]
    assert not checkpoint.model.config.calibration  # that of the old weights is gone
