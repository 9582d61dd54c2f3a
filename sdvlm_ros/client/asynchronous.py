"""AsyncSpatialClient: queries a spatial query node from the callbacks of your own node.

Its methods are awaited: they never spin and never block the executor. A method with a name of its
own (`size`, `gap`, ...) sends a typed question (msg/Asked): the answer is read for that quantity of
those objects, not for what a sentence seems to ask. Does not know images or models.
`sdvlm_ros.client.blocking` has the same methods for plain threads.

    self.spatial = AsyncSpatialClient(self)                  # in a node's __init__

    async def on_request(self, request, response):           # in a callback of that node
        where = await self.spatial.locate("red mug", target_frame="base_link")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from geometry_msgs.msg import PointStamped
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.action.client import ActionClient, ClientGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.client import Client
from rclpy.node import Node

from sdvlm.action import SpatialReasoning
from sdvlm.msg import Asked, Measurement, SpatialAnswer
from sdvlm.srv import Capture, MeasureRegions, SpatialQuery
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_ros.client.messages import (
    Regions,
    Size,
    SpatialQueryFailed,
    best,
    holds,
    measured_distance,
    measured_gap,
    measured_position,
    measured_size,
    position_in,
    question_fields,
    request_fields,
    typed,
)
from sdvlm_ros.client.waiting import Code, pause, wait_for_reply, wait_until_ready
from sdvlm_ros.client.watching import NodeWatch
from sdvlm_ros.conversions import duration_message

# A request for the state is sent again after this time, seconds.
_STATE_S = 5.0


class AsyncSpatialClient:
    """Queries a spatial query node from the callbacks of `node`; its owner spins the executor.

    Await its methods in `async def` callbacks. Replies arrive in a reentrant callback group, so the
    awaiting callback may be in any group, and the executor may have a single thread.

    All methods that ask or measure take the keywords
    `target_frame` (frame of positions, "" = the node's parameter), `stamp_ns` (stamp of the frame,
    nanoseconds, 0 = the newest), `max_age` (seconds, 0 = the node's parameter), `timeout` (seconds)
    and `camera` (of a node with several), and raise SpatialQueryFailed with the node's error code
    and text. If the node's process dies, they raise it within 2 s with MODEL_NOT_READY, as for a
    node that is not there yet; `wait_for_node` then waits until it is back.

    Args:
        server: name of the spatial query node, relative to `node`'s namespace.
    """

    def __init__(self, node: Node, server: str = "spatial_query") -> None:
        self._node = node
        group = ReentrantCallbackGroup()

        def service(kind: type, name: str) -> Client[Any, Any]:
            return node.create_client(kind, f"{server}/{name}", callback_group=group)

        self.query = service(SpatialQuery, "query")
        self.regions = service(MeasureRegions, "measure_regions")
        self._capture = service(Capture, "capture")
        self._state = service(GetState, "get_state")
        self._action = f"{server}/reason"
        self.reasoning: ActionClient[Any, Any, Any] = ActionClient(
            node, SpatialReasoning, self._action, callback_group=group
        )
        self._watch = NodeWatch(node, server, group)
        self._goals: list[ClientGoalHandle[Any, Any, Any]] = []
        self._running = 0

    async def wait_for_node(self, /, timeout: float = 30.0) -> None:
        """Wait until the node is active: its model is loaded, its services are available.

        Raises:
            SpatialQueryFailed: it is not active after `timeout` seconds; MODEL_NOT_READY, or
                TIMEOUT while the model loads.
        """
        deadline = time.monotonic() + timeout
        while True:
            remaining = max(0.0, deadline - time.monotonic())
            try:
                state = await self._state_within(remaining)
            except SpatialQueryFailed:
                # The node has died, and may be started again; or the request is lost, because the
                # graph still had the service of the dead one.
                if time.monotonic() > deadline:
                    raise
            else:
                if state.id == State.PRIMARY_STATE_ACTIVE:
                    return
                if remaining == 0:
                    reason = f"the node is {state.label}, not active; see its log"
                    raise SpatialQueryFailed(Code.MODEL_NOT_READY, reason)
            await pause(self._node)

    async def _state_within(self, limit_s: float) -> State:
        """The state of the node, whose services are discovered then."""
        for client in (self.query, self.regions, self._state):
            await wait_until_ready(self._watch, client.service_is_ready, client.srv_name, limit_s)
        reply: GetState.Response = await wait_for_reply(
            self._watch,
            self._state.call_async(GetState.Request()),
            min(limit_s, _STATE_S),
        )
        return reply.current_state

    async def ask(
        self,
        /,
        question: str | Asked,
        *,
        verify: bool = False,
        regions: Regions | None = None,
        timeout: float = 30.0,
        **when: Any,
    ) -> SpatialAnswer:
        """Ask one question, in words or typed.

        Args:
            verify: check the answer against depth.
            regions: where objects are, for `verify`; each label must be the name of an asked
                object.
        """
        fields = request_fields(regions or {}, timeout=timeout, **when)
        field = "asked" if isinstance(question, Asked) else "question"
        request = SpatialQuery.Request(**{field: question}, verify=verify, **fields)
        await wait_until_ready(self._watch, self.query.service_is_ready, self.query.srv_name)
        response: SpatialQuery.Response = await wait_for_reply(
            self._watch, self.query.call_async(request), timeout
        )
        if response.error_code != Code.NONE:
            answer = response.answer if response.answer.id else None
            raise SpatialQueryFailed(response.error_code, response.error_msg, answer)
        return response.answer

    async def size(self, /, name: str, *, at: Sequence[int] | None = None, **options: Any) -> Size:
        """Length, width and height of an object.

        Args:
            at: the object's box (x1, y1, x2, y2) or point (u, v) in the colour image. The object is
                then measured from depth alone. Without `at` the model is asked, and its answer is
                verified against depth.

        Raises:
            NoMeasurement: there is no value, or the model and the depth contradict each other.
        """
        if at is not None:
            return measured_size((await self.measure({name: at}, **options)).regions[0])
        answer = await self.ask(typed(Asked.SIZE, name), verify=True, **options)
        kinds = (Asked.LENGTH, Asked.WIDTH, Asked.HEIGHT)
        return Size(*(best(answer, kind) for kind in kinds))

    async def distance(
        self, /, a: str, b: str = "", *, at: Regions | None = None, **options: Any
    ) -> Measurement:
        """Distance between two objects' centres, or from the camera to one if `b` is "".

        Args:
            at: label -> box or point, with `a` and `b` as labels; otherwise, and for the errors,
                as `size`.
        """
        if at is not None:
            return measured_distance(await self.measure(at, **options), a, b)
        kind = Asked.DISTANCE if b else Asked.CAMERA_DISTANCE
        objects = (a, b) if b else (a,)
        return best(await self.ask(typed(kind, *objects), verify=True, **options), kind)

    async def gap(
        self, /, a: str, b: str, *, at: Regions | None = None, **options: Any
    ) -> Measurement:
        """Gap between the nearest surfaces of two objects; `at` and errors: as `distance`."""
        if at is not None:
            return measured_gap(await self.measure(at, **options), a, b)
        return best(await self.ask(typed(Asked.GAP, a, b), verify=True, **options), Asked.GAP)

    async def locate(
        self, /, name: str, *, at: Sequence[int] | None = None, **options: Any
    ) -> PointStamped:
        """Position of an object: its centre with `at`, else a surface point from the model.

        Raises:
            NoMeasurement: the object is not visible, or has no depth.
        """
        if at is not None:
            return measured_position(await self.measure({name: at}, **options))
        return position_in(await self.ask(typed(Asked.POSITION, name), **options))

    async def count(self, /, things: str, **options: Any) -> int:
        """Number of objects; `things` is a plural. Errors as in `size`."""
        answer = await self.ask(typed(Asked.COUNT, things), **options)
        return round(best(answer, Asked.COUNT).value)

    async def exists(self, /, name: str, **options: Any) -> bool:
        """Whether there is an object of that name in the image.

        Raises:
            NoMeasurement: the answer is undecided.
        """
        return holds(await self.ask(typed(Asked.EXISTS, name), **options))

    async def compare(self, /, a: str, relation: str, b: str, **options: Any) -> bool:
        """Whether a relation holds: `compare("red mug", "taller", "blue box")`; verified.

        Args:
            relation: taller, shorter, wider, narrower, longer, larger, smaller, closer, farther,
                left, right, above or below.

        Raises:
            NoMeasurement: the answer is undecided, or the model and the depth contradict each
                other.
        """
        question = typed(Asked.COMPARISON, a, b, relation=relation)
        return holds(await self.ask(question, verify=True, **options))

    async def measure(
        self, /, regions: Regions, *, points: bool = False, timeout: float = 5.0, **when: Any
    ) -> MeasureRegions.Response:
        """Measure objects from depth alone: label -> box (x1, y1, x2, y2) or point (u, v).

        Args:
            points: return a PointCloud2 of each object, too.
        """
        fields = request_fields(regions, timeout=timeout, **when)
        request = MeasureRegions.Request(points=points, **fields)
        await wait_until_ready(self._watch, self.regions.service_is_ready, self.regions.srv_name)
        response: MeasureRegions.Response = await wait_for_reply(
            self._watch, self.regions.call_async(request), timeout
        )
        if response.error_code != Code.NONE:
            raise SpatialQueryFailed(response.error_code, response.error_msg)
        return response

    async def capture(
        self, /, *, max_age: float = 0.0, timeout: float = 5.0, camera: str = ""
    ) -> int:
        """Make the node hold its newest frame until the next capture; returns its `stamp_ns`.

        Each camera of a node with several holds one frame.
        """
        request = Capture.Request(
            max_age=duration_message(max_age), timeout=duration_message(timeout), camera=camera
        )
        await wait_until_ready(self._watch, self._capture.service_is_ready, self._capture.srv_name)
        response: Capture.Response = await wait_for_reply(
            self._watch, self._capture.call_async(request), timeout
        )
        if response.error_code != Code.NONE:
            raise SpatialQueryFailed(response.error_code, response.error_msg)
        return nanoseconds(response.header.stamp)

    async def reason(
        self,
        /,
        questions: Sequence[str | Asked],
        *,
        verify: bool = False,
        regions: Regions | None = None,
        on_feedback: Callable[[SpatialReasoning.Feedback], None] | None = None,
        timeout: float = 120.0,
        **when: Any,
    ) -> list[SpatialAnswer]:
        """Several questions about one frame; `on_feedback` is called while the text is generated.

        Args:
            questions: all in words, or all typed.
            verify: as in `ask`.
            regions: as in `ask`; each label must be the name of an object of any question.

        Raises:
            SpatialQueryFailed: CANCELED after `cancel`, or another code; `answers` has the
                complete answers.
            Exception: what `on_feedback` raised; the goal is canceled then.
        """
        fields = request_fields(regions or {}, timeout=timeout, **when)
        goal = SpatialReasoning.Goal(**question_fields(questions), verify=verify, **fields)
        listener = None if on_feedback is None else _Listener(on_feedback)
        await wait_until_ready(self._watch, self.reasoning.server_is_ready, self._action)
        self._running += 1
        try:
            result = await self._result(goal, listener, timeout)
        finally:
            self._running -= 1
            if listener is not None and listener.error is not None:
                raise listener.error
        if result.error_code != Code.NONE:
            answers = tuple(result.answers)
            raise SpatialQueryFailed(result.error_code, result.error_msg, answers=answers)
        return list(result.answers)

    async def _result(
        self, goal: SpatialReasoning.Goal, listener: _Listener | None, timeout: float
    ) -> SpatialReasoning.Result:
        """Send a goal, and wait for its result."""
        handle: ClientGoalHandle[Any, Any, Any] = await wait_for_reply(
            self._watch, self.reasoning.send_goal_async(goal, listener), timeout
        )
        if not handle.accepted:
            raise SpatialQueryFailed(
                Code.QUEUE_FULL,
                "the goal was rejected: too many goals are waiting, or the node is not active",
            )
        self._goals.append(handle)
        if listener is not None:
            listener.accept(handle)
        try:
            return (await wait_for_reply(self._watch, handle.get_result_async(), timeout)).result
        except BaseException:
            handle.cancel_goal_async()  # its result is not used
            raise
        finally:
            self._goals.remove(handle)

    def cancel(self) -> int:
        """Request cancellation of every running `reason`, without waiting; returns their number."""
        goals = self._goals.copy()
        for handle in goals:
            handle.cancel_goal_async()
        return len(goals)

    @property
    def alive(self) -> bool:
        """Whether the node's process is known to live. It is seen up to 2 s after its discovery."""
        return self._watch.alive

    @property
    def running(self) -> int:
        """Calls of `reason` that have not returned."""
        return self._running


class _Listener:
    """Passes feedback on. An exception of the caller's function cancels the goal, and is kept.

    Raised into the executor it would end the client's thread.
    """

    def __init__(self, function: Callable[[SpatialReasoning.Feedback], None]) -> None:
        self._function = function
        self._goal: ClientGoalHandle[Any, Any, Any] | None = None
        self.error: Exception | None = None

    def __call__(self, message: Any) -> None:
        if self.error is not None:
            return
        try:
            self._function(message.feedback)
        except Exception as error:  # noqa: BLE001 - raised again by `reason`
            self.error = error
            self._cancel()

    def accept(self, goal: ClientGoalHandle[Any, Any, Any]) -> None:
        """The goal was accepted; feedback may have come before."""
        self._goal = goal
        self._cancel()

    def _cancel(self) -> None:
        if self.error is not None and self._goal is not None:
            self._goal.cancel_goal_async()
