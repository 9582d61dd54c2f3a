"""FrameSession: any number of questions about one encoded frame, and their answers.

Questions are put to the frame's decoder, `ask_many` several together. Does not know how a frame is
encoded (`engine`), where answers are decoded (`model.local_decoder`, `model.served`), ROS, threads
(one caller at a time), or how text is read (`language.reading`).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

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
from sdvlm_core.language.boxes import Form
from sdvlm_core.language.question import Dialect, parse, phrase
from sdvlm_core.language.reading import Reading, measured, read
from sdvlm_core.model import confidence, constrained
from sdvlm_core.model.checkpoint import Checkpoint
from sdvlm_core.model.generated import Generated
from sdvlm_core.model.generation import Decoder, Prompt
from sdvlm_core.model.generation_options import GenerationOptions, Query
from sdvlm_core.model.local_decoder import LocalDecoder
from sdvlm_core.model.own_settings import calibration, context_tokens, encoding_settings
from sdvlm_core.model.prompt import answer_limit, check_question, question_ids

_GREEDY = GenerationOptions()
#: Questions that are decoded together, at most.
MAX_ROWS = 16


@dataclass(frozen=True)
class _Prepared:
    """A question of a batch, its words, its type and its prompt."""

    index: int
    words: str
    asked: Asked
    prompt: Prompt


class FrameSession:
    """Answers questions about one frame that `SpatialEngine.open` encoded."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        frame: RgbdFrame,
        decoder: Decoder,
        encode_seconds: float,
    ) -> None:
        self.frame = frame
        self.decoder = decoder
        self._checkpoint = checkpoint
        self._encode_seconds = encode_seconds
        self._calibration = calibration(checkpoint.model.config)
        self._uses_depth = encoding_settings(checkpoint.model.config).kind != "none"

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens that all questions share: the template's opening and the image."""
        return self.decoder.prefix_tokens

    @property
    def boxes_form(self) -> str:
        """How the model writes the place of an object: a form of `language.boxes`."""
        return self._checkpoint.backbone.boxes

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height of the picture in whose pixels the model writes."""
        frame = self.frame
        height, width = self._checkpoint.backbone.picture_size(frame.height, frame.width)
        return width, height

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
        (result,) = self.ask_many([Query(question, options)])
        if isinstance(result, Exception):
            raise result
        return result

    def ask_many(
        self, queries: Sequence[Query], max_rows: int = MAX_ROWS
    ) -> list[SpatialAnswer | Exception]:
        """Answer several questions together: about as fast as one where the model is large.

        Args:
            max_rows: questions that are decoded at the same time; fewer where memory is short. The
                others follow.

        Returns, for each question, its answer or the exception that `ask` would raise for it.

        Raises:
            ModelMemoryError: out of memory.
        """
        results: dict[int, SpatialAnswer | Exception] = {}
        with closing(self.progress(queries, max_rows)) as events:
            for index, event in events:
                if not isinstance(event, str):
                    results[index] = event
        return [results[index] for index in range(len(queries))]

    def stream(
        self, question: str | Asked, options: GenerationOptions = _GREEDY
    ) -> Generator[str, None, SpatialAnswer]:
        """As `ask`, but yields the text in parts and returns the answer at the end.

        The joined parts equal the answer's text, except for white space at its ends. The generator
        may be closed early, and other questions may be asked in between.
        """
        # Closed here, not by the garbage collector: an early close frees its memory at once.
        with closing(self.progress([Query(question, options)])) as events:
            for _, event in events:
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, SpatialAnswer):
                    return event
                yield event
        raise AssertionError("every question ends with an answer or an exception")

    def progress(
        self, queries: Sequence[Query], max_rows: int = MAX_ROWS
    ) -> Generator[tuple[int, str | SpatialAnswer | Exception], None, None]:
        """`ask_many` as it goes: the index of a question, and what is new of its answer.

        That is a part of its text, or in the end the answer or the exception. Other questions may
        be asked in between.

        Raises:
            ModelMemoryError: out of memory.
        """
        prepared: list[_Prepared] = []
        for index, query in enumerate(queries):
            try:
                prepared.append(self._prepare(index, query))
            except QueryError as error:
                yield index, error
        while prepared:
            chosen = self.decoder.together([one.prompt for one in prepared], max_rows)
            taken = [prepared[index] for index in chosen]
            yield from self._together(taken)
            prepared = [one for one in prepared if one not in taken]

    def next_token_logits(self, question: str) -> torch.Tensor:
        """Logits (vocabulary,) float32 of the first answer token; of a model in this process."""
        assert isinstance(self.decoder, LocalDecoder), "a server keeps its logits"
        return self.decoder.next_token_logits(self._question_ids(check_question(question)))

    def _question_ids(self, question: str) -> list[int]:
        checkpoint = self._checkpoint
        image_id = checkpoint.model.config.image_token_id
        return question_ids(checkpoint.tokenizer, checkpoint.prompt_template, question, image_id)

    def _prepare(self, index: int, query: Query) -> _Prepared:
        """The prompt of a question; raises QueryError."""
        checkpoint, options = self._checkpoint, query.options
        words, told, asked = _worded(query.question, checkpoint.dialect)
        form = None
        wanted = options.constrained
        if wanted is None:
            wanted = checkpoint.dialect is Dialect.CHAT
        if wanted and asked.quantity in constrained.QUANTITIES:
            told = f"{told} {constrained.instruction(asked.quantity)}"
            form = asked.quantity
        ids = self._question_ids(told)
        context = context_tokens(checkpoint.model.config)
        limit = answer_limit(self.prefix_tokens, len(ids), options.max_new_tokens, context)
        generated = Generated(checkpoint.tokenizer, checkpoint.prompt_template.stop)
        limited = replace(options, max_new_tokens=limit)
        text = checkpoint.prompt_template.around(told) + checkpoint.prompt_template.closing
        prompt = Prompt(ids, text, generated, limited, checkpoint.ends, form)
        return _Prepared(index, words, asked, prompt)

    def _together(
        self, prepared: Sequence[_Prepared]
    ) -> Iterator[tuple[int, str | SpatialAnswer | Exception]]:
        """Decode questions together; see `progress`."""
        prompts = [one.prompt for one in prepared]
        with closing(self.decoder.decode(prompts)) as steps:
            for row, ended, error in steps:
                one = prepared[row]
                if error is not None:
                    yield one.index, error
                    continue
                if part := one.prompt.generated.take(complete=ended):
                    yield one.index, part
                if ended:
                    yield one.index, self._answer(one.words, one.asked, one.prompt.generated)

    def _answer(self, question: str, asked: Asked, generated: Generated) -> SpatialAnswer:
        started = time.perf_counter()
        text = generated.text.strip()
        in_pixels = self.boxes_form == Form.PIXELS
        reading = read(text, asked, self.picture_size if in_pixels else None)
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
        sees_depth = self._uses_depth and self.frame.depth is not None
        return Status.OK if sees_depth else Status.NO_DEPTH

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


def _worded(question: str | Asked, dialect: Dialect) -> tuple[str, str, Asked]:
    """The question in words, the words that the model is asked with, and the typed question.

    They differ for a small model that knows the templates of its training better than any other
    words: a question that is understood is put to it in its template.
    """
    if isinstance(question, Asked):
        words = check_question(phrase(question, dialect))
        return words, words, question
    words = check_question(question)
    asked = parse(words)
    if dialect is Dialect.TEMPLATES and asked.quantity is not Quantity.FREE:
        return words, check_question(phrase(asked, dialect)), asked
    return words, words, asked
