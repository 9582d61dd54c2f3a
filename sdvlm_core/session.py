"""FrameSession: any number of questions about one encoded frame, and their answers.

`ask` and `stream` append one question to the key/value cache of the frame and remove it afterwards.
Does not know how a frame is encoded (`engine`), ROS, threads (one caller at a time), or how text is
read (`language.reading`).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from sdvlm_core.answer import (
    SIDES,
    Asked,
    Measurement,
    Position,
    Quantity,
    SpatialAnswer,
    Status,
    Timings,
)
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import QueryError
from sdvlm_core.frame import RgbdFrame, pixel_from_fraction, point_at
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.language.question import parse, phrase
from sdvlm_core.language.reading import Reading, measured, read
from sdvlm_core.model import confidence, constrained
from sdvlm_core.model.backbones.llava import (
    calibration,
    context_tokens,
    cut_cache,
    encoding_settings,
)
from sdvlm_core.model.checkpoint import Checkpoint
from sdvlm_core.model.generation import (
    Generated,
    generate,
    incremental_text,
    mask_non_text,
    prefill,
)
from sdvlm_core.model.generation_options import UNLIMITED, GenerationOptions
from sdvlm_core.model.prompt import answer_limit, check_question, question_ids

if TYPE_CHECKING:
    from transformers import DynamicCache

_GREEDY = GenerationOptions()


class FrameSession:
    """Answers questions about one frame that `SpatialEngine.open` encoded; one at a time."""

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
        self._uses_depth = encoding_settings(checkpoint.model.config).kind != "none"

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens that all questions share: the template's opening and the image."""
        return self._prefix_length

    def ask(self, question: str | Asked, options: GenerationOptions = _GREEDY) -> SpatialAnswer:
        """Answer one question.

        Args:
            question: typed, or in words: at most `prompt.MAX_QUESTION_CHARS` characters, and so
                many tokens that the model's context has room for an answer (`prompt.answer_limit`).
            options: deadline, cancellation, token limit and sampling.

        Returns the answer; its `timings.encode` is the time to open the frame.

        Raises:
            QueryError: the question is empty, too long, not text, or not complete
                (`question.check`).
            QueryTimeout: the deadline passed.
            QueryCanceled: the caller canceled.
            ModelMemoryError: out of memory.
            ModelOutputError: the model computed a value that is not finite.
        """
        words, asked = _worded(question)
        generated = self._nothing_generated()
        with closing(self._tokens(words, asked, generated, options)) as tokens:
            for _ in tokens:
                pass
        return self._answer(words, asked, generated)

    def stream(
        self, question: str | Asked, options: GenerationOptions = _GREEDY
    ) -> Generator[str, None, SpatialAnswer]:
        """As `ask`, but yields the text in parts and returns the answer at the end.

        The joined parts equal the answer's text, except for white space at its ends. The session
        accepts no other question until the generator is exhausted or closed; closing it early is
        allowed.
        """
        words, asked = _worded(question)
        generated = self._nothing_generated()
        # Closed here, not by the garbage collector: an early close frees the session at once.
        with closing(self._tokens(words, asked, generated, options)) as tokens:
            yield from incremental_text(tokens, generated)
        return self._answer(words, asked, generated)

    def next_token_logits(self, question: str) -> torch.Tensor:
        """Logits (vocabulary,) float32 of the first answer token; leaves the session as it was."""
        ids = self._question_ids(check_question(question))
        with self._one_question(), torch.inference_mode():
            return prefill(self._step, ids, UNLIMITED, self._checkpoint.device)

    def _question_ids(self, question: str) -> list[int]:
        checkpoint = self._checkpoint
        image_id = checkpoint.model.config.image_token_id
        return question_ids(checkpoint.tokenizer, checkpoint.prompt_template, question, image_id)

    def _nothing_generated(self) -> Generated:
        return Generated(self._checkpoint.tokenizer, self._checkpoint.prompt_template.stop)

    def _tokens(
        self, question: str, asked: Asked, generated: Generated, options: GenerationOptions
    ) -> Generator[int, None, None]:
        """Generate into `generated`, yield each token, and restore the cache at the end."""
        allowed = None
        if options.constrained and asked.quantity in constrained.QUANTITIES:
            question = f"{question} {constrained.instruction(asked.quantity)}"
            allowed = partial(
                constrained.allowed_tokens,
                quantity=asked.quantity,
                tokenizer=self._checkpoint.tokenizer,
            )
        ids = self._question_ids(question)
        context = context_tokens(self._checkpoint.model.config)
        limit = answer_limit(self._prefix_length, len(ids), options.max_new_tokens, context)
        limited = replace(options, max_new_tokens=limit)
        with self._one_question():
            yield from generate(
                self._step, ids, generated, limited, self._checkpoint.device, allowed
            )

    @contextmanager
    def _one_question(self) -> Iterator[None]:
        """Reserve the cache for one question, and cut it back to the image prefix afterwards.

        Raises:
            QueryError: another question is using it.
        """
        if self._busy:
            raise QueryError("another answer of this session is not finished; close its stream")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            cut_cache(self._cache, self._prefix_length)

    def _step(self, ids: list[int]) -> torch.Tensor:
        """Append tokens to the cache; returns the next token's logits (vocabulary,) float32."""
        model = self._checkpoint.model
        logits = model(
            input_ids=torch.tensor([ids], device=self._checkpoint.device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[0, -1]
        return mask_non_text(
            logits.float().to(self._checkpoint.device),
            model.config.image_token_id,
            len(self._checkpoint.tokenizer),
        )

    def _answer(self, question: str, asked: Asked, generated: Generated) -> SpatialAnswer:
        started = time.perf_counter()
        text = generated.text.strip()
        reading = read(text, asked)
        found = reading.measurements
        if asked.quantity is Quantity.FREE and not found:  # one question about several objects
            found = measured(question, text)
        return SpatialAnswer(
            question=question,
            text=text,
            asked=asked,
            measurements=found,
            image_points=reading.image_points,
            positions=self._positions(reading.image_points),
            verdict=reading.verdict,
            chosen=reading.chosen,
            status=self._status(asked, reading),
            confidence=self._confidence(reading, found, generated),
            model_id=self._checkpoint.model_id,
            depth_source="" if self.frame.depth is None else self.frame.depth_source,
            cautions=self._cautions(found),
            why_none=reading.why_none,
            timings=Timings(
                encode=self._encode_seconds,
                prefill=generated.prefill_s,
                decode=generated.decode_s,
                measure=time.perf_counter() - started,
            ),
        )

    def _cautions(self, measured: tuple[Measurement, ...]) -> tuple[Caution, ...]:
        """The frame's; for the size of an object also whether its depth shows which way is up.

        That opens the scene once per frame, about 6 ms for 640x480: little beside an answer, and
        verification of the answer needs the scene anyway.
        """
        frame = self.frame
        known = frame.depth is not None and frame.intrinsics is not None
        if known and frame.depth_source == "sensor" and any(m.kind in SIDES for m in measured):
            return open_scene(frame).cautions
        return frame.cautions

    def _status(self, asked: Asked, reading: Reading) -> Status:
        if reading.absent and asked.quantity is not Quantity.EXISTS:
            return Status.NOT_VISIBLE
        if not reading.text or reading.why_none:
            return Status.NO_ANSWER
        return Status.NO_DEPTH if self._uses_depth and self.frame.depth is None else Status.OK

    def _confidence(
        self, reading: Reading, measured: tuple[Measurement, ...], generated: Generated
    ) -> float:
        raw = confidence.raw(generated.token_texts, generated.probabilities)
        return self._calibration(confidence.kind_of(reading, measured), raw)

    def _positions(self, points: tuple[tuple[float, float], ...]) -> tuple[Position, ...]:
        """The 3-D points under the image points; those without a depth reading are left out."""
        width, height = self.frame.width, self.frame.height
        found = (point_at(self.frame, *pixel_from_fraction(u, v, width, height)) for u, v in points)
        return tuple(point for point in found if point is not None)


def _worded(question: str | Asked) -> tuple[str, Asked]:
    """The words that the model is asked with, and the typed question."""
    if isinstance(question, Asked):
        return check_question(phrase(question)), question
    words = check_question(question)
    return words, parse(words)
