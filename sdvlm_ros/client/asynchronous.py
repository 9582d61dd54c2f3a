"""AsyncSpatialClient: asks a spatial query node from the callbacks of a node of yours.

Awaited, so it never spins and never blocks the executor it runs on. Does not know images, models,
or how an answer comes about. `sdvlm_ros.client.blocking` has the same methods for plain threads.

    self.spatial = AsyncSpatialClient(self)                  # in a node's __init__

    async def on_request(self, request, response):           # in a callback of that node
        where = await self.spatial.locate("red mug", target_frame="base_link")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from geometry_msgs.msg import PointStamped
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from sdvlm.action import SpatialReasoning
from sdvlm.msg import Measurement, SpatialAnswer
from sdvlm.srv import MeasureRegions, SpatialQuery
from sdvlm_ros.client.messages import (
    NoMeasurement,
    Regions,
    Size,
    SpatialQueryFailed,
    best,
    held_stamp_ns,
    measured_distance,
    measured_position,
    measured_size,
    request_fields,
)
from sdvlm_ros.ticket import Outcome

Code = SpatialQuery.Response
# The node keeps the deadline; this much more is for the way, seconds.
ON_THE_WAY = 1.0
# A request to a service that is not discovered yet is lost: wait for it so long, seconds.
DISCOVERY = 5.0


class AsyncSpatialClient:
    """Asks a spatial query node from the callbacks of `node`, whose executor is spun by its owner.

    Await its methods in `async def` callbacks. Replies come in a reentrant callback group, so the
    callback that waits may be in any group and the executor may have a single thread.

    All of `ask`, `size`, `distance`, `locate`, `count`, `measure` and `reason` take the keywords
    `target_frame` (frame of positions, "" = the colour optical frame), `stamp_ns` (of the frame to
    look at, nanoseconds, 0 = the newest), `max_age` (seconds, 0 = the node's parameter) and
    `timeout` (seconds), and raise SpatialQueryFailed with the node's error code and text.

    Args:
        server: name of the spatial query node, relative to `node`'s namespace.
    """

    def __init__(self, node: Node, server: str = "spatial_query") -> None:
        self._node = node
        group = ReentrantCallbackGroup()
        self.query = node.create_client(SpatialQuery, f"{server}/query", callback_group=group)
        self.regions = node.create_client(
            MeasureRegions, f"{server}/measure_regions", callback_group=group
        )
        self._holding = node.create_client(Trigger, f"{server}/capture", callback_group=group)
        self._life = node.create_client(GetState, f"{server}/get_state", callback_group=group)
        self._action = f"{server}/reason"
        self.reasoning = ActionClient(node, SpatialReasoning, self._action, callback_group=group)
        self._goals: list[ClientGoalHandle] = []
        self._running = 0

    async def wait_for_node(self, /, timeout: float = 30.0) -> None:
        """Wait until the node is active: its model loaded, its services there.

        Raises:
            SpatialQueryFailed: it is not after `timeout` seconds; MODEL_NOT_READY, or TIMEOUT while
                it loads.
        """
        deadline = time.monotonic() + timeout
        for client in (self.query, self.regions, self._life):
            await self._discovered(client.service_is_ready, client.srv_name, timeout)
        while True:
            left = max(0.0, deadline - time.monotonic())
            reply = await self._reply(self._life.call_async(GetState.Request()), left)
            if reply.current_state.id == State.PRIMARY_STATE_ACTIVE:
                return
            if left == 0:
                label = reply.current_state.label
                raise SpatialQueryFailed(
                    Code.MODEL_NOT_READY, f"the node is {label}, not active; see its log"
                )
            await self._pause()

    async def ask(
        self,
        /,
        question: str,
        *,
        verify: bool = False,
        regions: Regions | None = None,
        timeout: float = 30.0,
        **when: Any,
    ) -> SpatialAnswer:
        """One question. `verify`: check lengths against depth; `regions` say where things are."""
        fields = request_fields(regions or {}, timeout=timeout, **when)
        request = SpatialQuery.Request(question=question, verify=verify, **fields)
        await self._discovered(self.query.service_is_ready, self.query.srv_name)
        response = await self._reply(self.query.call_async(request), timeout)
        if response.error_code != Code.NONE:
            answer = response.answer if response.answer.id else None
            raise SpatialQueryFailed(response.error_code, response.error_msg, answer)
        return response.answer

    async def size(self, /, name: str, *, at: Sequence[int] | None = None, **options: Any) -> Size:
        """Length, width and height of a thing.

        Args:
            at: its box (x1, y1, x2, y2) or point (u, v) in the colour image: measured from depth
                alone. Without, the model is asked, and its answer verified against depth.

        Raises:
            NoMeasurement: neither knows, or they contradict each other.
        """
        if at is not None:
            return measured_size((await self.measure({name: at}, **options)).regions[0])
        answer = await self.ask(f"What is the size of the {name}?", verify=True, **options)
        kinds = (Measurement.LENGTH, Measurement.WIDTH, Measurement.HEIGHT)
        return Size(*(best(answer, kind) for kind in kinds))

    async def distance(
        self, /, a: str, b: str = "", *, at: Regions | None = None, **options: Any
    ) -> Measurement:
        """Between the centres of two things, or from the camera to one; `at`, Raises as `size`."""
        if at is not None:
            return measured_distance(await self.measure(at, **options), a, b)
        words = f"How far is the {a} from the {b}?" if b else f"How far away is the {a}?"
        return best(await self.ask(words, verify=True, **options), Measurement.DISTANCE)

    async def locate(
        self, /, name: str, *, at: Sequence[int] | None = None, **options: Any
    ) -> PointStamped:
        """A thing's position: its centre with `at`, else the surface that the model points at.

        Raises:
            NoMeasurement: it is not there, or has no depth.
        """
        if at is not None:
            return measured_position(await self.measure({name: at}, **options))
        answer = await self.ask(f"What is the coordinate of the {name}?", **options)
        if not answer.positions:
            raise NoMeasurement("no position", answer)
        return PointStamped(header=answer.header, point=answer.positions[0])

    async def count(self, /, things: str, **options: Any) -> int:
        """How many there are; `things` is a plural. Raises NoMeasurement as `size`."""
        answer = await self.ask(f"How many {things} are there in the image?", **options)
        return round(best(answer, Measurement.COUNT).value)

    async def measure(
        self, /, regions: Regions, *, timeout: float = 5.0, **when: Any
    ) -> MeasureRegions.Response:
        """Measure things from depth alone: label -> box (x1, y1, x2, y2) or point (u, v)."""
        request = MeasureRegions.Request(**request_fields(regions, timeout=timeout, **when))
        await self._discovered(self.regions.service_is_ready, self.regions.srv_name)
        response = await self._reply(self.regions.call_async(request), timeout)
        if response.error_code != Code.NONE:
            raise SpatialQueryFailed(response.error_code, response.error_msg)
        return response

    async def capture(self, /, *, timeout: float = 5.0) -> int:
        """Have the node hold its newest frame until the next capture; `stamp_ns` to ask it by."""
        await self._discovered(self._holding.service_is_ready, self._holding.srv_name)
        return held_stamp_ns(
            await self._reply(self._holding.call_async(Trigger.Request()), timeout)
        )

    async def reason(
        self,
        /,
        questions: Sequence[str],
        *,
        verify: bool = False,
        regions: Regions | None = None,
        on_feedback: Callable[[SpatialReasoning.Feedback], None] | None = None,
        timeout: float = 120.0,
        **when: Any,
    ) -> list[SpatialAnswer]:
        """Several questions about one frame; `on_feedback` is called as the text comes.

        Raises:
            SpatialQueryFailed: CANCELED after `cancel`, or what else ended it; `answers` has those
                that were complete.
        """
        fields = request_fields(regions or {}, timeout=timeout, **when)
        goal = SpatialReasoning.Goal(questions=list(questions), verify=verify, **fields)
        tell = on_feedback and (lambda message: on_feedback(message.feedback))
        await self._discovered(self.reasoning.server_is_ready, self._action)
        self._running += 1
        try:
            result = await self._ended(goal, tell, timeout)
        finally:
            self._running -= 1
        if result.error_code != Code.NONE:
            raise SpatialQueryFailed(
                result.error_code, result.error_msg, answers=tuple(result.answers)
            )
        return list(result.answers)

    async def _ended(self, goal: Any, tell: Any, timeout: float) -> Any:
        """The result of a goal, once it is accepted and has ended."""
        handle = await self._reply(self.reasoning.send_goal_async(goal, tell), timeout)
        if not handle.accepted:
            raise SpatialQueryFailed(
                Code.QUEUE_FULL,
                "the goal was rejected: too many are waiting, or the node is not active",
            )
        self._goals.append(handle)
        try:
            return (await self._reply(handle.get_result_async(), timeout)).result
        except BaseException:
            handle.cancel_goal_async()  # nobody listens any more
            raise
        finally:
            self._goals.remove(handle)

    def cancel(self) -> int:
        """Ask for the end of every `reason` that runs, without waiting; how many there were."""
        goals = self._goals.copy()
        for handle in goals:
            handle.cancel_goal_async()
        return len(goals)

    @property
    def running(self) -> int:
        """Calls of `reason` that have not ended."""
        return self._running

    async def _discovered(
        self, ready: Callable[[], bool], name: str, timeout: float = DISCOVERY
    ) -> None:
        deadline = time.monotonic() + timeout
        while not ready():
            if time.monotonic() > deadline:
                raise SpatialQueryFailed(
                    Code.MODEL_NOT_READY,
                    f"nobody offers {name} after {timeout:g} s; is the node running, with the same "
                    "ROS_DOMAIN_ID?",
                )
            await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await Outcome[None](self._node, 0.02, TimeoutError).wait()

    async def _reply(self, future: Future[Any], timeout: float) -> Any:
        """What the node sends back; TIMEOUT if it is not heard of, as when it died."""
        outcome: Outcome[Any] = Outcome(
            self._node,
            timeout + ON_THE_WAY,
            lambda: SpatialQueryFailed(
                Code.TIMEOUT, f"no reply from the node within {timeout + ON_THE_WAY:g} s"
            ),
        )
        future.add_done_callback(lambda done: outcome.settle(done.exception() or done.result()))
        try:
            return await outcome.wait()
        finally:
            future.cancel()  # also takes it off the client's list of those that wait
