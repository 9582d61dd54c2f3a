"""Exact gaps of simulated scenes: surface to surface, between the right two objects."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("mujoco")

from training.simulate.catalogue import turn
from training.simulate.frames import read_frames, stored_gaps
from training.simulate.gaps import gaps_of, signed_gaps
from training.simulate.render import render_frames
from training.simulate.renderer import Solid


def box(number: int, x: float, yaw: float = 0.0) -> Solid:
    position = np.array([x, 0.0, 0.1])
    return Solid("box", (0.1, 0.1, 0.1), position, turn("z", yaw), (1.0, 0.0, 0.0), number)


def ball(number: int, x: float, y: float = 0.0) -> Solid:
    position = np.array([x, y, 0.1])
    return Solid("sphere", (0.1, 0.0, 0.0), position, np.eye(3), (1.0, 0.0, 0.0), number)


@pytest.mark.parametrize(
    ("one", "other", "gap"),
    [
        (box(1, 0.0), box(2, 1.0), 0.8),
        (box(1, 0.0), box(2, 1.0, math.pi / 4), 0.9 - 0.1 * math.sqrt(2)),
        (ball(1, 0.0), box(2, 1.0), 0.8),
        (ball(1, 0.0), ball(2, 3.0, 4.0), 4.8),
        (box(1, 0.0), box(2, 0.15), 0.0),
    ],
)
def test_the_gap_is_between_the_nearest_surfaces(one, other, gap):
    gaps = signed_gaps([one, other])
    assert gaps_of(1, gaps) == pytest.approx({"2": gap}, abs=1e-5)
    assert gaps_of(2, gaps) == pytest.approx({"1": gap}, abs=1e-5)


def test_every_two_objects_have_a_gap_by_their_instance_numbers():
    gaps = signed_gaps([box(1, 0.0), ball(2, 1.0), box(3, 3.0)])
    assert list(gaps) == [(1, 2), (1, 3), (2, 3)]
    np.testing.assert_allclose(list(gaps.values()), [0.8, 2.8, 1.8], atol=1e-5)


def test_a_room_stores_the_gaps_of_its_objects(tmp_path):
    render_frames(tmp_path, 3, seed=11, width=96, workers=1)
    for frame in read_frames(tmp_path):
        gaps = stored_gaps(frame)
        for (a, b), gap in gaps.items():
            one, other = frame.objects[a - 1], frame.objects[b - 1]
            apart = math.dist(one["centre_world_m"], other["centre_world_m"])
            reach = sum(math.hypot(*entry["box_size_m"]) / 2 for entry in (one, other))
            assert apart - reach <= gap < apart
        assert len(gaps) == math.comb(len(frame.objects), 2)


def test_a_frame_without_gaps_is_refused_with_what_to_do(tmp_path):
    render_frames(tmp_path, 1, seed=11, width=96, workers=1)
    frame = next(read_frames(tmp_path))
    del frame.objects[0]["gaps_m"]
    with pytest.raises(ValueError, match="render the folder again"):
        stored_gaps(frame)
