"""Standing questions: asked at a period while the node is active, by parameter or ~/ask_every.

A question goes the way of ~/query, so that its answer is on ~/answers and its refusal in the log.
One that still waits for its answer is not asked again. Does not know how a question is answered.
"""

from __future__ import annotations

from itertools import product

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.timer import Timer

from sdvlm.msg import StandingQuestion
from sdvlm.srv import AskEvery, SpatialQuery
from sdvlm_core.camera.messages import asked_from_message, nanoseconds
from sdvlm_core.errors import ParameterError, QueryError, shown
from sdvlm_core.language.question import phrase
from sdvlm_ros import parameters
from sdvlm_ros.backend import Backend
from sdvlm_ros.camera import named
from sdvlm_ros.conversions import duration_message
from sdvlm_ros.dispatch import checked
from sdvlm_ros.questions import stated
from sdvlm_ros.responses import Responses
from sdvlm_ros.services import answered

#: Largest number of standing questions.
MAX_STANDING = 16


class _Standing:
    """One standing question, and how often it was answered, refused and skipped."""

    timer: Timer  # set by who makes it, since its callback needs this object

    def __init__(self, request: SpatialQuery.Request, period_s: float) -> None:
        self.request, self.period_s = request, period_s
        self.answered = self.refused = self.skipped = 0

    def message(self) -> StandingQuestion:
        return StandingQuestion(
            question=self.request.question,
            asked=self.request.asked,
            camera=self.request.camera,
            period=duration_message(self.period_s),
            answered=self.answered,
            refused=self.refused,
            skipped=self.skipped,
        )


class StandingQuestions:
    """~/ask_every of a node, and the questions of its parameters.

    Raises:
        ParameterError: a question of the parameter standing_questions cannot be asked.
    """

    def __init__(self, node: Node, backend: Backend, responses: Responses) -> None:
        self._node, self._backend = node, backend
        self._standing: dict[tuple[str, str], _Standing] = {}
        # Those that wait for an answer, also of a question that has been replaced since.
        self._waiting: set[tuple[str, str]] = set()
        # Reentrant: while an answer is awaited, other questions are asked, and this one is skipped.
        self._group = ReentrantCallbackGroup()
        self._service = node.create_service(
            AskEvery, "~/ask_every", self._on_ask_every, callback_group=self._group
        )
        responses.watch(self._service)
        settings = parameters.read(node)
        questions = filter(None, settings.standing_questions)
        for question, camera in product(questions, settings.cameras):
            request = SpatialQuery.Request(question=question, camera=camera)
            try:
                self._stand(request, settings.standing_period)
            except QueryError as error:
                raise ParameterError(f"parameter standing_questions: {error}") from error

    def counted(self) -> dict[str, str]:
        """Counters for the diagnostics; empty = no question stands."""
        if not self._standing:
            return {}
        standing = self._standing.values()
        return {
            "standing questions": str(len(standing)),
            "standing questions answered": str(sum(one.answered for one in standing)),
            "standing questions refused": str(sum(one.refused for one in standing)),
            "standing questions skipped": str(sum(one.skipped for one in standing)),
        }

    def _on_ask_every(
        self, request: AskEvery.Request, response: AskEvery.Response
    ) -> AskEvery.Response:
        try:
            self._change(request)
        except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
            self._backend.tally.refuse(response, error)
        response.standing = [one.message() for one in self._standing.values()]
        return response

    def _change(self, request: AskEvery.Request) -> None:
        if not request.question and not stated(request.asked):
            return
        asked = SpatialQuery.Request(
            question=request.question,
            asked=request.asked,
            regions=request.regions,
            target_frame=request.target_frame,
            verify=request.verify,
            camera=named(request.camera, parameters.read(self._node).cameras),
        )
        period_s = nanoseconds(request.period) / 1e9
        if period_s:
            self._stand(asked, period_s)
        elif (one := self._standing.pop(_key(asked), None)) is not None:
            self._node.destroy_timer(one.timer)
        else:
            raise QueryError("this question does not stand; `standing` has those that do")

    def _stand(self, request: SpatialQuery.Request, period_s: float) -> None:
        """Ask a question at a period from now on; raises QueryError."""
        low, high = parameters.PERIOD_S
        if not low <= period_s <= high:
            raise QueryError(f"the period is {period_s:g} s; it must be {low:g} to {high:g} s")
        typed = stated(request.asked)
        words = [request.question] if request.question or not typed else []
        checked(self._node, request, words, typed)
        before = self._standing.get(_key(request))
        if before is None and len(self._standing) >= MAX_STANDING:
            raise QueryError(
                f"{MAX_STANDING} questions stand, the limit; end one with the period 0"
            )
        if before is not None:
            self._node.destroy_timer(before.timer)
        one = _Standing(request, period_s)
        one.timer = self._node.create_timer(
            period_s,
            lambda: self._start(one),
            callback_group=self._group,
            # Not the node's clock: when /clock stops, the refusals say so.
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self._standing[_key(request)] = one

    def _start(self, one: _Standing) -> None:
        executor = self._node.executor
        if executor is not None:
            executor.create_task(self._ask, one)

    async def _ask(self, one: _Standing) -> None:
        if not self._backend.dispatcher.active:
            return
        key = _key(one.request)
        if key in self._waiting:
            one.skipped += 1
            return
        self._waiting.add(key)
        try:
            response = await answered(
                self._backend,
                one.request,
                SpatialQuery.Response(),
                f"standing question '{shown(_key(one.request)[1], 60)}'",
            )
        finally:
            self._waiting.discard(key)
        if response.error_code == SpatialQuery.Response.NONE:
            one.answered += 1
        else:
            one.refused += 1


def _key(request: SpatialQuery.Request) -> tuple[str, str]:
    """Camera, and the question in words, which is equal for the same one; raises QueryError."""
    words = str(request.question) or phrase(asked_from_message(request.asked))
    return str(request.camera), words
