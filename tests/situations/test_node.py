"""Every field situation through the real node over DDS: right, warned, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import bags
from tests.situations import offline
from tests.situations.online import Fleet, node_situations, setup_of
from tests.situations.outcome import judge
from tests.situations.situation import Situation
from tests.situations.table import SITUATIONS


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    fleet.close()


@pytest.mark.parametrize(
    "situation", node_situations(SITUATIONS), ids=lambda situation: situation.name
)
def test_what_a_camera_sends_is_measured_right_or_with_a_caution_or_refused(
    situation: Situation, fleet: Fleet, tmp_path: Path
) -> None:
    """By ~/measure_regions and ~/query, and as the command line judges the same bytes."""
    truth = situation.shot(bags.START_NS).truth
    measured, asked = fleet.robot(setup_of(situation)).outcomes(situation)
    assert not judge(measured, situation.must, truth)
    assert not judge(asked, situation.must, truth)
    if situation.same:
        alone = offline.measure_situation(situation, tmp_path, usual_bytes=0)
        assert measured.codes == alone.codes
