"""The token loop with a scripted model: text, stop conditions, reported values, many at once."""

from __future__ import annotations

import math
import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.errors import ErrorCode, ModelOutputError, QueryCanceled, QueryTimeout, error_code
from sdvlm_core.model import generation
from sdvlm_core.model.generated import Generated
from sdvlm_core.model.generation import chunks, generate, mask_non_text
from sdvlm_core.model.generation_options import Sampling
from tests.core.model.scripted import (
    CPU,
    VOCABULARY,
    ConstantRows,
    ScriptedRows,
    answers,
    prompt,
)


def _parts(text: str, stop: str = "", **options: object) -> tuple[list[str], Generated]:
    asked = prompt(stop, **options)
    parts = []
    for _, ended, error in generate(ScriptedRows([text]), [asked], CPU):
        if error is not None:
            raise error
        parts.append(asked.generated.take(complete=ended))
    return [part for part in parts if part], asked.generated


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
    assert _parts("0.3 m", max_new_tokens=0)[1].text == ""


def test_cancel_and_deadline_are_checked_before_every_token():
    cancel = threading.Event()
    steps = generate(ScriptedRows(["0.3 m"]), [prompt(cancel=cancel)], CPU)
    next(steps)
    cancel.set()
    _, ended, error = next(steps)
    assert ended
    assert isinstance(error, QueryCanceled)
    assert "after 1 tokens" in str(error)
    assert list(steps) == []
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
    asked = prompt(sampling=sampling)
    ((_, ended, error),) = generate(ConstantRows(lambda: logits), [asked], CPU)
    assert ended
    assert isinstance(error, ModelOutputError)
    assert "not finite at token 0" in str(error)
    assert error_code(error) is ErrorCode.MODEL_NOT_READY
    assert asked.generated.token_ids == []


@given(st.integers(0, 1000))
def test_a_prompt_is_read_in_chunks_that_join_to_it(length):
    parts = list(chunks(length, CPU))
    assert [token for start, end in parts for token in range(start, end)] == list(range(length))
    assert all(0 < end - start <= 256 for start, end in parts)


def test_cancel_and_deadline_are_checked_between_two_chunks_of_a_prompt(monkeypatch):
    monkeypatch.setattr(generation, "_CPU_CHUNK", 4)
    cancel = threading.Event()

    class Canceling(ScriptedRows):
        def step(self, tokens):
            raise AssertionError("the whole prompt was read")

        def prefill(self, prompts):
            for part in super().prefill(prompts):
                cancel.set()
                yield part

    rows = Canceling(["0.3 m"])
    ((_, _, error),) = generate(rows, [prompt(length=12, cancel=cancel)], CPU)
    assert "after 4 of 12 tokens of the prompt" in str(error)
    assert rows.parts == [4]


def test_answers_of_different_lengths_leave_the_batch_when_they_end():
    texts = ["0.3 m", "yes", "The mug is 10 cm tall."]
    prompts = [prompt() for _ in texts]
    rows = ScriptedRows(texts)
    list(generate(rows, prompts, CPU))
    assert [one.generated.text for one in prompts] == texts
    assert rows.passes == [3] * 3 + [2] * 2 + [1] * (len(texts[2]) - 5)


@given(st.data())
def test_an_answer_is_the_same_alone_and_beside_others_that_end_in_any_way(data):
    texts = data.draw(st.lists(st.text(st.sampled_from("abc .µ"), max_size=12), min_size=1))
    limits = [data.draw(st.integers(0, 14)) for _ in texts]
    stops = [data.draw(st.sampled_from(["", "b", "c."])) for _ in texts]
    canceled = [data.draw(st.booleans()) for _ in texts]
    event = threading.Event()
    event.set()

    def asked(n: int):
        cancel = event if canceled[n] else None
        return prompt(stops[n], max_new_tokens=limits[n], cancel=cancel)

    together = [asked(n) for n in range(len(texts))]
    errors = answers(texts, together)
    for n, text in enumerate(texts):
        alone = asked(n)
        (error,) = answers([text], [alone])
        assert together[n].generated.token_ids == alone.generated.token_ids
        assert together[n].generated.text == alone.generated.text
        assert type(errors[n]) is type(error)
        assert (error is not None) is canceled[n]


def test_one_answer_that_is_canceled_or_not_finite_does_not_end_the_others():
    cancel = threading.Event()
    prompts = [prompt(), prompt(cancel=cancel), prompt(deadline=time.monotonic() - 1)]
    steps = generate(ScriptedRows(["0.25 m", "0.50 m", "0.75 m"]), prompts, CPU)
    errors = {}
    for index, _, error in steps:
        cancel.set()
        errors[index] = error or errors.get(index)
    assert prompts[0].generated.text == "0.25 m"
    assert errors[0] is None
    assert isinstance(errors[1], QueryCanceled)
    assert isinstance(errors[2], QueryTimeout)


def test_sampled_and_greedy_questions_share_a_batch():
    texts = ["0.25 m", "0.50 m"]
    prompts = [prompt(sampling=Sampling(top_k=1)), prompt()]
    assert answers(texts, prompts) == [None, None]
    assert [one.generated.text for one in prompts] == texts
