"""~/alive: a topic without messages, whose liveliness shows that the node's process lives.

The middleware's own thread asserts it, so neither a busy executor nor a load that holds the
interpreter's lock interrupts it; measured in docs/deploy.md. The ROS graph alone keeps a killed
process for 20 s. Does not show whether the node answers: a thread that hangs is the caller's
TIMEOUT.
"""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import LivelinessPolicy, QoSProfile
from std_msgs.msg import Empty

#: Name below the node's.
TOPIC = "alive"
#: Silence after which the process counts as dead, seconds; a caller must know within 2 s.
LEASE_S = 1.8
#: The lease that the node offers, seconds. The middleware asserts liveliness every two thirds of it:
#: only six missing assertions are silence, and a busy machine delays one or two.
OFFERED_S = 0.45


def _qos(lease_s: float) -> QoSProfile:
    return QoSProfile(
        depth=1,
        liveliness=LivelinessPolicy.AUTOMATIC,
        liveliness_lease_duration=Duration(seconds=lease_s),
    )


#: QoS of the subscribers.
SUBSCRIBED = _qos(LEASE_S)


def publisher(node: Node) -> Publisher[Empty]:
    """The node's sign of life, as long as the publisher exists."""
    return node.create_publisher(Empty, f"~/{TOPIC}", _qos(OFFERED_S))
