"""questions.yaml -> which question is asked about which frame of a bag.

Times are seconds on the bag's clock, from its start, as players and Foxglove show them. A question
at a moment is about the newest frame, as in the live node. A question before the first frame is
about the first frame. Does not know where frames come from or how questions are answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from sdvlm_core.answer import Asked, Quantity, asked_document
from sdvlm_core.camera.bag_frames import BagFrame
from sdvlm_core.errors import QueryError, shown
from sdvlm_core.files import read_yaml
from sdvlm_core.language.question import Dialect, phrase
from sdvlm_core.model.prompt import check_question

EXAMPLE = """\
questions:
  - question: How tall is the red mug?
    at: [0.5, 12]          # seconds from the bag's start, one or several
  - question: How far is the box from the lamp?
    every: 2.0             # seconds
  - question: Can you see a mug?
    every: frame           # each colour image
  - question: {quantity: GAP, objects: [red mug, box]}           # typed
    every: frame
  - question: {quantity: COMPARISON, objects: [red mug, box], relation: taller}
    at: 3
"""
T = TypeVar("T")
_TYPED_KEYS = {"quantity", "objects", "relation", "which", "unit"}


@dataclass(frozen=True)
class PlannedQuestion:
    """One question and when to ask it: at `at_ns`, or every `every_ns`, or about every frame.

    Attributes:
        text: the question in words.
        at_ns: moments, nanoseconds from the bag's start, ascending.
        every_ns: period, nanoseconds.
        asked: the typed question; None = it is asked in words.
    """

    text: str
    at_ns: tuple[int, ...] = ()
    every_ns: int = 0
    asked: Asked | None = None

    @property
    def question(self) -> str | Asked:
        """What a session is asked."""
        return self.asked or self.text

    def document(self) -> dict[str, Any]:
        """The question as plain JSON values."""
        asked = None if self.asked is None else asked_document(self.asked)
        return asdict(self) | {"at_ns": [*self.at_ns], "asked": asked}


@dataclass(frozen=True)
class DueQuestion:
    """A question to ask about a frame.

    Attributes:
        question: index of the question, from 0.
        moment_ns: when it is due, nanoseconds on the bag's clock; None = it is asked about every
            frame.
        stale_reason: why the frame does not show the scene at that moment; "" = it does.
    """

    question: int
    moment_ns: int | None
    stale_reason: str = ""


@dataclass(frozen=True)
class _Span:
    """The moments whose newest frame is one frame: [since, until), nanoseconds, bag clock.

    `start_ns` is the bag's first moment, `taken_ns` the frame's, and `max_age_ns` the largest
    accepted time between a moment and the frame.
    """

    start_ns: int
    since_ns: int
    taken_ns: int
    until_ns: int
    max_age_ns: int


def read_questions(path: Path) -> tuple[PlannedQuestion, ...]:
    """Read a questions.yaml; `EXAMPLE` shows every key.

    Raises:
        QueryError: the file cannot be read, has an unknown key, or a question is incomplete or has
            no `at` or `every`; names the question.
    """
    document = read_yaml(path, QueryError)
    entries = _mapping(document, {"questions"}, str(path)).get("questions")
    if not isinstance(entries, list) or not entries:
        raise QueryError(f"{path}: `questions` must be a list of at least one question")
    return tuple(_planned(entry, f"{path}, question {n}") for n, entry in enumerate(entries, 1))


def _mapping(value: object, known: set[str], where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise QueryError(f"{where}: must be a mapping with {_listed(known)}, found {value!r:.60}")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise QueryError(
            f"{where}: unknown key {shown(', '.join(f'{key!r:.60}' for key in unknown[:10]))}; "
            f"the keys are {_listed(known)}"
        )
    return value


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _planned(entry: object, where: str) -> PlannedQuestion:
    values = _mapping(entry, {"question", "at", "every"}, where)
    text, asked = _question(values.get("question"), where)
    if ("at" in values) == ("every" in values):
        raise QueryError(f"{where}: needs `at` or `every`, not both")
    if "at" in values:
        moments = values["at"] if isinstance(values["at"], list) else [values["at"]]
        if not moments:
            raise QueryError(f"{where}: `at` is empty")
        at_ns = {_nanoseconds(moment, f"{where}: `at`") for moment in moments}
        return PlannedQuestion(text, at_ns=tuple(sorted(at_ns)), asked=asked)
    if values["every"] == "frame":
        return PlannedQuestion(text, asked=asked)
    period = _nanoseconds(values["every"], f"{where}: `every`", "or the word frame")
    if period == 0:
        raise QueryError(f"{where}: `every` must be more than 0 s")
    return PlannedQuestion(text, every_ns=period, asked=asked)


def _question(question: object, where: str) -> tuple[str, Asked | None]:
    """The words of a question, and its typed form if it is a mapping."""
    if not isinstance(question, (str, dict)):
        raise QueryError(
            f"{where}: `question` must be text or a mapping with {_listed(_TYPED_KEYS)}, found "
            f"{question!r:.60}"
        )
    asked = None if isinstance(question, str) else _asked(question, f"{where}: `question`")
    try:
        words = question if isinstance(question, str) else phrase(asked or Asked(), Dialect.CHAT)
        return check_question(words), asked
    except QueryError as error:
        raise QueryError(f"{where}: {error}") from error


def _asked(question: dict[Any, Any], where: str) -> Asked:
    """The typed question of a mapping; it may be incomplete."""
    values = _mapping(question, _TYPED_KEYS, where)
    quantity, objects = values.get("quantity"), values.get("objects")
    names = [one.name for one in Quantity if one is not Quantity.FREE]
    if quantity not in names:
        known = ", ".join(names)
        raise QueryError(f"{where}: `quantity` must be one of {known}, found {quantity!r:.60}")
    if isinstance(objects, str):
        objects = [objects]
    if not isinstance(objects, list) or not all(isinstance(one, str) for one in objects):
        raise QueryError(f"{where}: `objects` must be a list of names, found {objects!r:.60}")
    return Asked(
        quantity=Quantity[str(quantity)],
        objects=tuple(objects),
        relation=_optional(values, "relation", "", "text", where),
        which=_optional(values, "which", False, "true or false", where),
        unit=_optional(values, "unit", "", "text", where),
    )


def _optional(values: dict[str, Any], key: str, default: T, expected: str, where: str) -> T:
    """The value of a key, of the type of its default; the default if it is absent."""
    value = values.get(key, default)
    if not isinstance(value, type(default)):
        raise QueryError(f"{where}: `{key}` must be {expected}, found {value!r:.60}")
    return value


def _nanoseconds(seconds: object, where: str, otherwise: str = "") -> int:
    if (
        not isinstance(seconds, (int, float))
        or isinstance(seconds, bool)
        or not math.isfinite(seconds)
        or seconds < 0
    ):
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
) -> Iterator[tuple[BagFrame, list[DueQuestion]]]:
    """Every frame with the questions that are due on it.

    Args:
        start_ns, end_ns: the bag's first moment, and the one after its last.
        max_age_ns: largest accepted time between a moment and its frame.

    Several moments of one period within one frame are asked once, and a gap of the camera is
    reported once. For moments after the end see `after_end`.
    """
    # A frame's moments end at the next frame, so processing is delayed by one frame.
    held: BagFrame | None = None
    since_ns = start_ns
    for frame in frames:
        if held is not None:
            until_ns = max(since_ns, frame.color.bag_ns)
            span = _Span(start_ns, since_ns, held.color.bag_ns, until_ns, max_age_ns)
            yield held, _due_questions(questions, span)
            since_ns = until_ns
        held = frame
    if held is not None:
        until_ns = max(since_ns, end_ns)
        span = _Span(start_ns, since_ns, held.color.bag_ns, until_ns, max_age_ns)
        yield held, _due_questions(questions, span)


def after_end(
    questions: tuple[PlannedQuestion, ...], start_ns: int, end_ns: int
) -> list[DueQuestion]:
    """The questions whose moments are after the bag's end."""
    reason = f"the bag ends {(end_ns - 1 - start_ns) / 1e9:.3f} s after its start"
    return [
        DueQuestion(n, start_ns + at_ns, reason)
        for n, question in enumerate(questions)
        for at_ns in question.at_ns
        if start_ns + at_ns >= end_ns
    ]


def _due_questions(questions: tuple[PlannedQuestion, ...], span: _Span) -> list[DueQuestion]:
    """The questions with a moment in the span, and those about every frame."""
    due: list[DueQuestion] = []
    for n, question in enumerate(questions):
        if question.at_ns:
            due += [
                _due_at(n, span.start_ns + at_ns, span)
                for at_ns in question.at_ns
                if span.since_ns <= span.start_ns + at_ns < span.until_ns
            ]
        elif question.every_ns:
            due += [_due_at(n, moment, span) for moment in _periodic(question.every_ns, span)]
        else:
            due.append(DueQuestion(n, None))
    return due


def _periodic(period_ns: int, span: _Span) -> list[int]:
    """The first moment of a period in each part of a span: frame not yet valid, valid, too old.

    A part without such a moment has none in the list.
    """

    def first(low: int, high: int) -> list[int]:
        moment = span.start_ns + -(-(low - span.start_ns) // period_ns) * period_ns
        return [moment] if moment < high else []

    # The frame is accepted for moments in [fresh, stale).
    stale_ns = span.taken_ns + span.max_age_ns + 1
    fresh_ns = min(max(span.since_ns, span.taken_ns - span.max_age_ns), span.until_ns)
    early = first(span.since_ns, fresh_ns)
    in_time = first(fresh_ns, min(stale_ns, span.until_ns))
    late = first(max(stale_ns, span.since_ns), span.until_ns)
    return early + in_time + late


def _due_at(question: int, moment_ns: int, span: _Span) -> DueQuestion:
    age_ns = moment_ns - span.taken_ns
    if abs(age_ns) <= span.max_age_ns:
        return DueQuestion(question, moment_ns)
    limit = f"(--max-age is {span.max_age_ns / 1e9:g} s)"
    if age_ns < 0:
        reason = f"the first image comes {-age_ns / 1e9:.3f} s later {limit}"
    else:
        reason = f"the newest image is {age_ns / 1e9:.3f} s old {limit}"
    return DueQuestion(question, moment_ns, reason)
