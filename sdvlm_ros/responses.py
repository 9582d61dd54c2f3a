"""Responses sent again: discovery may know a client's request sooner than its response reader.

Fast DDS waits 100 ms for the reader, then drops the response; rclpy only raises a RuntimeWarning,
and the client waits for ever (ros2/rmw_fastrtps, issues 556 and 704). A lost announcement of the
reader is repeated after 3 s, so a response is sent again for longer than that. Other middleware
does not report the loss, and nothing is sent twice there.
Does not know what a response says.
"""

from __future__ import annotations

import re
import threading
import warnings
from functools import partial
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.service import Service

# Between two tries. Each one stops the process for the 100 ms that Fast DDS waits.
PERIOD_S = 1.0
TRIES = 8
# Responses of a node that wait for their client's reader; further ones are dropped.
_MAX_WAITING = 4
_DROPPED = "failed to send response (timeout)"

_thread = threading.local()


def note_dropped_responses() -> None:
    """Note rclpy's warnings of dropped responses; others are shown as before. Once per process."""
    show = warnings.showwarning

    def note(message: Warning | str, *arguments: Any, **named: Any) -> None:
        if str(message).startswith(_DROPPED):
            _thread.dropped = True
        else:
            show(message, *arguments, **named)

    warnings.showwarning = note
    # By default, Python shows a warning of one place once.
    warnings.filterwarnings("always", re.escape(_DROPPED), RuntimeWarning)


class Responses:
    """Sends each response of a node's services again, until the middleware takes it.

    Needs `note_dropped_responses`. A response that is lost in the end is logged.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting = 0

    def watch(self, *services: Service[Any, Any]) -> None:
        """Send the responses of these services again."""
        for service in services:
            service.send_response = partial(  # type: ignore[method-assign]
                self._send, service, service.send_response
            )

    def _send(self, service: Service[Any, Any], send: Any, response: Any, header: Any) -> None:
        if _sent(send, response, header):
            return
        if self._waiting >= _MAX_WAITING:
            self._log_dropped(service, "too many responses wait for their clients")
            return
        self._waiting += 1
        tries = 1

        def again() -> None:
            nonlocal tries
            tries += 1
            try:
                sent = _sent(send, response, header)
            except InvalidHandle:  # the node is being destroyed
                sent, tries = False, TRIES
            if not sent and tries < TRIES:
                return
            self._waiting -= 1
            self._node.destroy_timer(timer)
            if not sent:
                self._log_dropped(service, f"sent {tries} times in {tries * PERIOD_S:g} s")

        # Not the node's clock, which may stop.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        timer = self._node.create_timer(PERIOD_S, again, clock=steady)

    def _log_dropped(self, service: Service[Any, Any], why: str) -> None:
        name = self._node.resolve_service_name(service.srv_name)
        self._node.get_logger().warning(
            f"a response of {name} is lost ({why}): its client reads with another QoS than reliable"
            " and volatile, or discovery has not found it",
            throttle_duration_sec=10.0,
        )


def _sent(send: Any, response: Any, header: Any) -> bool:
    _thread.dropped = False
    send(response, header)
    return not _thread.dropped
