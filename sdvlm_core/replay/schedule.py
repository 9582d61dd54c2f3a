"""questions.yaml -> which question is asked about which frame of a bag.

Times are seconds of the bag's own clock, from its start, as players and Foxglove show them. At a
moment the newest frame is asked about, as the live node would; before the first frame, the first.
Does not know where frames come from or how they are answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sdvlm_core.camera.bags import BagFrame
from sdvlm_core.errors import QueryError
from sdvlm_core.model.prompt import check_question

EXAMPLE = """\
questions:
  - question: How tall is the red mug?
    at: [0.5, 12]          # seconds from the bag's start, one or several
  - question: How far is the box from the lamp?
    every: 2.0             # seconds
  - question: Can you see a mug?
    every: frame           # each colour image
"""


@dataclass(frozen=True)
class PlannedQuestion:
    """One question with its moments: exactly one of `at_ns`, `every_ns`, or neither = each frame.

    Attributes:
        at_ns: moments, nanoseconds from the bag's start, ascending.
        every_ns: period, nanoseconds.
    """

    text: str
    at_ns: tuple[int, ...] = ()
    every_ns: int = 0


@dataclass(frozen=True)
class Due:
    """A question to be asked about a frame.

    Attributes:
        question: its place in the questions, from 0.
        asked_ns: the moment, nanoseconds of the bag's clock; None = because the frame is there.
        stale: "", else why this frame is no picture of that moment.
    """

    question: int
    asked_ns: int | None
    stale: str = ""


def read_questions(path: Path) -> tuple[PlannedQuestion, ...]:
    """Read a questions.yaml; `EXAMPLE` shows all there is.

    Raises:
        QueryError: it cannot be read, has a key that is not known, or a question without moments;
            names the place.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise QueryError(f"{path} cannot be read as questions: {error}") from error
    entries = _mapping(document, {"questions"}, str(path)).get("questions")
    if not isinstance(entries, list) or not entries:
        raise QueryError(f"{path}: `questions` must be a list of at least one question")
    return tuple(_planned(entry, f"{path}, question {n}") for n, entry in enumerate(entries, 1))


def _mapping(value: Any, known: set[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise QueryError(f"{where}: must be a mapping with {_listed(known)}, found {value!r:.60}")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise QueryError(
            f"{where}: unknown key {', '.join(repr(key) for key in unknown)}; "
            f"there is {_listed(known)}"
        )
    return value


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _planned(entry: Any, where: str) -> PlannedQuestion:
    values = _mapping(entry, {"question", "at", "every"}, where)
    if not isinstance(values.get("question"), str):
        raise QueryError(f"{where}: `question` must be words, found {values.get('question')!r:.60}")
    try:
        text = check_question(values["question"])
    except QueryError as error:
        raise QueryError(f"{where}: {error}") from error
    if ("at" in values) == ("every" in values):
        raise QueryError(f"{where}: needs `at` or `every`, and not both")
    if "at" in values:
        moments = values["at"] if isinstance(values["at"], list) else [values["at"]]
        if not moments:
            raise QueryError(f"{where}: `at` is empty")
        at_ns = {_nanoseconds(moment, f"{where}: `at`") for moment in moments}
        return PlannedQuestion(text, at_ns=tuple(sorted(at_ns)))
    if values["every"] == "frame":
        return PlannedQuestion(text)
    period = _nanoseconds(values["every"], f"{where}: `every`", "or the word frame")
    if period == 0:
        raise QueryError(f"{where}: `every` must be more than 0 seconds")
    return PlannedQuestion(text, every_ns=period)


def _nanoseconds(seconds: Any, where: str, otherwise: str = "") -> int:
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not math.isfinite(seconds) or seconds < 0:
        raise QueryError(
            f"{where} must be seconds {otherwise}".rstrip() + f", found {seconds!r:.60}"
        )
    return round(seconds * 1e9)


def schedule(
    frames: Iterable[BagFrame],
    questions: tuple[PlannedQuestion, ...],
    start_ns: int,
    end_ns: int,
    max_age_ns: int,
) -> Iterator[tuple[BagFrame, list[Due]]]:
    """Every frame with the questions that are due on it.

    Args:
        start_ns, end_ns: the bag's first moment and the one behind its last.
        max_age_ns: a frame that is further from a moment is no picture of it.

    A period's moments within one frame ask once, and a gap of the camera is told once. Moments
    behind the end are `beyond`.
    """
    # A frame's moments end where the next one begins: one frame is held back.
    held: BagFrame | None = None
    since_ns = start_ns
    for frame in frames:
        if held is not None:
            until_ns = max(since_ns, frame.color.bag_ns)
            yield held, _due(held, questions, start_ns, since_ns, until_ns, max_age_ns)
            since_ns = until_ns
        held = frame
    if held is not None:
        yield held, _due(held, questions, start_ns, since_ns, max(since_ns, end_ns), max_age_ns)


def beyond(questions: tuple[PlannedQuestion, ...], start_ns: int, end_ns: int) -> list[Due]:
    """The moments that are behind the bag's end."""
    last = f"the bag ends {(end_ns - 1 - start_ns) / 1e9:.3f} s after its start"
    return [
        Due(n, start_ns + at_ns, last)
        for n, question in enumerate(questions)
        for at_ns in question.at_ns
        if start_ns + at_ns >= end_ns
    ]


def _due(
    frame: BagFrame,
    questions: tuple[PlannedQuestion, ...],
    start_ns: int,
    since_ns: int,
    until_ns: int,
    max_age_ns: int,
) -> list[Due]:
    """The questions of the moments in [since, until), and those of each frame."""
    taken_ns = frame.color.bag_ns
    due: list[Due] = []
    for n, question in enumerate(questions):
        if question.at_ns:
            due += [
                _asked(n, start_ns + at_ns, taken_ns, max_age_ns)
                for at_ns in question.at_ns
                if since_ns <= start_ns + at_ns < until_ns
            ]
        elif question.every_ns:
            ticks = _ticks(question.every_ns, start_ns, since_ns, taken_ns, until_ns, max_age_ns)
            due += [_asked(n, tick, taken_ns, max_age_ns) for tick in ticks]
        else:
            due.append(Due(n, None))
    return due


def _ticks(
    period_ns: int, start_ns: int, since_ns: int, taken_ns: int, until_ns: int, max_age_ns: int
) -> list[int]:
    """Of a period's moments in [since, until): the first near the frame, the first too far."""

    def first(low: int, high: int) -> list[int]:
        tick = start_ns + -(-(low - start_ns) // period_ns) * period_ns
        return [tick] if tick < high else []

    behind_ns = taken_ns + max_age_ns + 1  # from here on the frame is too old
    before_ns = min(max(since_ns, taken_ns - max_age_ns), until_ns)  # up to here it is too new
    early = first(since_ns, min(before_ns, until_ns))
    near = first(before_ns, min(behind_ns, until_ns))
    late = first(max(behind_ns, since_ns), until_ns)
    return early + near + late


def _asked(question: int, asked_ns: int, taken_ns: int, max_age_ns: int) -> Due:
    age_ns = asked_ns - taken_ns
    if abs(age_ns) <= max_age_ns:
        return Due(question, asked_ns)
    limit = f"(--max-age is {max_age_ns / 1e9:g} s)"
    if age_ns < 0:
        return Due(question, asked_ns, f"the first image comes {-age_ns / 1e9:.3f} s later {limit}")
    return Due(question, asked_ns, f"the newest image is {age_ns / 1e9:.3f} s old {limit}")
