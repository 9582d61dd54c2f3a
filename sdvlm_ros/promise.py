"""Promise: a result that any thread delivers, awaited by a callback without blocking the executor.

Knows rclpy's futures, and that an executor sleeps until somebody wakes it. Does not know what is
promised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future

T = TypeVar("T")


class Promise(Generic[T]):
    """Settled once, by whoever is first: a thread with the result, or the timer.

    Args:
        node: spun by the executor on which `outcome` is awaited.
        seconds: of real time, after which the promise is settled with what `late` returns.
        late: makes the exception for that case; called on the executor.
    """

    def __init__(self, node: Node, seconds: float, late: Callable[[], Exception]) -> None:
        self._node = node
        self._late = late
        self._lock = threading.Lock()
        self._future: Future[T | Exception] = Future(executor=node.executor)
        self._timer = node.create_timer(
            seconds,
            self._on_late,
            callback_group=ReentrantCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def settle(self, outcome: T | Exception) -> None:
        """Deliver the result or an exception, from any thread; only the first one counts."""
        with self._lock:
            if self._future.done():
                return
            self._future.set_result(outcome)
        executor = self._node.executor
        if executor is not None:
            executor.wake()

    async def outcome(self) -> T:
        """The result; raises the exception that was delivered instead."""
        try:
            outcome = await self._future
        finally:
            self._node.destroy_timer(self._timer)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _on_late(self) -> None:
        self._timer.cancel()
        self.settle(self._late())
