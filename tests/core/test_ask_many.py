"""Questions that are decoded together get the answers that they get alone."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest
import torch

from sdvlm_core.answer import Asked, Quantity, SpatialAnswer
from sdvlm_core.engine import LoadOptions, SpatialEngine, load, load_engine
from sdvlm_core.errors import QueryCanceled, QueryError, QueryTimeout
from sdvlm_core.model import local_decoder
from sdvlm_core.model.generation_options import GenerationOptions, Query, Sampling
from sdvlm_core.session import FrameSession
from tests.tiny_checkpoint import noise_frame as frame
from tests.tiny_checkpoint import write_tiny_checkpoint

WORDS = (
    "How tall is the mug?",
    "How far is the red box from the camera, please?",
    "Is the can left of the mug?",
    "How many?",
    "What is the distance between the can and the very large table at the wall?",
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> SpatialEngine:
    directory = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    return load_engine(LoadOptions(str(directory), device="cpu"))


@pytest.fixture
def session(engine) -> FrameSession:
    return engine.open(frame())


def limit(tokens: int, **options: object) -> GenerationOptions:
    return GenerationOptions(max_new_tokens=tokens, **options)


def assert_same(one: object, other: object) -> None:
    assert isinstance(one, SpatialAnswer)
    assert isinstance(other, SpatialAnswer)
    assert (one.question, one.text, one.asked) == (other.question, other.text, other.asked)
    assert one.measurements == other.measurements
    assert one.confidence == pytest.approx(other.confidence, abs=1e-4, nan_ok=True)


def test_questions_of_different_lengths_get_the_answers_that_they_get_alone(session):
    together = session.ask_many([Query(words, limit(9)) for words in WORDS])
    for words, answer in zip(WORDS, together, strict=True):
        assert_same(answer, session.ask(words, limit(9)))


def test_nano_answers_together_what_it_answers_one_after_the_other():
    session = load("nano", "cpu").open(frame())
    kinds = (Quantity.HEIGHT, Quantity.WIDTH, Quantity.CAMERA_DISTANCE, Quantity.POSITION)
    asked = [Asked(kind, (name,)) for kind in kinds for name in ("red mug", "box")]
    asked.append(Asked(Quantity.GAP, ("red mug", "box")))
    for one, answer in zip(asked, session.ask_many([Query(a) for a in asked]), strict=True):
        assert_same(answer, session.ask(one))


def test_an_invalid_question_is_an_error_in_its_place_and_the_others_are_answered(session):
    queries = [Query(WORDS[0], limit(5)), Query("  "), Query(WORDS[2], limit(5))]
    first, refused, last = session.ask_many(queries)
    assert isinstance(refused, QueryError)
    assert_same(first, session.ask(WORDS[0], limit(5)))
    assert_same(last, session.ask(WORDS[2], limit(5)))
    assert session.ask_many([]) == []


def test_a_canceled_and_a_late_question_end_alone(session):
    cancel = threading.Event()
    queries = [
        Query(WORDS[0], limit(30)),
        Query(WORDS[1], limit(30, cancel=cancel)),
        Query(WORDS[2], limit(30, deadline=time.monotonic() - 1)),
    ]
    ended = {}
    for index, event in session.progress(queries):
        cancel.set()
        if not isinstance(event, str):
            ended[index] = event
    assert isinstance(ended[1], QueryCanceled)
    assert isinstance(ended[2], QueryTimeout)
    assert_same(ended[0], session.ask(WORDS[0], limit(30)))


def test_the_parts_of_each_text_join_to_it(session):
    texts = dict.fromkeys(range(len(WORDS)), "")
    answers = {}
    for index, event in session.progress([Query(words, limit(12)) for words in WORDS]):
        if isinstance(event, str):
            assert index not in answers
            texts[index] += event
        else:
            answers[index] = event
    assert {n: text.strip() for n, text in texts.items()} == {n: a.text for n, a in answers.items()}


@pytest.mark.parametrize("max_rows", [1, 2, 3])
def test_more_questions_than_rows_are_answered_in_turns(session, monkeypatch, max_rows):
    rows = []
    forward = session._checkpoint.model.forward

    def counted(*arguments: object, **values: object) -> object:
        rows.append(len(values["input_ids"]))
        return forward(*arguments, **values)

    monkeypatch.setattr(session._checkpoint.model, "forward", counted)
    answers = session.ask_many([Query(words, limit(4)) for words in WORDS], max_rows)
    assert max(rows) == max_rows
    for words, answer in zip(WORDS, answers, strict=True):
        assert_same(answer, session.ask(words, limit(4)))


def test_the_free_memory_bounds_the_rows_of_a_batch(session, monkeypatch):
    def rows(free: float) -> int:
        monkeypatch.setattr(local_decoder, "free_bytes", lambda _: free)
        prepared = [session._prepare(n, Query(words)) for n, words in enumerate(WORDS)]
        return len(session.decoder.together([one.prompt for one in prepared], 16))

    longest = max(len(session._question_ids(words)) for words in WORDS) + 256
    cache = session.decoder.prefix.cache
    state = cache.layers[0].keys
    token = 2 * len(cache.layers) * state[:, :, 0].numel() * state.element_size()
    row = 2 * (session.prefix_tokens + longest) * token
    assert [rows(2 * n * row) for n in (0, 1, 2.5, 100)] == [1, 1, 2, 5]


def test_two_hundred_mixes_of_calls_change_no_answer_and_leave_nothing_behind(engine):
    """ask, ask_many, stream, cancel and close in random order, on one session."""
    rng = np.random.default_rng(7)
    session = engine.open(frame(1))
    lengths = range(1, 9)
    alone = {(w, n): engine.open(frame(1)).ask(w, limit(n)).text for w in WORDS for n in lengths}
    before = None
    for step in range(200):
        count = int(rng.integers(1, 6))
        picked = [(WORDS[rng.integers(len(WORDS))], int(rng.integers(1, 9))) for _ in range(count)]
        match rng.choice(["ask", "many", "stream", "close", "cancel"]):
            case "ask":
                words, tokens = picked[0]
                assert session.ask(words, limit(tokens)).text == alone[words, tokens]
            case "many":
                rows = int(rng.integers(1, 5))
                queries = [Query(words, limit(tokens)) for words, tokens in picked]
                for key, answer in zip(picked, session.ask_many(queries, rows), strict=True):
                    assert answer.text == alone[key]
            case "stream":
                words, tokens = picked[0]
                assert "".join(session.stream(words, limit(tokens))).strip() == alone[words, tokens]
            case "close":
                events = session.progress([Query(words, limit(tokens)) for words, tokens in picked])
                next(events, None)
                words, tokens = picked[0]  # while the others are not finished
                assert session.ask(words, limit(tokens)).text == alone[words, tokens]
                events.close()
            case "cancel":
                cancel = threading.Event()
                stopped = [Query(picked[0][0], limit(8, cancel=cancel))]
                queries = stopped + [Query(words, limit(tokens)) for words, tokens in picked[1:]]
                ended = {}
                for index, event in session.progress(queries):
                    cancel.set()
                    if not isinstance(event, str):
                        ended[index] = event
                for index, key in enumerate(picked[1:], start=1):
                    assert ended[index].text == alone[key]
        if step == 20:
            before = live_bytes()
    assert live_bytes() == before
    assert session.ask(WORDS[0], limit(5)).text == alone[WORDS[0], 5]


def live_bytes() -> int:
    """Bytes of all tensors."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if isinstance(one, torch.Tensor)]
    return sum(one.numel() * one.element_size() for one in tensors)


def test_sampled_answers_are_those_of_their_seed_in_any_company(session):
    sampled = limit(8, sampling=Sampling(temperature=1.0, seed=3))
    alone = session.ask(WORDS[0], sampled).text
    beside = session.ask_many([Query(WORDS[1], limit(8)), Query(WORDS[0], sampled)])
    assert beside[1].text == alone
