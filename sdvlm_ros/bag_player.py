"""Publishes a bag like a live camera: its topics and /clock.

Reads sqlite3 and mcap bags with `rosbags` and publishes the stored bytes unchanged, so raw and
compressed images cost the same. Does not know the content of a message, except its header's stamp.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import remove_ros_args
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.rosbag2 import Reader
from rosgraph_msgs.msg import Clock as ClockMsg

from sdvlm.msg import SpatialAnswer
from sdvlm_core.camera.bag_files import examine
from sdvlm_core.camera.bag_topics import COLOR_NAMES, DEPTH_NAMES, INFO_NAMES
from sdvlm_core.camera.bags import open_bag, stream
from sdvlm_core.camera.decoding import serialized_stamp_ns
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.errors import BagError
from sdvlm_ros import process
from sdvlm_ros.conversions import message_class, time_message

# Period of /clock between messages, real time.
_TICK_S = 0.01
# A frame without an answer is published again after this time.
_RETRY_S = 1.0
# The other topics of a frame; the colour image is its first message.
_PARTNER_NAMES = (*DEPTH_NAMES, *INFO_NAMES)

EPILOG = """
examples:
  sdvlm_replay table --loop
  sdvlm_replay drive/ --rate 0.5 --ros-args -r /camera/color/image_raw:=/rgb/image_rect_color
  sdvlm_replay table --as-fast-as-answered 8     # eight questions are asked about each frame

Topics are renamed with ROS remaps, as in the examples. Run the node with use_sim_time:=true.
"""


class Replay:
    """A node that plays one bag.

    Raises:
        BagError: the bag cannot be read.
        ValueError: nothing in it can be published; or, with `answers_per_frame`, no colour topic.
    """

    def __init__(self, reader: Reader, answers_per_frame: int = 0) -> None:
        self.node = Node("replay")
        self.published: Counter[str] = Counter()
        self._bag_ns = 0  # the time that was published last
        self._reader = reader
        self._answers_per_frame = answers_per_frame
        self._answers: Counter[int] = Counter()
        self._stopping = threading.Event()
        self.node.context.on_shutdown(self._stopping.set)
        self._clock = self.node.create_publisher(ClockMsg, "/clock", 10)
        self._publishers = self._advertise()
        if not self._publishers:
            raise ValueError(f"{reader.path} has no topic that can be published")
        self._color = self._named(COLOR_NAMES)
        # Messages of a held frame; two, because the next depth may precede its colour.
        self._recent: dict[str, deque[tuple[int, bytes]]] = {
            topic: deque(maxlen=2) for topic in self._color | self._named(_PARTNER_NAMES)
        }
        if answers_per_frame:
            if not self._color:
                raise ValueError(
                    f"no topic is {COLOR_NAMES[0]}, so the start of a frame is unknown; remap "
                    f"the colour topic to it: {', '.join(self._publishers)}"
                )
            self.node.create_subscription(
                SpatialAnswer, "spatial_query/answers", self._on_answer, 100
            )
            self._executor = SingleThreadedExecutor()
            self._executor.add_node(self.node)

    def play(self, rate: float = 1.0) -> None:
        """Once through the bag, at `rate` times its speed or as fast as frames are answered."""
        if self._answers_per_frame:
            self._play_answered()
        else:
            self._play_timed(rate)

    @property
    def stopping(self) -> bool:
        """Whether the context was shut down, by a signal or otherwise."""
        return self._stopping.is_set()

    def _advertise(self) -> dict[str, Publisher[Any]]:
        publishers: dict[str, Publisher[Any]] = {}
        for connection in self._reader.connections:
            if connection.topic == "/clock" or connection.topic in publishers:
                continue
            try:
                kind = message_class(connection.msgtype)
            except (ImportError, AttributeError):
                self.node.get_logger().warning(
                    f"{connection.topic} is not published: {connection.msgtype} is not installed"
                )
                continue
            publishers[connection.topic] = self.node.create_publisher(
                kind, connection.topic, _offered_qos(connection)
            )
        return publishers

    def _messages(self) -> Iterator[tuple[str, int, bytes]]:
        """Topic, bag time in nanoseconds, serialized message; in the order of the bag."""
        for connection, bag_ns, data in stream(self._reader, self._publishers):
            if self.stopping:
                return
            yield connection.topic, bag_ns, bytes(data)

    def _named(self, names: tuple[str, ...]) -> set[str]:
        return {
            t for t, publisher in self._publishers.items() if publisher.topic_name.endswith(names)
        }

    def _publish(self, topic: str, bag_ns: int, data: bytes) -> None:
        self._tick(bag_ns)
        self._publishers[topic].publish(data)
        self.published[topic] += 1

    def _tick(self, bag_ns: int) -> None:
        self._bag_ns = bag_ns
        self._clock.publish(ClockMsg(clock=time_message(bag_ns)))

    def _play_timed(self, rate: float) -> None:
        began, first_ns = time.monotonic(), self._reader.start_time
        for topic, bag_ns, data in self._messages():
            due = began + (bag_ns - first_ns) / 1e9 / rate
            while (ahead := due - time.monotonic()) > 0 and not self.stopping:
                if ahead > _TICK_S:
                    self._tick(bag_ns - round((ahead - _TICK_S) * rate * 1e9))
                self._stopping.wait(min(ahead, _TICK_S))
            self._publish(topic, bag_ns, data)

    def _play_answered(self) -> None:
        """Hold every frame until its answers have arrived."""
        while not self.stopping and not all(
            self._publishers[topic].get_subscription_count() for topic in self._color
        ):
            self._executor.spin_once(timeout_sec=_TICK_S)
        shown: int | None = None
        for topic, bag_ns, data in self._messages():
            if topic in self._color:
                self._wait_for_answers(shown)
                shown = serialized_stamp_ns(data)
            if topic in self._recent:
                self._recent[topic].append((bag_ns, data))
            self._publish(topic, bag_ns, data)
        self._wait_for_answers(shown)

    def _wait_for_answers(self, stamp_ns: int | None) -> None:
        """Wait for the answers about a frame; publish it again while they are incomplete."""
        shown_at = time.monotonic()
        while (
            stamp_ns is not None
            and self._answers[stamp_ns] < self._answers_per_frame
            and not self.stopping
        ):
            self._executor.spin_once(timeout_sec=_RETRY_S)
            # Also between two answers: an image that arrived too long ago is stale.
            if time.monotonic() - shown_at > _RETRY_S:
                shown_at = time.monotonic()
                self._tick(self._bag_ns)
                for topic, messages in self._recent.items():
                    for _, data in messages:
                        self._publishers[topic].publish(data)

    def _on_answer(self, answer: SpatialAnswer) -> None:
        self._answers[nanoseconds(answer.header.stamp)] += 1


def _offered_qos(connection: Connection) -> QoSProfile:
    """Reliable, like drivers; transient_local if the recorded publisher was (/tf_static)."""
    profile = QoSProfile(depth=10)
    extension = connection.ext
    if isinstance(extension, ConnectionExtRosbag2) and any(
        "transient" in offered.durability.name.lower() for offered in extension.offered_qos_profiles
    ):
        profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return profile


def _arguments(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sdvlm_replay",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", type=Path, help="a bag: its directory, an .mcap or a .db3")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument("--rate", type=float, default=1.0, help="times the recorded speed")
    speed.add_argument(
        "--as-fast-as-answered",
        type=int,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help="hold every frame until N answers about it are on spatial_query/answers (1)",
    )
    parser.add_argument("--loop", action="store_true", help="restart at the end")
    parsed = parser.parse_args(args)
    if not parsed.bag.exists() or (
        parsed.bag.is_dir() and not (parsed.bag / "metadata.yaml").is_file()
    ):
        try:
            examine(parsed.bag)
        except BagError as error:
            parser.error(str(error))
    if not parsed.rate > 0:
        parser.error(f"--rate must be positive, got {parsed.rate}")
    if parsed.as_fast_as_answered < 0:
        parser.error(f"--as-fast-as-answered must be positive, got {parsed.as_fast_as_answered}")
    return parsed


def main(args: list[str] | None = None) -> int:
    """Play until the end, SIGINT or SIGTERM (exit 0); 1 = the bag cannot be played."""
    args = sys.argv if args is None else args
    chosen = _arguments(remove_ros_args(args)[1:])
    rclpy.init(args=args)
    with process.until_signal():
        try:
            with open_bag(chosen.bag) as reader:
                replay = Replay(reader, chosen.as_fast_as_answered)
                replay.play(chosen.rate)
                while chosen.loop and not replay.stopping:
                    replay.play(chosen.rate)
                counts = ", ".join(f"{n} on {topic}" for topic, n in replay.published.items())
                print(f"published {counts or 'nothing'}", file=sys.stderr)
        except (BagError, ValueError, OSError) as error:
            print(f"sdvlm_replay: {chosen.bag} cannot be played: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
