"""NodeWatch: notices within 2 s that the node's process has died, and ends the waits for it.

Subscribes to the liveliness of ~/alive (`sdvlm_ros.alive`). A node that was never seen alive, as
one of an older version, is not watched: its callers wait out their time limit. Does not know
requests or replies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from std_msgs.msg import Empty

from sdvlm.srv import SpatialQuery
from sdvlm_ros import alive
from sdvlm_ros.client.messages import SpatialQueryFailed
from sdvlm_ros.ticket import Outcome


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
        events = SubscriptionEventCallbacks(liveliness=self._on_change)
        topic = f"{server}/{alive.TOPIC}"
        self._subscription = node.create_subscription(
            Empty,
            topic,
            lambda _: None,
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
            f"the node {name} has ended, or cannot be reached: no sign of life for "
            f"{alive.LEASE_S:g} s; start it if nothing does (respawn:=true), then wait_for_node() "
            "and ask again",
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

    def _on_change(self, status: Any) -> None:
        """The middleware's event; rclpy has no type for its status."""
        # A restarted node: the old publisher stays, not alive, until the graph forgets it.
        self.alive = status.alive_count > 0
        self.lost = not self.alive
        if self.lost:
            for outcome in tuple(self._waiting):
                outcome.settle(self.error())
