"""Questions asked about a recorded bag, without ROS: one line of answers.jsonl each.

Streams the bag once, asks what is due, and appends each outcome as one line that is on the disk
before the next question is asked. The plan is a function of bag, questions and settings, so a run
that was killed goes on behind the last whole line. Does not know how pages and bags are written
(`replay_report`, `replay_bag`), how topics are found (`bags`) or what a model is.

DIR/replay.json says what is replayed; DIR/answers.jsonl holds the entries:
    {"entry", "question", "frame", "stamp_ns", "frame_id", "bag_time_s", "asked_at_s",
     "answer": as `sdvlm ask --json` | null, "error": {"code", "name", "message"} | null}
`entry` and `frame` (of the colour topic) count from 0, times are seconds from the bag's start, and
`asked_at_s` is null for a question about every frame.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sdvlm_core import __version__
from sdvlm_core.answer import answer_document
from sdvlm_core.camera.bags import BagFrame, Topics, decode, frames
from sdvlm_core.errors import (
    FrameError,
    QueryCanceled,
    ReplayError,
    SdvlmError,
    StaleFrameError,
    error_code,
)
from sdvlm_core.replay.schedule import Due, PlannedQuestion, beyond, schedule

if TYPE_CHECKING:
    import threading

    from rosbags.rosbag2 import Reader

    from sdvlm_core.engine import FrameSession, SpatialEngine

ANSWERS = "answers.jsonl"
DESCRIPTION = "replay.json"

Entry = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What decides which questions are asked about which frames, and what the answers are.

    Attributes:
        slop_ns, max_age_ns: as the node's parameters sync_slop and max_age, nanoseconds.
        model: the model and how it is loaded, as far as answers depend on it.
    """

    topics: Topics
    questions: tuple[PlannedQuestion, ...]
    slop_ns: int
    max_age_ns: int
    model: dict[str, str | None]


@dataclass
class Summary:
    """Counts over the whole file, those of earlier runs included; errors by name."""

    answered: int = 0
    resumed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    finished: bool = False

    @property
    def entries(self) -> int:
        """Lines in answers.jsonl."""
        return self.answered + self.errors.total()

    def add(self, entry: Entry) -> None:
        """Count one entry."""
        if entry["error"] is None:
            self.answered += 1
        else:
            self.errors[entry["error"]["name"]] += 1


def describe(reader: Reader, plan: Plan) -> dict[str, Any]:
    """replay.json: all that must be the same when a replay is gone on with.

    A bag is known by its contents, so it may have been moved.
    """
    return {
        "bag": {
            "start_ns": reader.start_time,
            "end_ns": reader.end_time,
            "messages": reader.message_count,
        },
        "topics": asdict(plan.topics),
        "questions": [asdict(q) | {"at_ns": [*q.at_ns]} for q in plan.questions],
        "sync_slop_ns": plan.slop_ns,
        "max_age_ns": plan.max_age_ns,
        "model": plan.model,
        "version": __version__,
    }


@contextmanager
def open_journal(directory: Path, description: dict[str, Any]) -> Iterator[BinaryIO]:
    """answers.jsonl for reading and appending, locked, without a line that was cut off.

    Raises:
        ReplayError: the directory holds another replay, one is being written there now, or it
            cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReplayError(f"{directory} cannot be a directory ({error}); give another") from error
    path, described = directory / ANSWERS, directory / DESCRIPTION
    with open(path, "a+b") as journal:
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ReplayError(f"another sdvlm replay is writing into {directory}") from error
        if described.exists():
            _check_same(directory, described, description)
        elif path.stat().st_size:
            raise ReplayError(f"{path} is there without its {DESCRIPTION}; give another --out")
        else:
            replace(described, json.dumps(description, indent=2).encode() + b"\n")
        _drop_unfinished_line(journal)
        yield journal


def replace(path: Path, data: bytes) -> None:
    """Write a file in one step: readers see the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def _check_same(directory: Path, described: Path, description: dict[str, Any]) -> None:
    try:
        there = json.loads(described.read_bytes())
        other = [key for key in description if there.get(key) != description[key]]
    except (ValueError, AttributeError) as error:
        raise ReplayError(f"{described} cannot be read ({error}); give another --out") from error
    if other:
        raise ReplayError(
            f"{directory} holds a replay with another {', '.join(other)} (see {described.name}); "
            "give another --out, or remove it"
        )


def _drop_unfinished_line(journal: BinaryIO) -> None:
    """Cut off what a kill left behind the last newline."""
    end = journal.seek(0, os.SEEK_END)
    whole = 0
    for start in range(max(0, end - 1) // 65536 * 65536, -1, -65536):
        journal.seek(start)
        newline = journal.read(min(65536, end - start)).rfind(b"\n")
        if newline >= 0:
            whole = start + newline + 1
            break
    journal.truncate(whole)
    journal.seek(0)


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries of answers.jsonl in order.

    Raises:
        ReplayError: a line is no entry; names it.
    """
    with open(path, "rb") as lines:
        yield from _entries(lines, path)


def _entries(lines: BinaryIO, path: Path) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ReplayError(f"{path}, line {number} is damaged: {error}") from error
        if not isinstance(entry, dict) or entry.get("entry") != number - 1:
            raise ReplayError(f"{path}, line {number} is not entry {number - 1}")
        yield entry


def run(
    reader: Reader,
    plan: Plan,
    journal: BinaryIO,
    engine: SpatialEngine,
    stop: threading.Event,
    limit: int | None = None,
    progress: Callable[[float, Summary], None] = lambda seconds, summary: None,
) -> Summary:
    """Answer what is not answered yet, until the end of the bag or `limit` entries in all.

    Args:
        journal: of `open_journal`.
        stop: set it to end early, in the middle of an answer too; that answer is not written.
        progress: told the seconds of the bag that are done, and the counts.

    Raises:
        ReplayError: the journal does not follow from the plan.
        BagError: the bag cannot be read further; what is answered stays.
    """
    summary = Summary()
    start_ns = reader.start_time
    known = _entries(journal, Path(journal.name))
    asker = _Asker(engine, stop)
    for frame, dues in _looks(reader, plan):
        for due in dues:
            if summary.entries == limit:
                summary.finished = True
                return summary
            if stop.is_set():
                return summary
            entry = _begun(summary.entries, frame, due, plan, start_ns)
            old = next(known, None)
            if old is not None:
                _check_planned(entry, old, journal)
                entry = old
                summary.resumed += 1
            else:
                try:
                    entry |= asker.outcome(frame, due, plan.questions[due.question].text)
                except QueryCanceled:
                    return summary
                _append(journal, entry)
            summary.add(entry)
        if stop.is_set():
            return summary
        if frame is not None:
            progress((frame.color.bag_ns - start_ns) / 1e9, summary)
    if next(known, None) is not None:
        raise ReplayError(f"{journal.name} has more lines than this bag and these questions give")
    summary.finished = True
    return summary


def _looks(reader: Reader, plan: Plan) -> Iterator[tuple[BagFrame | None, list[Due]]]:
    """Every frame with what is due on it, in order; None = the moments behind the end."""
    start_ns, end_ns = reader.start_time, reader.end_time
    yield from schedule(
        frames(reader, plan.topics, plan.slop_ns),
        plan.questions,
        start_ns,
        end_ns,
        plan.max_age_ns,
    )
    yield None, beyond(plan.questions, start_ns, end_ns)


def _check_planned(entry: Entry, old: Entry, journal: BinaryIO) -> None:
    if any(old.get(key) != entry[key] for key in entry):
        raise ReplayError(
            f"{journal.name}, line {entry['entry'] + 1} is about another frame or question than "
            "this bag and these questions give; give another --out"
        )


def _append(journal: BinaryIO, entry: Entry) -> None:
    """Write one line, and return when it would survive a power cut."""
    journal.write(json.dumps(entry, allow_nan=False, ensure_ascii=False).encode() + b"\n")
    journal.flush()
    os.fsync(journal.fileno())


def _begun(number: int, frame: BagFrame | None, due: Due, plan: Plan, start_ns: int) -> Entry:
    """The part of an entry that is known before it is answered."""
    asked_ns = due.asked_ns
    return {
        "entry": number,
        "question": plan.questions[due.question].text,
        "frame": frame and frame.index,
        "stamp_ns": frame and frame.color.stamp_ns,
        "bag_time_s": frame and (frame.color.bag_ns - start_ns) / 1e9,
        "asked_at_s": None if asked_ns is None else (asked_ns - start_ns) / 1e9,
    }


class _Asker:
    """Asks the engine; keeps the newest frame open for its other questions."""

    def __init__(self, engine: SpatialEngine, stop: threading.Event) -> None:
        self._engine = engine
        self._stop = stop
        self._opened: tuple[int, FrameSession | Exception] | None = None

    def outcome(self, frame: BagFrame | None, due: Due, question: str) -> Entry:
        """`frame_id`, `answer` and `error` of an entry; QueryCanceled when told to stop."""
        session: FrameSession | None = None
        try:
            if frame is None:
                raise FrameError(f"there is no image at that moment: {due.stale}")
            if due.stale:
                raise StaleFrameError(due.stale)
            session = self._session(frame)
            answer = session.ask(question, cancel=self._stop)
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
                "error": {"code": int(code), "name": code.name, "message": message},
            }
        return {
            "frame_id": session.frame.frame_id,
            "answer": answer_document(answer),
            "error": None,
        }

    def _session(self, frame: BagFrame) -> FrameSession:
        """The open session of this frame, else a new one; its refusal is remembered too."""
        if self._opened is None or self._opened[0] != frame.index:
            self._opened = None  # free the old cache before the new one is made
            try:
                self._opened = frame.index, self._engine.open(decode(frame))
            except Exception as error:  # noqa: BLE001 - told for each question about the frame
                self._opened = frame.index, error
        opened = self._opened[1]
        if isinstance(opened, Exception):
            raise opened
        return opened
