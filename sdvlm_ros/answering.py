"""Questions of waiting requests about one frame -> their answers, decoded together.

Requests that wait for the model and are about the same frame share one batch: ten questions then
take little longer than one. Each request keeps its own deadline, cancellation and feedback, and
ends as soon as its own questions are answered. Does not know queues, threads or messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from sdvlm_core.answer import AnswerBy, Asked, SpatialAnswer
from sdvlm_core.camera.rectification import rectified_regions
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.language.question import parse
from sdvlm_core.model.generation_options import GenerationOptions, Query
from sdvlm_core.verification import Check, verify
from sdvlm_ros.ticket import Stage, Ticket, run_each

if TYPE_CHECKING:  # imports torch
    from sdvlm_core.session import FrameSession


@dataclass(frozen=True)
class QuestionRequest:
    """Questions for the model.

    Attributes:
        questions: at least one, in words or typed.
        regions: object locations, for the geometry.
        answer_by: whose numbers the answers have.
        sensor: noise model of the depth camera.
        generation: how tokens are chosen, and how many.
        on_checks: called with an answer and the measurements that verified it.
    """

    questions: tuple[str | Asked, ...]
    regions: tuple[Region, ...]
    answer_by: AnswerBy
    sensor: str
    generation: GenerationOptions
    on_checks: Callable[[RgbdFrame, SpatialAnswer, Sequence[Check]], None]


QuestionTicket: TypeAlias = Ticket[QuestionRequest, SpatialAnswer]


@dataclass(frozen=True)
class Together:
    """How the model's worker runs its tickets.

    Attributes:
        max_rows: questions of one batch.
    """

    max_rows: int

    def companions(
        self, head: Ticket[Any, Any], waiting: Sequence[Ticket[Any, Any]]
    ) -> list[Ticket[Any, Any]]:
        """The waiting tickets that are answered together with the first one."""
        if not isinstance(head.request, QuestionRequest) or head.frame is None:
            return []
        found: list[Ticket[Any, Any]] = []
        room = self.max_rows - len(head.request.questions)
        for ticket in waiting:
            if not isinstance(ticket.request, QuestionRequest) or ticket.frame is None:
                continue
            if not ticket.frame.same_messages(head.frame):
                continue
            room -= len(ticket.request.questions)
            if room < 0:
                break  # in their order: a long request is not overtaken again and again
            found.append(ticket)
        return found

    def run(self, tickets: Sequence[Ticket[Any, Any]], opened: Any) -> None:
        """Run tickets of one kind on their opened frame, and end each."""
        if isinstance(tickets[0].request, QuestionRequest):
            answer_together(tickets, opened, self.max_rows)
        else:
            run_each(tickets, opened)


def answer_together(
    tickets: Sequence[QuestionTicket], session: FrameSession, max_rows: int
) -> None:
    """Answer the questions of all tickets, and end each ticket when its own are answered.

    Raises:
        ModelMemoryError: out of memory; the tickets that have not ended are left as they are.
    """
    queries: list[Query] = []
    places: list[tuple[_Progress, int]] = []
    for ticket in tickets:
        ticket.begin(session)
        ticket.report(Stage.ANSWERING, 0, "")
        request, progress = ticket.request, _Progress(ticket, session)
        options = replace(request.generation, deadline=ticket.deadline, cancel=ticket.canceled)
        for index, question in enumerate(request.questions):
            queries.append(Query(question, options))
            places.append((progress, index))
    with closing(session.progress(queries, max_rows)) as events:
        for query, event in events:
            progress, index = places[query]
            progress.take(index, event)


@dataclass(eq=False)
class _Progress:
    """What is known of the answers of one ticket."""

    ticket: QuestionTicket
    session: FrameSession
    _texts: dict[int, str] = field(default_factory=dict)
    _answers: dict[int, SpatialAnswer] = field(default_factory=dict)
    _ended: bool = False

    def take(self, index: int, event: str | SpatialAnswer | Exception) -> None:
        """A part of a text, an answer or an exception; the first exception ends the ticket."""
        if self._ended:
            return
        if isinstance(event, Exception):
            self._end(event)
        elif isinstance(event, str):
            self._texts[index] = text = self._texts.get(index, "") + event
            self.ticket.report(Stage.ANSWERING, index, text)
        else:
            self._complete(index, event)

    def _complete(self, index: int, answer: SpatialAnswer) -> None:
        ticket = self.ticket
        if index == 0:
            timings = replace(answer.timings, queue=ticket.queue_s, encode=ticket.open_s)
        else:
            timings = replace(answer.timings, queue=0.0, encode=0.0)
        answer = replace(answer, timings=timings)
        try:
            self._answers[index] = self._verified(index, answer)
        except Exception as error:  # noqa: BLE001 - ends this ticket, not those beside it
            self._end(error)
            return
        ticket.results[:] = self._in_order()
        if len(self._answers) == len(ticket.request.questions):
            self._end(None)

    def _in_order(self) -> Iterator[SpatialAnswer]:
        """The answers up to the first question without one: each is at its question's place."""
        for index in range(len(self._answers)):
            if index not in self._answers:
                return
            yield self._answers[index]

    def _verified(self, index: int, answer: SpatialAnswer) -> SpatialAnswer:
        request, session = self.ticket.request, self.session
        if request.answer_by is AnswerBy.LANGUAGE:
            return answer
        self.ticket.report(Stage.VERIFYING, index, answer.text)
        questions = request.questions
        answer, checks = verify(
            session,
            answer,
            rectified_regions(session.frame, request.regions),
            request.sensor,
            self.ticket.deadline,
            self.ticket.canceled,
            others=[one if isinstance(one, Asked) else parse(one) for one in questions],
            answer_by=request.answer_by,
        )
        request.on_checks(session.frame, answer, checks)
        return answer

    def _end(self, error: Exception | None) -> None:
        self._ended = True
        self.ticket.canceled.set()  # its other questions leave the batch
        self.ticket.finish(error)
