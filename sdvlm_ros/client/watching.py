"""NodeWatch: notices within 2 s that the node's process has died, and ends the waits for it.

Subscribes to ~/alive (`sdvlm_ros.alive`). After silence the node is lost, unless its process is
found in this PID namespace. A node that was never seen alive, as one of an older version, is not
watched: its callers wait out their time limit. Does not know requests or replies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.timer import Timer
from std_msgs.msg import String

from sdvlm.srv import SpatialQuery
from sdvlm_ros import alive
from sdvlm_ros.client.messages import SpatialQueryFailed
from sdvlm_ros.ticket import Outcome

# Time between two looks for the process of a silent node, seconds.
_LOOK_S = 0.2


class NodeWatch:
    """Watches the node named `server`, relative to the namespace of `node`.

    Attributes:
        node: the node that waits.
        alive: whether the node's process is known to live; False until it was seen, which takes up
            to 2 s after its discovery.
        lost: whether it was alive and is no more.
    """

    def __init__(self, node: Node, server: str, group: CallbackGroup) -> None:
        self._waiting: set[Outcome[Any]] = set()
        self.node, self.alive, self.lost = node, False, False
        self._process = ""
        self._look: Timer | None = None
        self._group = group
        events = SubscriptionEventCallbacks(liveliness=self._on_change)
        topic = f"{server}/{alive.TOPIC}"
        self._subscription = node.create_subscription(
            String,
            topic,
            self._on_message,
            alive.SUBSCRIBED,
            callback_group=group,
            event_callbacks=events,
        )

    def error(self) -> SpatialQueryFailed:
        """MODEL_NOT_READY: the node has died.

        The code is that of a node which is not there yet, not TIMEOUT, because the remedy is the
        same: wait until the node is active, and ask again. The same request asked again at once, as
        after a TIMEOUT, would fail again.
        """
        name = self._subscription.topic_name.removesuffix(f"/{alive.TOPIC}")
        return SpatialQueryFailed(
            SpatialQuery.Response.MODEL_NOT_READY,
            f"the node {name} has ended, or its machine cannot be reached; start it if nothing "
            "does (respawn:=true), then wait_for_node() and ask again",
        )

    @contextmanager
    def ending(self, outcome: Outcome[Any]) -> Iterator[None]:
        """Settle the outcome with `error` if the node is lost, now or within the block."""
        self._waiting.add(outcome)
        try:
            if self.lost:
                outcome.settle(self.error())
            yield
        finally:
            self._waiting.discard(outcome)

    def _on_message(self, message: String) -> None:
        self._process = message.data

    def _on_change(self, status: Any) -> None:
        """The middleware's event; rclpy has no type for its status."""
        self.alive = status.alive_count > 0
        self._stop_looking()
        if self.alive:  # maybe a restarted node: the old publisher stays until the graph forgets it
            self.lost = False
        elif status.not_alive_count == 0:  # the node was destroyed
            self._lose()
        else:
            self._look_for_process()
            if not self.lost:
                self._look = self.node.create_timer(
                    _LOOK_S,
                    self._look_for_process,
                    callback_group=self._group,
                    clock=Clock(clock_type=ClockType.STEADY_TIME),
                )

    def _look_for_process(self) -> None:
        """Of a silent node: an overloaded machine may only have stopped it for a while."""
        if not alive.runs_here(self._process):
            self._stop_looking()
            self._lose()

    def _stop_looking(self) -> None:
        timer, self._look = self._look, None
        if timer is not None:
            self.node.destroy_timer(timer)

    def _lose(self) -> None:
        self.lost = True
        for outcome in tuple(self._waiting):
            outcome.settle(self.error())
