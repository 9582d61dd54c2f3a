"""Exact gaps of simulated scenes: surface to surface, between the right two objects."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("mujoco")

from training.simulate.catalogue import ObjectModel, Primitive
from training.simulate.gaps import gaps_between, true_gaps
from training.simulate.world import PlacedObject, compose

BOX = ObjectModel(
    "box", (Primitive("box", (0.1, 0.1, 0.1), (0.0, 0.0, 0.1), np.eye(3)),), (0.2, 0.2, 0.2)
)
BALL = ObjectModel(
    "ball", (Primitive("sphere", (0.1, 0.0, 0.0), (0.0, 0.0, 0.1), np.eye(3)),), (0.2, 0.2, 0.2)
)


def at(model: ObjectModel, x: float, y: float = 0.0, yaw: float = 0.0) -> PlacedObject:
    return PlacedObject(model, "red", np.array([x, y, 0.0]), yaw)


@pytest.mark.parametrize(
    ("one", "other", "gap"),
    [
        (at(BOX, 0.0), at(BOX, 1.0), 0.8),
        (at(BOX, 0.0), at(BOX, 1.0, yaw=math.pi / 4), 0.9 - 0.1 * math.sqrt(2)),
        (at(BALL, 0.0), at(BOX, 1.0), 0.8),
        (at(BALL, 0.0), at(BALL, 3.0, 4.0), 4.8),
        (at(BOX, 0.0), at(BOX, 0.15), 0.0),
    ],
)
def test_the_gap_is_between_the_nearest_surfaces(one, other, gap):
    assert gaps_between([one, other])[1, 2] == pytest.approx(gap, abs=1e-5)


def test_every_two_objects_have_a_gap_by_their_instance_numbers():
    gaps = gaps_between([at(BOX, 0.0), at(BALL, 1.0), at(BOX, 3.0)])
    assert list(gaps) == [(1, 2), (1, 3), (2, 3)]
    np.testing.assert_allclose(list(gaps.values()), [0.8, 2.8, 1.8], atol=1e-5)


@pytest.mark.parametrize("scene", range(5))
def test_the_gaps_are_those_of_the_scene_that_was_rendered(scene):
    _, _, placed = compose(np.random.default_rng([11, scene]))
    gaps = true_gaps(11, scene)
    for a, b in combinations(range(1, len(placed) + 1), 2):
        apart = float(np.linalg.norm(placed[a - 1].centre - placed[b - 1].centre))
        reach = sum(float(np.linalg.norm(placed[n - 1].model.size)) / 2 for n in (a, b))
        assert apart - reach <= gaps[a, b] < apart
