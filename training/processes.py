"""Worker processes of a long run: started, and ended at once when the run is interrupted.

Knows concurrent.futures and signals. Does not know the work: the caller removes what a terminated
worker left incomplete.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def spawned_pool(
    workers: int, start: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """A pool of new interpreters: threads and GL contexts do not survive a fork.

    Args:
        start: called with `arguments` in each of them before its first task.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, start, arguments)


def terminate_workers(pool: ProcessPoolExecutor) -> None:
    """Terminate the workers of a pool and wait for their end; the pool cannot be used again.

    An executor's own shutdown waits for running tasks, which may take minutes.
    """
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()


def exit_on_sigterm() -> None:
    """Make SIGTERM end this process as Ctrl-C does.

    By default it would end the process without cleanup and leave its workers running.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
