"""nano's training: any number of frames, several processes, and no step lost when interrupted."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("training.simulate.renderer", reason="no headless OpenGL here")

from sdvlm_core.model.checkpoint import load as load_checkpoint
from tests.paths import ROOT
from training.loop.metrics import MetricsLogger
from training.nano import language, stage, tower
from training.nano import run as command
from training.nano.batches import WIDE, make_batch
from training.nano.config import NanoConfig, read_config
from training.nano.frames import TrainingFrames, load
from training.nano.losses import DepthPrefix, Readout, losses_of
from training.nano.muon import orthogonalise
from training.nano.stage import scheduled_frames
from training.nano.vocabulary import word_id
from training.simulate.catalogue import CATEGORIES, COLOURS
from training.simulate.frames import SHARD_SCENES
from training.simulate.render import render_frames

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


#: Two shards, which are prepared in two processes.
SCENES = SHARD_SCENES + 4


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    render_frames(folder, SCENES, seed=3, width=96)
    return folder


def test_frames_are_read_from_disk_and_prepared_once(data):
    frames = load(data)
    assert len(frames) == SCENES
    assert isinstance(frames.picture, np.memmap)
    assert frames.graphs[0][0]["instance"] == 1
    assert len(frames.graphs[2:5]) == 3
    before = {path: path.stat().st_mtime_ns for path in (data / "prepared").iterdir()}
    assert len(load(data)) == SCENES
    assert before == {path: path.stat().st_mtime_ns for path in (data / "prepared").iterdir()}


def test_every_frame_is_used_once_an_epoch_and_the_order_depends_on_the_step_only():
    seen = np.concatenate([scheduled_frames(12, 4, step, 0) for step in (0, 1, 2)])
    assert sorted(seen.tolist()) == list(range(12))
    assert scheduled_frames(12, 4, 5, 0).tolist() == scheduled_frames(12, 4, 5, 0).tolist()
    assert scheduled_frames(12, 4, 0, 0).tolist() != scheduled_frames(12, 4, 3, 0).tolist()


def test_a_frame_whose_depth_is_not_shown_gets_no_code(data):
    frames, nano = load(data), load_checkpoint("nano", "cpu", dtype="float32")
    words = {
        name: torch.tensor([word_id(nano.tokenizer, word) for word in known])
        for name, known in (("category", CATEGORIES), ("colour", COLOURS))
    }
    readout = Readout(256)
    losses = []
    for share in (0.0, 1.0):
        rng = np.random.default_rng(0)
        batch = make_batch(frames, np.arange(8), nano.tokenizer, rng, WIDE, share)
        assert batch.shown.tolist() == [share == 0.0] * 8
        seen = torch.zeros(8, 144, 192)
        with torch.no_grad():
            found = losses_of(nano.model, readout, batch, seen, words)
            losses.append(float(found.losses["answer"]))
    # The same questions: only the depth code is gone.
    assert losses[0] != losses[1]


@torch.no_grad()
def test_attention_to_every_token_that_shows_an_object_counts_alike(data):
    frames, nano = load(data), load_checkpoint("nano", "cpu", dtype="float32")
    words = {
        name: torch.tensor([word_id(nano.tokenizer, word) for word in known])
        for name, known in (("category", CATEGORIES), ("colour", COLOURS))
    }
    batch = make_batch(frames, np.arange(4), nano.tokenizer, np.random.default_rng(0), WIDE)
    seen = torch.randn(4, 144, 192, generator=torch.Generator().manual_seed(0))

    class Given(torch.nn.Module):
        def __init__(self, shows: torch.Tensor) -> None:
            super().__init__()
            self._shows = shows

        def forward(self, model, image, chosen):
            return DepthPrefix(image, self._shows.expand(len(chosen), -1, -1))

    def logged(extra: torch.nn.Module | None) -> dict[str, float]:
        found = losses_of(nano.model, Readout(256, extra), batch, seen, words)
        return {"look": float(found.losses["look"]), "mass": float(found.logged["mass"])}

    own = logged(None)
    assert logged(Given(torch.eye(144, dtype=torch.bool))) == pytest.approx(own)
    # Tokens that all show everything: whatever they get counts.
    everything = logged(Given(torch.ones(144, 144, dtype=torch.bool)))
    assert own["mass"] < everything["mass"] <= 1 + 1e-2


def test_a_larger_vocabulary_keeps_the_tokens_and_the_answers_of_the_model_before(
    data, monkeypatch
):
    frames, nano = load(data), load_checkpoint("nano", "cpu", dtype="float32")
    words = ["how many flamingoes and xylophones are there?"] * 1000  # that nano lacks
    monkeypatch.setattr(command, "corpus", lambda _: words)
    model, tokenizer = command._initial_model("nano", frames)
    new = len(tokenizer) - len(nano.tokenizer)
    assert new > 0
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert torch.equal(
        model.get_input_embeddings().weight[:-new], nano.model.get_input_embeddings().weight
    )
    for text in ("\nWhat is the height of the red mug?", "There is no red mug in the image."):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == nano.tokenizer.encode(text, add_special_tokens=False)
    for text in ("\nhow far is the camera?", "I cannot answer that.", "\nWie hoch ist 桌子"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == text


def test_muon_gives_all_directions_of_an_update_equal_scale():
    torch.manual_seed(0)
    for shape in ((2, 64, 64), (2, 160, 64), (2, 64, 160)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        # All but the smallest.
        assert float(values.quantile(0.05)) > 0.6
        assert float(values.max()) < 1.3


class Cut(Exception):
    """An interruption."""


def _train(frames: TrainingFrames, out: Path) -> dict[str, torch.Tensor]:
    out.mkdir(exist_ok=True)
    nano = load_checkpoint("nano", "cpu", dtype="float32")
    model = nano.model.requires_grad_(True)
    tower.train_tower(model.model.vision_tower, frames, 3, out, rate=0.1)
    features = torch.zeros(len(frames), 144, 192)
    recipe = language.Recipe(3, 2, WIDE, without_depth=0.5, rate=0.1)
    language.train_language(
        model, nano.tokenizer, frames, lambda chosen: features[chosen], recipe, out
    )
    return model.state_dict()


def test_an_interrupted_training_resumes_to_the_weights_of_an_uninterrupted_one(
    data, tmp_path, monkeypatch
):
    """Three steps a stage, a checkpoint after each."""
    frames = load(data)
    monkeypatch.setattr(stage, "SAVE_EVERY", 1)
    monkeypatch.setattr(tower, "BATCH", 4)
    whole = _train(frames, tmp_path / "whole")
    log, steps = MetricsLogger.log, []

    def log_or_cut(logger: MetricsLogger, step: int, entry: dict[str, float] | None) -> None:
        log(logger, step, entry)
        steps.append(step)
        # In step 2 of the tower; after its steps 2 and 3, in step 2 of the language model.
        if len(steps) in (2, 2 + 2 + 2):
            raise Cut

    monkeypatch.setattr(MetricsLogger, "log", log_or_cut)
    for _ in range(2):
        with pytest.raises(Cut):
            _train(frames, tmp_path / "cut")
    again = _train(frames, tmp_path / "cut")
    assert steps == [1, 2, 2, 3, 1, 2, 2, 3]
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name


def test_a_non_finite_loss_stops_the_training_before_the_weights_change(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(tower, "BATCH", 4)
    monkeypatch.setitem(tower._WEIGHTS, "box", float("nan"))
    vision = load_checkpoint("nano", "cpu", dtype="float32").model.model.vision_tower
    before = {name: value.clone() for name, value in vision.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"non-finite gradient norm .* step 1 of stage"):
        tower.train_tower(vision.requires_grad_(True), load(data), 2, tmp_path)
    assert not (tmp_path / "tower.state").exists()
    for name, value in vision.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_loss_that_is_not_finite_later_leaves_the_weights_of_the_step_before(tmp_path):
    """The host hears of it with the checkpoint of the last step; the device stopped in step 2."""
    weight, bias = torch.nn.Parameter(torch.ones(3, 3)), torch.nn.Parameter(torch.ones(3))
    states = []

    def losses(steps: range) -> Iterator[stage.StepLosses]:
        for step in steps:
            states.append((weight.detach().clone(), bias.detach().clone()))
            factor = float("inf") if step == 1 else 1.0
            loss = (weight.sum() + bias.square().sum()) * factor
            yield stage.StepLosses({"answer": loss}, {"mass": torch.tensor(float("nan"))})

    trained = stage.Stage("toy", {}, [weight], [bias], {"answer": 1.0})
    with pytest.raises(
        FloatingPointError, match=r"non-finite answer \(inf\) in step 2 of stage toy"
    ):
        stage.train_stage(trained, losses, 5, tmp_path)
    assert not torch.equal(states[1][0], states[0][0])
    for state in (*states[2:], (weight, bias)):
        assert torch.equal(state[0], states[1][0])
        assert torch.equal(state[1], states[1][1])
    assert not (tmp_path / "toy.state").exists()


def test_batches_of_worker_processes_are_those_of_this_process(data):
    """Frames reach a worker as the names of their files."""
    frames, nano = load(data), load_checkpoint("nano", "cpu")
    assert len(pickle.dumps(frames)) < 10_000
    batches = language.Batches(frames, nano.tokenizer, language.Recipe(9, 4), 0, 1)
    steps = range(2, 5)
    made = list(language.prepared(batches, steps, 1))
    for there, here in zip(made, language.prepared(batches, steps, 0), strict=True):
        assert there.frames.tolist() == here.frames.tolist()
        for name, value in vars(here).items():
            if name != "frames":
                torch.testing.assert_close(
                    getattr(there, name), value, rtol=0, atol=0, equal_nan=True
                )


def test_an_interrupted_training_ends_its_workers(data):
    frames, nano = load(data), load_checkpoint("nano", "cpu")
    batches = language.Batches(frames, nano.tokenizer, language.Recipe(10_000, 4), 0, 1)
    before = set(psutil.Process().children(recursive=True))
    made = language.prepared(batches, range(10_000), 1)
    next(made)
    started = set(psutil.Process().children(recursive=True)) - before
    # multiprocessing's own two helpers stay with this process.
    helpers = ("resource_tracker", "from multiprocessing.forkserver")
    workers = [p for p in started if not any(name in " ".join(p.cmdline()) for name in helpers)]
    with pytest.raises(KeyboardInterrupt):
        made.throw(KeyboardInterrupt)
    del made
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_two_processes_train_one_model(data, tmp_path):
    """Each process has half of the frames: without shared gradients their weights would differ."""
    load(data)  # prepared before two processes need it
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [sys.executable, *run, Path(__file__).with_name("nano_process.py"), data, tmp_path],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
    )
    one, other = (load_file(tmp_path / f"{number}.safetensors") for number in (0, 1))
    before = load_checkpoint("nano", "cpu", dtype="float32").model.state_dict()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert any(not torch.equal(value, before[name]) for name, value in one.items())


def test_the_command_writes_a_model_that_can_be_loaded(data, tmp_path, monkeypatch):
    monkeypatch.setattr(tower, "BATCH", 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    config = NanoConfig(data, tmp_path, "nano", tower_steps=1, steps=1, batch=4, rate=0.1)
    command.make_nano(config, "cpu", workers=0)
    checkpoint = load_checkpoint(str(tmp_path / "model"), "cpu")
    assert checkpoint.model.num_parameters() < 8_000_000
    assert checkpoint.model.config.depth_encoding["optional"]
    assert not checkpoint.model.config.calibration  # that of the old weights is removed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("data: [a", "unreadable"),
        ("- 1", "expected keys and values"),
        ("data: a\nout: b\nlearning: 3", "unknown keys .*learning"),
        ("data: a", "missing keys .*out"),
        ("data: a\nout: b\nsteps: many", "steps must be a whole number"),
        ("data: a\nout: b\nrate: 0", "rate must be a number above 0"),
    ],
)
def test_a_bad_configuration_is_refused_with_the_key(tmp_path, text, reason):
    (tmp_path / "nano.yaml").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_config(tmp_path / "nano.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "training" / "configs").glob("nano*.yaml")))
def test_a_released_configuration_is_read(file):
    config = read_config(file)
    assert config.base in ("", "nano") or (config.base.startswith("runs/nano") and config.rate < 1)
    assert config.tower_steps == 0
