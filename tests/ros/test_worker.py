"""Worker: one frame opened once, failures told to the one who asked, nothing left waiting."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from rclpy.serialization import serialize_message

from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.errors import DepthError, QueryCanceled, QueryTimeout, QueueFullError
from sdvlm_core.frame import RgbdFrame
from sdvlm_ros.frame_buffer import RawFrame, Stamped
from sdvlm_ros.worker import Job, Reply, Worker
from tests.ros.peer import color, depth, info


class Engine:
    """Stands in for the model where a test must choose its failures and its speed."""

    def __init__(self) -> None:
        self.opened: list[RgbdFrame] = []
        self.go = threading.Event()
        self.go.set()

    def open(self, frame: RgbdFrame) -> Engine:
        self.opened.append(frame)
        self.frame = frame
        return self

    def ask(self, question: str, *, deadline: float, cancel: threading.Event) -> SpatialAnswer:
        while not self.go.wait(0.01):
            if cancel.is_set():
                raise QueryCanceled("canceled")
        if question == "break":
            raise RuntimeError("a defect")
        return SpatialAnswer(question, "an answer")


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def worker(engine: Engine) -> Iterator[Worker]:
    worker = Worker(engine.open, "worker", capacity=2)
    yield worker
    engine.go.set()
    worker.close()


def raw_frame(stamp_ns: int = 1, metres: float = 1.0) -> RawFrame:
    return RawFrame(
        *(
            Stamped(stamp_ns, 0.0, serialize_message(message))
            for message in (color(stamp_ns), depth(stamp_ns, metres), info(stamp_ns))
        )
    )


def submit(
    worker: Worker,
    frame: RawFrame,
    question: str = "?",
    seconds: float = 10.0,
    cancel: threading.Event | None = None,
) -> queue.Queue[Reply | Exception]:
    outcomes: queue.Queue[Reply | Exception] = queue.Queue()
    now = time.monotonic()

    def work(session: Engine, job: Job) -> SpatialAnswer:
        return session.ask(question, deadline=job.deadline, cancel=job.cancel)

    cancel = cancel or threading.Event()
    worker.submit(Job(work, frame, now + seconds, now, outcomes.put, cancel))
    return outcomes


def test_questions_about_one_frame_open_it_once(worker: Worker, engine: Engine) -> None:
    frame = raw_frame()
    for _ in range(3):
        reply = submit(worker, frame).get(timeout=5)
        assert isinstance(reply, Reply)
        assert (reply.stamp_ns, reply.frame_id) == (1, "optical")
    assert len(engine.opened) == 1
    assert np.all(engine.opened[0].depth == 1.0)


def test_another_frame_with_the_same_stamp_is_another_frame(worker: Worker, engine: Engine) -> None:
    submit(worker, raw_frame(stamp_ns=0)).get(timeout=5)
    submit(worker, raw_frame(stamp_ns=0)).get(timeout=5)
    assert len(engine.opened) == 2


def test_a_defect_reaches_the_one_who_asked_and_the_next_is_answered(
    worker: Worker, engine: Engine
) -> None:
    frame = raw_frame()
    failure = submit(worker, frame, "break").get(timeout=5)
    assert isinstance(failure, RuntimeError)
    assert isinstance(submit(worker, frame).get(timeout=5), Reply)
    assert len(engine.opened) == 2, "a session that failed is not used again"


def test_a_bad_frame_is_told_apart_from_a_bad_model(worker: Worker) -> None:
    assert isinstance(submit(worker, raw_frame(metres=0.0)).get(timeout=5), DepthError)


def test_a_question_whose_time_is_over_is_not_asked(worker: Worker, engine: Engine) -> None:
    failure = submit(worker, raw_frame(), seconds=-1.0).get(timeout=5)
    assert isinstance(failure, QueryTimeout)
    assert not engine.opened


def test_the_queue_is_bounded_and_says_so(worker: Worker, engine: Engine) -> None:
    engine.go.clear()
    frame = raw_frame()
    first = submit(worker, frame)
    while worker.waiting:
        assert first.empty()
    waiting = [submit(worker, frame) for _ in range(2)]
    with pytest.raises(QueueFullError, match="2 requests are waiting"):
        submit(worker, frame)
    engine.go.set()
    assert all(isinstance(one.get(timeout=5), Reply) for one in (first, *waiting))


def test_a_canceled_job_leaves_its_place_to_another_while_it_waits(
    worker: Worker, engine: Engine
) -> None:
    engine.go.clear()
    frame, cancel = raw_frame(), threading.Event()
    first = submit(worker, frame)
    while worker.waiting:
        assert first.empty()
    waiting = [submit(worker, frame), submit(worker, frame, cancel=cancel)]
    cancel.set()
    late = submit(worker, frame)
    assert isinstance(waiting[1].get_nowait(), QueryCanceled), "told before the model is free"
    engine.go.set()
    assert all(isinstance(one.get(timeout=5), Reply) for one in (first, waiting[0], late))
    assert len(engine.opened) == 1


def test_a_job_is_told_when_its_turn_comes(worker: Worker, engine: Engine) -> None:
    engine.go.clear()
    frame, turns, outcomes = raw_frame(), [], queue.Queue()
    first = submit(worker, frame)
    while worker.waiting:
        assert first.empty()
    later = time.monotonic() + 10.0

    def work(session: Engine, job: Job) -> int:
        return len(turns)

    worker.submit(Job(work, frame, later, 0.0, outcomes.put, turn=lambda: turns.append(1)))
    assert not turns
    engine.go.set()
    assert outcomes.get(timeout=5).result == 1


def test_closing_cancels_what_runs_and_what_waits(engine: Engine) -> None:
    worker = Worker(engine.open, "worker", capacity=2)
    engine.go.clear()
    frame = raw_frame()
    outcomes = [submit(worker, frame)]
    while worker.waiting:
        assert outcomes[0].empty()
    outcomes += [submit(worker, frame) for _ in range(2)]
    worker.close()
    assert all(isinstance(one.get(timeout=5), QueryCanceled) for one in outcomes)
