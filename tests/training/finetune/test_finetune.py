"""Fine-tuning: the same losses on one process or several, interrupted or not; and its adapter."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState

pytest.importorskip("training.simulate.renderer", reason="no headless OpenGL here")

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import DepthError
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.depth_encoding import EncodingSettings
from sdvlm_core.model.generation_options import GenerationOptions
from sdvlm_core.model.own_settings import encoding_settings
from tests.paths import ROOT
from tests.tiny_backbones import write_tiny_backbone
from tests.tiny_checkpoint import write_tiny_checkpoint
from training.build.run import build
from training.data.conversations import load as read
from training.finetune import prepare as preparation
from training.finetune.config import SHARDING, Config, read_config
from training.finetune.prepare import Preparation, prepare
from training.finetune.samples import INDEX, Samples
from training.finetune.trainer import train
from training.loop.checkpoints import latest
from training.merge import merge
from training.simulate.frames import read_frames, rgbd_frame
from training.simulate.render import render_frames

ACCELERATE = ROOT / "training" / "configs" / "accelerate"
STEPS = 12


def _run(*words: object, **more) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **more,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(autouse=True)
def _new_process() -> None:
    """accelerate keeps its settings for a process; each run here starts without any."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    render_frames(folder, 24, seed=4, width=96)
    return folder


@pytest.fixture(scope="module")
def data(frames, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data")
    build(out, simulated=frames, style="metric", per_type=1, test_share=0, workers=1)
    return out


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("base"), "xyz")


@pytest.fixture
def config(base, data, tmp_path):
    """A configuration file in a folder of its own; values may be changed."""

    def write(**values) -> Path:
        stored = {
            "model": str(base),
            "data": str(data),
            "out": str(tmp_path / "out"),
            "lora_rank": 4,
            "lora_alpha": 8,
            "lora_dropout": 0.0,
            "lora_rate": 2e-2,
            "projector_rate": 2e-3,
            "batch": 5,
            "micro_batch": 2,
            "epochs": 9,
            "steps": STEPS,
            "max_length": 1500,
            "dtype": "float32",
            "gradient_checkpointing": False,
            "save_every": 6,
        }
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(stored | values))
        return file

    return write


def _losses(out: Path) -> list[float]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


@pytest.fixture(scope="module")
def alone(base, data, tmp_path_factory) -> dict[float, Path]:
    """Finished runs of one process, by dropout."""
    folder = tmp_path_factory.mktemp("alone")
    found = {}
    for dropout in (0.0, 0.3):
        values = Config(
            model=str(base), data=str(data), out=str(folder / str(dropout)), lora_rank=4,
            lora_alpha=8, lora_dropout=dropout, lora_rate=2e-2, projector_rate=2e-3, batch=5,
            micro_batch=2, epochs=9, steps=STEPS, max_length=1500, dtype="float32",
            gradient_checkpointing=False, save_every=6,
        )  # fmt: skip
        train(values)
        found[dropout] = folder / str(dropout)
    return found


def test_the_loss_falls(alone):
    losses = _losses(alone[0.0])
    assert len(losses) == STEPS
    assert np.mean(losses[-3:]) < losses[0] - 0.2


def test_two_processes_reach_the_losses_of_one_with_every_sharding(alone, config, tmp_path):
    """One launch for the three: starting two processes takes longer than their steps."""
    _run(
        "accelerate.commands.launch", "--config_file", ACCELERATE / "two_cpu_processes.yaml",
        "--main_process_port", 29500 + os.getpid() % 400,
        "--module", "tests.training.finetune.finetune_process", config(),
    )  # fmt: skip
    theirs = load(str(alone[0.0] / "adapter"), "cpu").model
    for sharding in SHARDING:
        out = tmp_path / "out" / sharding
        np.testing.assert_allclose(_losses(out), _losses(alone[0.0]), atol=1e-3, err_msg=sharding)
        # And the trained weights are the same, unsharded.
        ours = load(str(out / "adapter"), "cpu").model
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=0, msg=name)


def test_a_killed_and_resumed_run_gives_the_same_losses(alone, config, tmp_path):
    """With dropout, so that the random state must be restored too."""
    file = config(lora_dropout=0.3)
    words = [sys.executable, "-m", "training.finetune", str(file)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, cwd=ROOT, start_new_session=True, **quiet)
    until = time.monotonic() + 120
    while not list((tmp_path / "out").glob("state-*")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    begun = len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines())
    assert begun < STEPS, "it was not interrupted"
    train(read_config(file))
    np.testing.assert_allclose(_losses(tmp_path / "out"), _losses(alone[0.3]), atol=1e-6)


def test_the_adapter_and_the_merged_model_give_the_same_answers(alone, frames, tmp_path):
    adapter = alone[0.0] / "adapter"
    merge(adapter, tmp_path / "whole")
    frame = rgbd_frame(next(iter(read_frames(frames))))
    logits, said = [], []
    for name in (adapter, tmp_path / "whole"):
        checkpoint = load(str(name), dtype="float32")
        assert encoding_settings(checkpoint.model.config).kind == "xyz"
        session = SpatialEngine(checkpoint).open(frame)
        said.append(session.ask("How tall is it?", GenerationOptions(max_new_tokens=4)).text)
        logits.append(session.next_token_logits("How tall is it?"))
    torch.testing.assert_close(*logits, atol=1e-4, rtol=0)
    assert said[0] == said[1] != ""


def test_only_adapters_and_projector_have_learnt(alone, base):
    whole = load(str(alone[0.0] / "adapter")).model
    before = dict(load(str(base)).model.named_parameters())
    changed = {
        name for name, value in whole.named_parameters() if not torch.equal(value, before[name])
    }
    assert changed
    for name in changed:
        assert "multi_modal_projector" in name or ("language_model" in name and "_proj" in name)


def test_the_recipe_of_the_paper_runs_with_its_shape_shrunk(base, data, tmp_path):
    recipe = read_config(ROOT / "training" / "configs" / "msmu_lora_7b.yaml")
    small = vars(recipe) | {"model": str(base), "data": str(data), "out": str(tmp_path), "batch": 8}
    # With the sensor's depth: test_published_setting.py has an estimator.
    small |= {"depth": "sensor", "estimator": ""}
    train(Config(**small | {"micro_batch": 4, "steps": 2, "lora_rank": 8}))
    assert all(np.isfinite(_losses(tmp_path)))
    model = load(str(tmp_path / "adapter")).model
    assert encoding_settings(model.config).to_mapping()["alignment"] == "reference"


@pytest.mark.parametrize(
    ("model_type", "values"),
    [
        ("qwen3_vl", {"preprocessor": {"max_pixels": 4096}, "without_depth": 0.3}),
        ("paligemma", {"turns": "single"}),
        ("gemma3", {"lora_rank": 0, "lora_rate": 1e-3}),  # its input and output words are tied
        ("internvl", {"lora_rank": 0, "lora_rate": 1e-3}),
    ],
)
def test_other_families_train_from_data_to_a_result_that_answers(
    config, frames, tmp_path, model_type, values
):
    base = write_tiny_backbone(tmp_path / "base", model_type)
    file = config(model=str(base), steps=3, save_every=2, **values)
    train(read_config(file))
    whole = _losses(tmp_path / "out")
    assert all(np.isfinite(whole))
    shutil.rmtree(latest(tmp_path / "out"))
    result = train(read_config(file))
    np.testing.assert_allclose(_losses(tmp_path / "out"), whole, atol=1e-6)
    checkpoint = load(str(result), "cpu")
    assert checkpoint.preprocessor.get("max_pixels") == values.get("preprocessor", {}).get(
        "max_pixels"
    )
    frame = rgbd_frame(next(iter(read_frames(frames))))
    session = SpatialEngine(checkpoint).open(frame)
    assert session.next_token_logits("How tall is it?").isfinite().any()


def test_a_non_finite_loss_stops_with_the_batch_kept(config, tmp_path, monkeypatch):
    from training.finetune import trainee

    forward = trainee.Trainee.forward
    calls = []

    def broken(self, batch):
        calls.append(1)
        return forward(self, batch) * (float("nan") if len(calls) == 7 else 1.0)

    monkeypatch.setattr(trainee.Trainee, "forward", broken)
    with pytest.raises(
        FloatingPointError, match=r"non-finite loss .* in step 3; its batch .*broken-batch-0"
    ):
        train(read_config(config()))
    assert (tmp_path / "out" / "broken-batch-0.safetensors").exists()


def test_a_non_finite_gradient_stops_before_the_weights_change(config, tmp_path, monkeypatch):
    """The loss is finite, its gradient is not."""
    from training.finetune import trainee

    forward = trainee.Trainee.forward
    calls = []

    def broken(self, batch):
        calls.append(1)
        weight = next(p for p in self.parameters() if p.requires_grad)
        steep = (weight * 0).sum().sqrt()  # 0, with the slope 0 * infinity
        return forward(self, batch) + (steep if len(calls) == 7 else 0)

    monkeypatch.setattr(trainee.Trainee, "forward", broken)
    with pytest.raises(FloatingPointError, match=r"non-finite gradient \(nan\).*broken-batch-0"):
        train(read_config(config(save_every=1)))
    assert (tmp_path / "out" / "broken-batch-0.safetensors").exists()
    # Three passes a step: the third step was not taken.
    assert latest(tmp_path / "out").name == "state-00000002"
    assert all(np.isfinite(_losses(tmp_path / "out")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0 and is 1. Restore"),
        ({"batch": 4, "steps": 3}, "batch was 5 and is 4; steps was 2 and is 3"),
        ({"max_length": 1400}, "max_length was 1500 and is 1400; samples was"),
    ],
)
def test_a_run_does_not_resume_with_another_recipe(config, change, message):
    train(read_config(config(steps=2)))
    with pytest.raises(ValueError, match=message):
        train(read_config(config(**{"steps": 2} | change)))
    train(read_config(config(steps=2, micro_batch=5, gradient_checkpointing=True, save_every=1)))


def test_tensorboard_gets_the_losses(alone):
    pytest.importorskip("tensorboard", reason="tensorboard is absent (train.txt)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(alone[0.0] / "tensorboard"))
    events.Reload()
    logged = [(event.step, event.value) for event in events.Scalars("loss")]
    assert [step for step, _ in logged] == list(range(1, STEPS + 1))
    np.testing.assert_allclose([loss for _, loss in logged], _losses(alone[0.0]), rtol=1e-6)


def test_without_tensorboard_a_warning_is_printed(config, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(read_config(config(steps=1)))
    assert capfd.readouterr().err.count("no metrics for TensorBoard") == 1
    assert len(_losses(tmp_path / "out")) == 1


@pytest.fixture
def colour_only(data, tmp_path) -> Path:
    """The data without depth, as the released MSMU is."""
    import pyarrow.parquet as pq

    table = pq.read_table(next(data.glob("*.parquet")))
    file = tmp_path / "train.parquet"
    pq.write_table(table.select(["image", "conversations"]), file)
    return file


@pytest.fixture
def estimated(monkeypatch) -> list[int]:
    """The numbers of the pictures whose depth was estimated."""
    from dataclasses import replace

    from sdvlm_core.model import depth_estimation

    asked: list[int] = []

    def depth_of(frame, estimator):
        assert len(asked) != getattr(estimator, "dies_at", None), "killed"
        asked.append(len(asked))
        depth = frame.rgb[..., 0] / np.float32(64)
        if int(frame.rgb[0, 0, 0]) == estimator.blank:
            depth = np.full_like(depth, np.nan)
        return replace(frame, depth=depth, depth_source=estimator.source)

    monkeypatch.setattr(depth_estimation, "with_estimated_depth", depth_of)
    return asked


def test_data_without_depth_is_refused_unless_an_estimator_is_named(config, colour_only):
    with pytest.raises(DepthError, match="key `estimator`"):
        train(read_config(config(data=str(colour_only))))


@pytest.mark.parametrize("turns", ["packed", "single"])
def test_an_interrupted_preparation_resumes_after_the_last_complete_file(
    base, colour_only, tmp_path, estimated, monkeypatch, turns
):
    """And gives the files and counts of an uninterrupted one."""
    monkeypatch.setattr(preparation, "_PIECE_IMAGES", 5)
    checkpoint = load(str(base))
    pictures = list(read(colour_only))
    how = Preparation(
        str(base), EncodingSettings("relative", orientation="source"), "it", turns, 400, "train"
    )
    estimator = SimpleNamespace(source="estimated_relative", blank=int(pictures[2].rgb[0, 0, 0]))
    whole = prepare(colour_only, tmp_path / "whole", how, checkpoint, estimator)
    assert len(estimated) == len(pictures)
    assert json.loads((whole / INDEX).read_text())["pictures_left_out"] >= 1
    estimated.clear()
    estimator.dies_at = 13
    with pytest.raises(AssertionError, match="killed"):
        prepare(colour_only, tmp_path / "again", how, checkpoint, estimator)
    estimated.clear()
    del estimator.dies_at
    again = prepare(colour_only, tmp_path / "again", how, checkpoint, estimator)
    assert len(estimated) == len(pictures) - 10, "two files of five pictures were whole"
    theirs = sorted((tmp_path / "whole").glob("*/*.arrow"))
    assert len(theirs) == -(-len(pictures) // 5)
    for file in [whole / INDEX, *theirs]:
        same = tmp_path / "again" / file.relative_to(tmp_path / "whole")
        assert same.read_bytes() == file.read_bytes()
    assert not [*(tmp_path / "again").rglob(".*")]
    ours, theirs = Samples(again), Samples(whole)
    assert len(ours) == len(theirs) == json.loads((whole / INDEX).read_text())["samples"]
    assert [len(ours[i].ids) for i in range(len(ours))] == theirs.lengths


@pytest.mark.parametrize("kind", ["metric", "xyz"])
def test_relative_depth_for_an_encoding_of_metres_is_refused_by_name(
    base, colour_only, tmp_path, estimated, kind
):
    how = Preparation(str(base), EncodingSettings(kind), "anything-v2", "packed", 1500, "train")
    estimator = SimpleNamespace(source="estimated_relative")
    with pytest.raises(DepthError, match=f"{kind} encoding needs metres.*anything-v2"):
        prepare(colour_only, tmp_path / "out", how, load(str(base)), estimator)
    assert not estimated
