"""~/alive: whether the node's process lives. Its liveliness raises a suspicion, /proc decides.

The middleware's own thread shows a sign of life, so neither a busy executor nor a load that holds
the interpreter's lock interrupts it. On an overloaded machine a process may stand still for
seconds and live: the latched message names the process, and a client in the same PID namespace
looks for it. The ROS graph alone keeps a killed process for 20 s. Does not show whether the node
answers: a thread that hangs is the caller's TIMEOUT.
"""

from __future__ import annotations

import os
from pathlib import Path

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile
from std_msgs.msg import String

#: Name below the node's.
TOPIC = "alive"
#: Silence after which the process is suspected dead, seconds; a caller must know within 2 s.
LEASE_S = 1.6
#: The lease that the node offers, seconds. The middleware shows a sign of life every two thirds of
#: it: only five missing ones are silence, and a busy machine delays one or two.
OFFERED_S = 0.45
_PROC = Path("/proc")


def _qos(lease_s: float) -> QoSProfile:
    return QoSProfile(
        depth=1,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
        liveliness=LivelinessPolicy.AUTOMATIC,
        liveliness_lease_duration=Duration(seconds=lease_s),
    )


#: QoS of the subscribers.
SUBSCRIBED = _qos(LEASE_S)


def publisher(node: Node) -> Publisher[String]:
    """The node's sign of life, as long as the publisher exists."""
    made = node.create_publisher(String, f"~/{TOPIC}", _qos(OFFERED_S))
    made.publish(String(data=process_id()))
    return made


def process_id() -> str:
    """This process: kernel's boot, PID namespace, PID and start; "" = unknown on this system."""
    start = _start(os.getpid())
    return f"{_place()} {os.getpid()} {start}" if start else ""


def runs_here(identity: str) -> bool:
    """Whether that process runs in this PID namespace; False also if this cannot be known.

    Args:
        identity: `process_id` of a process, from outside.
    """
    words = identity.split()
    if len(words) != 4 or " ".join(words[:2]) != _place() or not words[2].isdecimal():
        return False
    return _start(int(words[2][:10])) == words[3]


def _place() -> str:
    """Boot and PID namespace; PIDs are compared only within one."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return "unknown"


def _start(pid: int) -> str:
    """When a process was started, ticks since boot; "" = there is none, or it has ended."""
    try:
        # The second field is the name in parentheses, which may have spaces.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
