"""SpatialEngine and FrameSession: one encoded frame, many questions.

`open` runs the vision tower, the projector and the depth code once and keeps the key/value cache
of the image prefix; `ask` and `stream` append a question to that cache and take it off again. Knows
models and frames; does not know ROS, threads (one caller at a time) or how words become numbers
(`measurement`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from transformers import DynamicCache

from sdvlm_core.answer import Position, SpatialAnswer, Status, Timings, Verdict
from sdvlm_core.errors import DepthError, ModelMemoryError, QueryCanceled, QueryError, QueryTimeout
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame, point_at
from sdvlm_core.language.reading import measurements, parse
from sdvlm_core.model import confidence
from sdvlm_core.model.backbones.clip_image import clip_pixels
from sdvlm_core.model.backbones.llava import calibration, encoding_settings, grid_cells
from sdvlm_core.model.checkpoint import NANO, Checkpoint, load
from sdvlm_core.model.depth_encoding import encode, pool
from sdvlm_core.model.prompt import check_question, prefix_ids, question_ids

if TYPE_CHECKING:
    from sdvlm_core.model.depth_estimation import DepthEstimator

MAX_NEW_TOKENS = 256


@contextmanager
def _memory_guard(doing: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError, cv2.error) as error:
        # torch's allocator on the CPU and OpenCV's have no exception types of their own.
        if not (
            isinstance(error, (torch.OutOfMemoryError, MemoryError))
            or "allocate memory" in str(error)
            or "Insufficient memory" in str(error)
        ):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise ModelMemoryError(f"out of memory while {doing}: {error}") from error


@dataclass(frozen=True)
class Sampling:
    """Draw tokens instead of taking the likeliest; SD-VLM's evaluation draws with these values.

    Attributes:
        temperature: logits are divided by it; positive.
        top_k: only so many of the likeliest tokens are drawn from; 0 = all.
        seed: of the draw; the same seed gives the same answer on one machine.

    Raises:
        QueryError: a value is out of its range.
    """

    temperature: float = 0.2
    top_k: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0 and self.top_k >= 0):
            raise QueryError(f"temperature must be positive and top_k not negative: {self}")


@dataclass(eq=False)
class _Generated:
    """New token ids, the probability given to each, and seconds until the first and after it."""

    ids: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    prefill: float = 0.0
    decode: float = 0.0


@dataclass(frozen=True)
class LoadOptions:
    """Which model to load, and how to run it.

    Attributes:
        model: `nano`, a model directory, or the name of a downloaded model.
        device, dtype, quantization, attention: see `model.devices.resolve`.
        depth_estimator: a directory or the name of a downloaded estimator for frames without
            depth; None or "" = such frames keep no depth.
    """

    model: str = NANO
    device: str = "auto"
    dtype: str = "auto"
    quantization: str = "none"
    attention: str = "auto"
    depth_estimator: str | None = None


def load_engine(options: LoadOptions) -> SpatialEngine:
    """Load a model, and its depth estimator if one is named, from local files.

    Raises:
        CheckpointError: a model is missing, incomplete or cannot run on this machine.
    """
    checkpoint = load(
        options.model, options.device, options.dtype, options.quantization, options.attention
    )
    if not options.depth_estimator:
        return SpatialEngine(checkpoint)
    from sdvlm_core.model.depth_estimation import load_estimator

    return SpatialEngine(checkpoint, load_estimator(options.depth_estimator, checkpoint.device))


class SpatialEngine:
    """A loaded model that opens frames; with an estimator, also frames that have no depth."""

    def __init__(self, checkpoint: Checkpoint, estimator: DepthEstimator | None = None) -> None:
        self.checkpoint = checkpoint
        self.estimator = estimator
        self.model_id = checkpoint.model_id

    def open(self, frame: RgbdFrame) -> FrameSession:
        """Encode a frame once; the session answers any number of questions about it.

        A model whose encoding says `optional` answers about a frame without depth too; the answers
        then have the status NO_DEPTH and no `depth_source`.

        Raises:
            DepthError: the model's encoding needs depth and the frame has no usable reading.
            IntrinsicsError: the encoding needs intrinsics and the frame has none.
            ModelMemoryError: out of memory.
        """
        started = time.perf_counter()
        with (
            _memory_guard(f"encoding a {frame.width}x{frame.height} frame"),
            torch.inference_mode(),
        ):
            frame = self._with_depth(frame)
            cache, length = self._encode(frame)
        return FrameSession(self.checkpoint, frame, cache, length, time.perf_counter() - started)

    def warm_up(self) -> None:
        """Answer once about an empty scene, so that the first real question is not slower."""
        frame = RgbdFrame(
            rgb=np.full((48, 64, 3), 128, np.uint8),
            depth=np.full((48, 64), 1.0, np.float32) if self.estimator is None else None,
            intrinsics=CameraIntrinsics(60.0, 60.0, 31.5, 23.5, 64, 48),
        )
        self.open(frame).ask("How far is the wall?", max_new_tokens=2)

    def _with_depth(self, frame: RgbdFrame) -> RgbdFrame:
        """The frame, with estimated depth if its encoding wants depth and the camera gave none."""
        wanted = encoding_settings(self.checkpoint.model.config).kind != "none"
        if self.estimator is None or frame.depth is not None or not wanted:
            return frame
        from sdvlm_core.model.depth_estimation import with_estimated_depth

        return with_estimated_depth(frame, self.estimator)

    def depth_code(self, frame: RgbdFrame) -> torch.Tensor | None:
        """The code (1, tokens, channels) float32 that the frame's depth adds.

        None: the model has no encoding, or the frame no depth and the model learnt to do without.

        Raises:
            DepthError, IntrinsicsError: as `open`.
        """
        model = self.checkpoint.model
        settings = encoding_settings(model.config)
        if settings.kind == "none" or (settings.optional and frame.depth is None):
            return None
        if frame.depth is None:
            raise DepthError(
                f"{self.model_id} answers from depth ({settings.kind} encoding) and this frame has "
                "none; give a depth image, or a depth estimator"
            )
        cells = grid_cells(model.config)
        grid = pool(frame.depth, frame.intrinsics, settings, cells, frame.depth_source)
        device = self.checkpoint.device
        return encode(
            torch.from_numpy(grid.coordinates).to(device),
            torch.from_numpy(grid.valid).to(device),
            settings,
            model.config.text_config.hidden_size,
        )[None]

    def _encode(self, frame: RgbdFrame) -> tuple[DynamicCache, int]:
        model, device = self.checkpoint.model, self.checkpoint.device
        code = self.depth_code(frame)
        pixels = torch.from_numpy(clip_pixels(frame.rgb, model.config.vision_config.image_size))
        features = model.get_image_features(
            pixels[None].to(device, model.dtype), depth_code=code, return_dict=True
        )
        ids = prefix_ids(
            self.checkpoint.tokenizer,
            self.checkpoint.prompt_template,
            model.config.image_token_id,
            features.pooler_output[0].shape[0],
        )
        cache = DynamicCache(config=model.config.text_config)
        model(
            input_ids=torch.tensor([ids], device=device),
            mm_encoder_outputs={"image": features},
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cache, len(ids)


class FrameSession:
    """Questions about one encoded frame. Made by `SpatialEngine.open`; one caller at a time."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        frame: RgbdFrame,
        cache: DynamicCache,
        prefix_length: int,
        encode_seconds: float,
    ) -> None:
        self.frame = frame
        self._checkpoint = checkpoint
        self._cache = cache
        self._prefix_length = prefix_length
        self._encode_seconds = encode_seconds
        self._busy = False
        self._calibration = calibration(checkpoint.model.config)
        self._wants_depth = encoding_settings(checkpoint.model.config).kind != "none"

    @property
    def prefix_tokens(self) -> int:
        """Tokens that all questions share: template opening and image."""
        return self._prefix_length

    def ask(
        self,
        question: str,
        *,
        deadline: float | None = None,
        cancel: threading.Event | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        sampling: Sampling | None = None,
    ) -> SpatialAnswer:
        """Answer one question.

        Args:
            question: words; at most `prompt.MAX_QUESTION_CHARS` characters.
            deadline: `time.monotonic()` after which QueryTimeout is raised.
            cancel: set it from another thread to have QueryCanceled raised.
            max_new_tokens: the answer is cut there.
            sampling: how to draw tokens; None = the likeliest one each time.

        Returns the answer; `timings.encode` is the cost of opening the frame, whoever asked first.

        Raises:
            QueryError, QueryTimeout, QueryCanceled, ModelMemoryError.
        """
        text = check_question(question)
        generated = _Generated()
        for _ in self._tokens(text, generated, deadline, cancel, max_new_tokens, sampling):
            pass
        return self._answer(text, generated)

    def stream(
        self,
        question: str,
        *,
        deadline: float | None = None,
        cancel: threading.Event | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        sampling: Sampling | None = None,
    ) -> Generator[str, None, SpatialAnswer]:
        """As `ask`, but yields the text piece by piece and returns the answer at the end.

        The pieces joined are the answer's text, up to white space at its ends. Close the generator
        to stop early; the session cannot be asked anything else before that.
        """
        text = check_question(question)
        generated = _Generated()
        told = ""
        for _ in self._tokens(text, generated, deadline, cancel, max_new_tokens, sampling):
            so_far = self._text(generated.ids)
            # A token may hold half a character: it waits for the other half. The stop text waits
            # too, until it is known not to be one.
            if so_far.endswith("\ufffd") or self._may_stop(so_far):
                continue
            if len(so_far) > len(told):
                yield so_far[len(told) :]
                told = so_far
        answer = self._answer(text, generated)
        rest = self._text(generated.ids)[len(told) :]
        if rest:
            yield rest
        return answer

    def next_token_logits(self, question: str) -> torch.Tensor:
        """Logits (vocabulary,) float32 of the first answer token; leaves the session as it was."""
        ids = question_ids(
            self._checkpoint.tokenizer, self._checkpoint.prompt_template, check_question(question)
        )
        with self._one_question(), torch.inference_mode():
            return self._step(ids)

    @contextmanager
    def _one_question(self) -> Iterator[None]:
        """The cache is this question's alone, and afterwards what it was.

        Raises:
            QueryError: it is another question's.
        """
        if self._busy:
            raise QueryError("another answer of this session is not finished; close its stream")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._forget_question()

    def _forget_question(self) -> None:
        """Cut the cache back to the image prefix; its own entries are never touched."""
        # Each tensor by its own length: a forward pass that failed half-way, out of memory say,
        # has lengthened only the layers before, and perhaps one layer's keys without its values.
        for layer in self._cache.layers:
            layer.keys = layer.keys[..., : self._prefix_length, :]
            layer.values = layer.values[..., : self._prefix_length, :]
            layer.crop(0)  # has a sliding window count its tokens anew

    def _step(self, ids: list[int]) -> torch.Tensor:
        model = self._checkpoint.model
        logits = model(
            input_ids=torch.tensor([ids], device=self._checkpoint.device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[0, -1]
        # Rows that are no text: the image placeholder and what pads the vocabulary.
        logits = logits.float().to(self._checkpoint.device)
        logits[model.config.image_token_id] = -math.inf
        logits[len(self._checkpoint.tokenizer) :] = -math.inf
        return logits

    def _tokens(
        self,
        question: str,
        generated: _Generated,
        deadline: float | None,
        cancel: threading.Event | None,
        max_new_tokens: int,
        sampling: Sampling | None,
    ) -> Iterator[int]:
        """Generate into `generated`, yielding after each token; the cache is left as it was."""
        form = self._checkpoint.prompt_template
        end = self._checkpoint.tokenizer.eos_token_id
        ids = question_ids(self._checkpoint.tokenizer, form, question)
        draw = _drawing(sampling, self._checkpoint.device)
        started = time.perf_counter()
        with self._one_question():
            for count in range(max_new_tokens):
                if cancel is not None and cancel.is_set():
                    raise QueryCanceled(f"canceled after {count} tokens")
                if deadline is not None and time.monotonic() > deadline:
                    raise QueryTimeout(f"the deadline passed after {count} tokens")
                with _memory_guard("answering"), torch.inference_mode():
                    logits = self._step(ids)
                    chosen = draw(logits)
                    probability = float(logits.softmax(-1)[chosen])
                generated.prefill = generated.prefill or time.perf_counter() - started
                if chosen == end:
                    break
                generated.ids.append(chosen)
                generated.probabilities.append(probability)
                ids = [chosen]
                yield chosen
                if form.stop and form.stop in self._text(generated.ids):
                    break
        generated.decode = time.perf_counter() - started - generated.prefill

    def _text(self, ids: list[int]) -> str:
        """Words of the tokens so far, up to the template's stop text."""
        text: str = self._checkpoint.tokenizer.decode(ids, skip_special_tokens=True)
        stop = self._checkpoint.prompt_template.stop
        return text.split(stop, 1)[0] if stop else text

    def _may_stop(self, text: str) -> bool:
        stop = self._checkpoint.prompt_template.stop
        return any(text.endswith(stop[:length]) for length in range(1, len(stop)))

    def _answer(self, question: str, generated: _Generated) -> SpatialAnswer:
        started = time.perf_counter()
        tokenizer = self._checkpoint.tokenizer
        text = self._text(generated.ids).strip()
        reading = parse(text)
        status, verdict = Status.OK, Verdict.UNDECIDED
        if reading.yes is not None:
            verdict = Verdict.HOLDS if reading.yes else Verdict.DOES_NOT_HOLD
        elif reading.absent:
            status = Status.NOT_VISIBLE
        elif not text:
            status = Status.NO_ANSWER
        blind = self.frame.depth is None
        if status is Status.OK and self._wants_depth and blind:
            status = Status.NO_DEPTH
        measured = measurements(question, reading)
        return SpatialAnswer(
            question=question,
            text=text,
            measurements=measured,
            image_points=reading.image_points,
            positions=self._positions(reading.image_points),
            verdict=verdict,
            status=status,
            confidence=self._calibration(
                confidence.kind_of(reading, measured),
                confidence.raw(
                    [tokenizer.decode([token]) for token in generated.ids],
                    generated.probabilities,
                ),
            ),
            model_id=self._checkpoint.model_id,
            depth_source="" if blind else self.frame.depth_source,
            timings=Timings(
                encode=self._encode_seconds,
                prefill=generated.prefill,
                decode=generated.decode,
                measure=time.perf_counter() - started,
            ),
        )

    def _positions(self, points: tuple[tuple[float, float], ...]) -> tuple[Position, ...]:
        """The 3-D points under the image points; those without a depth reading are left out."""
        width, height = self.frame.width, self.frame.height
        found = (point_at(self.frame, u * width - 0.5, v * height - 0.5) for u, v in points)
        return tuple(point for point in found if point is not None)


def _drawing(sampling: Sampling | None, device: torch.device) -> Callable[[torch.Tensor], int]:
    """The function that chooses a token id from logits (vocabulary,)."""
    if sampling is None:
        return lambda logits: int(logits.argmax())
    generator = torch.Generator(device).manual_seed(sampling.seed)

    def draw(logits: torch.Tensor) -> int:
        scaled = logits / sampling.temperature
        if 0 < sampling.top_k < len(scaled):
            scaled[scaled < scaled.topk(sampling.top_k).values[-1]] = -math.inf
        return int(torch.multinomial(scaled.softmax(-1), 1, generator=generator))

    return draw
