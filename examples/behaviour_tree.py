#!/usr/bin/env python3
"""A leaf of a behaviour tree: asks without blocking; each tick is RUNNING, SUCCESS or FAILURE.

The leaf works with any library whose nodes have `tick` and `halt` (py_trees: `update`,
`terminate`). A tick takes microseconds; the question runs in the executor of the tree's own node,
and `halt` cancels it at the next token.

    python3 examples/behaviour_tree.py "How tall is the red mug?" --rate 10

Prints each status and the answer. Exit status 0 = SUCCESS, 1 = FAILURE.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future

from sdvlm_ros.client import AsyncSpatialClient, SpatialQueryFailed


class Status(Enum):
    """What a tick returns."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"


class SpatialLeaf:
    """Runs one method of `AsyncSpatialClient` at a time.

    Args:
        start: begins the work, e.g. `lambda: client.reason(["How tall is the red mug?"])`.
        cancel: ends it early: `client.cancel`. Only `reason` can be ended; the result of another
            method is dropped when it comes.

    Attributes:
        result: of the last SUCCESS, for the tree's blackboard.
        error: of the last FAILURE.
    """

    def __init__(
        self,
        executor: SingleThreadedExecutor,
        start: Callable[[], Coroutine[Any, Any, Any]],
        cancel: Callable[[], object],
    ) -> None:
        self._executor, self._start, self._cancel = executor, start, cancel
        self._running: Future[Any] | None = None
        self._halted: Future[Any] | None = None
        self.result: Any = None
        self.error: SpatialQueryFailed | None = None

    def tick(self) -> Status:
        """Begin, or look whether it has ended; never waits."""
        if self.ending:
            return Status.RUNNING
        if self._running is None:
            self.result = self.error = None
            self._running = self._executor.create_task(self._work)
        if not self._running.done():
            return Status.RUNNING
        ended, self._running = self._running, None
        found = ended.result()
        if isinstance(found, SpatialQueryFailed):
            self.error = found
            return Status.FAILURE
        self.result = found
        return Status.SUCCESS

    async def _work(self) -> Any:
        try:
            return await self._start()
        except SpatialQueryFailed as error:  # raised here, it would end the executor's spinning
            return error

    def halt(self) -> None:
        """End early, because the tree has gone another way; the next tick begins anew."""
        if self._running is not None:
            self._halted, self._running = self._running, None
            self._cancel()

    @property
    def ending(self) -> bool:
        """Whether work that was halted has not ended yet; cancels it again."""
        if self._halted is None or self._halted.done():
            self._halted = None
            return False
        self._cancel()  # what is not accepted by the node yet cannot be canceled before
        return True


def main() -> int:
    """A tree of one leaf, ticked at a rate."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("question")
    parser.add_argument("--rate", type=float, default=10.0, help="ticks per second")
    parser.add_argument("--halt-after", type=int, default=0, help="ticks; 0 = never")
    parser.add_argument("--server", default="/spatial_query", help="name of the node")
    arguments = parser.parse_args()
    rclpy.init()
    node = rclpy.create_node("behaviour_tree")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    client = AsyncSpatialClient(node, arguments.server)
    leaf = SpatialLeaf(
        executor, lambda: client.reason([arguments.question], verify=True), client.cancel
    )
    status, ticks = Status.RUNNING, 0
    clock = node.create_timer(1 / arguments.rate, lambda: None)  # wakes the executor for a tick
    try:
        while status is Status.RUNNING:
            status, ticks = leaf.tick(), ticks + 1
            print(status.value, flush=True)
            if ticks == arguments.halt_after:
                leaf.halt()
                print("halted", flush=True)
                while leaf.ending:  # the node ends it at the next token
                    executor.spin_once(timeout_sec=1 / arguments.rate)
                return 1
            executor.spin_once(timeout_sec=1 / arguments.rate)
    finally:
        node.destroy_timer(clock)
        node.destroy_node()
        rclpy.shutdown()
    if status is Status.FAILURE:
        print(f"behaviour_tree: {leaf.error}", file=sys.stderr)
        return 1
    print(leaf.result[0].text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
