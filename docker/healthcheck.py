"""Is the node well? Asks its life cycle service: exit status 0 = active, 1 = not, with the reason.

Does not judge answers or inputs: what is missing there is in /diagnostics, and no restart mends it.
"""

from __future__ import annotations

import argparse
import sys

import rclpy
from lifecycle_msgs.srv import GetState


def state_of(node_name: str, timeout: float) -> str:
    """The label of the node's state; "" = it does not answer within `timeout` seconds."""
    rclpy.init()
    node = rclpy.create_node("healthcheck")
    try:
        client = node.create_client(GetState, f"{node_name}/get_state")
        if not client.wait_for_service(timeout / 2):
            return ""
        future = client.call_async(GetState.Request())
        rclpy.spin_until_future_complete(node, future, timeout_sec=timeout / 2)
        return future.result().current_state.label if future.done() else ""
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def main() -> int:
    """Ask once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("node", nargs="?", default="/spatial_query", help="with its namespace")
    parser.add_argument("--timeout", type=float, default=6.0, help="seconds")
    arguments = parser.parse_args()
    state = state_of(arguments.node, arguments.timeout)
    if state == "active":
        return 0
    print(f"{arguments.node} is {state or 'not answering'}, not active", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
