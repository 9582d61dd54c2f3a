"""SpatialClient: the blocking client for planners; an answer or an exception.

Has the methods of `AsyncSpatialClient`. Its own node, context and thread make it safe to call from
any thread, including a callback of another executor: it blocks only its caller. Does not know
images or models.

    with SpatialClient() as client:
        client.wait_for_node()
        print(client.ask("How tall is the red mug?").text)
        print(client.size("mug", at=(320, 180, 406, 270)).height.value)
        print(client.compare("mug", "taller", "box"), client.gap("mug", "box").value)
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from sdvlm.srv import SpatialQuery
from sdvlm_ros.client.asynchronous import AsyncSpatialClient
from sdvlm_ros.client.messages import SpatialQueryFailed

# How long `close` waits for canceled goals to end.
_DRAIN_S = 1.0
_POLL_S = 0.05
P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[AsyncSpatialClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SpatialClient, P], T]:
    """The same method, run on the client's own thread while the caller waits for it."""

    @wraps(method)
    def call(self: SpatialClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(method(self._client, *args, **kwargs))

    return call


class SpatialClient:
    """Queries a spatial query node; see `AsyncSpatialClient` for arguments and errors.

    Args:
        server: name of the node, with its namespace.
    """

    def __init__(self, server: str = "/spatial_query") -> None:
        # Its own context: independent of the caller's rclpy.init and rclpy.shutdown.
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        # Overrides a `-r __node:=` in the arguments of the process, which is for the caller's node.
        name = ["--ros-args", "-r", "__node:=spatial_client"]
        self._node = rclpy.create_node("spatial_client", context=self._context, cli_args=name)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._client = AsyncSpatialClient(self._node, server)
        self._lock = threading.Lock()
        self._waiting: set[concurrent.futures.Future[Any]] | None = set()  # None = closed
        self._thread = threading.Thread(target=self._spin, name="spatial_client", daemon=True)
        self._thread.start()

    wait_for_node = _blocking(AsyncSpatialClient.wait_for_node)
    ask = _blocking(AsyncSpatialClient.ask)
    size = _blocking(AsyncSpatialClient.size)
    distance = _blocking(AsyncSpatialClient.distance)
    gap = _blocking(AsyncSpatialClient.gap)
    locate = _blocking(AsyncSpatialClient.locate)
    count = _blocking(AsyncSpatialClient.count)
    exists = _blocking(AsyncSpatialClient.exists)
    compare = _blocking(AsyncSpatialClient.compare)
    measure = _blocking(AsyncSpatialClient.measure)
    capture = _blocking(AsyncSpatialClient.capture)
    reason = _blocking(AsyncSpatialClient.reason)

    def cancel(self) -> int:
        """Request cancellation of every running `reason`, from any thread or from `on_feedback`.

        Does not wait; `reason` then raises CANCELED. Returns the number of running calls.
        """
        return self._client.cancel()

    @property
    def alive(self) -> bool:
        """As that of `AsyncSpatialClient`."""
        return self._client.alive

    def close(self) -> None:
        """Cancel running goals and leave the ROS graph; may be called twice.

        Waiting callers get CANCELED.
        """
        with self._lock:
            abandoned, self._waiting = self._waiting, None
        if abandoned is None:
            return
        for outcome in abandoned:
            self._deliver(outcome, error=_closed())
        self._client.cancel()
        if threading.current_thread() is not self._thread:
            # Flush pending cancellations: a goal may be accepted only now.
            deadline = time.monotonic() + _DRAIN_S
            while self._client.running and time.monotonic() < deadline:
                time.sleep(_POLL_S)
                self._client.cancel()
        self._context.try_shutdown()  # ends the thread's spinning
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()

    def __enter__(self) -> SpatialClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass  # `close` has shut the context down
        except BaseException as error:
            with self._lock:
                waiting, self._waiting = self._waiting or set(), None
            for outcome in waiting:
                self._deliver(outcome, error=error)
            self._context.try_shutdown()
            raise

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the client's thread; returns its result or raises its exception."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "a blocking method was called in on_feedback, which runs on the client's own "
                "thread; only cancel() is allowed there"
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
        """Set the result once: the reply and `close` may be concurrent."""
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
