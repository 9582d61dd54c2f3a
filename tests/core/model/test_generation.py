"""The token loop with a scripted model: yielded text, stop conditions, reported values."""

from __future__ import annotations

import math
import threading
import time

import pytest
import torch

from sdvlm_core.errors import ErrorCode, ModelOutputError, QueryCanceled, QueryTimeout, error_code
from sdvlm_core.model import generation
from sdvlm_core.model.generation import (
    Generated,
    generate,
    incremental_text,
    mask_non_text,
    prefill,
)
from sdvlm_core.model.generation_options import GenerationOptions, Limits, Sampling

END, VOCABULARY = 0, 256
CPU = torch.device("cpu")


class ByteTokenizer:
    """Token id = byte of UTF-8 text; 0 ends the sequence."""

    bos_token_id = None
    eos_token_id = END
    unk_token_id = None
    all_special_ids = (END,)

    def __len__(self) -> int:
        return VOCABULARY

    def encode(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
        return bytes(ids).decode(errors="replace")


def _scripted(text: str):
    """A forward step that continues every prompt with this text, then ends."""
    ids = iter([*text.encode(), END])
    return lambda _: torch.nn.functional.one_hot(torch.tensor(next(ids)), VOCABULARY) * 9.0


def _parts(text: str, stop: str = "", **options: object) -> tuple[list[str], Generated]:
    generated = Generated(ByteTokenizer(), stop)
    tokens = generate(_scripted(text), [1, 2], generated, GenerationOptions(**options), CPU)
    return list(incremental_text(tokens, generated)), generated


def test_the_joined_parts_are_the_text_without_the_end_token():
    parts, generated = _parts("0.3 m")
    assert parts == list("0.3 m")
    assert generated.text == "0.3 m"
    assert generated.token_texts == parts
    assert all(0.9 < probability <= 1 for probability in generated.probabilities)
    assert generated.prefill_s > 0
    assert generated.decode_s > 0


def test_an_incomplete_character_waits_for_its_other_bytes():
    assert _parts("5 ± 1")[0] == ["5", " ", "±", " ", "1"]


def test_the_stop_text_ends_the_answer_and_a_partial_one_is_emitted_when_it_is_none():
    parts, generated = _parts("yes USER: and so on", stop="USER:")
    assert "".join(parts) == generated.text == "yes "
    parts, generated = _parts("a US dollar", stop="USER:")
    assert "".join(parts) == generated.text == "a US dollar"
    assert "U" not in parts


def test_the_token_limit_cuts_the_answer():
    assert _parts("0.3 m", max_new_tokens=3)[1].text == "0.3"


def test_cancel_and_deadline_are_checked_before_every_token():
    cancel = threading.Event()
    generated = Generated(ByteTokenizer())
    options = GenerationOptions(cancel=cancel)
    tokens = generate(_scripted("0.3 m"), [1], generated, options, CPU)
    next(tokens)
    cancel.set()
    with pytest.raises(QueryCanceled, match="after 1 tokens"):
        next(tokens)
    with pytest.raises(QueryTimeout, match="after 0 tokens"):
        _parts("0.3 m", deadline=time.monotonic() - 1)


def test_tokens_that_are_not_text_are_never_chosen():
    logits = mask_non_text(torch.zeros(2, 10), image_token_id=3, vocabulary=8)
    assert torch.isinf(logits).nonzero().tolist() == [[r, c] for r in (0, 1) for c in (3, 8, 9)]


@pytest.mark.parametrize("sampling", [None, Sampling()])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error_and_not_an_answer(value, sampling):
    logits = torch.zeros(VOCABULARY)
    logits[5] = value
    generated = Generated(ByteTokenizer())
    tokens = generate(lambda _: logits, [1], generated, GenerationOptions(sampling=sampling), CPU)
    with pytest.raises(ModelOutputError, match="not finite at token 0") as refused:
        next(tokens)
    assert error_code(refused.value) is ErrorCode.MODEL_NOT_READY
    assert generated.token_ids == []


@pytest.mark.parametrize("length", [1, 4, 5, 12])
def test_a_prompt_is_processed_in_chunks_that_join_to_it(monkeypatch, length):
    monkeypatch.setattr(generation, "_CPU_CHUNK", 4)
    chunks: list[list[int]] = []

    def step(ids: list[int]) -> torch.Tensor:
        chunks.append(ids)
        return torch.tensor(len(chunks))

    assert prefill(step, list(range(length)), Limits(), CPU) == len(chunks)
    assert [token for chunk in chunks for token in chunk] == list(range(length))
    assert all(0 < len(chunk) <= 4 for chunk in chunks)


def test_cancel_and_deadline_are_checked_between_two_chunks_of_a_prompt(monkeypatch):
    monkeypatch.setattr(generation, "_CPU_CHUNK", 4)
    cancel = threading.Event()

    def step(ids: list[int]) -> torch.Tensor:
        cancel.set()
        return torch.zeros(VOCABULARY)

    with pytest.raises(QueryCanceled, match="after 4 of 8 tokens"):
        prefill(step, [1] * 8, Limits(cancel=cancel), CPU)
    with pytest.raises(QueryTimeout, match="tokens of the prompt"):
        prefill(step, [1] * 8, Limits(deadline=time.monotonic() - 1), CPU)
