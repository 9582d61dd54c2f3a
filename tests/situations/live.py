"""Situations of time: the first frame after activation, and clocks that are wrong or stopped.

Each drives a running node and gives what came; an AssertionError says what is wrong. Does not
change the content of messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from rosgraph_msgs.msg import Clock

from sdvlm_ros.conversions import time_message
from tests.situations.online import Fleet, Robot, Setup
from tests.situations.outcome import Must, Outcome, Refused, Right, judge
from tests.situations.scene import Shot, good_shot

# A loaded machine makes frames old; the default of max_age is 1 s.
_MAX_AGE_S = 5.0
SIM_TIME = Setup(parameters=(("use_sim_time", "true"),))
WALL_TIME = Setup(parameters=(("max_age", f"{_MAX_AGE_S}"),))
_HOUR_NS = 3600 * 10**9
# The start of a simulation's time.
_SIM_NS = 100 * 10**9
_PERIOD_S = 0.1


@dataclass(frozen=True, eq=False)
class LiveSituation:
    """What happens to a node in time, and what must come of it; `run` gives what came."""

    name: str
    must: str
    setup: Setup
    run: Callable[[Robot], str]


def live_situations() -> tuple[LiveSituation, ...]:
    """The rows of the table that only a node meets."""
    stale = "STALE_IMAGE; diagnostics WARN"
    return (
        LiveSituation("a healthy camera", "answered; diagnostics OK", WALL_TIME, _healthy),
        LiveSituation(
            "a question right after activation", "waits, then right", WALL_TIME, _before_the_first
        ),
        LiveSituation(
            "the same through ~/query", "waits, then answered", WALL_TIME, _asked_before_the_first
        ),
        LiveSituation(
            "a question right after activation, camera is silent",
            "refused with the missing input within the timeout",
            WALL_TIME,
            _silent,
        ),
        LiveSituation(
            "use_sim_time without /clock", f"{stale} with /clock", SIM_TIME, _without_clock
        ),
        LiveSituation("/clock stopped, camera too", f"{stale} with /clock", SIM_TIME, _clock_stops),
        LiveSituation(
            "camera's clock an hour behind", f"{stale} with 3600 s", WALL_TIME, _off(-_HOUR_NS)
        ),
        LiveSituation(
            "camera's clock an hour ahead", f"{stale} with 3600 s", WALL_TIME, _off(_HOUR_NS)
        ),
        LiveSituation("the camera stopped", f"{stale} with the age", WALL_TIME, _camera_stops),
    )


def run(situation: LiveSituation, fleet: Fleet) -> str:
    """What came of a live situation.

    Raises:
        AssertionError: something else must come.
    """
    robot = fleet.robot(situation.setup)
    robot.reset()
    robot.connect(good_shot(1).records())
    return situation.run(robot)


def _frames(
    robot: Robot, seconds: float, offset_ns: int = 0, done: Callable[[], bool] = lambda: False
) -> Shot:
    """A camera at 10 Hz whose clock is off; ends early when `done`. The last frame."""
    until = time.monotonic() + seconds
    while True:
        shot = good_shot(time.time_ns() + offset_ns)
        robot.send(shot.records())
        robot.spin(_PERIOD_S)
        if done() or time.monotonic() > until:
            return shot


def _accept(outcome: Outcome, must: Must, shot: Shot) -> str:
    reason = judge(outcome, (must,), shot.truth)
    assert not reason, reason
    return outcome.summary(shot.truth)


def _stale(robot: Robot, shot: Shot, words: tuple[str, ...]) -> str:
    """The newest frame must be refused by both services as stale."""
    for start in (robot.start_measuring(shot, 0, 3.0), robot.start_asking(0, 3.0)):
        text = _accept(robot.outcome_of(start), Refused("STALE_IMAGE", words), shot)
    return text


def _healthy(robot: Robot) -> str:
    shot = _frames(robot, 2.0)
    found = _accept(robot.outcome_of(robot.start_measuring(shot, 0)), Right(), shot)
    robot.diagnostics.clear()
    _frames(robot, 60.0, done=lambda: any(s.level == b"\0" for s in robot.diagnostics))
    levels = [(s.level, s.message) for s in robot.diagnostics]
    assert levels[-1][0] == b"\0", levels
    return f"{found}; diagnostics: {levels[-1][1]}"


def _before_the_first(robot: Robot) -> str:
    shot = good_shot(1)
    reply = robot.start_measuring(shot, 0)
    robot.spin(1.0)
    assert not reply.done(), f"not waited: {robot.outcome_of(reply)}"
    _frames(robot, 30.0, done=reply.done)
    return _accept(robot.outcome_of(reply), Right(), shot)


def _asked_before_the_first(robot: Robot) -> str:
    reply = robot.start_asking(0)
    robot.spin(1.0)
    assert not reply.done(), f"not waited: {robot.outcome_of(reply)}"
    shot = _frames(robot, 30.0, done=reply.done)
    return _accept(robot.outcome_of(reply), Right(), shot)


def _silent(robot: Robot) -> str:
    shot = good_shot(1)
    found = robot.outcome_of(robot.start_measuring(shot, 0, timeout_s=2.0))
    assert found.code in ("NO_IMAGE", "TIMEOUT"), found
    return _accept(found, Refused("", ("colour|rgb",)), shot)


def _without_clock(robot: Robot) -> str:
    shot = _frames(robot, 3.0)
    told = _stale(robot, shot, ("/clock",))
    warning = robot.warned("/clock", meanwhile=lambda: _frames(robot, 0.0))
    return f"{told}; diagnostics: {warning}"


def _clock_stops(robot: Robot) -> str:
    """A simulation that runs for two seconds and is then killed; 5 s later there is a question."""
    clock = robot.node.create_publisher(Clock, "/clock", 10)
    robot.spin_until(clock.get_subscription_count, "the subscription of /clock")
    try:
        for tick in range(20):
            now_ns = _SIM_NS + tick * 10**8
            clock.publish(Clock(clock=time_message(now_ns)))
            shot = good_shot(now_ns)
            robot.send(shot.records())
            robot.spin(0.05)
        found = robot.outcome_of(robot.start_measuring(shot, 0))
        _accept(found, Right(), shot)
        robot.spin(5.0)
        told = _stale(robot, shot, ("/clock",))
        return f"{told}; diagnostics: {robot.warned('/clock')}"
    finally:
        robot.node.destroy_publisher(clock)


def _off(offset_ns: int) -> Callable[[Robot], str]:
    hour = "3600|3599|3601|1 h|60 min|hour"

    def run(robot: Robot) -> str:
        shot = _frames(robot, 2.5, offset_ns)
        told = _stale(robot, shot, (hour, "clock"))
        warning = robot.warned(hour, "clock", meanwhile=lambda: _frames(robot, 0.0, offset_ns))
        return f"{told}; diagnostics: {warning}"

    return run


def _camera_stops(robot: Robot) -> str:
    shot = _frames(robot, 1.0)
    _accept(robot.outcome_of(robot.start_measuring(shot, 0)), Right(), shot)
    robot.spin(_MAX_AGE_S + 2.0)
    told = _stale(robot, replace(shot), ("s old",))
    return f"{told}; diagnostics: {robot.warned('stopped|old|silent')}"
