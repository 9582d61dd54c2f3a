"""A benchmark's pictures, shown as the controls say -> a row for every answer.

Knows the order of things: depth is estimated where it was asked for, then changed by a control,
then encoded once for all questions of a picture. Does not know whether an answer is right, nor
where rows are kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.model.backbones.llava import encoding_settings
from sdvlm_core.model.checkpoint import directory_of, load
from sdvlm_core.model.depth_estimation import DepthEstimator, load_estimator, with_estimated_depth
from training.evaluate.controls import Controls, shown
from training.evaluate.items import BenchmarkError, Picture
from training.evaluate.predict import answer_all


@dataclass(frozen=True, eq=False)
class Model:
    """What answers, and what it needs to see."""

    engine: SpatialEngine
    estimator: DepthEstimator | None
    needs_depth: bool
    needs_intrinsics: bool

    def seen(self, picture: Picture, controls: Controls) -> RgbdFrame:
        """The picture with estimated depth where it has none and an estimator was asked for.

        Raises:
            BenchmarkError: depth is missing, and nobody said that it may be.
        """
        frame = picture.frame
        if frame.depth is None and self.estimator is not None and controls.depth != "none":
            frame = with_estimated_depth(frame, self.estimator)
        made = controls.depth in ("none", "constant") or controls.frames == "blank"
        if frame.depth is None and self.needs_depth and not made:
            raise BenchmarkError(
                f"{picture.key} has no depth and the model answers from depth: give --estimator "
                "DIR, or say --depth none"
            )
        if frame.intrinsics is None and self.needs_intrinsics and controls.depth != "none":
            raise BenchmarkError(
                f"{picture.key} has no intrinsics and the model's depth code needs them: give an "
                "--estimator that finds them (Depth Pro), or say --depth none"
            )
        return frame


def digest(model: str) -> str:
    """sha256 of a model's files, so that answers of other weights at the same place are told apart.

    Of an adapter its own files; its base is known by the name in them.

    Raises:
        CheckpointError: there is no such model.
    """
    directory = directory_of(model)
    whole = hashlib.sha256()
    for file in sorted([*directory.glob("*.json"), *directory.glob("*.safetensors")]):
        whole.update(file.name.encode())
        with file.open("rb") as stored:
            while block := stored.read(1 << 22):
                whole.update(block)
    return whole.hexdigest()


def load_model(model: str, estimator: Path | None) -> Model:
    """A checkpoint and, where its directory is given, a depth network, both on one device.

    Raises:
        CheckpointError: one of them cannot be loaded.
    """
    checkpoint = load(model)
    network = None
    if estimator is not None:
        network = load_estimator(estimator, checkpoint.device)
    kind = encoding_settings(checkpoint.model.config).kind
    return Model(SpatialEngine(checkpoint), network, kind != "none", kind == "xyz")


def _with_next(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Picture]]:
    """Every picture with the one behind it; behind the last is the first."""
    first = before = None
    for picture in pictures:
        if before is None:
            first = picture
        else:
            yield before, picture
        before = picture
    if before is not None and first is not None:
        yield before, first


def _batches(
    views: Iterable[tuple[Picture, RgbdFrame]], batch: int
) -> Iterator[list[tuple[Picture, RgbdFrame]]]:
    """Whole pictures, until together they have enough questions."""
    waiting: list[tuple[Picture, RgbdFrame]] = []
    for picture, frame in views:
        waiting.append((picture, frame))
        if sum(len(picture.items) for picture, _ in waiting) >= batch:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else round(value, 5)


def answered(
    pictures: Iterable[Picture], model: Model, controls: Controls, done: set[str], batch: int
) -> Iterator[dict[str, Any]]:
    """A row for every item whose key is not `done`, in order, as soon as its batch is answered.

    Raises:
        BenchmarkError, DepthError, IntrinsicsError: a picture lacks what the model or the controls
            need; what only the model refuses is a row with the reason under `failed`.
    """
    needs_other = "shuffled" in (controls.frames, controls.depth)

    def views() -> Iterator[tuple[Picture, RgbdFrame]]:
        for number, (picture, other) in enumerate(_with_next(pictures)):
            if all(item.key in done for item in picture.items):
                continue
            frame = model.seen(picture, controls)
            behind = model.seen(other, controls) if needs_other else frame
            yield picture, shown(frame, behind, controls, number)

    for together in _batches(views(), batch):
        asked = [(frame, [item.question for item in p.items]) for p, frame in together]
        replies = answer_all(model.engine, asked)
        for (picture, frame), answers in zip(together, replies, strict=True):
            for item, answer in zip(picture.items, answers, strict=True):
                row = {
                    "key": item.key,
                    "frame": picture.key,
                    "type": item.type,
                    "question": item.question,
                    "answer": answer.text,
                    "expected": item.answer,
                    "depth_source": frame.depth_source if frame.depth is not None else "",
                    "seconds": round(answer.seconds, 4),
                    "kind": answer.kind,
                    "raw_confidence": _number(answer.raw),
                    "confidence": _number(answer.confidence),
                }
                if answer.error:
                    row["failed"] = answer.error
                if item.key not in done:
                    yield row
