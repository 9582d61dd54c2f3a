"""A camera in a separate process, which a test can kill: small frames at 30 Hz until a signal.

python -m tests.ros.camera --ros-args -r __ns:=/somewhere
"""

from __future__ import annotations

import sys
import time

import rclpy
from rclpy.executors import ExternalShutdownException

from tests.ros.peer import Peer, frame


def main() -> None:
    rclpy.init(args=sys.argv)
    peer = Peer(rclpy.get_default_context())

    def publish() -> None:
        for topic, message in frame(time.time_ns()).items():
            peer.publishers[topic].publish(message)

    peer.node.create_timer(1 / 30, publish)
    try:
        peer.executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
