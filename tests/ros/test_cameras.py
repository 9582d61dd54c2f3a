"""Several cameras on one node: a request names its camera, and one does not starve another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from hypothesis import given
from hypothesis import strategies as st

from sdvlm.msg import Region, SpatialAnswer
from sdvlm.srv import AskEvery, Capture, MeasureRegions
from sdvlm_core.errors import ParameterError, QueryError
from sdvlm_ros import parameters
from sdvlm_ros.camera import named
from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, depth, frame
from tests.ros.stub_node import BLOCK

NAMES = ("left", "right")
METRES = {"left": 1.5, "right": 2.5}


class Robot:
    """A node with two cameras, and what it publishes."""

    def __init__(self, context: rclpy.Context, namespace: str) -> None:
        self.cameras = {name: Peer(context, namespace, name) for name in NAMES}
        self.peer = Peer(context, namespace)
        self.answers: list[tuple[str, str]] = []
        self.statuses: dict[str, DiagnosticStatus] = {}
        node = self.peer.node
        for name in NAMES:
            node.create_subscription(
                SpatialAnswer,
                f"spatial_query/{name}/answers",
                lambda answer, topic=name: self.answers.append((topic, answer.camera)),
                100,
            )
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        if array.status[0].name.startswith(self.peer.node.get_namespace()):
            self.statuses = {one.name.partition(": ")[2]: one for one in array.status}

    def sees(self, name: str) -> int:
        """Publish frames of a camera until the node has the last one; its stamp."""
        stamp_ns = time.time_ns()
        messages = frame(stamp_ns, depth=depth(stamp_ns, METRES[name]))
        camera = self.cameras[name]
        assert camera.ask_about(messages, stamp_ns).error_code == Response.NONE
        return stamp_ns

    def call(self, kind: type, service: str, request: object) -> object:
        future = self.peer.client(kind, service).call_async(request)
        self.peer.spin_until(future.done, f"a response of {service}")
        return future.result()


@pytest.fixture
def robot(context: rclpy.Context, request: pytest.FixtureRequest) -> Iterator[Robot]:
    namespace = f"/cameras{abs(hash(request.node.name)) % 10**6}"
    arguments = ("-r", f"__ns:={namespace}", "-p", "cameras:=[left, right]", "-p", "queue_size:=4")
    with running("tests.ros.stub_node", "--ros-args", *arguments, "-p", "max_age:=1000.0"):
        yield Robot(context, namespace)


def test_a_request_is_about_the_camera_that_it_names(robot: Robot) -> None:
    for name in NAMES:
        robot.cameras[name].connect()
        stamp_ns = robot.sees(name)
        answer = robot.cameras[name].ask(stamp_ns=stamp_ns).answer
        assert answer.camera == name
    robot.peer.spin_until(lambda: {*robot.answers} == {(n, n) for n in NAMES}, "both answers")


def test_depth_is_that_of_the_camera(robot: Robot) -> None:
    for name in NAMES:
        robot.cameras[name].connect()
        robot.sees(name)
    for name in NAMES:
        region = Region(label="wall")
        region.roi.x_offset, region.roi.y_offset, region.roi.width, region.roi.height = 8, 8, 40, 30
        request = MeasureRegions.Request(regions=[region], camera=name)
        found = robot.call(MeasureRegions, "measure_regions", request)
        assert found.error_code == Response.NONE, found.error_msg
        assert found.regions[0].camera_distance == pytest.approx(METRES[name], abs=0.1)


def test_a_request_without_a_camera_or_of_another_name_is_refused(robot: Robot) -> None:
    robot.cameras["left"].connect()
    robot.sees("left")
    for camera, said in (("", "camera is empty"), ("wrist", "camera is 'wrist'")):
        refused = robot.peer.ask(camera=camera)
        assert refused.error_code == Response.INVALID_QUERY
        assert said in refused.error_msg
        assert "left, right" in refused.error_msg
        held = robot.call(Capture, "capture", Capture.Request(camera=camera))
        assert held.error_code == Response.INVALID_QUERY
        every = AskEvery.Request(question="How far is it?", camera=camera)
        every.period.sec = 1
        stood = robot.call(AskEvery, "ask_every", every)
        assert stood.error_code == Response.INVALID_QUERY
        assert not stood.standing


def test_a_silent_camera_is_reported_and_the_other_one_is_answered(robot: Robot) -> None:
    robot.cameras["left"].connect()
    robot.sees("left")

    def told() -> bool:
        left, right = (robot.statuses.get(f"camera {name}") for name in NAMES)
        silent = right is not None and "/right/rgb/image_rect_color" in right.message
        return silent and "no colour message" not in left.message

    robot.peer.spin_until(told, "the diagnostics of the right camera")
    assert set(robot.statuses) == {"questions", "camera left", "camera right"}
    assert robot.statuses["questions"].message.startswith("camera right: ")
    assert robot.statuses["questions"].level == DiagnosticStatus.WARN
    left = {pair.key: pair.value for pair in robot.statuses["camera left"].values}
    assert int(left["colour received"]) >= 1
    robot.sees("left")
    refused = robot.cameras["right"].ask(timeout=0.5)
    assert refused.error_code in (Response.NO_IMAGE, Response.TIMEOUT)
    assert "/right/rgb/image_rect_color" in refused.error_msg


def test_each_camera_holds_its_own_frame(robot: Robot) -> None:
    stamps = {}
    for name in NAMES:
        robot.cameras[name].connect()
        robot.sees(name)
        held = robot.call(Capture, "capture", Capture.Request(camera=name))
        assert held.error_code == Response.NONE, held.error_msg
        stamps[name] = held.header.stamp.sec * 10**9 + held.header.stamp.nanosec
    for name in NAMES:
        answer = robot.cameras[name].ask(stamp_ns=stamps[name])
        assert answer.error_code == Response.NONE, answer.error_msg
        assert (answer.answer.camera, answer.answer.header.stamp.nanosec) == (
            name,
            stamps[name] % 10**9,
        )


def test_a_standing_question_is_asked_about_its_camera(robot: Robot) -> None:
    robot.cameras["right"].connect()
    robot.sees("right")
    every = AskEvery.Request(question="How far is it?", camera="right")
    every.period.nanosec = 200_000_000
    (standing,) = robot.call(AskEvery, "ask_every", every).standing
    assert standing.camera == "right"
    del robot.answers[:]
    robot.peer.spin_until(lambda: robot.answers, "a standing question's answer")
    assert {*robot.answers} == {("right", "right")}


def test_questions_to_one_camera_do_not_delay_those_to_the_other(
    context: rclpy.Context, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    arguments = ("-r", "__ns:=/fair", "-p", "cameras:=[left, right]", "-p", "queue_size:=4")
    with running("tests.ros.stub_node", "--ros-args", *arguments, STUB_GATE=str(gate)):
        robot = Robot(context, "/fair")
        stamps = {}
        for name in NAMES:
            robot.cameras[name].connect()
            stamps[name] = robot.sees(name)
        left, right = (robot.cameras[name] for name in NAMES)

        def ask(peer: Peer, question: str) -> object:
            asked = peer.request(question, stamp_ns=stamps[peer.camera])
            return peer.query.call_async(asked)

        blocked = ask(left, BLOCK)
        left.spin_until(gate.exists, "the question that blocks")
        # The waiting ones are one batch, which blocks again when it has its turn.
        waiting = [ask(left, BLOCK), *(ask(left, f"How wide is it? {n}") for n in range(3))]
        refused = ask(left, "one too many")
        left.spin_until(refused.done, "the refusal")
        assert refused.result().error_code == Response.QUEUE_FULL
        assert "camera left" in refused.result().error_msg
        urgent = ask(right, "How tall is it?")

        def queued() -> bool:
            values = robot.statuses["questions"].values if robot.statuses else ()
            return "5" in [pair.value for pair in values if pair.key == "questions waiting"]

        robot.peer.spin_until(queued, "the queue of five")
        gate.unlink()
        right.spin_until(urgent.done, "the answer about the right camera")
        assert urgent.result().error_code == Response.NONE
        left.spin_until(gate.exists, "the batch that blocks")
        assert not any(one.done() for one in waiting)
        gate.unlink()
        for one in (blocked, *waiting):
            left.spin_until(one.done, "an answer about the left camera")
            assert one.result().error_code == Response.NONE


@given(st.text(max_size=12), st.lists(st.sampled_from(["left", "right", "wrist"]), unique=True))
def test_a_name_means_one_camera_or_none(name: str, cameras: list[str]) -> None:
    cameras = cameras or [""]
    if name in cameras:
        assert named(name, cameras) == name
    elif not name and len(cameras) == 1:
        assert named(name, cameras) == cameras[0]
    else:
        with pytest.raises(QueryError) as refused:
            named(name, cameras)
        assert all(camera in str(refused.value) for camera in cameras)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("[left, left]", "left twice"),
        ("['']", ""),
        ("[left, '']", "has the name ''"),
        ("['a b']", "'a b'"),
        ("[tf/left]", "'tf/left'"),
        ("[a, b, c, d, e, f, g, h, i]", "has 9 names; it must have 1 to 8"),
    ],
)
def test_names_that_are_no_topics_are_refused(
    context: rclpy.Context, names: str, reason: str
) -> None:
    node = rclpy.create_node(
        "named", context=context, cli_args=["--ros-args", "-p", f"cameras:={names}"]
    )
    if reason:
        with pytest.raises(ParameterError, match=reason):
            parameters.declare(node)
    else:
        parameters.declare(node)
        assert parameters.read(node).cameras == [""]
    node.destroy_node()
