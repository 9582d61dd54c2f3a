"""Awaits services and replies with a time limit, without blocking the executor.

A node that dies ends the waits. Does not know the content of a request or reply.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, cast

from rclpy.node import Node
from rclpy.task import Future

from sdvlm.srv import SpatialQuery
from sdvlm_ros.client.messages import SpatialQueryFailed
from sdvlm_ros.client.watching import NodeWatch
from sdvlm_ros.ticket import Outcome, sleep

T = TypeVar("T")

Code = SpatialQuery.Response
# A request to a service that is not discovered yet is lost.
DISCOVERY_S = 5.0
# The node observes the time limit; transport takes a little longer.
_TRANSPORT_S = 1.0
_POLL_S = 0.02


async def wait_until_ready(
    watch: NodeWatch,
    is_ready: Callable[[], bool],
    name: str,
    timeout_s: float = DISCOVERY_S,
) -> None:
    """Wait until a service or action server is discovered.

    Raises:
        SpatialQueryFailed: MODEL_NOT_READY, the node has died, or it is not discovered within
            `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if watch.lost:  # the graph still has its services
            raise watch.error()
        if is_ready():
            return
        if time.monotonic() > deadline:
            raise SpatialQueryFailed(
                Code.MODEL_NOT_READY,
                f"{name} is not available after {timeout_s:g} s; is the node running, with the "
                "same ROS_DOMAIN_ID?",
            )
        await pause(watch.node)


async def pause(node: Node) -> None:
    """Give the executor time for other callbacks."""
    await sleep(node, _POLL_S)


async def wait_for_reply(watch: NodeWatch, future: Future[T], timeout_s: float) -> T:
    """The result of a request.

    Raises:
        SpatialQueryFailed: MODEL_NOT_READY, the node has died; TIMEOUT, there is no reply.
    """
    limit_s = timeout_s + _TRANSPORT_S
    outcome: Outcome[T] = Outcome(
        watch.node,
        limit_s,
        lambda: SpatialQueryFailed(Code.TIMEOUT, f"no reply from the node within {limit_s:g} s"),
    )

    def settle(done: Future[T]) -> None:
        outcome.settle(done.exception() or cast(T, done.result()))

    future.add_done_callback(settle)
    try:
        with watch.ending(outcome):
            return await outcome.wait()
    finally:
        future.cancel()  # also removes it from the client's pending requests
