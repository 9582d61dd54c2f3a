"""Runs the tasks of a build: in processes of this machine, or on a Ray cluster.

A bounded number of tasks is in flight. Results come in the order in which tasks finish. Does not
know what a task does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from training.build.config import BuildConfig
from training.build.plan import Task, remove_leftovers
from training.build.report import Report
from training.build.shards import write_shard
from training.processes import spawned_pool, terminate_workers

Results = Iterator[tuple[Task, Report]]
Run = Callable[[list[Task], BuildConfig], Results]
_Pending = TypeVar("_Pending")


class ExecutorError(RuntimeError):
    """The executor is not available; the message names the package to install."""


def executor(address: str | None, workers: int, out: Path) -> AbstractContextManager[Run]:
    """What runs tasks and writes their shards into `out`.

    Args:
        address: address of a Ray cluster, or "local"; None = processes of this machine.
        workers: processes, where they are started here.

    Raises:
        ExecutorError: on entering the context: Ray is not installed.
    """
    if address is None:
        return _processes(workers, out)
    return _ray_cluster(address, workers, out)


def _bounded(
    tasks: list[Task],
    limit: int,
    submit: Callable[[Task], _Pending],
    finished: Callable[[Collection[_Pending]], Iterable[tuple[_Pending, Report]]],
) -> Results:
    """Results of all tasks; at most `limit` are in flight, because a queued task takes memory."""
    in_flight: dict[_Pending, Task] = {}
    queue = iter(tasks)
    while True:
        for task in queue:
            in_flight[submit(task)] = task
            if len(in_flight) >= limit:
                break
        if not in_flight:
            return
        for pending, report in finished(in_flight):
            yield in_flight.pop(pending), report


@contextmanager
def _processes(workers: int, out: Path) -> Iterator[Run]:
    pool = spawned_pool(workers)

    def finished(
        in_flight: Collection[Future[Report]],
    ) -> Iterable[tuple[Future[Report], Report]]:
        done, _ = wait(in_flight, return_when=FIRST_COMPLETED)
        return [(future, future.result()) for future in done]

    def run(tasks: list[Task], config: BuildConfig) -> Results:
        def submit(task: Task) -> Future[Report]:
            return pool.submit(write_shard, task, config, out)

        # One task per worker is running and one is queued.
        return _bounded(tasks, 2 * workers, submit, finished)

    try:
        yield run
        pool.shutdown()
    except BaseException:
        terminate_workers(pool)
        remove_leftovers(out)
        raise


@contextmanager
def _ray_cluster(address: str, workers: int, out: Path) -> Iterator[Run]:
    try:
        import ray
    except ImportError as error:
        raise ExecutorError("--ray needs: pip install ray") from error
    checkout = str(Path(__file__).parents[2])
    environment = {"env_vars": {"PYTHONPATH": checkout}}
    if address == "local":
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            runtime_env=environment,
            logging_level=logging.ERROR,
        )
    else:
        ray.init(address=address, runtime_env=environment, logging_level=logging.ERROR)
    # A worker that dies (memory, lost node) is replaced, and its shard is written again.
    remote = ray.remote(max_retries=3)(write_shard)

    def finished(
        in_flight: Collection[ray.ObjectRef],
    ) -> Iterable[tuple[ray.ObjectRef, Report]]:
        done, _ = ray.wait(list(in_flight), num_returns=1)
        return [(reference, ray.get(reference)) for reference in done]

    def run(tasks: list[Task], config: BuildConfig) -> Results:
        def submit(task: Task) -> ray.ObjectRef:
            return remote.remote(task, config, out.resolve())

        limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        return _bounded(tasks, limit, submit, finished)

    try:
        yield run
    finally:
        ray.shutdown()
