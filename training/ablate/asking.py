"""A trained row -> its answers about frames outside of its training data, under a control or not.

Knows how a row is asked and its file of answers. Questions, controls and scores are those of
`training.evaluate`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TextIO, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionModel

from sdvlm_core.files import atomic_file
from sdvlm_core.model.checkpoint import load as load_checkpoint
from training.ablate.data import RowData
from training.ablate.model import DepthTokens, answer, new_model, prefix_of
from training.ablate.rows import Row, inputs_of
from training.build.phrasing import METRIC
from training.build.questions import TYPES, Question
from training.evaluate.benchmarks import question_item, questions_of
from training.evaluate.controls import Controls, shown
from training.evaluate.judges import judged
from training.nano.architecture import PICTURE
from training.nano.frames import TrainingFrames
from training.nano.tower import tower_features
from training.simulate.frames import SimulatedFrame, read_frames, rgbd_frame

Scalar = TypeVar("Scalar", bound=np.generic)

#: The control with a grey image and no depth: only the question has information.
BLIND = "blind"
#: Frames whose questions are decoded together.
_FRAMES_PER_BATCH = 8


@cache
def _frames(directory: Path) -> list[SimulatedFrame]:
    return list(read_frames(directory))


def _controls(control: str) -> Controls:
    """A control of the configuration as one of `training.evaluate.controls`."""
    if control == "wrong_intrinsics":
        return Controls.parse("own", "own", "wrong")
    # `row_under_control` replaces the image of `blind`; its row sees no depth.
    return Controls.parse("own", "own" if control == BLIND else control, "own")


def row_under_control(row: Row, directory: Path, control: str) -> RowData:
    """The test frames as a row sees them under a control."""
    frames, controls = _frames(directory), _controls(control)
    views = [rgbd_frame(frame) for frame in frames]
    inputs = [
        inputs_of(row, shown(view, views[(at + 1) % len(views)], controls, at))
        for at, view in enumerate(views)
    ]
    count = len(frames)
    if control == BLIND:
        grey = np.full((1, PICTURE, PICTURE, 3), 128, np.uint8)
        features = tower_features(_tower(), grey).expand(count, -1, -1)
    else:
        features = load_file(directory / "colour.safetensors")["features"]
    pictures = None
    if row.extra == "image":
        pictures = tower_features(_tower(), _stacked([i.picture for i in inputs]))
    nothing = np.zeros(count, np.float32)
    arrays = TrainingFrames(
        picture=np.zeros((count, 0), np.uint8),
        coordinates=np.stack([i.coordinates for i in inputs]),
        valid=np.stack([i.valid for i in inputs]),
        owner=np.zeros((count, 0), np.uint8),
        coverage=np.zeros((count, 0), bool),
        objects=np.zeros((count, 0), np.float32),
        focal=nothing,
        pixels=nothing.astype(np.int32),
        graphs=[frame.objects for frame in frames],
    )
    metres = _stacked([i.metres for i in inputs]) if row.extra == "prompt" else None
    return RowData(arrays, features, pictures, metres)


def _stacked(arrays: Sequence[npt.NDArray[Scalar] | None]) -> npt.NDArray[Scalar]:
    """(N, ...) of arrays that this row has for every frame."""
    return np.stack([array for array in arrays if array is not None])


@cache
def _tower() -> CLIPVisionModel:
    return load_checkpoint("nano", "cpu").model.float().model.vision_tower


def ask_about(row: Row, weights: Path, directory: Path, control: str, out: Path) -> None:
    """Write a row's answers about a folder of training.simulate, unless the file exists."""
    if out.exists():
        return
    tokenizer = load_checkpoint("nano", "cpu").tokenizer
    model = new_model(row, len(tokenizer), 0)
    tensors = load_file(weights)
    model.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("extra.")})
    model.eval()
    data = row_under_control(row, directory, control)
    extra = None
    if row.extra:
        extra = DepthTokens(row, tokenizer, model.config.text_config.hidden_size)
        own = {k.removeprefix("extra."): v for k, v in tensors.items() if k.startswith("extra.")}
        extra.load_state_dict(own)
        extra.set_data(data)
    with (
        atomic_file(out) as temporary,
        temporary.open("w", encoding="utf-8") as log,
        torch.inference_mode(),
    ):
        asked = [
            (at, frame, questions_of(frame, METRIC, TYPES))
            for at, frame in enumerate(_frames(directory))
        ]
        asked = [entry for entry in asked if entry[2]]
        for first in range(0, len(asked), _FRAMES_PER_BATCH):
            together = asked[first : first + _FRAMES_PER_BATCH]
            prefix = prefix_of(model, data, extra, np.array([at for at, *_ in together]))
            questions = [[q.question for q in own] for *_, own in together]
            texts = answer(model, tokenizer, prefix, questions)
            _write(log, together, texts, prefix.shape[1] - 1)


def _write(
    log: TextIO,
    together: list[tuple[int, SimulatedFrame, list[Question]]],
    texts: list[list[str]],
    tokens: int,
) -> None:
    """Write one line per answer, with its reference and score."""
    for (_, frame, asked), replies in zip(together, texts, strict=True):
        for question, text in zip(asked, replies, strict=True):
            outcome = judged(question_item("", question), text)
            line = {
                "frame": frame.scene,
                "type": question.type,
                "question": question.question,
                "answer": text,
                "reference": question.reference,
                "correct": outcome.correct,
                "tokens": tokens,
            }
            log.write(json.dumps(line) + "\n")
