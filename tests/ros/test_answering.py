"""Requests about one frame are answered together, and each ends by its own limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sdvlm_core.answer import AnswerBy, SpatialAnswer
from sdvlm_core.engine import LoadOptions, SpatialEngine, load_engine
from sdvlm_core.errors import ModelMemoryError, QueryCanceled, QueryTimeout
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.model.generation_options import GenerationOptions, Limits
from sdvlm_core.session import FrameSession
from sdvlm_ros.answering import QuestionRequest, QuestionTicket, Together
from sdvlm_ros.frame_buffer import RawFrame
from sdvlm_ros.ticket import Stage, Ticket
from sdvlm_ros.worker import FrameDecoder, Worker
from tests.ros.test_worker import Settled, raw_frame
from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.waiting import PATIENCE_S

QUESTIONS = ("How tall is the mug?", "How wide is the large red box?", "How many cans are there?")


class Gate:
    """Opens frames with a real engine, but only after `go` is set: requests queue meanwhile."""

    def __init__(self, engine: SpatialEngine) -> None:
        self._engine = engine
        self.go = threading.Event()
        self.waiting = threading.Event()
        self.batches: list[int] = []

    def open(self, frame: RgbdFrame, limits: Limits) -> FrameSession:
        self.waiting.set()
        assert self.go.wait(PATIENCE_S)
        limits.check("waiting")
        session = self._engine.open(frame, limits)
        progress = session.progress

        def counted(queries, max_rows):
            self.batches.append(len(queries))
            return progress(queries, max_rows)

        session.progress = counted
        return session


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> SpatialEngine:
    directory = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    return load_engine(LoadOptions(str(directory), device="cpu"))


@pytest.fixture
def gate(engine) -> Gate:
    return Gate(engine)


@pytest.fixture
def worker(gate) -> Iterator[Worker[FrameSession]]:
    worker = Worker(FrameDecoder().decode, gate.open, "model", 50, runner=Together(max_rows=16))
    yield worker
    gate.go.set()
    worker.close()


def ticket(
    frame: RawFrame,
    *questions: str,
    seconds: float = PATIENCE_S,
    tokens: int = 6,
    **options: object,
) -> tuple[QuestionTicket, Settled]:
    request = QuestionRequest(
        questions or QUESTIONS[:1],
        (),
        AnswerBy.LANGUAGE,
        "simulated",
        GenerationOptions(max_new_tokens=tokens),
        lambda *_: None,
    )
    now, outcome = time.monotonic(), Settled()
    return Ticket(request, frame, now, now + seconds, outcome, **options), outcome


def ask(worker: Worker[FrameSession], gate: Gate, *asked: tuple[QuestionTicket, Settled]) -> None:
    """Submit the tickets so that all but the first wait while it opens its frame."""
    for number, (one, _) in enumerate(asked):
        worker.submit(one)
        if not number:
            assert gate.waiting.wait(PATIENCE_S)
    gate.go.set()


def texts(answers: list[SpatialAnswer]) -> list[str]:
    return [answer.text for answer in answers]


def test_waiting_questions_about_a_frame_are_one_batch_with_the_answers_they_get_alone(
    worker, gate, engine
):
    frame = raw_frame()
    head, *waiting = [ticket(frame, one) for one in (*QUESTIONS, *QUESTIONS)]
    ask(worker, gate, head, *waiting)
    for _, outcome in (head, *waiting):
        assert outcome.get() is None
    assert gate.batches == [1, 5]
    alone = engine.open(FrameDecoder().decode(frame))
    for (one, _), question in zip((head, *waiting), (*QUESTIONS, *QUESTIONS), strict=True):
        assert texts(one.results) == [alone.ask(question, GenerationOptions(max_new_tokens=6)).text]


def test_the_answers_of_a_request_are_in_the_order_of_its_questions(worker, gate, engine):
    frame = raw_frame()
    goal, outcome = ticket(frame, *QUESTIONS, tokens=30)
    ask(worker, gate, (goal, outcome))
    assert outcome.get() is None
    assert [answer.question for answer in goal.results] == [*QUESTIONS]
    assert goal.results[0].timings.encode == goal.open_s
    assert {answer.timings.encode for answer in goal.results[1:]} == {0.0}


def test_only_requests_about_the_same_frame_are_answered_together(worker, gate):
    first, other = raw_frame(1), raw_frame(2)
    tickets = [ticket(frame) for frame in (first, first, other, first, other)]
    ask(worker, gate, *tickets)
    assert [outcome.get() for _, outcome in tickets] == [None] * 5
    assert gate.batches == [1, 2, 2]


def test_a_batch_has_at_most_max_rows_questions_and_nothing_is_overtaken_for_ever(gate):
    frame, together = raw_frame(), Together(max_rows=4)
    head, small, large, next_small = (
        ticket(frame, *QUESTIONS[:count])[0] for count in (2, 1, 3, 1)
    )
    assert together.companions(head, [small, large, next_small]) == [small]
    assert together.companions(large, [next_small]) == [next_small]
    elsewhere = ticket(raw_frame(2), *QUESTIONS[:3])[0]  # another frame takes no place
    assert together.companions(head, [elsewhere, small, next_small]) == [small, next_small]


def test_each_request_ends_by_its_own_limits_and_the_others_go_on(worker, gate):
    frame = raw_frame()
    head, canceled, late, kept = (
        ticket(frame, *QUESTIONS, seconds=seconds, tokens=40)
        for seconds in (PATIENCE_S, PATIENCE_S, 0.0, PATIENCE_S)
    )
    canceled[0].cancel()
    ask(worker, gate, head, canceled, late, kept)
    assert isinstance(canceled[1].get(), QueryCanceled)
    assert isinstance(late[1].get(), QueryTimeout)
    assert kept[1].get() is None
    assert len(kept[0].results) == len(QUESTIONS)


def test_the_first_request_that_ends_while_its_frame_is_opened_does_not_end_the_others(
    worker, gate
):
    frame, other = raw_frame(1), raw_frame(2)
    first, head, companion = ticket(frame), ticket(other), ticket(other)
    ask(worker, gate, first)
    assert first[1].get() is None
    gate.go.clear()
    gate.waiting.clear()
    worker.submit(head[0])
    worker.submit(companion[0])
    assert gate.waiting.wait(PATIENCE_S)
    head[0].canceled.set()
    gate.go.set()
    assert isinstance(head[1].get(), QueryCanceled)
    assert companion[1].get() is None


def test_memory_that_runs_out_ends_every_request_of_the_batch_with_its_error(
    worker, gate, engine, monkeypatch
):
    frame = raw_frame()
    head, second = ticket(frame), ticket(frame)
    ask(worker, gate, head)
    assert head[1].get() is None

    def greedy(*_: object, **__: object) -> None:
        raise MemoryError("cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine.checkpoint.model, "forward", greedy)
        worker.submit(second[0])
        assert isinstance(second[1].get(), ModelMemoryError)
    third = ticket(frame)
    worker.submit(third[0])
    assert third[1].get() is None


def test_the_feedback_of_each_question_is_the_text_of_its_own_answer(worker, gate):
    frame = raw_frame()
    seen: list[tuple[Stage, int, str]] = []
    goal = ticket(frame, *QUESTIONS, tokens=12, on_progress=lambda *one: seen.append(one))
    ask(worker, gate, ticket(frame), goal)
    assert goal[1].get() is None
    assert [stage for stage, _, _ in seen] == sorted(stage for stage, _, _ in seen)
    last = {index: text for stage, index, text in seen if stage is Stage.ANSWERING}
    assert {n: text.strip() for n, text in last.items()} == dict(enumerate(texts(goal[0].results)))
