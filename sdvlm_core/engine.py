"""SpatialEngine and FrameSession: one encoded frame, many questions.

`open` runs the vision tower, the projector and the depth code once and keeps the key/value cache
of the image prefix; `ask` appends a question to that cache and takes it off again. Knows models
and frames; does not know ROS, threads (one caller at a time) or how words become numbers
(`measurement`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from sdvlm_core import geometry, measurement
from sdvlm_core.answer import Position, SpatialAnswer, Status, Timings, Verdict
from sdvlm_core.checkpoint import Checkpoint
from sdvlm_core.depth_encoding import encode, pool
from sdvlm_core.errors import DepthError, ModelMemoryError, QueryCanceled, QueryTimeout
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.image import clip_pixels
from sdvlm_core.model import encoding_settings, grid_cells
from sdvlm_core.prompt import check_question, prefix_ids, question_ids

MAX_NEW_TOKENS = 256


@contextmanager
def _memory_guard(doing: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise ModelMemoryError(f"out of memory while {doing}: {error}") from error


@dataclass(frozen=True, eq=False)
class _Generated:
    """New token ids, the probability given to each, and seconds until the first and after it."""

    ids: list[int]
    probabilities: list[float]
    prefill: float
    decode: float


class SpatialEngine:
    """A loaded model that opens frames."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.model_id = checkpoint.model_id

    def open(self, frame: RgbdFrame) -> FrameSession:
        """Encode a frame once; the session answers any number of questions about it.

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
            cache, length = self._encode(frame)
        return FrameSession(self.checkpoint, frame, cache, length, time.perf_counter() - started)

    def depth_code(self, frame: RgbdFrame) -> torch.Tensor | None:
        """The code (1, tokens, channels) float32 that the frame's depth adds; None = no encoding.

        Raises:
            DepthError, IntrinsicsError: as `open`.
        """
        model = self.checkpoint.model
        settings = encoding_settings(model.config)
        if settings.kind == "none":
            return None
        if frame.depth is None:
            raise DepthError(
                f"{self.model_id} answers from depth ({settings.kind} encoding) and this frame has "
                "none; give a depth image"
            )
        if settings.kind != "relative" and frame.depth_source == "estimated_relative":
            raise DepthError(
                f"{self.model_id} needs depth in metres ({settings.kind} encoding), but this "
                "frame's depth is a relative estimate"
            )
        grid = pool(frame.depth, frame.intrinsics, settings, grid_cells(model.config))
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

    def ask(
        self,
        question: str,
        *,
        deadline: float | None = None,
        cancel: threading.Event | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> SpatialAnswer:
        """Answer one question, greedily.

        Args:
            question: words; at most `prompt.MAX_QUESTION_CHARS` characters.
            deadline: `time.monotonic()` after which QueryTimeout is raised.
            cancel: set it from another thread to have QueryCanceled raised.
            max_new_tokens: the answer is cut there.

        Returns the answer; `timings.encode` is the cost of opening the frame, whoever asked first.

        Raises:
            QueryError, QueryTimeout, QueryCanceled, ModelMemoryError.
        """
        text = check_question(question)
        ids = question_ids(self._checkpoint.tokenizer, self._checkpoint.prompt_template, text)
        with _memory_guard("answering"), torch.inference_mode():
            generated = self._generate(ids, deadline, cancel, max_new_tokens)
        return self._answer(text, generated)

    def next_token_logits(self, question: str) -> torch.Tensor:
        """Logits (vocabulary,) float32 of the first answer token; leaves the session as it was."""
        ids = question_ids(
            self._checkpoint.tokenizer, self._checkpoint.prompt_template, check_question(question)
        )
        with torch.inference_mode():
            try:
                return self._step(ids)
            finally:
                self._forget_question()

    def _forget_question(self) -> None:
        """Cut the cache back to the image prefix; its own entries are never touched."""
        extra = self._cache.get_seq_length() - self._prefix_length
        if extra > 0:
            self._cache.crop(-extra)

    def _step(self, ids: list[int]) -> torch.Tensor:
        model = self._checkpoint.model
        logits = model(
            input_ids=torch.tensor([ids], device=self._checkpoint.device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[0, -1]
        # Rows that are no text: the image placeholder and what pads a vocabulary beyond it.
        logits = logits.float()
        logits[model.config.image_token_id] = -math.inf
        return logits

    def _generate(
        self,
        ids: list[int],
        deadline: float | None,
        cancel: threading.Event | None,
        max_new_tokens: int,
    ) -> _Generated:
        stop = self._checkpoint.tokenizer.eos_token_id
        new: list[int] = []
        probabilities: list[float] = []
        started = time.perf_counter()
        prefill = 0.0
        try:
            for _ in range(max_new_tokens):
                if cancel is not None and cancel.is_set():
                    raise QueryCanceled(f"canceled after {len(new)} tokens")
                if deadline is not None and time.monotonic() > deadline:
                    raise QueryTimeout(f"the deadline passed after {len(new)} tokens")
                logits = self._step(ids)
                chosen = int(logits.argmax())
                prefill = prefill or time.perf_counter() - started
                if chosen == stop:
                    break
                new.append(chosen)
                probabilities.append(float(logits.softmax(-1)[chosen]))
                ids = [chosen]
        finally:
            self._forget_question()
        return _Generated(new, probabilities, prefill, time.perf_counter() - started - prefill)

    def _answer(self, question: str, generated: _Generated) -> SpatialAnswer:
        started = time.perf_counter()
        tokenizer = self._checkpoint.tokenizer
        text = tokenizer.decode(generated.ids, skip_special_tokens=True).strip()
        reading = measurement.parse(text)
        status, verdict = Status.OK, Verdict.UNDECIDED
        if reading.yes is not None:
            verdict = Verdict.HOLDS if reading.yes else Verdict.DOES_NOT_HOLD
        elif reading.absent:
            status = Status.NOT_VISIBLE
        elif not text:
            status = Status.NO_ANSWER
        measurements = measurement.measurements(question, reading)
        return SpatialAnswer(
            question=question,
            text=text,
            measurements=measurements,
            image_points=reading.image_points,
            positions=self._positions(reading.image_points),
            verdict=verdict,
            status=status,
            confidence=_confidence(
                [tokenizer.decode([token]) for token in generated.ids], generated.probabilities
            ),
            model_id=self._checkpoint.model_id,
            depth_source=self.frame.depth_source if self.frame.depth is not None else "",
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
        found = (
            geometry.point_at(self.frame, u * width - 0.5, v * height - 0.5) for u, v in points
        )
        return tuple(point for point in found if point is not None)


def _confidence(pieces: list[str], probabilities: list[float]) -> float:
    """Geometric mean probability of the tokens with digits, else of all; NaN without tokens."""
    numbers = [p for piece, p in zip(pieces, probabilities, strict=True) if _has_digit(piece)]
    chosen = numbers or probabilities
    if not chosen:
        return math.nan
    return math.exp(sum(math.log(max(p, 1e-12)) for p in chosen) / len(chosen))


def _has_digit(piece: str) -> bool:
    return any(character.isdigit() for character in piece)
