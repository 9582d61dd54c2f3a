"""The process of a node: spun until SIGINT or SIGTERM, then everyone who waits is told.

rclpy's own signal handlers take the context away at once, and with it the replies to those who
asked; here the node closes first and its last replies go out. Does not know what the node does.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

# A thread that runs Python code keeps the interpreter for this long while another waits for it;
# seconds. The executor waits for it several times in every turn, the model's thread hardly minds.
SWITCH_INTERVAL = 0.0005
# How often a signal is looked for, and how long last replies may take and then travel; seconds.
_TURN, _LAST_REPLIES, _ON_THE_WAY = 0.1, 3.0, 0.2


class Served(Protocol):
    """A node that can be told to end."""

    active: bool
    pending: int

    def autostart(self) -> None: ...
    def close(self) -> None: ...
    def destroy_node(self) -> None: ...


def run(make: Callable[[], Served], args: list[str] | None = None) -> None:
    """Make the node, start it, and spin it until a signal; then close it and let it reply.

    A signal before the node is active, or a second one, ends it at once.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    node: Served | None = None
    stopping = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        if stopping or node is None or not node.active:
            raise KeyboardInterrupt
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        node = make()
        executor.add_node(node)
        node.autostart()
        while not stopping:
            executor.spin_once(timeout_sec=_TURN)
        node.close()
        _spin(executor, _LAST_REPLIES, lambda: node.pending > 0)
        _spin(executor, _ON_THE_WAY, lambda: True)
    except KeyboardInterrupt:
        pass  # the other way to end
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # it ends already
        if node is not None:
            node.close()
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()


def _spin(executor: SingleThreadedExecutor, seconds: float, still: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while still() and (left := end - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left)
