"""Questions about a recorded bag, answered without ROS: one line of answers.jsonl each.

Streams the bag once, asks the due questions, and appends each outcome as one line that is on the
disk before the next question is asked. The plan follows from bag, questions and settings alone, so
a killed run resumes after its last complete line. Does not know the format of the outputs
(`replay.outputs`), how topics are found (`camera.bag_topics`) or what a model is.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from sdvlm_core import __version__
from sdvlm_core.answer import AnswerBy, Asked, answer_document, asked_document
from sdvlm_core.camera.bag_frames import BagCamera, BagFrame, decode, frames
from sdvlm_core.errors import (
    FrameError,
    QueryCanceled,
    ReplayError,
    SdvlmError,
    StaleFrameError,
    error_code,
    shown,
)
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR
from sdvlm_core.model.generation_options import GenerationOptions
from sdvlm_core.replay.journal import Entry, append, parse_entries
from sdvlm_core.replay.schedule import DueQuestion, PlannedQuestion, after_end, schedule

if TYPE_CHECKING:
    import threading

    from rosbags.rosbag2 import Reader

    from sdvlm_core.engine import SpatialEngine
    from sdvlm_core.session import FrameSession


# A message often has a time in it, so that each is different.
_MAX_REASONS = 200


@dataclass(frozen=True)
class Plan:
    """All inputs that determine which question is asked about which frame, and its answer.

    Attributes:
        slop_ns, max_age_ns: as the node's parameters sync_slop and max_age, nanoseconds.
        model: the model and the load options that change its answers.
        answer_by, sensor: whose numbers the answers have, and the depth camera's noise.
    """

    camera: BagCamera
    questions: tuple[PlannedQuestion, ...]
    slop_ns: int
    max_age_ns: int
    model: dict[str, str | None]
    answer_by: AnswerBy = AnswerBy.LANGUAGE
    sensor: str = DEFAULT_SENSOR


@dataclass
class Summary:
    """Counts of the entries in answers.jsonl, including those of earlier runs.

    Attributes:
        errors: entries without an answer, by the error's name.
        reasons: the same by (name, message); at most 200 of them, "" = any other message.
        cautions: answers with a caution, by its code.
        caution_reasons: answers by the reasons of their cautions; at most 200, "" = any other.
    """

    answered: int = 0
    resumed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    cautions: Counter[str] = field(default_factory=Counter)
    caution_reasons: Counter[str] = field(default_factory=Counter)
    finished: bool = False

    @property
    def entries(self) -> int:
        """Lines in answers.jsonl."""
        return self.answered + self.errors.total()

    def add(self, entry: Entry) -> None:
        """Count one entry."""
        if entry["error"] is None:
            self.answered += 1
            self.cautions.update(entry["answer"]["cautions"])
            for text in entry["reasons"]:
                _count(self.caution_reasons, shown(text), "")
            return
        name = entry["error"]["name"]
        self.errors[name] += 1
        _count(self.reasons, (name, shown(entry["error"]["message"])), (name, ""))


_Key = TypeVar("_Key")


def _count(counter: Counter[_Key], key: _Key, other: _Key) -> None:
    """Count a key; beyond the limit, a new one is counted as `other`."""
    counter[key if key in counter or len(counter) < _MAX_REASONS else other] += 1


def describe(reader: Reader, plan: Plan) -> dict[str, Any]:
    """The content of replay.json: everything that must be equal for a replay to resume.

    A bag is identified by its contents, so it may have been moved.
    """
    return {
        "bag": {
            "start_ns": reader.start_time,
            "end_ns": reader.end_time,
            "messages": reader.message_count,
        },
        "camera": plan.camera.describe(),
        "questions": [question.document() for question in plan.questions],
        "sync_slop_ns": plan.slop_ns,
        "max_age_ns": plan.max_age_ns,
        "model": plan.model,
        "answer_by": plan.answer_by.value,
        "sensor": plan.sensor,
        "version": __version__,
    }


def run(
    reader: Reader,
    plan: Plan,
    journal: BinaryIO,
    engine: SpatialEngine,
    stop: threading.Event,
    limit: int | None = None,
    progress: Callable[[float, Summary], None] = lambda seconds, summary: None,
) -> Summary:
    """Answer the remaining questions, until the end of the bag or `limit` entries in total.

    Args:
        journal: from `open_journal`.
        stop: set it to stop early, also during an answer; that answer is not written.
        progress: called with the seconds of the bag that are done, and the counts.

    Raises:
        ReplayError: the journal does not follow from the plan.
        BagError: the rest of the bag cannot be read; the answers so far are kept.
    """
    summary = Summary()
    start_ns = reader.start_time
    recorded = parse_entries(journal, Path(journal.name))
    asker = _Asker(engine, stop, plan)
    for frame, due_questions in _scheduled_frames(reader, plan):
        for due in due_questions:
            if summary.entries == limit:
                summary.finished = True
                return summary
            if stop.is_set():
                return summary
            planned = _planned_entry(summary.entries, frame, due, plan, start_ns)
            entry = next(recorded, None)
            if entry is not None:
                _check_planned(planned, entry, journal)
                summary.resumed += 1
            else:
                try:
                    outcome = asker.outcome(frame, due, plan.questions[due.question].question)
                except QueryCanceled:
                    return summary
                entry = planned | outcome
                append(journal, entry)
            summary.add(entry)
        if stop.is_set():
            return summary
        if frame is not None:
            progress((frame.color.bag_ns - start_ns) / 1e9, summary)
    if next(recorded, None) is not None:
        raise ReplayError(
            f"{journal.name} has more lines than this bag and these questions produce; "
            "give another --out"
        )
    summary.finished = True
    return summary


def _scheduled_frames(
    reader: Reader, plan: Plan
) -> Iterator[tuple[BagFrame | None, list[DueQuestion]]]:
    """Every frame with its due questions, in order; then None with the moments after the end."""
    start_ns, end_ns = reader.start_time, reader.end_time
    yield from schedule(
        frames(reader, plan.camera.topics, plan.slop_ns),
        plan.questions,
        start_ns,
        end_ns,
        plan.max_age_ns,
    )
    yield None, after_end(plan.questions, start_ns, end_ns)


def _check_planned(planned: Entry, recorded: Entry, journal: BinaryIO) -> None:
    if any(recorded.get(key) != planned[key] for key in planned):
        raise ReplayError(
            f"{journal.name}, line {planned['entry'] + 1} is about another frame or question than "
            "this bag and these questions produce; give another --out"
        )


def _planned_entry(
    number: int, frame: BagFrame | None, due: DueQuestion, plan: Plan, start_ns: int
) -> Entry:
    """The part of an entry that is known before the question is asked."""
    moment_ns, question = due.moment_ns, plan.questions[due.question]
    return {
        "entry": number,
        "question": question.text,
        "asked": None if question.asked is None else asked_document(question.asked),
        "frame": frame and frame.index,
        "stamp_ns": frame and frame.color.stamp_ns,
        "bag_time_s": frame and (frame.color.bag_ns - start_ns) / 1e9,
        "asked_at_s": None if moment_ns is None else (moment_ns - start_ns) / 1e9,
    }


class _Asker:
    """Asks the engine; keeps the session of the newest frame open for its other questions."""

    def __init__(self, engine: SpatialEngine, stop: threading.Event, plan: Plan) -> None:
        self._engine = engine
        self._stop = stop
        self._plan = plan
        self._opened: tuple[int, FrameSession | Exception] | None = None

    def outcome(self, frame: BagFrame | None, due: DueQuestion, question: str | Asked) -> Entry:
        """`frame_id`, `answer` and `error` of an entry; QueryCanceled if `stop` is set."""
        session: FrameSession | None = None
        try:
            if frame is None:
                raise FrameError(f"no image at this moment: {due.stale_reason}")
            if due.stale_reason:
                raise StaleFrameError(due.stale_reason)
            session = self._session(frame)
            answer = session.ask(question, GenerationOptions(cancel=self._stop))
            if self._plan.answer_by is not AnswerBy.LANGUAGE:
                from sdvlm_core.verification import verify  # slow to import

                answer, _ = verify(
                    session,
                    answer,
                    sensor=self._plan.sensor,
                    cancel=self._stop,
                    answer_by=self._plan.answer_by,
                )
        except QueryCanceled:
            raise
        except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
            if not isinstance(error, SdvlmError):
                print("".join(traceback.format_exception(error)), file=sys.stderr)
            code = error_code(error)
            message = str(error) or type(error).__name__
            return {
                "frame_id": session and session.frame.frame_id,
                "answer": None,
                "reasons": [],
                "error": {"code": int(code), "name": code.name, "message": message},
            }
        return {
            "frame_id": session.frame.frame_id,
            "answer": answer_document(answer),
            "reasons": [*session.frame.reasons],
            "error": None,
        }

    def _session(self, frame: BagFrame) -> FrameSession:
        """The open session of this frame, or a new one; a failure to open is also kept."""
        if self._opened is None or self._opened[0] != frame.index:
            self._opened = None  # free the old cache before the new one is allocated
            try:
                self._opened = frame.index, self._engine.open(decode(frame, self._plan.camera))
            except Exception as error:  # noqa: BLE001 - raised for each question about the frame
                self._opened = frame.index, error
        opened = self._opened[1]
        if isinstance(opened, Exception):
            raise opened
        return opened
