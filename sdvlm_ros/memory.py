"""What the process holds in memory, and giving back what it no longer needs.

Linux tells the resident size; elsewhere it is unknown. Knows torch only if somebody has imported
it: a node without a model need not pay for it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Of this process; None = the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return None


def gpu_bytes() -> int | None:
    """Held by torch on all GPUs; None = there is no CUDA, or nobody has imported torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))


def give_back() -> None:
    """Return to the system what nothing refers to any more."""
    gc.collect()
    if gpu_bytes():
        sys.modules["torch"].cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl has none
        if trim is not None:
            trim(0)
