"""Worker: frames are decoded and opened once, failures reach the caller, every ticket ends."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.serialization import serialize_message

from sdvlm_core.answer import SpatialAnswer
from sdvlm_core.errors import (
    DepthError,
    ModelNotReadyError,
    QueryCanceled,
    QueryTimeout,
    QueueFullError,
)
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.model.generation_options import GenerationOptions, Limits
from sdvlm_ros import worker as worker_module
from sdvlm_ros.frame_buffer import BufferedMessage, RawFrame
from sdvlm_ros.ticket import Control, Outcome, Stage, Ticket
from sdvlm_ros.worker import FrameDecoder, Worker
from tests.ros.peer import color, depth, info, plausible_metres
from tests.waiting import PATIENCE_S


class Engine:
    """Replaces the model where a test must control its failures and its speed."""

    def __init__(self) -> None:
        self.opened: list[RgbdFrame] = []
        self.go = threading.Event()
        self.go.set()

    def open(self, frame: RgbdFrame, limits: Limits) -> Engine:
        self.opened.append(frame)
        self.frame = frame
        self.limits = limits
        return self

    def ask(self, question: str, options: GenerationOptions) -> SpatialAnswer:
        while not self.go.wait(0.01):
            if options.cancel is not None and options.cancel.is_set():
                raise QueryCanceled("canceled")
        if question == "break":
            raise RuntimeError("a defect")
        return SpatialAnswer(question, "an answer")


@pytest.fixture
def engine() -> Engine:
    return Engine()


class Settled(Outcome[None]):
    """An outcome that a test reads from a queue, without a node."""

    def __init__(self) -> None:
        self.results: queue.Queue[Exception | None] = queue.Queue()

    def settle(self, result: Exception | None) -> None:
        self.results.put(result)

    def get(self) -> Exception | None:
        return self.results.get(timeout=PATIENCE_S)

    def empty(self) -> bool:
        return self.results.empty()


class Ask:
    """One question for the fake engine."""

    def __init__(self, question: str) -> None:
        self.question = question

    def run(self, opened: Engine, control: Control) -> Iterator[SpatialAnswer]:
        yield opened.ask(
            self.question, GenerationOptions(deadline=control.deadline, cancel=control.canceled)
        )


def make_worker(engine: Engine) -> Worker[Engine]:
    return Worker(FrameDecoder().decode, engine.open, "worker", capacity=2)


@pytest.fixture
def worker(engine: Engine) -> Iterator[Worker[Engine]]:
    worker = make_worker(engine)
    yield worker
    engine.go.set()
    worker.close()


def raw_frame(stamp_ns: int = 1, metres: float = 1.0, camera: str = "") -> RawFrame:
    return RawFrame(
        *(
            BufferedMessage(stamp_ns, serialize_message(message), 0.0)
            for message in (color(stamp_ns), depth(stamp_ns, metres), info(stamp_ns))
        ),
        camera=camera,
    )


def ticket(
    frame: RawFrame,
    question: str = "?",
    seconds: float = PATIENCE_S,
    on_progress: Callable[[Stage, int, str], None] | None = None,
) -> tuple[Ticket[Engine, SpatialAnswer], Settled]:
    outcome, now = Settled(), time.monotonic()
    return Ticket(Ask(question), frame, now, now + seconds, outcome, on_progress), outcome


def submit(
    worker: Worker[Engine], frame: RawFrame, question: str = "?", seconds: float = PATIENCE_S
) -> Settled:
    one, outcome = ticket(frame, question, seconds)
    worker.submit(one)
    return outcome


def wait_until_running(worker: Worker[Engine], outcome: Settled) -> None:
    """Wait until the only submitted ticket has left the queue."""
    while worker.waiting:
        assert outcome.empty()


def test_a_frame_is_opened_with_the_limits_of_its_ticket(
    worker: Worker[Engine], engine: Engine
) -> None:
    asked, answer = ticket(raw_frame())
    worker.submit(asked)
    answer.get()
    assert engine.limits == Limits(asked.deadline, asked.canceled)


def test_questions_about_one_frame_open_it_once(worker: Worker[Engine], engine: Engine) -> None:
    frame = raw_frame()
    for _ in range(3):
        one, outcome = ticket(frame)
        worker.submit(one)
        assert outcome.get() is None
        assert [answer.text for answer in one.results] == ["an answer"]
        assert (one.stamp_ns, one.frame_id) == (1, "optical")
    assert len(engine.opened) == 1
    assert np.array_equal(engine.opened[0].depth, plausible_metres(1.0))


def test_another_frame_with_the_same_stamp_is_another_frame(
    worker: Worker[Engine], engine: Engine
) -> None:
    submit(worker, raw_frame(stamp_ns=0)).get()
    submit(worker, raw_frame(stamp_ns=0)).get()
    assert len(engine.opened) == 2


def test_a_defect_reaches_its_caller_and_the_next_question_is_answered(
    worker: Worker[Engine], engine: Engine
) -> None:
    frame = raw_frame()
    failure = submit(worker, frame, "break").get()
    assert isinstance(failure, RuntimeError)
    assert submit(worker, frame).get() is None
    assert len(engine.opened) == 2, "a session that failed is not used again"


def test_cameras_take_turns_and_a_flood_of_one_leaves_the_places_of_the_other(
    engine: Engine,
) -> None:
    worker = Worker(FrameDecoder().decode, engine.open, "fair", capacity=4)
    frames = {name: raw_frame(camera=name) for name in ("left", "right")}
    engine.go.clear()
    first = submit(worker, frames["left"])
    wait_until_running(worker, first)
    order: list[str] = []

    def asked(name: str) -> Settled:
        def on_progress(stage: Stage, *_: object) -> None:
            if stage is Stage.ENCODING:
                order.append(name)

        one, outcome = ticket(frames[name], on_progress=on_progress)
        worker.submit(one)
        return outcome

    answers = [asked("left") for _ in range(4)]
    with pytest.raises(QueueFullError, match="4 requests are waiting for camera left"):
        asked("left")
    answers += [asked("right") for _ in range(2)]
    engine.go.set()
    assert [answer.get() for answer in answers] == [None] * 6
    assert order == ["right", "left", "right", "left", "left", "left"]
    worker.close()


class Panic(BaseException):
    """As pyo3 raises it for a panic in Rust code."""


def test_what_is_no_exception_fails_every_ticket_and_the_worker_accepts_no_more(
    engine: Engine,
) -> None:
    ended: queue.Queue[BaseException] = queue.Queue()

    def panic(frame: RgbdFrame, limits: object) -> Engine:
        engine.go.wait(PATIENCE_S)
        raise Panic("index out of bounds")

    worker = Worker(FrameDecoder().decode, panic, "panicking", 2, ended.put)
    engine.go.clear()
    first = submit(worker, raw_frame())
    wait_until_running(worker, first)
    second = submit(worker, raw_frame())
    engine.go.set()
    for outcome in (first, second):
        failure = outcome.get()
        assert isinstance(failure, ModelNotReadyError)
        assert "Panic: index out of bounds" in str(failure)
    assert isinstance(ended.get(timeout=PATIENCE_S), Panic)
    assert not worker.alive
    with pytest.raises(ModelNotReadyError, match="index out of bounds"):
        submit(worker, raw_frame())
    worker.close()


def test_a_bad_frame_has_a_separate_error(worker: Worker[Engine]) -> None:
    assert isinstance(submit(worker, raw_frame(metres=0.0)).get(), DepthError)


def test_a_question_after_its_deadline_is_not_asked(worker: Worker[Engine], engine: Engine) -> None:
    failure = submit(worker, raw_frame(), seconds=-1.0).get()
    assert isinstance(failure, QueryTimeout)
    assert not engine.opened


def test_a_full_queue_refuses_with_its_capacity(worker: Worker[Engine], engine: Engine) -> None:
    engine.go.clear()
    frame = raw_frame()
    first = submit(worker, frame)
    wait_until_running(worker, first)
    waiting = [submit(worker, frame) for _ in range(2)]
    with pytest.raises(QueueFullError, match="2 requests are waiting"):
        submit(worker, frame)
    engine.go.set()
    assert all(one.get() is None for one in (first, *waiting))


def test_a_canceled_ticket_in_the_queue_makes_room_for_another_one(
    worker: Worker[Engine], engine: Engine
) -> None:
    engine.go.clear()
    frame = raw_frame()
    canceled, canceled_outcome = ticket(frame)
    first = submit(worker, frame)
    wait_until_running(worker, first)
    waiting = submit(worker, frame)
    worker.submit(canceled)
    canceled.canceled.set()
    late = submit(worker, frame)
    assert isinstance(canceled_outcome.get(), QueryCanceled), "settled before the model is free"
    engine.go.set()
    assert all(one.get() is None for one in (first, waiting, late))
    assert len(engine.opened) == 1


def test_a_ticket_reports_when_it_leaves_the_queue(worker: Worker[Engine], engine: Engine) -> None:
    engine.go.clear()
    frame = raw_frame()
    first = submit(worker, frame)
    wait_until_running(worker, first)
    stages: list[Stage] = []
    one, outcome = ticket(frame, on_progress=lambda stage, _index, _text: stages.append(stage))
    worker.submit(one)
    assert not stages
    engine.go.set()
    assert outcome.get() is None
    assert stages == [Stage.ENCODING]


def test_a_ticket_records_its_queue_time_and_its_frame_opening_time(
    worker: Worker[Engine], engine: Engine
) -> None:
    engine.go.clear()
    first, first_outcome = ticket(raw_frame())
    worker.submit(first)
    wait_until_running(worker, first_outcome)
    second, second_outcome = ticket(first.frame)
    worker.submit(second)
    engine.go.set()
    assert (first_outcome.get(), second_outcome.get()) == (None, None)
    assert first.open_s > 0.0
    assert second.open_s >= 0.0
    assert 0.0 < second.queue_s <= second.elapsed_s()


def test_closing_cancels_running_and_waiting_tickets(engine: Engine) -> None:
    worker = make_worker(engine)
    engine.go.clear()
    frame = raw_frame()
    outcomes = [submit(worker, frame)]
    wait_until_running(worker, outcomes[0])
    outcomes += [submit(worker, frame) for _ in range(2)]
    worker.close()
    assert all(isinstance(one.get(), QueryCanceled) for one in outcomes)


def test_two_workers_decode_a_frame_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = worker_module.frame_from_messages
    monkeypatch.setattr(
        worker_module,
        "frame_from_messages",
        lambda *parts, **names: calls.append(1) or real(*parts, **names),
    )
    decode = FrameDecoder().decode
    opened: list[RgbdFrame] = []
    model = Worker(decode, engine.open, "model", capacity=2)
    geometry = Worker(
        decode, lambda frame, _: opened.append(frame) or open_scene(frame), "geometry", capacity=2
    )
    raw = raw_frame()
    asked, measured = ticket(raw), ticket(raw)
    model.submit(asked[0])
    geometry.submit(measured[0])  # a Scene cannot answer questions, but it can be opened
    asked[1].get()
    measured[1].get()
    assert len(calls) == 1
    assert opened[0] is engine.opened[0]
    model.close()
    geometry.close()


def test_the_decoder_keeps_the_last_frames_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = worker_module.frame_from_messages
    monkeypatch.setattr(
        worker_module,
        "frame_from_messages",
        lambda *parts, **names: calls.append(1) or real(*parts, **names),
    )
    decoder, frames = FrameDecoder(), [raw_frame(stamp_ns) for stamp_ns in (1, 2, 3, 4)]
    for frame in frames:
        decoder.decode(frame)
    assert decoder.decode(frames[3]) is decoder.decode(frames[3])
    assert len(calls) == 4
    decoder.decode(frames[0])
    assert len(calls) == 5


def test_the_decoder_reports_a_bad_frame_to_every_caller() -> None:
    decoder, bad = FrameDecoder(), raw_frame(metres=0.0)
    for _ in range(2):
        with pytest.raises(DepthError):
            decoder.decode(bad)


def test_a_settled_outcome_keeps_nothing_that_its_time_limit_refers_to() -> None:
    class Request:
        """Stands for a request with its frame; it may refer to its outcome."""

    def outcome_of(request: Request) -> Outcome[None]:
        return Outcome(SimpleNamespace(executor=None), 1.0, lambda: QueryTimeout(repr(request)))

    request = Request()
    kept = weakref.ref(request)
    outcome = outcome_of(request)
    outcome.settle(None)
    del request
    assert kept() is None
