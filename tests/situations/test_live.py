"""Clocks that are wrong or stopped, and questions before the first frame, with the real node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.situations import live
from tests.situations.online import Fleet


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    fleet.close()


@pytest.mark.parametrize(
    "situation",
    sorted(live.live_situations(), key=lambda situation: repr(situation.setup)),
    ids=lambda situation: situation.name,
)
def test_a_node_waits_for_the_first_frame_and_knows_when_a_clock_is_wrong(
    situation: live.LiveSituation, fleet: Fleet
) -> None:
    assert live.run(situation, fleet)
