"""An answer and its reference -> a judgement, in the format of the official scripts.

Three judges: `rules_judge` reads both by `stated` and is deterministic; `Embedding` adds
all-MiniLM-L6-v2 for names; `chat_judge` asks a model behind an OpenAI-compatible server, as in the
paper. A judgement has the values of the answer and of the reference; `official.official` and
`score.strict` decide whether the answer is right. Text of a model is data and is never executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Any

from sdvlm_core.answer import Asked
from training.build.endpoint import Endpoint, EndpointError
from training.evaluate import stated
from training.evaluate.items import Item
from training.evaluate.references import clock_hours
from training.evaluate.score import SCALAR, Score, strict

#: (item, answer) -> judgement; raises JudgeError.
Judge = Callable[[Item, str], str]

_PROMPTS = Path(__file__).with_name("prompts")
_EMBEDDED_TOKENS = 256  # maximum length of a text in the release of all-MiniLM-L6-v2


class JudgeError(RuntimeError):
    """A judgement could not be made; the message has the reason."""


def rules_judge(item: Item, answer: str) -> str:
    """A judgement without a model; a value is null if the text has none."""
    if item.rule in ("any mark", "quarter"):
        question, true = stated.with_letters(item.question), stated.with_letters(item.answer)
        item, answer = replace(item, question=question, answer=true), stated.with_letters(answer)
    asked = item.asked or stated.asked_in(item.question)
    if item.rule == "factor":
        return _in_box(answer, asked)
    if item.rule in ("mark", "any mark"):
        right = _region_mark if item.rule == "any mark" else _mark
        return json.dumps({"your_mark": int(right(item, answer, asked))})
    if item.rule == "clock":
        hours = clock_hours(answer)
        hour = int(item.reference) if isinstance(item.reference, float) else None
        said = hours[-1] if hours else None
        return json.dumps({"answer_direction": hour, "response_direction": said})
    response: Any
    if item.rule == "position":
        named = isinstance(item.reference, str)
        response = stated.thing(answer) if named else stated.image_point(answer, asked)
    elif item.rule == "quarter":
        response = stated.length(answer, asked)
    else:
        values = stated.numbers(answer, asked)
        response = values[0] if len(values) == 1 else values or None
    return json.dumps({"answer_in_meters": item.reference, "response_in_meters": response})


def judged(item: Item, answer: str) -> Score:
    """An answer by the strict rules, without a model."""
    metres = item.reference if isinstance(item.reference, float) else math.nan
    return strict(item.rule, rules_judge(item, answer), metres)


def _in_box(answer: str, asked: Sequence[Asked]) -> str:
    """The answer, if it has the format of Q-Spatial; else its length in that format."""
    if SCALAR.search(answer):
        return answer
    metres = stated.length(answer, asked)
    return "" if metres is None else f"\\scalar{{{metres:.6f}}} \\distance_unit{{m}}"


def _mark(item: Item, answer: str, asked: Sequence[Asked]) -> bool:
    """Whether the answer says what the reference says: denial, choice, yes or no."""
    if item.reference is None:
        return False
    if item.reference == "refused":
        return stated.refuses(answer)
    if item.reference == "absent":
        absent = stated.denied(item.answer, asked)
        return absent != frozenset() and stated.denied(answer, asked) == absent
    if item.reference in ("yes", "no"):
        return stated.verdict(answer, asked) == item.reference
    return stated.chosen(answer, asked) == item.reference


def _region_mark(item: Item, answer: str, asked: Sequence[Asked]) -> bool:
    """SpatialRGPT-Bench: whether both texts affirm or deny, or choose the same region."""
    read = stated.chosen if asked and asked[0].which else _side
    wanted = read(item.answer, asked)
    return wanted is not None and wanted == read(answer, asked)


def _side(text: str, asked: Sequence[Asked]) -> str | None:
    """Yes or no; "Actually, ..." and "In fact, ..." mean no in this benchmark."""
    said = stated.verdict(text, asked)
    if said is None and text.lower().startswith(("actually", "in fact")):
        return "no"
    return said


class Embedding:
    """Cosine of two texts by all-MiniLM-L6-v2, from a local directory.

    As sentence-transformers computes it: the mean over the tokens of the last layer.

    Raises:
        JudgeError: it cannot be loaded from there.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():  # transformers would look it up on the hub
            raise JudgeError(f"{directory} is not a directory with all-MiniLM-L6-v2")
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            self._model = AutoModel.from_pretrained(
                directory, local_files_only=True, use_safetensors=True, trust_remote_code=False
            ).eval()
        except (ImportError, OSError, ValueError, RuntimeError) as error:
            raise JudgeError(f"{directory} cannot be loaded: {error}") from error
        self._embedded = lru_cache(4096)(self._embed)

    def __call__(self, a: str, b: str) -> float:
        """Cosine in [-1, 1]."""
        return float(self._embedded(a) @ self._embedded(b))

    def _embed(self, text: str) -> Any:
        import torch

        tokens = self._tokenizer(
            text.strip(), truncation=True, max_length=_EMBEDDED_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state[0].float()
        return torch.nn.functional.normalize(states.mean(0), dim=0)


def chat_judge(
    url: str, model: str, cache: Path, *, key_variable: str = "", per_minute: float = 0.0
) -> Judge:
    """A judge that asks a chat model for JSON; replies are cached by question.

    Q-Spatial is read by rules, as in its script.

    Raises:
        JudgeError: the client library or the key is missing.
    """
    try:
        ask = Endpoint(
            url,
            model,
            cache,
            key_variable=key_variable,
            per_minute=per_minute,
            json_mode=True,
        )
    except EndpointError as error:
        raise JudgeError(str(error)) from error

    def judge(item: Item, answer: str) -> str:
        if item.rule == "factor":
            return rules_judge(item, answer)
        prompt = judge_prompt(item, answer)
        try:
            return ask(prompt, ())
        except EndpointError as error:
            raise JudgeError(str(error)) from error

    return judge


def judge_prompt(item: Item, answer: str) -> str:
    """The prompt about one answer, which is quoted as JSON."""
    name = {"mark": "mark", "any mark": "mark", "clock": "clock"}.get(item.rule, "metres")
    text = (_PROMPTS / f"{name}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(
        question=json.dumps(item.question),
        answer=json.dumps(item.answer),
        response=json.dumps(answer),
    )
