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
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.service import Service

# Between two tries. Each one stops the process for the 100 ms that Fast DDS waits.
PERIOD_S = 1.0
TRIES = 8
# Responses that wait for their client's reader, per service; further ones are dropped.
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


def send_again(node: Node, service: Service[Any, Any]) -> None:
    """Send each response of a service again until the middleware takes it, or after `TRIES`.

    Needs `note_dropped_responses`. A response that is lost in the end is logged.
    """
    send = service.send_response
    clock = Clock(clock_type=ClockType.STEADY_TIME)
    waiting = 0

    def send_response(response: Any, header: Any) -> None:
        nonlocal waiting
        if _sent(send, response, header):
            return
        if waiting >= _MAX_WAITING:
            _log_dropped(node, service, "too many responses wait for their clients")
            return
        waiting += 1
        tries = 1

        def again() -> None:
            nonlocal waiting, tries
            tries += 1
            try:
                sent = _sent(send, response, header)
            except InvalidHandle:  # the node is being destroyed
                sent = False
                tries = TRIES
            if not sent and tries < TRIES:
                return
            waiting -= 1
            node.destroy_timer(timer)
            if not sent:
                _log_dropped(node, service, f"sent {tries} times in {tries * PERIOD_S:g} s")

        timer = node.create_timer(PERIOD_S, again, clock=clock)

    service.send_response = send_response  # type: ignore[method-assign]


def _sent(send: Any, response: Any, header: Any) -> bool:
    _thread.dropped = False
    send(response, header)
    return not _thread.dropped


def _log_dropped(node: Node, service: Service[Any, Any], why: str) -> None:
    name = node.resolve_service_name(service.srv_name)
    node.get_logger().warning(
        f"a response of {name} is lost ({why}): its client reads with another QoS than reliable and"
        " volatile, or discovery has not found it",
        throttle_duration_sec=10.0,
    )
