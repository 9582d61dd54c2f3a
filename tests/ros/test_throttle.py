"""Repeated reports are logged once in a period, and the memory of them is bounded."""

from __future__ import annotations

from sdvlm_ros.throttle import Throttle


def test_a_kind_is_allowed_once_in_a_period() -> None:
    now = [0.0]
    throttle = Throttle(60.0, clock=lambda: now[0])
    assert throttle.allows("a")
    assert throttle.allows("b")
    now[0] = 59.0
    assert not throttle.allows("a")
    now[0] = 60.0
    assert throttle.allows("a")


def test_only_the_last_kinds_are_remembered() -> None:
    throttle = Throttle(60.0, capacity=3, clock=lambda: 0.0)
    assert all(throttle.allows(str(number)) for number in range(1000))
    assert throttle.allows("0")
    assert not throttle.allows("999")
