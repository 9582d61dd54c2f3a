"""Questions decoded together, and in a slot, get the answers that they get alone."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import QueryCanceled, QueryTimeout
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model.backbones.contract import ImageAttention
from sdvlm_core.model.generation_options import GenerationOptions, Query
from sdvlm_core.model.slots import Slot
from sdvlm_core.session import FrameSession
from tests.tiny_backbones import MODEL_TYPES, tiny_checkpoint

#: Several times the sliding window of the tiny Gemma 3.
LONG = "Is it " + "very " * 30 + "tall?"
WORDS = ("Why?", LONG, "Where?", "How tall is the mug?", "Which?", LONG[::-1], "Where?")
#: Their layers all attend to every token, and their images to no question.
CAPTURED = ("llava", "llava_next", "llava_onevision", "qwen2_5_vl", "qwen3_vl", "internvl")
SIZES = ((48, 72), (90, 40), (33, 200))


def a_frame(height: int = 48, width: int = 72, seed: int = 0) -> RgbdFrame:
    rng = np.random.default_rng(seed)
    return RgbdFrame(
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        rng.uniform(0.5, 3, (height, width)).astype(np.float32),
        CameraIntrinsics(60, 60, width / 2, height / 2, width, height),
    )


def limit(tokens: int, cancel: threading.Event | None = None) -> GenerationOptions:
    return GenerationOptions(max_new_tokens=tokens, constrained=False, cancel=cancel)


@pytest.fixture(scope="module", params=MODEL_TYPES)
def session(request) -> FrameSession:
    return SpatialEngine(tiny_checkpoint(request.param)).open(a_frame())


def assert_same(one: object, other: object) -> None:
    assert isinstance(one, SpatialAnswer)
    assert isinstance(other, SpatialAnswer)
    assert one.text == other.text
    assert one.confidence == pytest.approx(other.confidence, abs=1e-4)


def test_answers_of_other_lengths_end_at_other_times(session):
    queries = [Query(words, limit(12 - n)) for n, words in enumerate(WORDS)]
    for query, answer in zip(queries, session.ask_many(queries), strict=True):
        assert_same(answer, session.ask(query.question, query.options))


def test_a_question_that_is_canceled_or_late_does_not_change_the_others(session):
    """`Where?` is asked three times: they have one length, so that every family reads them so."""
    cancel = threading.Event()
    late = GenerationOptions(max_new_tokens=9, deadline=time.monotonic() - 1, constrained=False)
    queries = [
        Query("Where?", limit(9, cancel)),
        Query(LONG, limit(9)),
        Query("Where?", limit(9)),
        Query("Where?", late),
        Query("Which?", limit(7)),
    ]
    results: dict[int, object] = {}
    for index, event in session.progress(queries):
        if index != 3:
            cancel.set()
        if not isinstance(event, str):
            results[index] = event
    assert isinstance(results[0], QueryCanceled)
    assert isinstance(results[3], QueryTimeout)
    for index in (1, 2, 4):
        assert_same(results[index], session.ask(queries[index].question, queries[index].options))


@pytest.mark.parametrize("model_type", CAPTURED)
def test_frames_of_other_sizes_that_share_a_slot_have_the_logits_of_the_growing_cache(model_type):
    """An image of Qwen's has fewer positions than tokens: position ids differ from columns."""
    engine = SpatialEngine(tiny_checkpoint(model_type))
    checkpoint = engine.checkpoint
    assert checkpoint.backbone.attention is not ImageAttention.PROMPT
    frames = [a_frame(*size, seed) for seed, size in enumerate(SIZES)]
    plain = [engine.open(frame) for frame in frames]
    engine._slot = Slot(checkpoint.model, torch.device("cpu"), 1024, 4, len(checkpoint.tokenizer))
    slotted = [engine.open(frame) for frame in frames]
    queries = [Query(words, limit(3 + 2 * n)) for n, words in enumerate(WORDS[:4])]
    for _ in range(2):
        for one, other in zip(slotted, plain, strict=True):
            for words in WORDS[:2]:
                logits = one.next_token_logits(words)
                torch.testing.assert_close(
                    logits, other.next_token_logits(words), atol=1e-5, rtol=1e-5
                )
            for ours, theirs in zip(one.ask_many(queries), other.ask_many(queries), strict=True):
                assert_same(ours, theirs)
    stream = slotted[0].stream(LONG, limit(9))
    text = next(stream)
    assert_same(slotted[1].ask("Why?", limit(9)), plain[1].ask("Why?", limit(9)))
    assert (text + "".join(stream)).strip() == plain[0].ask(LONG, limit(9)).text
