"""Decoding in a slot's static buffers gives the tokens of the growing cache."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from sdvlm_core.engine import LoadOptions, load_engine
from sdvlm_core.model.generation_options import GenerationOptions, Query
from sdvlm_core.model.slots import ROW_COUNTS, Slot, made_for
from tests.core.test_ask_many import WORDS, assert_same, limit
from tests.tiny_checkpoint import noise_frame as frame
from tests.tiny_checkpoint import write_tiny_checkpoint

CPU = torch.device("cpu")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def engine(directory):
    return load_engine(LoadOptions(str(directory), device="cpu"))


def with_slot(engine, rows: int = 8, tokens: int = 320):
    """A session of the engine that decodes in a slot, without a graph on the CPU."""
    checkpoint = engine.checkpoint
    engine._slot = Slot(checkpoint.model, CPU, tokens, rows, len(checkpoint.tokenizer))
    session = engine.open(frame())
    engine._slot = None
    return session


def test_questions_get_the_answers_of_the_growing_cache_alone_and_together(engine):
    plain, slotted = engine.open(frame()), with_slot(engine)
    queries = [Query(words, limit(3 + 2 * n)) for n, words in enumerate(WORDS)]
    for one, other in zip(slotted.ask_many(queries), plain.ask_many(queries), strict=True):
        assert_same(one, other)
    for query in reversed(queries):
        assert_same(slotted.ask(*_fields(query)), plain.ask(*_fields(query)))


def _fields(query: Query) -> tuple[object, GenerationOptions]:
    return query.question, query.options


def test_prompts_that_are_read_in_several_parts_give_the_same_logits(engine, monkeypatch):
    plain, slotted = engine.open(frame()), with_slot(engine)
    whole = plain.ask_many([Query(words, limit(4)) for words in WORDS])
    monkeypatch.setattr("sdvlm_core.model.generation._CPU_CHUNK", 7)
    parts = slotted.ask_many([Query(words, limit(4)) for words in WORDS])
    for one, other in zip(parts, whole, strict=True):
        assert_same(one, other)


def test_random_batches_with_and_without_slot_agree(engine):
    rng = np.random.default_rng(3)
    plain, slotted = engine.open(frame()), with_slot(engine, rows=4)
    for _ in range(30):
        picked = [
            Query(WORDS[rng.integers(len(WORDS))], limit(int(rng.integers(1, 12))))
            for _ in range(rng.integers(1, 7))
        ]
        pairs = zip(slotted.ask_many(picked), plain.ask_many(picked), strict=True)
        assert all(one.text == other.text for one, other in pairs)
    assert not slotted.decoder._slot.in_use


def test_two_frames_share_the_slot_in_turns(engine):
    first = with_slot(engine)
    engine._slot = first.decoder._slot
    second = engine.open(frame(1))
    plain = (engine.open(frame()), engine.open(frame(1)))
    for _ in range(2):
        for one, other in zip((first, second), plain, strict=True):
            assert_same(one.ask(WORDS[0], limit(6)), other.ask(WORDS[0], limit(6)))


def test_a_question_beside_an_open_stream_is_answered_without_the_slot(engine):
    session = with_slot(engine)
    alone = [engine.open(frame()).ask(words, limit(9)).text for words in WORDS[:2]]
    stream = session.stream(WORDS[0], limit(9))
    text = next(stream)
    assert session.decoder._slot.in_use
    assert session.ask(WORDS[1], limit(9)).text == alone[1]
    assert (text + "".join(stream)).strip() == alone[0]
    assert not session.decoder._slot.in_use


def test_a_stream_that_is_closed_early_and_an_error_free_the_slot(engine, monkeypatch):
    session = with_slot(engine)
    stream = session.stream(WORDS[0], limit(9))
    next(stream)
    stream.close()
    assert not session.decoder._slot.in_use

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(session.decoder._slot, "forward", fails)
        with pytest.raises(RuntimeError, match="a defect"):
            session.ask(WORDS[0])
    assert not session.decoder._slot.in_use
    assert_same(session.ask(WORDS[0], limit(3)), engine.open(frame()).ask(WORDS[0], limit(3)))


def test_a_batch_that_does_not_fit_is_decoded_with_a_growing_cache(engine):
    session, plain = with_slot(engine, rows=2, tokens=64), engine.open(frame())
    long = "Is it " + "very " * 20 + "tall?"
    for words in (long, WORDS[0]):
        assert_same(session.ask(words, limit(20)), plain.ask(words, limit(20)))
    together = session.ask_many([Query(words, limit(3)) for words in WORDS])
    for words, answer in zip(WORDS, together, strict=True):
        assert_same(answer, plain.ask(words, limit(3)))


def test_the_last_token_of_a_full_slot_is_decoded(engine):
    plain = engine.open(frame())
    longest = max(len(plain._question_ids(words)) for words in WORDS)
    session = with_slot(engine, tokens=plain.prefix_tokens + longest + 10 + 1)
    queries = [Query(words, limit(10)) for words in WORDS]
    assert session.decoder._slot.fits(len(WORDS), plain.prefix_tokens + longest + 10)
    for one, other in zip(session.ask_many(queries), plain.ask_many(queries), strict=True):
        assert_same(one, other)


def test_the_slot_does_not_keep_a_frame_alive(engine):
    session = with_slot(engine)
    session.ask(WORDS[0], limit(2))
    slot, cache = session.decoder._slot, weakref.ref(session.decoder.prefix.cache)
    del session
    gc.collect()
    assert cache() is None
    assert slot.max_rows == 8


def test_decoding_is_not_captured_on_the_cpu(engine):
    assert made_for(engine.checkpoint, 100) is None
    assert engine.capture() == 0.0


@cuda
@pytest.mark.parametrize("compiled", [False, True])
def test_captured_steps_give_the_tokens_of_the_eager_ones(directory, compiled):
    engine = load_engine(LoadOptions(str(directory), device="cuda", dtype="float32"))
    eager = engine.open(frame())
    assert engine.capture(compiled) > 0
    captured = engine.open(frame())
    for count in (1, 2, 5, max(ROW_COUNTS)):
        picked = [Query(WORDS[n % len(WORDS)], limit(4 + n)) for n in range(count)]
        pairs = zip(captured.ask_many(picked), eager.ask_many(picked), strict=True)
        assert all(one.text == other.text for one, other in pairs)
