"""Every field situation through `sdvlm measure` and `sdvlm replay`: right, warned, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import bags
from tests.paths import ROOT
from tests.situations import offline
from tests.situations.files import FileSituation
from tests.situations.outcome import judge
from tests.situations.situation import Situation
from tests.situations.table import FILES, SITUATIONS


@pytest.fixture(scope="session")
def usual_peak_bytes() -> int:
    """Peak memory of the command for a correct camera."""
    return offline.usual_peak_bytes()


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_what_a_camera_sends_is_measured_right_or_with_a_caution_or_refused(
    situation: Situation, tmp_path: Path, usual_peak_bytes: int
) -> None:
    outcome = offline.measure_situation(situation, tmp_path, usual_peak_bytes)
    assert not judge(outcome, situation.must, situation.shot(bags.START_NS).truth)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_replay_judges_a_frame_as_measure_does(situation: Situation, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    outcome = offline.replay_situation(situation, tmp_path)
    assert not judge(outcome, situation.must, situation.shot(bags.START_NS).truth)


@pytest.mark.parametrize("situation", FILES, ids=lambda situation: situation.name)
def test_files_are_measured_right_or_refused_with_what_to_do(
    situation: FileSituation, tmp_path: Path, usual_peak_bytes: int
) -> None:
    outcome = offline.measure_files(situation, tmp_path, usual_peak_bytes)
    assert not judge(outcome, situation.must, situation.truth)


def test_cameras_with_another_depth_unit_have_presets() -> None:
    """The scale of 16UC1 is not in the message; D405 and L515 do not use millimetres."""
    import yaml

    presets = {
        path.stem: yaml.safe_load(path.read_text())["parameters"]
        for path in (ROOT / "config" / "cameras").glob("*.yaml")
    }
    units = {
        name: next(
            (values.get("depth_unit") for stem, values in presets.items() if name in stem), None
        )
        for name in ("d405", "l515")
    }
    assert units == {"d405": 0.0001, "l515": 0.00025}
