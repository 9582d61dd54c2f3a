"""Exact gaps of a simulated scene: between the nearest surfaces of every two objects.

A scene graph holds boxes only, so the scene is composed again from its seed, and MuJoCo's
collision code measures between the convex parts. Does not know images or measurements.
"""

from __future__ import annotations

from itertools import combinations

import mujoco
import numpy as np

from training.simulate.world import PlacedObject, compose

#: No two objects of a scene are farther apart.
_MAX_GAP_M = 100.0


def true_gaps(seed: int, scene: int) -> dict[tuple[int, int], float]:
    """Metres between the objects of a scene, by instance numbers (a < b); 0 = they touch."""
    _, _, placed = compose(np.random.default_rng([seed, scene]))
    return gaps_between(placed)


def gaps_between(placed: list[PlacedObject]) -> dict[tuple[int, int], float]:
    """Metres between placed objects, by their numbers (a < b, from 1); 0 = they touch."""
    geoms, numbers = [], []
    for number, item in enumerate(placed, start=1):
        for part in item.model.parts:
            position = item.rotation @ np.array(part.centre) + item.position
            quaternion = np.zeros(4)
            mujoco.mju_mat2Quat(quaternion, (item.rotation @ part.rotation).ravel())
            size, at, turn = (
                " ".join(map(repr, map(float, values)))
                for values in (part.half, position, quaternion)
            )
            geoms.append(f'<geom type="{part.kind}" size="{size}" pos="{at}" quat="{turn}"/>')
            numbers.append(number)
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><worldbody>{''.join(geoms)}</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    gaps = dict.fromkeys(combinations(range(1, len(placed) + 1), 2), _MAX_GAP_M)
    for one, other in combinations(range(len(numbers)), 2):
        pair = (numbers[one], numbers[other])
        if pair in gaps:
            distance = mujoco.mj_geomDistance(model, data, one, other, gaps[pair], None)
            gaps[pair] = max(0.0, min(gaps[pair], distance))
    return gaps
