"""The action ~/reason: several questions about one frame, with the text as it is generated.

A goal is one ticket in the model's queue, the same queue as for single questions; its questions are
decoded together, with those of other requests about the same frame. A goal is
accepted, because a rejection has no reason field, unless a flood of goals would fill the memory; an
invalid goal is aborted at once with an error code. Does not know how frames are found, tokens
chosen or answers checked.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from rclpy.action.server import ActionServer, CancelResponse, GoalResponse, ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from sdvlm.action import SpatialReasoning
from sdvlm_core.errors import QueryCanceled
from sdvlm_ros.answering import QuestionTicket
from sdvlm_ros.backend import Backend
from sdvlm_ros.conversions import answer_message
from sdvlm_ros.ticket import Stage

# Time between two feedback messages of a goal, seconds, unless it enters a new stage.
_FEEDBACK_PERIOD_S = 0.1
# How long a result is kept. Only the caller fetches it, so a longer time only takes memory.
_RESULT_TIMEOUT_S = 10
#: Largest number of goals in execution or with a kept result; more are rejected. Each takes about
#: 10 kB.
MAX_GOALS = 1000

_GoalHandle: TypeAlias = (
    "ServerGoalHandle[SpatialReasoning.Goal, SpatialReasoning.Result, SpatialReasoning.Feedback]"
)


class Feedback:
    """Publishes the progress of one goal, a few times a second; used from any thread."""

    def __init__(self, publish: Callable[[SpatialReasoning.Feedback], None]) -> None:
        self._publish = publish
        self._stage: int | None = None
        self._published = time.monotonic()

    def report(self, stage: Stage, index: int, text: str) -> None:
        """Publish at once when a stage is reached for the first time, else throttled."""
        now = time.monotonic()
        reached = self._stage is None or stage > self._stage
        if not reached and now - self._published < _FEEDBACK_PERIOD_S:
            return
        self._stage = max(stage, self._stage or 0)
        self._published = now
        self._publish(
            SpatialReasoning.Feedback(stage=int(stage), question_index=index, partial_text=text)
        )


class ReasoningAction:
    """The action server of a node."""

    def __init__(self, node: Node, backend: Backend) -> None:
        self._backend = backend
        self._tickets: dict[bytes, QuestionTicket] = {}
        self._node = node
        self._executing = 0
        self._ended: deque[float] = deque()  # monotonic seconds, of the goals with a kept result
        self._server = ActionServer(
            node,
            SpatialReasoning,
            "~/reason",
            self._execute,
            callback_group=ReentrantCallbackGroup(),
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
            result_timeout=_RESULT_TIMEOUT_S,
        )

    def _on_goal(self, _: SpatialReasoning.Goal) -> GoalResponse:
        now = time.monotonic()
        while self._ended and now - self._ended[0] > _RESULT_TIMEOUT_S:
            self._ended.popleft()
        if self._executing + len(self._ended) < MAX_GOALS:
            self._executing += 1
            return GoalResponse.ACCEPT
        self._node.get_logger().warning(
            f"a goal of ~/reason is rejected: {MAX_GOALS} goals run or have ended within "
            f"{_RESULT_TIMEOUT_S} s",
            throttle_duration_sec=5.0,
        )
        return GoalResponse.REJECT

    def _on_cancel(self, goal: _GoalHandle) -> CancelResponse:
        ticket = self._tickets.get(_key(goal))
        if ticket is not None:
            ticket.cancel()
        return CancelResponse.ACCEPT

    async def _execute(self, goal: _GoalHandle) -> SpatialReasoning.Result:
        try:
            return await self._run(goal)
        finally:
            self._executing -= 1
            self._ended.append(time.monotonic())
            # rclpy keeps the goal as long as its result; regions may have megabytes of masks.
            goal.request.questions, goal.request.asked, goal.request.regions = [], [], []

    async def _run(self, goal: _GoalHandle) -> SpatialReasoning.Result:
        result = SpatialReasoning.Result()
        with self._backend.tally.request_in_flight():
            try:
                ticket = self._ticket(goal)
            except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
                return self._fail(goal, result, error)
            failure: Exception | None = None
            self._tickets[_key(goal)] = ticket
            try:
                await ticket.wait()
            except Exception as error:  # noqa: BLE001
                failure = error
            finally:
                del self._tickets[_key(goal)]
            # Answers that were complete before a cancellation or a failure are delivered too.
            try:
                await self._deliver(ticket, goal.request.target_frame, result)
            except Exception as error:  # noqa: BLE001
                failure = failure or error
            if failure is not None:
                return self._fail(goal, result, failure)
            goal.succeed()
            return result

    def _ticket(self, goal: _GoalHandle) -> QuestionTicket:
        if goal.is_cancel_requested:  # before the goal was executed
            raise QueryCanceled("canceled by the caller")
        request, report = goal.request, Feedback(goal.publish_feedback).report
        return self._backend.dispatcher.ask(request, request.questions, request.asked, report)

    async def _deliver(
        self,
        ticket: QuestionTicket,
        target_frame: str,
        result: SpatialReasoning.Result,
    ) -> None:
        """Write the answers into the result and publish them; raises TransformError."""
        answers = tuple(ticket.results)
        result.answers = [
            answer_message(
                answer, ticket.stamp_ns, ticket.frame_id, uuid.uuid4().hex, ticket.camera
            )
            for answer in answers
        ]
        for message in result.answers:
            await self._backend.transforms.apply(message, target_frame)
        self._backend.tally.count_answers(len(answers))
        total_s = ticket.elapsed_s()
        for answer, message in zip(answers, result.answers, strict=True):
            publishers = self._backend.outputs[ticket.camera].answers
            publishers.publish(message, answer.timings, total_s, ticket.frame_id)

    def _fail(
        self, goal: _GoalHandle, result: SpatialReasoning.Result, error: Exception
    ) -> SpatialReasoning.Result:
        self._backend.tally.refuse(result, error)
        if isinstance(error, QueryCanceled) and goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return result


def _key(goal: _GoalHandle) -> bytes:
    return bytes(goal.goal_id.uuid)
