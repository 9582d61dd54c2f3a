"""Every backbone of the core can be evaluated, by the same command and with its depth encoding."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sdvlm_core.frame import CameraIntrinsics
from tests.tiny_backbones import MODEL_TYPES, SMOLVLM, write_tiny_backbone
from training.data.images import encode_jpeg, encode_png
from training.data.schemas import CONVERSATIONS
from training.data.tables import write_table
from training.evaluate.evaluation import Asking, Judging, evaluate

QUESTIONS = {
    "count": ("How many chairs are there?", "2."),
    "scale_estimation": ("What is the width of the desk?", "1.2 m."),
}
INTRINSICS = CameraIntrinsics(60.0, 60.0, 28.0, 21.0, 56, 42)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A folder as training.build writes it: one small frame with two questions."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (42, 56, 3), np.uint8)
    depth = rng.integers(500, 4000, (42, 56)).astype(np.uint16)
    turns = [
        {"from": who, "value": value}
        for said in QUESTIONS.values()
        for who, value in zip(("human", "gpt"), said, strict=True)
    ]
    names = ("fx", "fy", "cx", "cy", "width", "height")
    row = {
        "image": {"bytes": encode_jpeg(rgb, 95), "path": None},
        "conversations": turns,
        "type": list(QUESTIONS),
        "depth": {"bytes": encode_png(depth), "path": None},
        "intrinsics": {name: getattr(INTRINSICS, name) for name in names},
        "camera_to_world": np.eye(4).ravel().tolist(),
        "scene_graph": "[]",
        "thoughts": [],
        "source": "made",
        "scene": "0",
        "view": "0",
    }
    folder = tmp_path_factory.mktemp("frames")
    write_table(folder / "test-00000.parquet", [[row]], CONVERSATIONS, "none")
    return folder


@pytest.mark.parametrize(
    "model_type", [*(name for name in MODEL_TYPES if name != "smolvlm"), SMOLVLM]
)
def test_every_backbone_answers_the_questions_of_a_benchmark(frames, tmp_path, model_type):
    model = write_tiny_backbone(tmp_path / "model", model_type)
    summary = evaluate(Asking(str(model), str(frames)), Judging(), tmp_path / "out")
    assert summary["asked"] == 2
    assert set(summary["per_type"]) == set(QUESTIONS)
    assert not [why for why in summary["failures"] if why.startswith("no answer")]
    _, *rows = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    assert [json.loads(row)["depth_source"] for row in rows] == ["sensor"] * 2
