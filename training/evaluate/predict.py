"""Frames with questions -> greedy answers, many decoded together.

Every frame's prefix (opening of the template, image tokens, depth code) is prefilled once, and all
questions of a batch continue it side by side, padded at the left. The tokens are those of
`FrameSession.ask`, up to the rounding of another order of sums. Knows the engine; does not know
the benchmark.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
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
from sdvlm_core.model.generated import truncated
from sdvlm_core.model.generation import mask_non_text
from sdvlm_core.model.generation_options import MAX_NEW_TOKENS
from sdvlm_core.model.own_settings import calibration
from sdvlm_core.model.prompt import Template, check_question, prefix_ids, question_ids


@dataclass(frozen=True)
class Answer:
    """A model's answer, or the `error` that it gave instead. Seconds are the batch's over its size.

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
    """Answer every question about every frame; a refusal is an answer with an error."""
    started = time.perf_counter()
    answers: list[list[Answer | None]] = [[None] * len(questions) for _, questions in asked]
    encoded: list[Any] = []
    rows: list[tuple[int, int, int, list[int]]] = []  # frame, question, index in encoded, ids
    for at, (frame, questions) in enumerate(asked):
        try:
            features = _encode(engine, frame)
        except SdvlmError as error:
            answers[at] = [_refusal(error) for _ in questions]
            continue
        for number, question in enumerate(questions):
            try:
                ids = _question(engine, question)
            except SdvlmError as error:
                answers[at][number] = _refusal(error)
            else:
                rows.append((at, number, len(encoded), ids))
        encoded.append(features)
    if rows:
        try:
            replies = _decode(engine, encoded, [row[2] for row in rows], [row[3] for row in rows])
        except torch.OutOfMemoryError as error:
            raise ModelMemoryError(
                f"out of memory with {len(rows)} questions together; use a smaller --batch"
            ) from error
        each = (time.perf_counter() - started) / len(rows)
        trust = calibration(engine.checkpoint.model.config)
        for (at, number, *_), decoded in zip(rows, replies, strict=True):
            answers[at][number] = _answer(asked[at][1][number], decoded, trust, each)
    return answers  # type: ignore[return-value]


def _answer(question: str, decoded: Decoded, trust: Calibration, seconds: float) -> Answer:
    reading = read(decoded.text, parse(question))
    found = reading.measurements or measured(question, decoded.text)
    kind = confidence.kind_of(reading, found)
    raw = confidence.raw(decoded.pieces, decoded.probabilities)
    return Answer(decoded.text, seconds, "", kind, raw, trust(kind, raw))


def _refusal(error: SdvlmError) -> Answer:
    return Answer("", error=f"{type(error).__name__}: {error}")


def _question(engine: SpatialEngine, question: str) -> list[int]:
    checkpoint = engine.checkpoint
    return question_ids(checkpoint.tokenizer, checkpoint.prompt_template, check_question(question))


@torch.inference_mode()
def _encode(engine: SpatialEngine, frame: RgbdFrame) -> Any:
    return engine.image_features(frame)


@torch.inference_mode()
def _decode(
    engine: SpatialEngine, encoded: list[Any], owner: list[int], ids: list[list[int]]
) -> list[Decoded]:
    checkpoint = engine.checkpoint
    model, device, tokenizer = checkpoint.model, checkpoint.device, checkpoint.tokenizer
    form = checkpoint.prompt_template
    features = encoded[0]
    features.pooler_output = [item for one in encoded for item in one.pooler_output]
    tokens = features.pooler_output[0].shape[0]
    prefix = prefix_ids(tokenizer, form, model.config.image_token_id, tokens)
    cache = DynamicCache(config=model.config.text_config)
    model(
        input_ids=torch.tensor([prefix] * len(encoded), device=device),
        mm_encoder_outputs={"image": features},
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache.batch_select_indices(torch.tensor(owner, device=device))
    return decode(model, tokenizer, form, cache, len(prefix), ids, device)


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
