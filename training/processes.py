"""Ending worker processes at once, for a run that is interrupted.

An executor waits for what its workers are at, which may be minutes. Knows
concurrent.futures; does not know the work: what it leaves half done is for the caller to remove.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor


def stop(pool: ProcessPoolExecutor) -> None:
    """Terminate the workers of a pool and wait until they are gone; nothing of it can be used."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()
