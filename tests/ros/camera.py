"""A camera in a separate process, which a test can kill: small frames at 30 Hz until a signal.

python -m tests.ros.camera --ros-args -r __ns:=/somewhere

SIGUSR1 kills it without any cleanup, but never inside a write: Python runs the handler between two
bytecodes. Fast DDS guards a shared-memory port with a mutex that is not robust, and a process that
dies while it holds it blocks every process that writes to this port (docs/deploy.md).
"""

from __future__ import annotations

import os
import signal
import sys
import time

import rclpy
from rclpy.executors import ExternalShutdownException

from tests.ros.peer import Peer, frame


def main() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
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
