"""Throttle: allows a report of each kind once per period, so that repeats do not fill the log.

Does not write the log, and does not know what a kind means.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class Throttle:
    """Allows one report of each kind in a period; remembers a bounded number of kinds.

    Args:
        period_s: seconds between two reports of one kind.
        capacity: kinds that are remembered; beyond it, the one reported first is forgotten.
        clock: monotonic seconds.
    """

    def __init__(
        self, period_s: float, capacity: int = 64, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._period_s, self._capacity, self._clock = period_s, capacity, clock
        self._reported: OrderedDict[str, float] = OrderedDict()

    def allows(self, kind: str) -> bool:
        """Whether to report this kind now; counts as reported then."""
        now = self._clock()
        last = self._reported.get(kind)
        if last is not None and now - last < self._period_s:
            return False
        self._reported[kind] = now
        self._reported.move_to_end(kind)
        if len(self._reported) > self._capacity:
            self._reported.popitem(last=False)
        return True
