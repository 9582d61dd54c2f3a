"""The process of a node: its main loop, its signals and its memory.

Spins the node until SIGINT or SIGTERM. rclpy's own signal handlers shut the context down at once,
and the replies to waiting callers are lost; here the node closes first and its last replies are
sent. Does not know what the node does.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.signals import (
    SignalHandlerOptions,
    install_signal_handlers,
    uninstall_signal_handlers,
)

from sdvlm_ros.responses import note_dropped_responses

# How long a thread that runs Python code keeps the interpreter while another thread waits. The
# executor waits for the interpreter several times in every cycle; the model's thread is only
# slightly slower.
_SWITCH_INTERVAL_S = 0.0005
_POLL_S = 0.1  # between two checks for a signal
_DRAIN_S = 3.0  # time for pending replies after the node has closed
_FLUSH_S = 0.2  # time for sent replies to leave the process
_STATM = Path("/proc/self/statm")


class ServedNode(LifecycleNode, ABC):
    """A node that `run` starts and ends."""

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether requests are accepted."""

    @property
    @abstractmethod
    def loading(self) -> bool:
        """Whether a thread runs that cannot be interrupted."""

    @property
    @abstractmethod
    def broken(self) -> bool:
        """Whether the process must end with status 1."""

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """Requests without a reply."""

    @abstractmethod
    def autostart(self) -> None:
        """Configure and activate, if the node's parameters ask for it."""

    @abstractmethod
    def close(self) -> None:
        """Cancel all requests and end all threads; may be called twice."""


def helped(text: str | None, args: list[str] | None = None) -> bool:
    """Whether the arguments (None = the command line's) ask for help; then `text` is printed."""
    asked = not {"-h", "--help"}.isdisjoint(sys.argv[1:] if args is None else args)
    if asked:
        print(text)
    return asked


def run(make_node: Callable[[], ServedNode], args: list[str] | None = None) -> int:
    """Make the node, start it, and spin it until a signal; then close it and send its replies.

    A signal before the node exists, or a second signal, ends the process at once.

    Returns:
        The exit status: 0 = ended by a signal, 1 = the node is broken.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    note_dropped_responses()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    node: ServedNode | None = None
    stopping = ended = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        if ended:
            return
        if stopping or node is None:
            raise KeyboardInterrupt
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        node = make_node()
        executor.add_node(node)
        node.autostart()
        while not stopping and not node.broken:
            executor.spin_once(timeout_sec=_POLL_S)
        node.close()
        served = node
        _spin_while(executor, _DRAIN_S, lambda: served.in_flight > 0)
        _spin_while(executor, _FLUSH_S, lambda: True)
    except KeyboardInterrupt:
        pass  # a signal before the node was active, or the second one
    finally:
        ended = True
        _ignore_signals()
        if node is not None:
            node.close()
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
    status = 0 if stopping or node is None else int(node.broken)
    if node is not None and node.loading:
        # The interpreter would abort in the thread's native code, or wait for minutes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


@contextmanager
def until_signal() -> Iterator[None]:
    """For simple programs: SIGINT and SIGTERM end the block normally, then rclpy is shut down.

    Later signals are ignored: `ros2 launch` and the terminal both send SIGINT, and the second one
    would end the process with status -2 while it shuts down. Call after rclpy.init.
    """
    ended = False

    def end(number: int, _: FrameType | None) -> None:
        nonlocal ended
        if not ended:
            ended = True
            raise KeyboardInterrupt

    # rclpy's handlers wake a blocked executor, then call the handlers that they have replaced.
    uninstall_signal_handlers()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    install_signal_handlers()
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # the usual end
    except Exception:
        # A signal shuts the context down. A running call may then raise any exception.
        if rclpy.ok():
            raise
    finally:
        ended = True
        rclpy.try_shutdown()
        _ignore_signals()


def _ignore_signals() -> None:
    """Ignore SIGINT and SIGTERM from here to the end of the process.

    The handlers installed before must return from now on. CPython reports a signal that arrives
    while its handler becomes SIG_IGN as an unraisable OSError; it is expected here.
    """

    def report(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, OSError):
            sys.__unraisablehook__(unraisable)

    previous, sys.unraisablehook = sys.unraisablehook, report
    for number in 2 * (signal.SIGINT, signal.SIGTERM):  # twice: each call first runs what is due
        signal.signal(number, signal.SIG_IGN)
    sys.unraisablehook = previous


def _spin_while(
    executor: SingleThreadedExecutor, timeout_s: float, condition: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + timeout_s
    while condition() and (remaining := deadline - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=remaining)


def resident_bytes() -> int | None:
    """Resident memory of this process; None = unknown on this system (it has no /proc)."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return None


def gpu_bytes() -> int | None:
    """Memory that torch holds on all GPUs; None = no CUDA device, or torch is not imported."""
    torch = sys.modules.get("torch")  # a node without a model does not import it
    try:
        if torch is None or not torch.cuda.is_available():
            return None
        return sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
    except AttributeError:  # another thread is importing torch
        return None


def release_memory() -> None:
    """Return unused memory to the system."""
    gc.collect()
    if gpu_bytes():
        sys.modules["torch"].cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)
