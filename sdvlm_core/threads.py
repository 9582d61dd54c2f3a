"""How many threads compute on the CPU: few, because a robot's cores are always busy.

The threads of one product wait for each other. Where one of them loses its core to another process
all wait, and waiting in a loop takes the cores from whoever has work: on two cores with a busy
neighbour nano's first answer took 0.18 to 3.26 s with torch's default and 0.077 s with one thread.
The owner of a process decides (the node, a command); importing this package changes nothing. Does
not know models.
"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
#: A model with fewer parameters is faster with one thread.
_SMALL = 100_000_000


def wait_passively() -> None:
    """Threads of OpenMP sleep while they wait. Call before torch is imported; it reads this once.

    A value that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def use(wanted: int, parameters: int, on_cpu: bool) -> int:
    """Bound the threads of torch and OpenCV in this process.

    Args:
        wanted: number of threads; 0 = OMP_NUM_THREADS if the user has set it, else one for a small
            model or one on a GPU, and all physical cores but one for others.
        parameters: number of the model's parameters.
        on_cpu: whether the model runs on the CPU.

    Returns the number: at least 1, and at most the cores that this process may use.
    """
    import cv2
    import torch

    count = number(wanted, parameters, on_cpu)
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    return count


def number(wanted: int, parameters: int, on_cpu: bool) -> int:
    """The number of threads; see `use`."""
    usable = usable_cores()
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if wanted:
        count = wanted
    elif stated.isdecimal() and int(stated):
        count = int(stated)
    elif parameters < _SMALL or not on_cpu:
        count = 1
    else:
        count = min(usable, _physical_cores()) - 1
    return max(1, min(count, usable))


def usable_cores() -> int:
    """The cores that this process may use: its affinity, and the CPU quota of its control group."""
    quota = _quota()
    affinity = len(os.sched_getaffinity(0))
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def _physical_cores() -> int:
    import psutil

    return int(psutil.cpu_count(logical=False) or os.cpu_count() or 1)


def _quota(root: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> float | None:
    """CPUs of the tightest quota of this process's control groups; None = no quota.

    Both versions of control groups: `cpu.max`, and `cpu.cfs_quota_us` with its period. In a
    container the group's own path may not be visible; its files are then at the root.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        group = top / path.lstrip("/")
        for directory in (group, *group.parents):
            if not directory.is_relative_to(top):
                break
            if (quota := _quota_of(directory)) is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _quota_of(directory: Path) -> float | None:
    try:
        limit, period = (directory / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (directory / "cpu.cfs_quota_us").read_text().strip()
            period = (directory / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (limit.isdecimal() and period.isdecimal() and int(period)):
        return None  # "max" and -1: no quota
    return int(limit) / int(period)
