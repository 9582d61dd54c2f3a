"""The model `sdvlm` of lmms-eval: every checkpoint that `training.evaluate --model` takes.

Its requests hold a colour image and, of our tasks, depth and intrinsics (`functions.images`); those
of other tasks have no depth. The questions about one frame are answered together. Answers are
greedy, and as long as the model's own limit: `until`, `max_new_tokens` and sampling are ignored.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from accelerate import Accelerator
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from loguru import logger
from PIL import Image

from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import ModelMemoryError, SdvlmError
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.generation_options import GenerationOptions, Query

#: The words of a benchmark are asked as they are, without a form for the answer.
_AS_THEY_ARE = GenerationOptions(constrained=False)


class Sdvlm(lmms):
    """A checkpoint of this project.

    Args:
        pretrained: "nano", or a model directory.
        device: as `training.evaluate --device` reads it.
        batch_size: ignored: the questions about a frame are one batch.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
    """

    is_simple = True

    def __init__(
        self, pretrained: str = "nano", device: str | None = None, batch_size: Any = 1, **_: Any
    ) -> None:
        super().__init__()
        accelerator = Accelerator()
        self.accelerator = accelerator
        self._rank, self._world_size = accelerator.process_index, accelerator.num_processes
        self._engine = SpatialEngine(load(pretrained, device or "auto"))

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The answers in the order of the requests; "" where the model refuses."""
        answers: list[str] = [""] * len(requests)
        waiting: list[tuple[int, str]] = []
        frame: RgbdFrame | None = None
        name = None
        for number, request in enumerate(requests):
            words, _, to_images, doc_id, task, split = request.args
            images = to_images(self.task_dict[task][split][doc_id])
            if not images:
                raise ValueError(f"{task}, question {doc_id} has no image; sdvlm answers from one")
            own = (task, images[0].info.get("frame", number))
            if own != name and frame is not None:
                self._answer(frame, waiting, answers)
                waiting = []
            if own != name:
                frame, name = _frame(images), own
            waiting.append((number, words))
        if frame is not None:
            self._answer(frame, waiting, answers)
        return answers

    def _answer(self, frame: RgbdFrame, waiting: list[tuple[int, str]], answers: list[str]) -> None:
        queries = [Query(words, _AS_THEY_ARE) for _, words in waiting]
        try:
            results = self._engine.open(frame).ask_many(queries)
        except ModelMemoryError:
            raise
        except SdvlmError as error:
            results = [error] * len(queries)
        for (number, words), result in zip(waiting, results, strict=True):
            if isinstance(result, SpatialAnswer):
                answers[number] = result.text.strip()
            elif isinstance(result, SdvlmError) and not isinstance(result, ModelMemoryError):
                logger.warning(f"{words!r}: {result}")
            else:
                raise result

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not supported: a frame's questions do not build on each other."""
        raise NotImplementedError("sdvlm answers single questions, not rounds of them")

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not supported: answers are generated."""
        raise NotImplementedError("sdvlm generates answers; choose a task of generate_until")


def _frame(images: list[Image.Image]) -> RgbdFrame:
    """The frame of a request: colour, and depth if the second image is in metres."""
    rgb = images[0]
    depth = images[1] if len(images) > 1 and images[1].mode == "F" else None
    camera = rgb.info.get("intrinsics")
    return RgbdFrame(
        np.asarray(rgb.convert("RGB")),
        None if depth is None else np.asarray(depth, np.float32),
        CameraIntrinsics(**json.loads(camera)) if camera else None,
        depth_source=depth.info.get("depth_source", "sensor") if depth is not None else "sensor",
    )
