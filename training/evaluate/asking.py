"""Images of a benchmark, changed by the controls -> one row per answer.

Knows the order of the steps: depth is estimated if an estimator is given, then changed by a
control, then encoded once for all questions of an image. A `Model` is a function; which model it
asks, `load_model` decides. Does not know scores or the files of rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdvlm_core.frame import RgbdFrame
from sdvlm_core.model.checkpoint import directory_of, load
from sdvlm_core.model.depth_estimation import DepthEstimator, load_estimator, with_estimated_depth
from sdvlm_core.model.devices import resolve_device
from sdvlm_core.model.own_settings import encoding_settings
from training.evaluate.controls import Controls, shown
from training.evaluate.endpoint_model import PREFIX
from training.evaluate.items import BenchmarkError, Item, Picture
from training.evaluate.predict import Answer, AnswerFrame, answers_of
from training.evaluate.sharding import WHOLE, Shard


@dataclass(frozen=True, eq=False)
class Model:
    """What answers, and the inputs it needs.

    Attributes:
        answers: a frame and the questions about it -> an answer to each.
        estimator: for frames without depth; None = they stay without.
        needs_depth, needs_intrinsics: whether a frame without them is refused.
    """

    answers: AnswerFrame
    estimator: DepthEstimator | None
    needs_depth: bool
    needs_intrinsics: bool

    def seen(self, picture: Picture, controls: Controls) -> RgbdFrame:
        """The picture, with estimated depth if it has none and there is an estimator.

        Raises:
            BenchmarkError: depth or intrinsics are missing and the controls do not remove them.
        """
        frame = picture.frame
        if frame.depth is None and self.estimator is not None and controls.depth != "none":
            frame = with_estimated_depth(frame, self.estimator)
        made = controls.depth in ("none", "constant") or controls.frames == "blank"
        if frame.depth is None and self.needs_depth and not made:
            raise BenchmarkError(
                f"{picture.key} has no depth and the model answers from depth: add --estimator "
                "DIR or --depth none"
            )
        if frame.intrinsics is None and self.needs_intrinsics and controls.depth != "none":
            raise BenchmarkError(
                f"{picture.key} has no intrinsics and the model's depth code needs them: add an "
                "--estimator that estimates them (Depth Pro), or --depth none"
            )
        return frame


def digest(model: str) -> str:
    """sha256 of a model's files: a resumed run must have the same weights.

    For an adapter, only its own files are hashed; they name the base model.

    "" of a model on a server, which has none to hash.

    Raises:
        CheckpointError: the model does not exist.
    """
    if model.startswith(PREFIX):
        return ""
    directory = directory_of(model)
    whole = hashlib.sha256()
    for file in sorted([*directory.glob("*.json"), *directory.glob("*.safetensors")]):
        whole.update(file.name.encode())
        with file.open("rb") as stored:
            while block := stored.read(1 << 22):
                whole.update(block)
    return whole.hexdigest()


def load_model(model: str, estimator: Path | None, device: str = "auto") -> Model:
    """A checkpoint and, if its directory is given, a depth network, both on one device.

    Args:
        device: as `sdvlm_core.model.devices.resolve_device` reads it.

    Raises:
        CheckpointError: one of them cannot be loaded, or the device does not exist.
    """
    checkpoint = load(model, device)
    network = None
    if estimator is not None:
        network = load_estimator(estimator, checkpoint.device)
    kind = encoding_settings(checkpoint.model.config).kind
    return Model(answers_of(checkpoint), network, kind != "none", kind == "xyz")


def served_model(answers: AnswerFrame, estimator: Path | None, device: str = "auto") -> Model:
    """A model that takes any frame, such as one on a server, with a depth network if it is given.

    Raises:
        CheckpointError: the network cannot be loaded, or the device does not exist.
    """
    network = None
    if estimator is not None:
        network = load_estimator(estimator, resolve_device(device))
    return Model(answers, network, needs_depth=False, needs_intrinsics=False)


def _with_next(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Picture]]:
    """Pairs of an image and the next one; the first image follows the last."""
    first = before = None
    for picture in pictures:
        if before is None:
            first = picture
        else:
            yield before, picture
        before = picture
    if before is not None and first is not None:
        yield before, first


def _number(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else round(value, 5)


def answered(
    pictures: Iterable[Picture],
    open_model: Callable[[], Model],
    controls: Controls,
    done: set[str],
    shard: Shard = WHOLE,
) -> Iterator[dict[str, Any]]:
    """One row per item of the shard's images whose key is not in `done`, in order.

    Args:
        open_model: called for every image with a question that is left; not if there is none.

    Raises:
        BenchmarkError, DepthError, IntrinsicsError: an image lacks an input of the model or of the
            controls. A refusal by the model is a row with the reason under `failed`.
    """
    needs_other = "shuffled" in (controls.frames, controls.depth)
    # Numbered over the whole benchmark: a control does to an image the same in every shard.
    for number, (picture, other) in enumerate(_with_next(pictures)):
        left = [item for item in picture.items if item.key not in done]
        if not left or not shard.holds(number):
            continue
        model = open_model()
        frame = model.seen(picture, controls)
        behind = model.seen(other, controls) if needs_other else frame
        frame = shown(frame, behind, controls, number)
        # All questions of the image, as in an uninterrupted run: its answers are then the same.
        answers = model.answers(frame, [item.question for item in picture.items])
        for item, answer in zip(picture.items, answers, strict=True):
            if item in left:
                yield _row(picture, item, frame, answer)


def _row(picture: Picture, item: Item, frame: RgbdFrame, answer: Answer) -> dict[str, Any]:
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
    return row | ({"failed": answer.error} if answer.error else {})
