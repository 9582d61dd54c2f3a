"""An answer and its reference -> a judgement, in the format of the official scripts.

Three judges: `rules_judge` reads both with our own parser and is deterministic; `Embedding` adds
all-MiniLM-L6-v2 for names; `chat_judge` asks a model behind an OpenAI-compatible server, as in the
paper. A judgement has the values of the answer and of the reference; `official.official` and
`score.strict` decide whether the answer is right. Text of a model is data and is never executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Any

from sdvlm_core.answer import Asked
from sdvlm_core.language.reading import measured, read
from training.build.endpoint import Endpoint, EndpointError
from training.evaluate.items import Item
from training.evaluate.references import (
    SAID,
    clock_hours,
    one_length,
    plain_name,
    stated_relation,
    winner,
)
from training.evaluate.score import SCALAR, score

#: (item, answer) -> judgement; raises JudgeError.
Judge = Callable[[Item, str], str]

_PROMPTS = Path(__file__).with_name("prompts")
_EMBEDDED_TOKENS = 256  # maximum length of a text in the release of all-MiniLM-L6-v2


class JudgeError(RuntimeError):
    """A judgement could not be made; the message has the reason."""


def rules_judge(item: Item, answer: str) -> str:
    """A judgement without a model; a value is null if the text has none."""
    if item.rule == "factor":
        return _in_box(item, answer)
    if item.rule in ("mark", "any mark"):
        right = _region_mark(item, answer) if item.rule == "any mark" else _mark(item, answer)
        return json.dumps({"your_mark": int(right)})
    if item.rule == "clock":
        hours = clock_hours(answer)
        hour = int(item.reference) if isinstance(item.reference, float) else None
        said = hours[-1] if hours else None
        return json.dumps({"answer_direction": hour, "response_direction": said})
    response: Any
    if item.rule == "position":
        points = read(answer, Asked()).image_points
        named = isinstance(item.reference, str)
        response = plain_name(answer) if named else list(points[0]) if points else None
    elif item.rule == "quarter":
        response = one_length(item.question, answer)
    else:
        values = [m.value for m in measured(item.question, answer)]
        response = values[0] if len(values) == 1 else values or None
    wanted = item.reference
    wanted = list(wanted) if isinstance(wanted, tuple) else wanted
    return json.dumps({"answer_in_meters": wanted, "response_in_meters": response})


def _in_box(item: Item, answer: str) -> str:
    """The answer, if it has the format of Q-Spatial; else its length in that format."""
    if SCALAR.search(answer):
        return answer
    metres = one_length(item.question, answer)
    return "" if metres is None else f"\\scalar{{{metres:.6f}}} \\distance_unit{{m}}"


def _mark(item: Item, answer: str) -> bool:
    reference = item.reference
    if not isinstance(reference, str):
        return False
    if reference in ("yes", "no") and item.type == "relative_position":
        verdict = read(answer, Asked()).verdict
        said = SAID.get(verdict) or stated_relation(item.question, answer)
        return said == reference
    if item.type in ("relative_position", "scale_compare"):
        return winner(answer, item.names or (reference,)) == reference
    return score(item.question, answer, reference, item.names).correct


def _region_mark(item: Item, answer: str) -> bool:
    """SpatialRGPT-Bench: whether both texts affirm or deny, or name the same region first."""
    wanted, said = _side(item.answer), _side(answer)
    if wanted is None:
        regions = [_regions(text)[:1] for text in (item.answer, answer)]
        return regions[0] != [] and regions[0] == regions[1]
    return wanted == said


def _regions(text: str) -> list[str]:
    return [part.partition("]")[0].strip() for part in text.lower().split("region [")[1:]]


def _side(text: str) -> str | None:
    """Yes or no; "Actually, ..." and "In fact, ..." mean no in this benchmark."""
    said = SAID.get(read(text, Asked()).verdict)
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
