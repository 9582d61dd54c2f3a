"""The six pictures of docs/geometry.md: every size is right within 1.25, or has a warning."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from sdvlm_core.cautions import UNFIT
from tests.paths import ROOT

NAMES = ("good", "stacked", "touching", "flat", "turned", "ambiguous")


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("situations", ROOT / "docs/situations/make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_height_and_longest_side_are_right_or_have_a_warning(pictures, name):
    (situation,) = (one for one in pictures.SITUATIONS if one.name == name)
    _, found, _ = pictures.measured(situation)
    for one in found:
        length, _, height = pictures.true_sizes(situation, one.label)
        ratios = np.array([one.length_m / length, one.height_m / height])
        right = (np.maximum(ratios, 1 / ratios) < 1.25).all()
        assert right or UNFIT.intersection(one.warnings), (one.label, ratios, one.warnings)


@pytest.mark.parametrize("away", [1.2, 2.2])
def test_a_thing_on_another_is_above_the_table_also_in_front_of_a_wall(pictures, away):
    (stacked,) = (one for one in pictures.SITUATIONS if one.name == "stacked")
    wall = pictures.Thing("wall", "box", (12.0, 0.1, 3.0), (0.0, away, -0.8), pictures.WHITE)
    before_wall = replace(stacked, things=(*stacked.things, wall))
    _, (tin, can), _ = pictures.measured(before_wall)
    assert can.height_m == pytest.approx(0.12, abs=0.006)
    assert can.top_above_support_m == pytest.approx(0.19, abs=0.006)
    assert can.support_plane.normal == pytest.approx(tin.support_plane.normal, abs=0.01)


def test_every_situation_has_its_picture_of_at_most_80_kilobytes(pictures):
    assert tuple(one.name for one in pictures.SITUATIONS) == NAMES
    for name in NAMES:
        assert (ROOT / "docs/situations" / f"{name}.jpg").stat().st_size <= 80_000
