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

Vector = npt.NDArray[np.float64]

#: No two objects of a scene are farther apart.
MAX_GAP_M = 100.0


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


def gaps_of(instance: int, gaps: dict[tuple[int, int], float]) -> dict[str, float]:
    """The gaps of one instance in the form of a scene graph: other instance -> metres, 0 = touch.

    Args:
        gaps: those of `signed_gaps`.
    """
    return {
        str(sum(pair) - instance): max(0.0, gap) for pair, gap in gaps.items() if instance in pair
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
