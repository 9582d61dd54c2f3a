"""Work that several processes share: who does which part, by locks on files.

A claim saves time only. Parts are written atomically and have the same bytes whoever writes them,
so the result is right where a file system has no locks, too. The kernel releases the claim of a
process that dies; the server of a network file system does so for a machine that is lost. Knows
files; does not know the work.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sdvlm_core.files import remove_temporaries

#: A file system without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def claimed(path: Path, wait: bool) -> Iterator[bool]:
    """Claim the writing of a file; what a killed process left of it is removed.

    Args:
        wait: until the process that has the claim is done or dead; False = do not wait.

    Yields:
        Whether it is claimed. If it is, another process may have written the file before.
    """
    lock = _lock_of(path)
    with ExitStack() as stack:
        try:
            held = stack.enter_context(lock.open("ab"))
            fcntl.flock(held, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            while not _is_named(held.fileno(), lock):  # its owner was done while this one waited
                held = stack.enter_context(lock.open("ab"))
                fcntl.flock(held, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            yield True
            return
        remove_temporaries(path)
        try:
            yield True
        finally:
            lock.unlink(missing_ok=True)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def write_once(path: Path, write: Callable[[], None], wait: bool) -> bool:
    """Write a file unless it exists or another process is writing it.

    Args:
        write: writes `path` atomically.
        wait: for another process that is writing it.

    Returns:
        Whether the file exists now.
    """
    if path.exists():
        # A process that was killed after writing left it; nobody needs it any more.
        _lock_of(path).unlink(missing_ok=True)
        return True
    with claimed(path, wait) as mine:
        if mine and not path.exists():
            write()
        return path.exists()


def write_all(parts: Iterable[tuple[Path, Callable[[], None]]]) -> Iterator[Path]:
    """Write every missing file, together with other processes that do the same.

    Files that another process has claimed come last, because it may be done by then.

    Yields:
        Each path once it exists.
    """
    later = []
    for path, write in parts:
        if write_once(path, write, wait=False):
            yield path
        else:
            later.append((path, write))
    for path, write in later:
        write_once(path, write, wait=True)
        yield path
