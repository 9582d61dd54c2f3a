"""Watched: a node's last diagnostics and log, for tests that publish frames until they change."""

from __future__ import annotations

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import Log

from tests.ros.peer import Peer
from tests.waiting import PATIENCE_S


class Watched:
    """A node in a separate process, a camera, and the node's last diagnostics."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.status = DiagnosticStatus()
        self.log: list[str] = []
        peer.node.create_subscription(DiagnosticArray, "/diagnostics", self._on, 10)
        peer.node.create_subscription(Log, "/rosout", lambda log: self.log.append(log.msg), 100)

    def _on(self, array: DiagnosticArray) -> None:
        if self.peer.node.get_namespace() in array.status[0].name:
            self.status = array.status[0]

    def value(self, key: str) -> str:
        return {pair.key: pair.value for pair in self.status.values}.get(key, "")

    def until(self, told: Callable[[], bool], what: str) -> None:
        """Wait without publishing anything."""
        self.peer.spin_until(told, f"{what}; the last status is {self.status.message!r}")

    def publish_until(self, make: Callable[[int], dict], told: Callable[[], bool]) -> None:
        """Publish frames at 20 Hz until the diagnostics satisfy a condition."""
        deadline = time.monotonic() + PATIENCE_S
        while not told():
            assert time.monotonic() < deadline, self.status
            for topic, message in make(time.time_ns()).items():
                self.peer.publishers[topic].publish(message)
            until = time.monotonic() + 0.05
            while (left := until - time.monotonic()) > 0:
                self.peer.executor.spin_once(timeout_sec=left)
