"""True gaps of simulated scenes: surface to surface, between the right two things."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("mujoco")

from training.simulate.catalogue import Primitive, Thing
from training.simulate.gaps import gaps_between, true_gaps
from training.simulate.world import PlacedThing, compose

BOX = Thing(
    "box", (Primitive("box", (0.1, 0.1, 0.1), (0.0, 0.0, 0.1), np.eye(3)),), (0.2, 0.2, 0.2)
)
BALL = Thing(
    "ball", (Primitive("sphere", (0.1, 0.0, 0.0), (0.0, 0.0, 0.1), np.eye(3)),), (0.2, 0.2, 0.2)
)


def at(thing: Thing, x: float, y: float = 0.0, yaw: float = 0.0) -> PlacedThing:
    return PlacedThing(thing, "red", np.array([x, y, 0.0]), yaw)


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


def test_every_two_things_have_a_gap_by_their_instance_numbers():
    gaps = gaps_between([at(BOX, 0.0), at(BALL, 1.0), at(BOX, 3.0)])
    assert list(gaps) == [(1, 2), (1, 3), (2, 3)]
    np.testing.assert_allclose(list(gaps.values()), [0.8, 2.8, 1.8], atol=1e-5)


@pytest.mark.parametrize("scene", range(5))
def test_the_gaps_are_those_of_the_scene_that_was_rendered(scene):
    _, _, placed = compose(np.random.default_rng([11, scene]))
    gaps = true_gaps(11, scene)
    for a, b in combinations(range(1, len(placed) + 1), 2):
        apart = float(np.linalg.norm(placed[a - 1].centre - placed[b - 1].centre))
        reach = sum(float(np.linalg.norm(placed[n - 1].thing.size)) / 2 for n in (a, b))
        assert apart - reach <= gaps[a, b] < apart
