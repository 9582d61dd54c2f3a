"""Geometry scenes: true sizes by a second computation, nothing inside anything, all situations."""

from __future__ import annotations

import math
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip(
    "training.simulate.renderer", reason="the simulator needs mujoco (requirements/train.txt)"
)

from training.simulate.gaps import signed_gaps
from training.simulate.geometry_groups import bridge, draw_finish, leaning, stacked, touching
from training.simulate.geometry_scenes import GROUPS, SITUATIONS, compose_geometry
from training.simulate.placement import lie_down, set_on, slide_to, stand
from training.simulate.renderer import Solid
from training.simulate.shapes import FLAT, FURNITURE, THIN, THINGS, cuboid, round_tin
from training.simulate.silhouette import surface_points
from training.simulate.truth import upright_box

FINISH = draw_finish(np.random.default_rng(0))


def surface_of(solids: list[Solid], steps: int = 180) -> np.ndarray:
    return np.concatenate(
        [
            surface_points(solid.kind, solid.half, steps) @ solid.rotation.T + solid.position
            for solid in solids
        ]
    )


def all_solids(bodies):
    return [solid for number, body in enumerate(bodies, start=1) for solid in body.solids(number)]


@given(
    kind=st.sampled_from(["box", "cylinder", "capsule", "ellipsoid", "sphere"]),
    half=st.tuples(*[st.floats(0.005, 0.3)] * 3),
    seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_the_upright_box_is_that_of_the_sampled_surface(kind, half, seeds):
    solids = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        solids.append(Solid(kind, half, rng.uniform(-0.3, 0.3, 3), rotation, (1, 1, 1)))
    points = surface_of(solids)
    box = upright_box(solids)
    size = float(np.ptp(points, axis=0).max())
    assert box.foot == pytest.approx(points[:, 2].min(), abs=1e-3 * size)
    assert box.top == pytest.approx(points[:, 2].max(), abs=1e-3 * size)
    _, sides, _ = cv2.minAreaRect(points[:, :2].astype(np.float32))
    assert box.length * box.width == pytest.approx(sides[0] * sides[1], rel=3e-3)
    c, s = math.cos(box.yaw), math.sin(box.yaw)
    own = (points - box.centre) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    half_box = np.array([box.length, box.width, box.height]) / 2
    np.testing.assert_allclose(np.abs(own).max(axis=0), half_box, atol=1e-3 * size)


@pytest.mark.parametrize("kinds", [THINGS, THIN, FLAT, FURNITURE])
def test_a_shape_stands_on_its_origin_and_is_as_long_as_was_asked(kinds):
    for category, (build, low, high) in kinds.items():
        for longest in (low, high):
            shape = build(longest, np.random.default_rng(1))
            box = upright_box(stand(shape, FINISH, (0.0, 0.0), 0.3).solids())
            assert box.foot == pytest.approx(0.0, abs=1e-9), category
            # The diagonal of a wavy cable or of a handle is a little longer than its axis.
            assert 0.8 * longest < max(box.length, box.height) < 1.35 * longest, category


def test_a_tin_on_a_box_keeps_its_own_height():
    below = stand(cuboid(0.2, 0.2, 0.1), FINISH, (0.3, 0.1), 0.5)
    box = upright_box(set_on(stand(round_tin(0.04, 0.12), FINISH, (0, 0), 0), below).solids())
    assert box.foot == pytest.approx(0.1)
    assert box.height == pytest.approx(0.12)
    assert box.length == pytest.approx(0.08, rel=1e-5)


def test_a_lying_tube_is_as_high_as_it_was_wide():
    tube = lie_down(stand(round_tin(0.03, 0.24), FINISH, (0, 0), 0), 0.7)
    box = upright_box(tube.solids())
    assert (box.height, box.width, box.length) == pytest.approx((0.06, 0.06, 0.24), rel=1e-4)
    assert box.yaw == pytest.approx(0.7, abs=1e-4)


@pytest.mark.parametrize("gap", [0.0, 0.03])
def test_sliding_ends_at_the_gap_that_was_asked_for(gap):
    fixed = stand(cuboid(0.2, 0.1, 0.1), FINISH, (0, 0), 0.4)
    moved = slide_to(stand(round_tin(0.05, 0.1), FINISH, (-1.5, 0), 0), [fixed], (1.0, 0.0), gap)
    assert signed_gaps(all_solids([fixed, moved]))[1, 2] == pytest.approx(gap, abs=2e-4)


def test_overlapping_things_have_a_negative_distance():
    pair = [stand(cuboid(0.2, 0.2, 0.2), FINISH, (x, 0.0), 0.0) for x in (0.0, 0.15)]
    assert signed_gaps(all_solids(pair))[1, 2] == pytest.approx(-0.05, abs=1e-4)


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_inside_anything_else(seed):
    for scene in range(seed % 2, len(SITUATIONS), 2):
        composed = compose_geometry(seed, scene)
        gaps = signed_gaps([*composed.room, *all_solids(composed.bodies)])
        assert min(gaps.values()) > -2e-4, (scene, min(gaps, key=gaps.get))


@pytest.mark.parametrize("seed", range(10))
def test_stacks_are_stable_and_contacts_touch(seed):
    rng = np.random.default_rng(seed)
    for build in (stacked, touching, bridge):
        bodies = build(rng)
        gaps = signed_gaps(all_solids(bodies))
        for number, body in enumerate(bodies, start=1):
            if body.foot < 1e-3 and build is not touching:
                continue
            assert min(gap for pair, gap in gaps.items() if number in pair) < 3e-4
    bodies = stacked(rng)
    upper = bodies[-1]
    below = [body for body in bodies if abs(body.top - upper.foot) < 1e-6]
    middle = np.mean([body.position for body in below], axis=0)[:2]
    reach = min(min(body.shape.carries) for body in below)
    assert np.abs(upper.position[:2] - middle).max() <= 0.26 * reach


def test_a_leaning_thing_touches_what_it_leans_on_above_its_own_middle():
    found = 0
    for seed in range(20):
        bodies = leaning(np.random.default_rng(seed))
        if "leaning" not in bodies[-1].situation:
            continue
        wall, leaned = bodies
        assert signed_gaps(all_solids(bodies))[1, 2] < 3e-4
        assert leaned.foot == pytest.approx(0.0, abs=1e-9)
        assert wall.top > 0.5 * leaned.top
        found += 1
    assert found > 4


def test_all_situations_occur():
    scenes = [compose_geometry(3, scene) for scene in range(2 * len(SITUATIONS))]
    named = Counter(name for scene in scenes for body in scene.bodies for name in body.situation)
    wanted = (set(GROUPS) - {"plain", "occluded"}) | {"bin", "in_bin", "shelf", "floor", "overhead"}
    assert wanted <= set(named)
    assert any(scene.view.cut is not None for scene in scenes)
    assert any(abs(scene.view.roll) > 0.3 for scene in scenes)
    assert max(len(scene.bodies) for scene in scenes) >= 5


def test_a_scene_depends_only_on_seed_and_number():
    one, same, other = (compose_geometry(*pair) for pair in ((4, 7), (4, 7), (5, 7)))
    assert [body.position.tolist() for body in one.bodies] == [
        body.position.tolist() for body in same.bodies
    ]
    assert [body.position.tolist() for body in one.bodies] != [
        body.position.tolist() for body in other.bodies
    ]
