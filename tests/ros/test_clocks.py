"""Stale is stale, and the diagnostics name the cause: clocks that differ, stop, or never start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rosgraph_msgs.msg import Clock

from sdvlm_core.errors import StaleFrameError
from sdvlm_ros.conversions import time_message
from sdvlm_ros.frame_buffer import BufferedMessage, ClockState, RawFrame, check_age
from tests.ros.conftest import running
from tests.ros.peer import Peer, Response, frame
from tests.ros.watch import Watched

S = 10**9
NOW = 1_800_000_000 * S


def frame_of(stamp_ns: int, arrived: float) -> RawFrame:
    part = BufferedMessage(stamp_ns, b"", arrived)
    return RawFrame(part, part, part)


@pytest.mark.parametrize(
    ("stamp_ns", "clock", "text"),
    [
        (NOW - 5 * S, ClockState(NOW, 105.0), "5.000 s old: has the camera stopped"),
        (NOW - 3600 * S, ClockState(NOW, 100.1), "this host's clock differ; synchronise them"),
        (NOW + 3600 * S, ClockState(NOW, 100.1), "3600.000 s in the future"),
        (NOW + 3600 * S, ClockState(NOW, 109.0), "in the future, but arrived 9.0 s ago"),
        (500 * S, ClockState(NOW, 100.1), "looks like the time since boot"),
        (NOW, ClockState(0, 100.1, sim_time=True), "nothing has arrived on /clock"),
        (NOW, ClockState(NOW, 120.0, sim_time=True, stopped_s=20.0), "/clock stopped 20.0 s ago"),
        (NOW - 9 * S, ClockState(NOW, 100.1, sim_time=True), "/clock differ"),
    ],
)
def test_a_stale_image_is_refused_with_the_likely_cause(
    stamp_ns: int, clock: ClockState, text: str
) -> None:
    with pytest.raises(StaleFrameError, match=text.replace(".", r"\.")):
        check_age(frame_of(stamp_ns, 100.0), clock, S)


def test_a_stopped_clock_does_not_make_an_old_image_fresh() -> None:
    fresh = ClockState(NOW, 100.5, sim_time=True, stopped_s=0.5)
    check_age(frame_of(NOW, 100.0), fresh, S)
    check_age(frame_of(NOW, 100.0), ClockState(NOW, 109.0, True, 0.1), S)  # a bag played slowly
    with pytest.raises(StaleFrameError):
        check_age(frame_of(NOW, 100.0), ClockState(NOW, 101.5, True, 1.5), S)


@contextmanager
def node(context: rclpy.Context, namespace: str, *arguments: str) -> Iterator[Watched]:
    with running("tests.ros.stub_node", "--ros-args", "-r", f"__ns:=/{namespace}", *arguments):
        peer = Peer(context, f"/{namespace}")
        peer.connect()
        yield Watched(peer)


@pytest.mark.parametrize(
    ("namespace", "stamp_of", "text"),
    [
        ("hour_off", lambda now: now - 3600 * S, "3600."),
        ("since_boot", lambda now: 500 * S + now % S, "looks like the time since boot"),
    ],
)
def test_a_camera_with_another_clock_is_a_warning_with_the_age_and_the_cause(
    context: rclpy.Context, namespace: str, stamp_of: Callable[[int], int], text: str
) -> None:
    with node(context, namespace) as watched:
        watched.publish_until(
            lambda now: frame(stamp_of(now)), lambda: text in watched.status.message
        )
        assert watched.status.level == DiagnosticStatus.WARN
        assert watched.peer.ask().error_code == Response.STALE_IMAGE
        watched.publish_until(frame, lambda: watched.status.message == "ready")


def test_use_sim_time_without_clock_is_a_warning_and_questions_are_stale(
    context: rclpy.Context,
) -> None:
    with node(context, "clockless", "-p", "use_sim_time:=true") as watched:
        watched.publish_until(frame, lambda: "/clock" in watched.status.message)
        assert watched.status.level == DiagnosticStatus.WARN
        assert "nothing has arrived on /clock" in watched.status.message
        response = watched.peer.ask()
        assert response.error_code == Response.STALE_IMAGE
        assert "nothing has arrived on /clock" in response.error_msg


def test_after_clock_has_stopped_the_old_image_is_stale_and_the_diagnostics_warn(
    context: rclpy.Context,
) -> None:
    arguments = ("-p", "use_sim_time:=true", "-r", "/clock:=/stopping/clock")
    with node(context, "stopping", *arguments) as watched:
        clock = watched.peer.node.create_publisher(Clock, "/stopping/clock", 10)

        def simulated(now_ns: int) -> dict:
            clock.publish(Clock(clock=time_message(now_ns)))
            return frame(now_ns)

        watched.publish_until(simulated, lambda: watched.status.message == "ready")
        stamp_ns = time.time_ns()
        simulated(stamp_ns)
        # Nothing more is published: /clock stands still, and so does the age by stamp.
        watched.until(lambda: "/clock stopped" in watched.status.message, "the warning")
        assert watched.status.level == DiagnosticStatus.WARN
        response = watched.peer.ask()
        assert response.error_code == Response.STALE_IMAGE
        assert "/clock stopped" in response.error_msg
