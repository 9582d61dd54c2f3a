"""The action ~/reason: several questions about one frame, with the text as it comes.

A goal is one job of the model's worker, in the same bounded queue as everybody's questions. Every
goal is accepted, since a rejection could not say why, and what cannot be done is aborted at once
with a code. Does not know how frames are found, tokens chosen or answers checked.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from sdvlm.action import SpatialReasoning
from sdvlm_core.answer import SpatialAnswer as Answer
from sdvlm_core.errors import QueryCanceled, QueryError
from sdvlm_ros import tasks
from sdvlm_ros.conversions import answer_message
from sdvlm_ros.dispatch import Dispatcher, Pending
from sdvlm_ros.publishers import Outputs
from sdvlm_ros.tasks import Question
from sdvlm_ros.transforms import Transforms
from sdvlm_ros.worker import Job

if TYPE_CHECKING:
    from sdvlm_core.engine import FrameSession

#: Of one goal; each may take seconds, and all of them hold the model.
MAX_QUESTIONS = 64
# Seconds between two feedbacks of a goal, unless it enters a new stage.
FEEDBACK_PERIOD = 0.1
# A result is for the one who asked; kept longer, results only fill memory. Seconds.
RESULT_TIMEOUT = 10


class Progress:
    """What becomes of a goal: written by the worker's thread, read by the executor's.

    Attributes:
        answers: complete ones, with their timings, in the order of the questions.
        stamp_ns, frame_id: of the image.
    """

    def __init__(self, arrived: float, publish: Callable[[Any], None]) -> None:
        self.answers: list[Answer] = []
        self.stamp_ns, self.frame_id = 0, ""
        self._arrived = self._turn = arrived
        self._publish = publish
        self._stage = -1
        self._told = arrived

    def tell(self, stage: int, index: int, text: str) -> None:
        """Feedback: at once when a stage comes for the first time, else now and then."""
        now = time.monotonic()
        if stage <= self._stage and now - self._told < FEEDBACK_PERIOD:
            return
        self._stage, self._told = max(stage, self._stage), now
        self._publish(
            SpatialReasoning.Feedback(stage=stage, question_index=index, partial_text=text)
        )

    def turn(self) -> None:
        """The goal is no longer waiting."""
        self._turn = time.monotonic()
        self.tell(SpatialReasoning.Feedback.ENCODING, 0, "")

    def work(self, questions: list[Question], session: FrameSession, job: Job) -> None:
        """Answer all questions, one after the other."""
        self.stamp_ns, self.frame_id = session.frame.stamp_ns, session.frame.frame_id
        queue, encode = self._turn - self._arrived, time.monotonic() - self._turn
        for index, question in enumerate(questions):
            self.tell(SpatialReasoning.Feedback.ANSWERING, index, "")
            answer = tasks.answer(
                question,
                session,
                job,
                partial(self.tell, SpatialReasoning.Feedback.ANSWERING, index),
                partial(self.tell, SpatialReasoning.Feedback.VERIFYING, index),
            )
            timings = replace(answer.timings, queue=queue, encode=encode)
            self.answers.append(replace(answer, timings=timings))
            queue = encode = 0.0  # the first one paid


class Reasoning:
    """The action server of a node."""

    def __init__(
        self, node: Node, dispatcher: Dispatcher, outputs: Outputs, transforms: Transforms
    ) -> None:
        self._node = node
        self._dispatcher = dispatcher
        self._outputs = outputs
        self._transforms = transforms
        self._pending: dict[bytes, Pending] = {}
        self._server = ActionServer(
            node,
            SpatialReasoning,
            "~/reason",
            self._execute,
            callback_group=ReentrantCallbackGroup(),
            cancel_callback=self._on_cancel,
            result_timeout=RESULT_TIMEOUT,
        )

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        pending = self._pending.get(bytes(goal.goal_id.uuid))
        if pending is not None:
            pending.cancel()
        return CancelResponse.ACCEPT

    async def _execute(self, goal: ServerGoalHandle) -> SpatialReasoning.Result:
        arrived = time.monotonic()
        result = SpatialReasoning.Result()
        with self._dispatcher.replying():
            progress = Progress(arrived, goal.publish_feedback)
            failure: Exception | None = None
            try:
                await self._worked(goal, progress, arrived)
            except Exception as error:  # noqa: BLE001 - every failure becomes a code and a text
                failure = error
            # What was answered before a cancellation or a failure is delivered too.
            try:
                await self._deliver(progress, goal.request.target_frame, arrived, result)
            except Exception as error:  # noqa: BLE001
                failure = failure or error
            if failure is None:
                goal.succeed()
                return result
            self._dispatcher.refused(result, failure)
            if isinstance(failure, QueryCanceled) and goal.is_cancel_requested:
                goal.canceled()
            else:
                goal.abort()
            return result

    async def _worked(self, goal: ServerGoalHandle, progress: Progress, arrived: float) -> None:
        """Have the worker answer the goal's questions; raises what was wrong."""
        request = goal.request
        if not 0 < len(request.questions) <= MAX_QUESTIONS:
            raise QueryError(f"{len(request.questions)} questions; 1 to {MAX_QUESTIONS} are taken")
        questions = [
            self._dispatcher.question(text, request.regions, request.verify)
            for text in request.questions
        ]
        if goal.is_cancel_requested:  # before it was begun
            raise QueryCanceled("canceled by the caller")
        progress.tell(SpatialReasoning.Feedback.WAITING, 0, "")
        key = bytes(goal.goal_id.uuid)
        work = partial(progress.work, questions)
        self._pending[key] = self._dispatcher.ask(work, request, arrived, progress.turn)
        try:
            await self._pending[key].outcome()
        finally:
            del self._pending[key]

    async def _deliver(
        self,
        progress: Progress,
        target_frame: str,
        arrived: float,
        result: SpatialReasoning.Result,
    ) -> None:
        """The answers as messages in the result, and published; raises TransformError."""
        answers = tuple(progress.answers)
        result.answers = [
            answer_message(answer, progress.stamp_ns, progress.frame_id, uuid.uuid4().hex)
            for answer in answers
        ]
        if target_frame:
            timeout = self._node.get_parameter("tf_timeout").value
            for message in result.answers:
                await self._transforms.apply(message, target_frame, timeout)
        self._dispatcher.answered += len(answers)
        total = time.monotonic() - arrived
        for answer, message in zip(answers, result.answers, strict=True):
            self._outputs.publish(message, answer.timings, total, progress.frame_id)
