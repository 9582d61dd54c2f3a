"""FirstFrame: requests that arrive before the first frame, and wait for it.

Right after activation, or while a camera starts, there is no complete frame for a moment. A
request for the newest frame then waits, as long as a frame can be expected
(`Subscriptions.frame_expected`) and until its own time limit; the arrival of a message or the
node's monitor continues it. Later, and for a named stamp, a missing frame is an error at once. Does
not know requests or messages. Not thread-safe: only the executor's callbacks use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sdvlm_core.errors import FrameError, QueueFullError, SdvlmError, StaleFrameError
from sdvlm_ros.frame_buffer import RawFrame


@dataclass(eq=False)
class Waiter:
    """One request.

    Attributes:
        pick: finds its frame; raises a FrameError if there is none.
        use: continues with the frame; may raise an SdvlmError.
        refuse: ends the request with an error.
        ended: whether it was canceled or timed out.
        error: why it waits; None = it does not wait.
    """

    pick: Callable[[], RawFrame]
    use: Callable[[RawFrame], None]
    refuse: Callable[[Exception], None]
    ended: Callable[[], bool]
    error: FrameError | None = None


class FirstFrame:
    """Holds at most `capacity` requests.

    Args:
        expected: whether a first frame can still be expected.
        capacity: largest number of waiting requests.
    """

    def __init__(self, expected: Callable[[], bool], capacity: int) -> None:
        self._expected = expected
        self._capacity = capacity
        self._waiting: list[Waiter] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def serve(self, waiter: Waiter) -> None:
        """Use the frame of a request now, or let the request wait for it.

        Raises:
            SdvlmError: there is no frame, and none can be expected; the error of `use`; or too many
                requests wait.
        """
        try:
            frame = waiter.pick()
        except StaleFrameError:
            raise
        except FrameError as error:
            if not self._expected():
                raise
            self._waiting = [other for other in self._waiting if not other.ended()]
            if len(self._waiting) >= self._capacity:
                raise QueueFullError(
                    f"{self._capacity} requests wait for the first frame, the limit (parameter "
                    "queue_size)"
                ) from error
            waiter.error = error
            self._waiting.append(waiter)
            return
        waiter.use(frame)

    def poll(self) -> None:
        """Continue or refuse the waiting requests, after a message or some time."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.ended():
                self._continue(waiter)

    def close(self, error: SdvlmError) -> None:
        """End all waiting requests with an error."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.refuse(error)

    def _continue(self, waiter: Waiter) -> None:
        waiter.error = None
        try:
            waiter.use(waiter.pick())
        except SdvlmError as error:
            stale = isinstance(error, StaleFrameError)
            if isinstance(error, FrameError) and not stale and self._expected():
                waiter.error = error
                self._waiting.append(waiter)
            else:
                waiter.refuse(error)
