"""The example planner does not act on a measurement that is unfit to act on."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest

from sdvlm.msg import RegionMeasurement
from sdvlm_core.cautions import INFORMATIVE
from sdvlm_ros.client import UNFIT, NoMeasurement
from tests.paths import ROOT


@pytest.fixture(scope="module")
def pick_planner() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "pick_planner", ROOT / "examples" / "pick_planner.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(*codes: str) -> RegionMeasurement:
    return RegionMeasurement(label="red mug", warnings=list(codes))


@pytest.mark.parametrize("arguments", [[], ["mug"], ["mug", "1", "2", "3"], ["mug", *"123x"]])
def test_wrong_usage_is_one_message_with_status_two(arguments):
    command = [sys.executable, ROOT / "examples" / "pick_planner.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "usage: pick_planner.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_estimated_depth_is_refused(pick_planner):
    with pytest.raises(NoMeasurement, match=r"red mug is unfit to act on: estimated_depth$"):
        pick_planner.check_fit(measured("occluded", "estimated_depth"))


@pytest.mark.parametrize("code", sorted(code.value for code in UNFIT))
def test_every_unfit_code_is_refused(pick_planner, code):
    with pytest.raises(NoMeasurement, match=code):
        pick_planner.check_fit(measured(code))


def test_informative_codes_are_accepted(pick_planner):
    pick_planner.check_fit(measured())
    pick_planner.check_fit(measured(*(code.value for code in INFORMATIVE)))
