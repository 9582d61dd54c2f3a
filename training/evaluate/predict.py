"""Frames with questions -> greedy answers; those about a frame are decoded together.

The words of a benchmark are asked as they are, without a form for the answer. The tokens are those
of `FrameSession.ask`, up to the rounding of another order of sums. Knows the engine; does not know
the benchmark.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import ModelMemoryError, SdvlmError
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.language.question import parse
from sdvlm_core.language.reading import measured, read
from sdvlm_core.model import confidence
from sdvlm_core.model.confidence import Calibration
from sdvlm_core.model.generated import Generated, truncated
from sdvlm_core.model.generation import Prompt, generate, mask_non_text
from sdvlm_core.model.generation_options import MAX_NEW_TOKENS, GenerationOptions
from sdvlm_core.model.own_settings import calibration
from sdvlm_core.model.prefix import Prefix
from sdvlm_core.model.prompt import Template, check_question, question_ids
from sdvlm_core.model.rows import CachedRows


@dataclass(frozen=True)
class Answer:
    """A model's answer, or the `error` that it gave instead. Seconds are the frame's by question.

    `kind`, `raw` and `confidence` are those of `sdvlm_core.model.confidence`, before and after
    calibration; NaN without an answer.
    """

    text: str
    seconds: float = 0.0
    error: str = ""
    kind: str = ""
    raw: float = math.nan
    confidence: float = math.nan


@dataclass(frozen=True)
class Decoded:
    """The text of an answer, the text of each token, and the probability of each token."""

    text: str
    pieces: list[str]
    probabilities: list[float]


def answer_all(
    engine: SpatialEngine, asked: Sequence[tuple[RgbdFrame, Sequence[str]]]
) -> list[list[Answer]]:
    """Answer every question about every frame; a refusal is an answer with an error.

    Raises:
        ModelMemoryError: out of memory.
    """
    return [_about(engine, frame, questions) for frame, questions in asked]


def _about(engine: SpatialEngine, frame: RgbdFrame, questions: Sequence[str]) -> list[Answer]:
    started = time.perf_counter()
    try:
        session = engine.open(frame)
    except ModelMemoryError:
        raise
    except SdvlmError as error:
        return [_refusal(error) for _ in questions]
    answers: dict[int, Answer] = {}
    prompts: dict[int, Prompt] = {}
    for number, question in enumerate(questions):
        try:
            prompts[number] = _prompt(engine, question)
        except SdvlmError as error:
            answers[number] = _refusal(error)
    for together in _decodable(prompts, session.prefix.pads):
        answers |= _decoded(engine, session.prefix, together)
    each = (time.perf_counter() - started) / max(1, len(prompts))
    trust = calibration(engine.checkpoint.model.config)
    for number, prompt in prompts.items():
        if number not in answers:
            answers[number] = _answer(questions[number], prompt.generated, trust, each)
    return [answers[number] for number in range(len(questions))]


def _decodable(prompts: dict[int, Prompt], pads: bool) -> Iterator[dict[int, Prompt]]:
    """The prompts that may be decoded together: all, or those of one length."""
    lengths = {0} if pads else {len(one.ids) for one in prompts.values()}
    for length in sorted(lengths):
        found = {n: one for n, one in prompts.items() if pads or len(one.ids) == length}
        if found:
            yield found


def _decoded(
    engine: SpatialEngine, prefix: Prefix, prompts: dict[int, Prompt]
) -> dict[int, Answer]:
    """Fill in what each prompt generates; the refusals of those that fail."""
    checkpoint, numbers = engine.checkpoint, list(prompts)
    rows = CachedRows(checkpoint.model, prefix, len(checkpoint.tokenizer), checkpoint.device)
    failed = {}
    for progress in generate(rows, list(prompts.values()), checkpoint.device):
        if isinstance(progress.error, SdvlmError):
            failed[numbers[progress.prompt]] = _refusal(progress.error)
    return failed


def _prompt(engine: SpatialEngine, question: str) -> Prompt:
    checkpoint = engine.checkpoint
    form, tokenizer = checkpoint.prompt_template, checkpoint.tokenizer
    ids = question_ids(tokenizer, form, check_question(question))
    generated = Generated(tokenizer, form.stop)
    return Prompt(ids, generated, GenerationOptions(), checkpoint.ends)


def _answer(question: str, generated: Generated, trust: Calibration, seconds: float) -> Answer:
    text = generated.text.strip()
    reading = read(text, parse(question))
    found = reading.measurements or measured(question, text)
    kind = confidence.kind_of(reading, found)
    raw = confidence.raw(generated.token_texts, generated.probabilities)
    return Answer(text, seconds, "", kind, raw, trust(kind, raw))


def _refusal(error: SdvlmError) -> Answer:
    return Answer("", error=f"{type(error).__name__}: {error}")


@torch.inference_mode()
def decode(
    model: Any,
    tokenizer: Any,
    form: Template,
    cache: DynamicCache,
    before: int,
    ids: list[list[int]],
    device: torch.device,
) -> list[Decoded]:
    """Greedy answers to questions, each after its own prefix.

    Args:
        cache: key/value cache of the prefixes, one row per question, `before` tokens each.
        ids: tokens of the questions.
    """
    end, image = tokenizer.eos_token_id, model.config.image_token_id
    longest = max(map(len, ids))
    pads = torch.tensor([longest - len(row) for row in ids], device=device)
    step = torch.tensor([[end] * (longest - len(row)) + row for row in ids], device=device)
    mask = torch.ones(len(ids), before + longest, dtype=torch.long, device=device)
    mask[:, before:] = torch.arange(longest, device=device) >= pads[:, None]
    places = (before + torch.arange(longest, device=device) - pads[:, None]).clamp(min=before)
    generated: list[list[int]] = [[] for _ in ids]
    probabilities: list[list[float]] = [[] for _ in ids]
    done = [False] * len(ids)
    for _ in range(MAX_NEW_TOKENS):
        logits = model(
            input_ids=step,
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        logits = mask_non_text(logits.float().to(device), image, len(tokenizer))
        likeliest = logits.softmax(-1).max(-1)
        chosen = likeliest.indices
        pairs = zip(chosen.tolist(), likeliest.values.tolist(), strict=True)
        for row, (token, probability) in enumerate(pairs):
            done[row] = done[row] or token == end
            if not done[row]:
                generated[row].append(token)
                probabilities[row].append(probability)
                done[row] = bool(form.stop) and form.stop in tokenizer.decode(generated[row])
        if all(done):
            break
        step, places = chosen[:, None], places[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1)
    answers = []
    for tokens, own in zip(generated, probabilities, strict=True):
        text = truncated(tokenizer.decode(tokens, skip_special_tokens=True), form.stop).strip()
        pieces = [tokenizer.decode([token]) for token in tokens]
        answers.append(Decoded(text, pieces, own))
    return answers
