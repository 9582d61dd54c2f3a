"""The published setting trains on our own builds: estimated depth, and chains of thought."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.state import AcceleratorState

from sdvlm_core.frame import CameraIntrinsics
from sdvlm_core.model import depth_estimation
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.convert import convert_depth_anything
from sdvlm_core.model.depth_encoding import EncodingSettings
from tests.paths import ROOT
from tests.released_checkpoint import depth_anything_shapes, random_weights
from tests.tiny_checkpoint import write_tiny_checkpoint
from training.data.schemas import CONVERSATIONS
from training.finetune.config import Config, read_config
from training.finetune.prepare import Preparation, prepare
from training.finetune.samples import IGNORED, INDEX, Samples
from training.finetune.trainer import train

QUESTION = "The width of the desk is 1.07 m, can you measure the width of the chair?"
SHORT = "Since the width of the desk is 1.07 m, i think the width of the chair is 0.53 m."
THOUGHT = "The desk is 107.0 cm wide. Thus, the estimated width of the chair is around 53.5 cm."
OTHER = ("How many chairs are there in the image?", "2.")
PICTURES = 10
RECIPE = ROOT / "training" / "configs" / "msmu_lora_7b.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of training.build: every image has sensor depth and one accepted thought."""
    intrinsics = CameraIntrinsics(30.0, 30.0, 15.5, 11.5, 32, 24)
    rows = []
    for seed in range(PICTURES):
        rgb = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        depth = np.tile(np.arange(1000, 1000 + 32, dtype=np.uint16), (24, 1))
        turns = []
        for question, answer in (OTHER, (QUESTION, SHORT)):
            mark = "" if turns else "<image>\n"
            turns += [{"from": "human", "value": mark + question}, {"from": "gpt", "value": answer}]
        thought = {"question": QUESTION, "answer": SHORT, "text": THOUGHT}
        rows.append(
            {
                "image": {"bytes": bytes(cv2.imencode(".png", rgb)[1]), "path": None},
                "conversations": turns,
                "type": ["count", "refer_obj_estimation"],
                "depth": {"bytes": bytes(cv2.imencode(".png", depth)[1]), "path": None},
                "intrinsics": dataclasses.asdict(intrinsics),
                "camera_to_world": np.eye(4).ravel().tolist(),
                "scene_graph": "[]",
                "thoughts": [thought | {"accepted": seed != 0, "reason": "" if seed else "no"}],
                "source": "simulated",
                "scene": str(seed),
                "view": "0",
            }
        )
    folder = tmp_path_factory.mktemp("data")
    table = pa.Table.from_pylist(rows, schema=CONVERSATIONS)
    pq.write_table(table, folder / "train-sim-00000.parquet")
    return folder


@pytest.fixture(scope="module")
def estimator(tmp_path_factory) -> Path:
    """A small Depth-Anything with random weights."""
    directory = tmp_path_factory.mktemp("depth")
    torch.save(random_weights(depth_anything_shapes(), seed=3), directory / "upstream.pth")
    convert_depth_anything(directory / "upstream.pth", directory / "hf")
    return directory / "hf"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("base"), "relative")


@pytest.fixture
def estimates(monkeypatch) -> list[int]:
    """Counts the images that the estimator is asked about."""
    real, asked = depth_estimation.with_estimated_depth, []

    def counted(frame, network):
        asked.append(int(frame.rgb.sum()))
        return real(frame, network)

    monkeypatch.setattr(depth_estimation, "with_estimated_depth", counted)
    return asked


def _prepared(data, out, base, estimator, **how) -> tuple[Samples, dict]:
    settings = EncodingSettings("relative", orientation="inverse")
    network = depth_estimation.load_estimator(estimator, torch.device("cpu"))
    made = Preparation(str(base), settings, str(estimator), "packed", 900, "train", **how)
    folder = prepare(data, out, made, load(str(base)), network)
    return Samples(folder), json.loads((folder / INDEX).read_text())


@pytest.mark.parametrize("depth", ["sensor", "estimated", "mixed"])
def test_every_sample_has_the_chosen_depth_and_says_which(
    data, base, estimator, estimates, tmp_path, depth
):
    samples, index = _prepared(data, tmp_path, base, estimator, depth=depth)
    sources = [samples[number].depth_source for number in range(len(samples))]
    assert len(sources) == PICTURES
    for source in ("sensor", "estimated_relative"):
        assert index[source] == sources.count(source)
    expected = {
        "sensor": {"sensor"},
        "estimated": {"estimated_relative"},
        "mixed": {"sensor", "estimated_relative"},
    }
    assert set(sources) == expected[depth]
    # Once per image, and not again when the samples are used.
    assert len(set(estimates)) == len(estimates) == sources.count("estimated_relative")
    _prepared(data, tmp_path, base, estimator, depth=depth)
    assert len(estimates) == sources.count("estimated_relative")
    by_source = {samples[n].depth_source: samples[n].coordinates for n in range(PICTURES)}
    if len(by_source) == 2:
        assert not np.allclose(by_source["sensor"], by_source["estimated_relative"])


def test_accepted_thoughts_are_learnt_in_place_of_short_answers(
    data, base, estimator, estimates, tmp_path
):
    tokenizer = load(str(base)).tokenizer

    def learnt(samples: Samples) -> list[str]:
        labels = [samples[n].labels for n in range(len(samples))]
        return [tokenizer.decode(row[row != IGNORED]) for row in labels]

    with_them, index = _prepared(data, tmp_path, base, estimator, thoughts=True)
    assert (index["thoughts"], index["thoughts_left_out"]) == (PICTURES - 1, 0)
    texts = learnt(with_them)
    assert sum(THOUGHT in text for text in texts) == PICTURES - 1
    assert sum(SHORT in text for text in texts) == 1  # the rejected one's
    assert all(OTHER[1] in text for text in texts)
    without, _ = _prepared(data, tmp_path, base, estimator)
    assert all(SHORT in text and THOUGHT not in text for text in learnt(without))


def test_the_published_recipe_trains_with_estimated_depth_and_thoughts(
    data, base, estimator, tmp_path
):
    AcceleratorState._reset_state(reset_partial_state=True)
    recipe = read_config(RECIPE)
    assert recipe.depth == "estimated"
    small = vars(recipe) | {"model": str(base), "data": str(data), "out": str(tmp_path)}
    shape = {"estimator": str(estimator), "batch": 4, "micro_batch": 4, "steps": 2, "lora_rank": 4}
    train(Config(**small | shape | {"thoughts": True, "dtype": "float32"}))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(np.isfinite(line["loss"]) for line in lines)


def test_mixed_depth_needs_one_orientation(data, base, estimator, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    config = Config(
        str(base), str(data), str(tmp_path), depth="mixed", estimator=str(estimator),
        encoding={"kind": "relative", "orientation": "source"}, dtype="float32", batch=4,
    )  # fmt: skip
    with pytest.raises(ValueError, match="mixed needs one orientation"):
        train(config)
