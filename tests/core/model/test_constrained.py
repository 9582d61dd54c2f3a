"""Constrained decoding: whatever a model prefers, its answer has the JSON form and is read."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.engine import load
from sdvlm_core.errors import ModelOutputError
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.language.reading import read
from sdvlm_core.model.constrained import (
    QUANTITIES,
    allowed_tokens,
    instruction,
    is_complete,
    is_prefix,
)
from sdvlm_core.model.generated import Generated
from sdvlm_core.model.generation import Prompt, generate
from sdvlm_core.model.generation_options import GenerationOptions
from tests.core.model.scripted import CPU, END, VOCABULARY, ByteTokenizer, ConstantRows

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
LENGTHS = sorted(QUANTITIES - {Quantity.COUNT})
NEVER_ZERO = QUANTITIES - {Quantity.COUNT, Quantity.GAP, Quantity.DIFFERENCE}


class PieceTokenizer(ByteTokenizer):
    """Bytes, and pieces of several characters as the tokens of a language model have."""

    pieces = ('{"', '": ', "val", "12", "3.", ', "unit', "cm", '"}', "}}", "null", ' "m"', "x1")

    def __len__(self) -> int:
        return VOCABULARY + len(self.pieces)

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
        parts = (
            self.pieces[one - VOCABULARY].encode() if one >= VOCABULARY else bytes([one])
            for one in ids
        )
        return b"".join(parts).decode(errors="replace")


def answered(seed: int, quantity: Quantity, limit: int = 80) -> str:
    """What a model with random preferences answers."""
    tokenizer = PieceTokenizer()
    generator = torch.Generator().manual_seed(seed)
    generated = Generated(tokenizer)
    prompt = Prompt(
        [1],
        "",
        generated,
        GenerationOptions(max_new_tokens=limit),
        frozenset((tokenizer.eos_token_id,)),
        quantity,
    )
    rows = ConstantRows(lambda: torch.randn(len(tokenizer), generator=generator) * 4)
    for _ in generate(rows, [prompt], CPU):
        pass
    assert all(0 < p <= 1 for p in generated.probabilities)
    return generated.text


def asked_of(quantity: Quantity) -> Asked:
    two = quantity in (Quantity.DISTANCE, Quantity.GAP, Quantity.DIFFERENCE)
    relation = "taller" if quantity is Quantity.DIFFERENCE else ""
    return Asked(quantity, ("mug", "box") if two else ("mug",), relation)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(QUANTITIES)))
def test_any_preference_gives_a_whole_answer_that_is_read_as_written(seed, quantity):
    text = answered(seed, quantity)
    assert is_complete(text, quantity)
    value = json.loads(text)["value"]
    found = read(text, asked_of(quantity)).measurements
    if value is None or (value == 0 and quantity in NEVER_ZERO):
        assert found == ()
    elif quantity is Quantity.COUNT:
        assert [one.value for one in found] == [value]
    else:
        (one,) = found
        assert (one.kind, one.value) == (
            quantity,
            pytest.approx(value * METRES[json.loads(text)["unit"]]),
        )


@given(st.sampled_from(LENGTHS), st.from_regex(r"(0|[1-9]\d{0,3})(\.\d{1,4})?", fullmatch=True))
def test_every_start_of_an_answer_is_a_prefix_and_only_all_of_it_is_complete(quantity, number):
    text = f'{{"value": {number}, "unit": "cm"}}'
    assert all(is_prefix(text[:length], quantity) for length in range(len(text) + 1))
    assert [is_complete(text[:length], quantity) for length in (-1, len(text))] == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        '{"height": 1',
        '{"value": 01',
        '{"value": -1',
        '{"value": 1e',
        '{"value": 1., ',
        '{"value": 0.12345',
        '{"value": 1, "unit": "km',
        '{"value": 1}',
        "It is",
    ],
)
def test_what_is_not_of_the_form_is_no_prefix(text):
    assert not is_prefix(text, Quantity.HEIGHT)


def test_a_count_is_whole_and_has_no_unit():
    assert is_complete('{"value": 3}', Quantity.COUNT)
    assert not is_prefix('{"value": 3.', Quantity.COUNT)
    assert "unit" not in instruction(Quantity.COUNT)


def test_a_model_that_cannot_tell_may_say_so():
    assert is_complete('{"value": null}', Quantity.GAP)
    reading = read('{"value": null}', asked_of(Quantity.GAP))
    assert (reading.measurements, bool(reading.why_none)) == ((), True)


def test_the_end_token_is_allowed_only_after_a_whole_answer():
    tokenizer = PieceTokenizer()
    assert allowed_tokens('{"value": null}', Quantity.GAP, tokenizer) == [END]
    assert END not in allowed_tokens('{"value": nul', Quantity.GAP, tokenizer)


def test_a_tokenizer_that_cannot_spell_the_form_is_an_error_that_names_the_option():
    class Letters(ByteTokenizer):
        def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
            return re.sub(r"[{}]", "", super().decode(ids))

    tokenizer = Letters()
    prompt = Prompt(
        [1],
        "",
        Generated(tokenizer),
        GenerationOptions(),
        frozenset((tokenizer.eos_token_id,)),
        Quantity.HEIGHT,
    )
    with pytest.raises(ModelOutputError, match="constrained"):
        list(generate(ConstantRows(lambda: torch.zeros(VOCABULARY)), [prompt], CPU))


def test_nano_answers_in_the_form_where_it_is_constrained_and_in_its_own_words_elsewhere():
    """A model that was never trained on the form: its own tokenizer, cache and token loop."""
    image = np.full((48, 64, 3), 128, np.uint8)
    depth, intrinsics = (
        np.full((48, 64), 1.0, np.float32),
        CameraIntrinsics(60, 60, 31.5, 23.5, 64, 48),
    )
    session = load("nano", "cpu").open(RgbdFrame(image, depth, intrinsics))
    free = session.ask(Asked(Quantity.HEIGHT, ("red mug",)))
    options = GenerationOptions(constrained=True)
    bound = session.ask(Asked(Quantity.HEIGHT, ("red mug",)), options)
    assert free.text == session.ask(Asked(Quantity.HEIGHT, ("red mug",))).text
    assert set(json.loads(bound.text)) >= {"value"}
    assert all(one.kind is Quantity.HEIGHT for one in bound.measurements)
    assert session.ask(Asked(Quantity.SIZE, ("red mug",)), options).text[:1] != "{"
