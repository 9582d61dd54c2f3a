"""SpatialClient: the planner's door. Ask or measure, get an answer or an exception.

The methods of `sdvlm_ros.client.asynchronous`, blocking. Its own node, context and thread make
it safe to call from any thread, a callback of another executor included: it blocks its caller and
nobody else. Does not know images, models, or how an answer comes about.

    with SpatialClient() as client:
        client.wait_for_node()
        print(client.ask("How tall is the red mug?").text)
        print(client.size("mug", at=(320, 180, 406, 270)).height.value)
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from sdvlm.srv import SpatialQuery
from sdvlm_ros.client.asynchronous import AsyncSpatialClient
from sdvlm_ros.client.messages import NoMeasurement, Size, SpatialQueryFailed

__all__ = ["AsyncSpatialClient", "NoMeasurement", "Size", "SpatialClient", "SpatialQueryFailed"]

# How long `close` waits for the goals it cancels to end; seconds.
_LAST_WORDS = 1.0
P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[AsyncSpatialClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SpatialClient, P], T]:
    """The same method, run on the client's own thread while the caller waits for it."""

    @wraps(method)
    def call(self: SpatialClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(method(self._asking, *args, **kwargs))

    return call


class SpatialClient:
    """Asks a spatial query node; see `AsyncSpatialClient` for what the methods take and raise.

    Args:
        server: name of the node, with its namespace.
    """

    def __init__(self, server: str = "/spatial_query") -> None:
        # A context of its own: neither needs the caller's rclpy.init nor shuts it down.
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        # By name, as the caller's own `-r __node:=` is in the process's arguments too.
        named = ["--ros-args", "-r", "__node:=spatial_client"]
        self._node = rclpy.create_node("spatial_client", context=self._context, cli_args=named)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._asking = AsyncSpatialClient(self._node, server)
        self._lock = threading.Lock()
        self._waiting: set[concurrent.futures.Future[Any]] | None = set()  # None = closed
        self._thread = threading.Thread(target=self._spin, name="spatial_client", daemon=True)
        self._thread.start()

    wait_for_node = _blocking(AsyncSpatialClient.wait_for_node)
    ask = _blocking(AsyncSpatialClient.ask)
    size = _blocking(AsyncSpatialClient.size)
    distance = _blocking(AsyncSpatialClient.distance)
    locate = _blocking(AsyncSpatialClient.locate)
    count = _blocking(AsyncSpatialClient.count)
    measure = _blocking(AsyncSpatialClient.measure)
    capture = _blocking(AsyncSpatialClient.capture)
    reason = _blocking(AsyncSpatialClient.reason)

    def cancel(self) -> int:
        """Ask for the end of every running `reason`, from any thread or from `on_feedback`.

        Does not wait; `reason` then raises CANCELED. Returns how many there were.
        """
        return self._asking.cancel()

    def close(self) -> None:
        """Leave the ROS graph, canceling what `reason` does there; may be called twice.

        Callers that still wait get CANCELED.
        """
        with self._lock:
            abandoned, self._waiting = self._waiting, None
        if abandoned is None:
            return
        for outcome in abandoned:
            self._deliver(outcome, error=_closed())
        self._asking.cancel()
        if threading.current_thread() is not self._thread:
            # A goal may be accepted only now, and who leaves at once takes the last words along.
            until = time.monotonic() + _LAST_WORDS
            while self._asking.running and time.monotonic() < until:
                time.sleep(0.05)
                self._asking.cancel()
        self._context.try_shutdown()  # ends the thread's spinning
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()

    def __enter__(self) -> SpatialClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):  # that is how `close` ends it
            self._executor.spin()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the client's thread and return or raise what it does."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "on_feedback runs on the client's own thread, which cannot wait for itself; "
                "only cancel() may be called there"
            )
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._lock:
            if self._waiting is None:
                work.close()
                raise _closed()
            self._waiting.add(outcome)

        async def deliver() -> None:
            try:
                self._deliver(outcome, await work)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                self._deliver(outcome, error=error)

        self._executor.create_task(deliver)
        return outcome.result()

    def _deliver(
        self,
        outcome: concurrent.futures.Future[Any],
        result: Any = None,
        error: BaseException | None = None,
    ) -> None:
        """Settle once: the reply and `close` may come at the same time."""
        with self._lock:
            if self._waiting is not None:
                self._waiting.discard(outcome)
            if outcome.done():
                return
            if error is None:
                outcome.set_result(result)
            else:
                outcome.set_exception(error)


def _closed() -> SpatialQueryFailed:
    return SpatialQueryFailed(SpatialQuery.Response.CANCELED, "this client is closed")
