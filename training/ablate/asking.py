"""A trained row -> its answers about frames outside of its training data, under a control or not.

Knows how a row is asked and its file of answers. Questions, controls and scores are those of
`training.evaluate`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
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
from training.ablate.model import Trained, answer, prefix_of
from training.ablate.rows import Estimator, Row, inputs_of
from training.build.phrasing import METRIC
from training.build.questions import TYPES, Question
from training.evaluate.benchmarks import question_item, questions_of
from training.evaluate.controls import Controls, shown
from training.evaluate.judges import judged
from training.nano.architecture import PICTURE
from training.nano.frames import TrainingFrames
from training.nano.stage import OutOfTime
from training.nano.tower import tower_features
from training.simulate.frames import SimulatedFrame, read_frames, rgbd_frame

Scalar = TypeVar("Scalar", bound=np.generic)

_CPU = torch.device("cpu")
#: The control with a grey image and no depth: only the question has information.
BLIND = "blind"
#: Frames whose questions are decoded together.
_FRAMES_PER_BATCH = {"cpu": 8, "cuda": 64}
_OTHER: dict[Estimator, Estimator] = {"fine": "coarse", "coarse": "fine", "": ""}


@cache
def _frames(directory: Path) -> list[SimulatedFrame]:
    return list(read_frames(directory))


def _controls(control: str) -> Controls:
    """A control of the configuration as one of `training.evaluate.controls`."""
    if control == "wrong_intrinsics":
        return Controls.parse("own", "own", "wrong")
    # `row_under_control` does the rest of these itself.
    own = control in (BLIND, "other_estimator")
    return Controls.parse("own", "own" if own else control, "own")


def applies(row: Row, control: str) -> bool:
    """Whether a control changes what a row sees."""
    return row.sees_depth and (control != "other_estimator" or bool(row.estimator))


def row_under_control(
    row: Row, directory: Path, control: str, device: torch.device = _CPU
) -> RowData:
    """The test frames as a row sees them under a control.

    Args:
        control: one of `training.evaluate.controls` for depth; `wrong_intrinsics`;
            `other_estimator`, which gives an estimated depth another network's errors; `blind`.
        device: where the tower runs.
    """
    frames, controls = _frames(directory), _controls(control)
    if control == "other_estimator":
        row = replace(row, estimator=_OTHER[row.estimator])
    views = [rgbd_frame(frame) for frame in frames]
    inputs = [
        inputs_of(row, shown(view, views[(at + 1) % len(views)], controls, at))
        for at, view in enumerate(views)
    ]
    count = len(frames)
    if control == BLIND:
        grey = np.full((1, PICTURE, PICTURE, 3), 128, np.uint8)
        features = tower_features(_tower(device), grey).expand(count, -1, -1)
    else:
        features = load_file(directory / "colour.safetensors")["features"]
    pictures = None
    if row.extra == "image":
        pictures = tower_features(_tower(device), _stacked([i.picture for i in inputs]))
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
def _tower(device: torch.device) -> CLIPVisionModel:
    return load_checkpoint("nano", str(device), "float32").model.model.vision_tower


def ask_about(
    trained: Trained, directory: Path, control: str, out: Path, until: float = math.inf
) -> None:
    """Write a row's answers about a folder of training.simulate, unless the file exists.

    Args:
        until: time (`time.time`) at which to stop; nothing is then written.

    Raises:
        OutOfTime: it was reached.
    """
    if out.exists():
        return
    model, extra = trained.model, trained.extra
    data = row_under_control(trained.row, directory, control, model.device)
    if extra is not None:
        extra.set_data(data)
    asked = [
        (at, frame, questions_of(frame, METRIC, TYPES))
        for at, frame in enumerate(_frames(directory))
    ]
    asked = [entry for entry in asked if entry[2]]
    size = _FRAMES_PER_BATCH[model.device.type]
    with (
        atomic_file(out) as temporary,
        temporary.open("w", encoding="utf-8") as log,
        torch.inference_mode(),
    ):
        for first in range(0, len(asked), size):
            if time.time() > until:
                raise OutOfTime(f"{out}: {first} of {len(asked)} frames")
            together = asked[first : first + size]
            prefix = prefix_of(model, data, extra, np.array([at for at, *_ in together]))
            questions = [[q.question for q in own] for *_, own in together]
            texts = answer(model, trained.tokenizer, prefix, questions)
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
