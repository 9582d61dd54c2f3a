"""The real node in a process of its own, and a camera and a planner that talk to it over DDS.

Sends the same bytes that a bag of the situation holds. Does not know what must come.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image

from sdvlm.msg import Region
from sdvlm.srv import MeasureRegions, SpatialQuery
from sdvlm_core.camera.messages import nanoseconds
from sdvlm_core.errors import ErrorCode
from sdvlm_ros.conversions import message_class
from tests import bags
from tests.ros.conftest import running
from tests.situations.offline import QUESTION, median_colour
from tests.situations.outcome import Outcome, Right, judge
from tests.situations.scene import RECTIFIED_TOPICS, Shot, kind_of
from tests.situations.situation import Situation
from tests.waiting import PATIENCE_S

_INPUTS = {
    "rgb": "rgb/image_rect_color",
    "depth": "depth_registered/image_rect",
    "info": "rgb/camera_info",
}
# Best effort may lose a message, and a request may overtake one: a refusal is believed after this
# number of requests, and after the camera was sent this number of times from the start.
_REQUESTS, _TRIALS = 4, 3
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Setup:
    """Command line of a node: one process serves all situations with the same one.

    Attributes:
        topics: name of each input, without the suffix of a transport.
        transports: of colour and of depth.
        parameters: sorted names and values.
    """

    topics: tuple[tuple[str, str], ...] = tuple(RECTIFIED_TOPICS.items())
    transports: tuple[str, str] = ("raw", "raw")
    parameters: tuple[tuple[str, str], ...] = ()

    def arguments(self) -> list[str]:
        """Arguments after the module's name."""
        suffixes = {"rgb": self.transports[0], "depth": self.transports[1], "info": "raw"}
        words = ["--ros-args", "-p", "model:=nano"]
        for name, topic in self.topics:
            suffix = "" if suffixes[name] == "raw" else f"/{suffixes[name]}"
            words += ["-r", f"{_INPUTS[name]}{suffix}:={topic}{suffix}"]
        words += ["-p", f"rgb_transport:={self.transports[0]}"]
        words += ["-p", f"depth_transport:={self.transports[1]}"]
        for name, value in self.parameters:
            words += ["-p", f"{name}:={value}"]
        return words


def setup_of(situation: Situation) -> Setup:
    """The node that a situation needs."""
    shot = situation.shot(bags.START_NS)
    packed = [kind_of(message) == bags.COMPRESSED for message in (shot.color, shot.depth)]
    return Setup(
        tuple(situation.topics.items()),
        ("compressed" if packed[0] else "raw", "compressedDepth" if packed[1] else "raw"),
        tuple(sorted(situation.parameters.items())),
    )


def node_situations(situations: Sequence[Situation]) -> list[Situation]:
    """Those that a node can meet, in an order that starts few nodes."""
    possible = [situation for situation in situations if not situation.why_no_node]
    setups = {situation.name: repr(setup_of(situation)) for situation in possible}
    return sorted(possible, key=lambda situation: setups[situation.name])


class Robot:
    """A node, a camera and a planner. Made by `started`."""

    def __init__(self, process: subprocess.Popen[str], context: rclpy.Context) -> None:
        self._pid = process.pid
        self.node = rclpy.create_node("robot", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._query = self.node.create_client(SpatialQuery, "spatial_query/query")
        self._measure = self.node.create_client(MeasureRegions, "spatial_query/measure_regions")
        self._change = self.node.create_client(ChangeState, "spatial_query/change_state")
        self._publishers: dict[str, Publisher[Any]] = {}
        self.diagnostics: list[DiagnosticStatus] = []
        self._pictures: list[Image] = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        self.diagnostics += [s for s in array.status if "spatial_query" in s.name]

    def wait_for_node(self) -> None:
        """Until the node is active."""
        for client in (self._query, self._measure, self._change):
            assert client.wait_for_service(PATIENCE_S), client.srv_name
        self.spin_until(
            lambda: any(
                pair.key == "state" and pair.value == "active"
                for status in self.diagnostics[-1:]
                for pair in status.values
            ),
            "activation",
        )

    def spin_until(self, condition: Callable[[], Any], what: str) -> None:
        """Spin until a condition is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE_S} s"
            self._executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        """Spin for a time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def reset(self) -> None:
        """Deactivate and activate: the node forgets all frames."""
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=transition))
            future = self._change.call_async(request)
            self.spin_until(future.done, "the transition")
            assert future.result().success, transition

    def connect(self, records: Sequence[bags.Record], wait: bool = True) -> None:
        """Publishers of the records' topics; wait until the node is subscribed to its own."""
        for record in records:
            if record.topic not in self._publishers:
                kind = message_class(record.kind)
                self._publishers[record.topic] = self.node.create_publisher(kind, record.topic, 50)
        if wait:
            self.spin_until(
                lambda: sum(p.get_subscription_count() > 0 for p in self._publishers.values()) >= 3,
                "the node's subscriptions",
            )

    def send(self, records: Sequence[bags.Record]) -> None:
        """Publish the stored bytes, at a pace that no buffer loses."""
        for record in records:
            self._publishers[record.topic].publish(record.data)
            self.spin(0.01)

    def start_measuring(self, shot: Shot, stamp_ns: int, timeout_s: float = _TIMEOUT_S) -> Any:
        """A future of ~/measure_regions; stamp 0 = the newest frame."""
        request = MeasureRegions.Request(
            regions=[_region(label, box) for label, box in shot.regions.items()]
        )
        return self._measure.call_async(_timed(request, stamp_ns, timeout_s))

    def start_asking(self, stamp_ns: int, timeout_s: float = _TIMEOUT_S) -> Any:
        """A future of ~/query."""
        request = SpatialQuery.Request(question=QUESTION)
        return self._query.call_async(_timed(request, stamp_ns, timeout_s))

    def outcome_of(self, future: Any) -> Outcome:
        """Wait for a reply of one of both services."""
        self.spin_until(future.done, "a reply")
        reply = future.result()
        if reply.error_code:
            return Outcome(code=ErrorCode(reply.error_code).name, text=reply.error_msg)
        if isinstance(reply, SpatialQuery.Response):
            return Outcome(cautions=frozenset(reply.answer.cautions))
        return Outcome(
            lengths={one.label: (one.length, one.width, one.height) for one in reply.regions},
            cautions=frozenset(reply.cautions),
            warnings={one.label: frozenset(one.warnings) for one in reply.regions},
        )

    def outcomes(self, situation: Situation) -> tuple[Outcome, Outcome]:
        """Of ~/measure_regions and of ~/query, about the situation's frame."""
        red = any(isinstance(must, Right) and must.red for must in situation.must)
        with self._memory() as grown, self._viewer(red):
            for _ in range(_TRIALS):
                shot = situation.shot(time.time_ns())
                self.reset()
                self.connect(shot.records())
                self.send(shot.before)
                latest = replace(shot, before=[]).records()
                found = self._until_accepted(
                    situation, shot, latest, lambda s=shot: self.start_measuring(s, s.stamp_ns)
                )
                if not judge(found, situation.must, shot.truth) or not found.code:
                    break
            asked = self._until_accepted(
                situation, shot, latest, lambda s=shot: self.start_asking(s.stamp_ns)
            )
            colour = self._colour(shot) if red and not found.code else None
        return replace(found, colour=colour, grown_bytes=grown[0]), asked

    def _until_accepted(
        self,
        situation: Situation,
        shot: Shot,
        records: Sequence[bags.Record],
        ask: Callable[[], Any],
    ) -> Outcome:
        """Publish and ask until there is an answer, or a refusal that is accepted or persists."""
        for _ in range(_REQUESTS):
            self.send(records)
            found = self.outcome_of(ask())
            if not found.code or not judge(found, situation.must, shot.truth):
                break
            self.spin(0.3)
        return found

    @contextmanager
    def _memory(self) -> Iterator[list[int]]:
        """One number, when the block has ended: growth of the node's peak memory, bytes."""
        process = Path(f"/proc/{self._pid}")
        before = _status_bytes(process, "VmRSS")
        (process / "clear_refs").write_text("5")  # the peak starts anew
        grown: list[int] = []
        try:
            yield grown
        finally:
            grown.append(_status_bytes(process, "VmHWM") - before)

    @contextmanager
    def _viewer(self, wanted: bool) -> Iterator[None]:
        """A subscriber of the annotated image."""
        self._pictures = []
        if not wanted:
            yield
            return
        topic = "spatial_query/annotated_image"
        viewer = self.node.create_subscription(Image, topic, self._pictures.append, 5)
        self.spin_until(lambda: self.node.count_publishers(topic), "the annotated image")
        try:
            yield
        finally:
            self.node.destroy_subscription(viewer)

    def _colour(self, shot: Shot) -> tuple[float, float, float]:
        """Colour of the first region in the node's drawing of this frame."""

        def drawn() -> Image | None:
            found = (p for p in self._pictures if nanoseconds(p.header.stamp) == shot.stamp_ns)
            return next(found, None)

        while drawn() is None:  # the node draws once it has discovered the viewer
            self.outcome_of(self.start_measuring(shot, shot.stamp_ns))
            self.spin(0.3)
        picture = drawn()
        assert picture is not None
        pixels = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
        return median_colour(pixels, next(iter(shot.regions.values())))

    def warned(self, *words: str, meanwhile: Callable[[], object] | None = None) -> str:
        """Wait for diagnostics above OK whose message has one of each word; the message.

        Args:
            words: `a|b` = one of them.
            meanwhile: called again and again, e.g. to publish frames.

        Raises:
            AssertionError: the last message, if there is none in time.
        """
        deadline = time.monotonic() + 20.0
        self.diagnostics.clear()
        while time.monotonic() < deadline:
            if meanwhile is not None:
                meanwhile()
            self.spin(0.2)
            for status in self.diagnostics:
                text = status.message.lower()
                if status.level != DiagnosticStatus.OK and all(
                    any(part in text for part in word.split("|")) for word in words
                ):
                    return str(status.message)
        last = self.diagnostics[-1] if self.diagnostics else None
        raise AssertionError(f"no warning with {words}; the last: {last and last.message}")


def _timed(request: Any, stamp_ns: int, timeout_s: float) -> Any:
    request.stamp.sec, request.stamp.nanosec = divmod(stamp_ns, 10**9)
    request.timeout.sec, request.timeout.nanosec = divmod(round(timeout_s * 1e9), 10**9)
    return request


def _region(label: str, box: tuple[int, ...]) -> Region:
    x1, y1, x2, y2 = box
    region = Region(label=label)
    region.roi.x_offset, region.roi.y_offset = x1, y1
    region.roi.width, region.roi.height = x2 - x1, y2 - y1
    return region


def _status_bytes(process: Path, name: str) -> int:
    lines = (process / "status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


@contextmanager
def started(setup: Setup) -> Iterator[Robot]:
    """A node that is active, with the model nano."""
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    try:
        with running("sdvlm_ros.node", *setup.arguments(), OMP_NUM_THREADS="1") as process:
            robot = Robot(process, context)
            robot.wait_for_node()
            yield robot
    finally:
        context.try_shutdown()


class Fleet:
    """At most one node at a time: a request for another command line ends the running one."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._setup: Setup | None = None
        self._robot: Robot | None = None

    def robot(self, setup: Setup) -> Robot:
        """The node with this command line, active."""
        if self._robot is None or setup != self._setup:
            self.close()
            self._robot, self._setup = self._stack.enter_context(started(setup)), setup
        return self._robot

    def close(self) -> None:
        """End the running node."""
        self._robot = self._setup = None
        self._stack.close()
