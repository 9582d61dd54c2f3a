"""A trained row -> its answers about frames it never saw, as they are or under a control.

Knows how a row is asked and where answers lie; what is asked and how it is scored is that of
`training.evaluate`, what a control shows is in `training.evaluate.controls`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from safetensors.torch import load_file

from sdvlm_core.model.checkpoint import load as load_checkpoint
from training.ablate.data import RowData
from training.ablate.model import DepthTokens, answer, new_model, prefix_of
from training.ablate.rows import Row, inputs_of
from training.build.questions import Question
from training.evaluate.controls import Controls, shown
from training.evaluate.run import questions_of
from training.evaluate.score import score
from training.nano.frames import PICTURE, TrainingFrames
from training.nano.tower import tower_features
from training.simulate.frames import SimulatedFrame, read_frames, rgbd_frame

#: The control that leaves only the words.
BLIND = "blind"
#: Frames asked about together.
TOGETHER = 8


@cache
def _frames(directory: Path) -> list[SimulatedFrame]:
    return list(read_frames(directory))


def _controls(control: str) -> Controls:
    """A word of the configuration as what `training.evaluate.controls` does."""
    if control == "wrong_intrinsics":
        return Controls.parse("own", "own", "wrong")
    # The grey picture of `blind` has features of its own below; its row sees no depth.
    return Controls.parse("own", "own" if control == BLIND else control, "own")


def _data(row: Row, directory: Path, control: str) -> RowData:
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
        pictures = tower_features(_tower(), np.stack([i.picture for i in inputs]))
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
    metres = np.stack([i.metres for i in inputs]) if row.extra == "prompt" else None
    return RowData(arrays, features, pictures, metres)


@cache
def _tower() -> Any:
    return load_checkpoint("nano").model.float().model.vision_tower


def ask_about(row: Row, weights: Path, directory: Path, control: str, out: Path) -> None:
    """Write a row's answers about a folder of training.simulate as JSON lines, once."""
    if out.exists():
        return
    tokenizer = load_checkpoint("nano").tokenizer
    model = new_model(row, len(tokenizer), 0)
    tensors = load_file(weights)
    model.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("extra.")})
    model.eval()
    data = _data(row, directory, control)
    extra = None
    if row.extra:
        extra = DepthTokens(row, tokenizer, model.config.text_config.hidden_size)
        own = {k.removeprefix("extra."): v for k, v in tensors.items() if k.startswith("extra.")}
        extra.load_state_dict(own)
        extra.look_up(data)
    temporary = out.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as log, torch.inference_mode():
        asked = [(at, frame, questions_of(frame)) for at, frame in enumerate(_frames(directory))]
        asked = [entry for entry in asked if entry[2]]
        for first in range(0, len(asked), TOGETHER):
            together = asked[first : first + TOGETHER]
            prefix = prefix_of(model, data, extra, np.array([at for at, *_ in together]))
            questions = [[q.question for q in own] for *_, own in together]
            texts = answer(model, tokenizer, prefix, questions)
            _write(log, together, texts, prefix.shape[1] - 1)
    temporary.replace(out)


def _write(
    log: TextIO,
    together: list[tuple[int, SimulatedFrame, list[Question]]],
    texts: list[list[str]],
    tokens: int,
) -> None:
    """A line for every answer, with what is true and whether it is right."""
    for (_, frame, asked), said in zip(together, texts, strict=True):
        for question, text in zip(asked, said, strict=True):
            outcome = score(question.question, text, question.reference, question.names)
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
