"""Frames with questions -> greedy answers; those about a frame are decoded together (`ask_many`).

The words of a benchmark are asked as the engine asks words, without a form for the answer. Knows
the engine and the calibration of its answers; does not know the benchmark.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import ModelMemoryError, SdvlmError
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.language.reading import read
from sdvlm_core.model import confidence
from sdvlm_core.model.checkpoint import Checkpoint
from sdvlm_core.model.confidence import Calibration
from sdvlm_core.model.generated import truncated
from sdvlm_core.model.generation import mask_non_text
from sdvlm_core.model.generation_options import MAX_NEW_TOKENS, GenerationOptions, Query
from sdvlm_core.model.own_settings import calibration
from sdvlm_core.model.prompt import Template

_AS_THEY_ARE = GenerationOptions(constrained=False)


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


#: A frame and the questions about it -> an answer to each, in order. A refusal is an answer with an
#: error; ModelMemoryError is raised.
AnswerFrame = Callable[[RgbdFrame, Sequence[str]], list[Answer]]


@dataclass(frozen=True)
class Decoded:
    """The text of an answer, the text of each token, and the probability of each token."""

    text: str
    pieces: list[str]
    probabilities: list[float]


def answers_of(checkpoint: Checkpoint) -> AnswerFrame:
    """The `AnswerFrame` of a checkpoint, which must not be used for anything else afterwards.

    Its calibration is taken out of its config: rows have the confidence before and after.
    """
    trust = calibration(checkpoint.model.config)
    checkpoint.model.config.calibration = None
    engine = SpatialEngine(checkpoint)

    def answers(frame: RgbdFrame, questions: Sequence[str]) -> list[Answer]:
        started = time.perf_counter()
        queries = [Query(question, _AS_THEY_ARE) for question in questions]
        try:
            results = engine.open(frame).ask_many(queries)
        except ModelMemoryError:
            raise
        except SdvlmError as error:
            return [_refusal(error) for _ in questions]
        each = (time.perf_counter() - started) / max(1, len(questions))
        return [_answer(result, trust, each) for result in results]

    return answers


def _answer(result: SpatialAnswer | Exception, trust: Calibration, seconds: float) -> Answer:
    if isinstance(result, ModelMemoryError) or not isinstance(result, (SpatialAnswer, SdvlmError)):
        raise result
    if isinstance(result, SdvlmError):
        return _refusal(result)
    kind = confidence.kind_of(read(result.text, result.asked), result.measurements)
    raw = result.confidence
    return Answer(result.text, seconds, "", kind, raw, trust(kind, raw))


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
