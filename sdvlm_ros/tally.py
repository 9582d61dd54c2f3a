"""Tally: counts requests, and writes errors into replies and the log.

Every text that leaves the node here is one line of limited length. Does not know what a request is.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rclpy.node import Node

from sdvlm_core.errors import ErrorCode, QueryCanceled, error_code, shown
from sdvlm_ros.throttle import Throttle

# Longest text of an error in a reply or in the diagnostics, characters.
_MAX_TEXT = 1000
# Calls in a traceback, the innermost ones.
_MAX_CALLS = 12
#: Time between two tracebacks of one type of exception, seconds.
TRACEBACK_PERIOD_S = 60.0


class Reply(Protocol):
    """The fields of a response or result that report an error."""

    error_code: int
    error_msg: str


ReplyT = TypeVar("ReplyT", bound=Reply)


def traceback_text(error: BaseException) -> str:
    """Where an exception was raised, and its text as one line of limited length."""
    # Not traceback.format_exception: a message of several lines would look like a log line.
    calls = "".join(traceback.format_tb(error.__traceback__)[-_MAX_CALLS:])
    what = shown(f"{type(error).__name__}: {error}", _MAX_TEXT)
    return f"Traceback (most recent call last):\n{calls}{what}"


class Tally:
    """Requests since the node was started.

    Attributes:
        answered, canceled, failed: numbers of requests.
        in_flight: requests without a reply.
        last_error: code and text of the last request that failed; "" = none.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tracebacks = Throttle(TRACEBACK_PERIOD_S)
        self.answered = self.canceled = self.failed = self.in_flight = 0
        self.last_error = ""

    @contextmanager
    def request_in_flight(self) -> Iterator[None]:
        """Count a request as in flight until its reply is complete."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def count_answers(self, number: int) -> None:
        """Count answers that are being delivered."""
        self.answered += number

    def refuse(self, reply: ReplyT, error: Exception, who: str = "request") -> ReplyT:
        """Write the error's code and text into the reply, log it, and count it.

        Args:
            who: what the log calls the request; one printable line.
        """
        reply.error_code = int(error_code(error))
        reply.error_msg = shown(str(error) or type(error).__name__, _MAX_TEXT)
        if isinstance(error, QueryCanceled):
            self.canceled += 1
            return reply
        self.failed += 1
        self.last_error = f"{ErrorCode(reply.error_code).name}: {reply.error_msg}"
        logger = self._node.get_logger()
        # Throttled: a planner may ask in a loop.
        logger.warning(f"{who} refused, {self.last_error}", throttle_duration_sec=1.0)
        if reply.error_code == ErrorCode.UNKNOWN:
            self.log_traceback(error)
        return reply

    def log_traceback(self, error: BaseException) -> None:
        """Log where an exception was raised, once a minute for each type."""
        if self._tracebacks.allows(type(error).__name__):
            self._node.get_logger().error(traceback_text(error))
