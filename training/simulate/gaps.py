"""Exact distances of a simulated scene: between the nearest surfaces of every two objects.

MuJoCo's collision code measures between the convex parts. Does not know images or measurements.
"""

from __future__ import annotations

from itertools import combinations

import mujoco
import numpy as np
import numpy.typing as npt

from training.simulate.meshes import mesh_elements
from training.simulate.renderer import Solid
from training.simulate.world import PlacedObject, compose

Vector = npt.NDArray[np.float64]

#: No two objects of a scene are farther apart.
MAX_GAP_M = 100.0


def true_gaps(seed: int, scene: int) -> dict[tuple[int, int], float]:
    """Metres between the objects of a room scene, by instance numbers (a < b); 0 = they touch.

    A room's scene graph holds boxes only, so the scene is composed again from its seed.
    """
    _, _, placed = compose(np.random.default_rng([seed, scene]))
    return gaps_between(placed)


def gaps_between(placed: list[PlacedObject]) -> dict[tuple[int, int], float]:
    """Metres between placed objects, by their numbers (a < b, from 1); 0 = they touch."""
    solids = [
        Solid(
            part.kind,
            part.half,
            item.rotation @ np.array(part.centre) + item.position,
            item.rotation @ part.rotation,
            (0.0, 0.0, 0.0),
            number,
        )
        for number, item in enumerate(placed, start=1)
        for part in item.model.parts
    ]
    return {pair: max(0.0, gap) for pair, gap in signed_gaps(solids).items()}


def signed_gaps(solids: list[Solid]) -> dict[tuple[int, int], float]:
    """Metres between instances (a < b) of solids, 0 (the room) included; below 0 = they overlap."""
    bodies = Bodies(solids)
    numbers = sorted({solid.instance for solid in solids})
    return {
        (a, b): bodies.distance(
            [i for i, solid in enumerate(solids) if solid.instance == a],
            [i for i, solid in enumerate(solids) if solid.instance == b],
        )
        for a, b in combinations(numbers, 2)
    }


class Bodies:
    """Solids as MuJoCo geoms, whose distances can be measured; they can be moved."""

    def __init__(self, solids: list[Solid]) -> None:
        geoms = []
        for solid in solids:
            quaternion = np.zeros(4)
            mujoco.mju_mat2Quat(quaternion, np.asarray(solid.rotation, np.float64).ravel())
            size, at, turn = (
                " ".join(map(repr, map(float, values)))
                for values in (solid.half, solid.position, quaternion)
            )
            form = f'mesh="{solid.mesh}"' if solid.mesh else f'size="{size}"'
            geoms.append(f'<geom type="{solid.kind}" {form} pos="{at}" quat="{turn}"/>')
        meshes = mesh_elements(sorted({s.mesh for s in solids if s.mesh}), with_faces=False)
        self._model = mujoco.MjModel.from_xml_string(
            f"<mujoco><asset>{meshes}</asset><worldbody>{''.join(geoms)}</worldbody></mujoco>"
        )
        self._data = mujoco.MjData(self._model)
        mujoco.mj_kinematics(self._model, self._data)
        self._reach = self._model.geom_rbound

    def move(self, solids: list[int], step: Vector) -> None:
        """Shift solids by `step` (3,) metres."""
        self._data.geom_xpos[solids] += step

    def distance(self, one: list[int], other: list[int]) -> float:
        """Metres between two groups of solids, by their numbers; below 0 = they overlap."""
        centres = self._data.geom_xpos
        apart = np.linalg.norm(centres[one][:, None] - centres[other][None, :], axis=2)
        least = apart - self._reach[one][:, None] - self._reach[other][None, :]
        found = MAX_GAP_M
        # The nearest bounding spheres first: most pairs are never measured.
        for pair in np.argsort(least, axis=None):
            row, column = divmod(int(pair), len(other))
            if least[row, column] > found:
                break
            reach = max(found, 0.0) + 1e-6
            distance = mujoco.mj_geomDistance(
                self._model, self._data, one[row], other[column], reach, None
            )
            found = min(found, float(distance))
        return found
