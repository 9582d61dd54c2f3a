"""True sizes of things made of convex solids, from support functions: exact for round parts too.

The support of a body along a direction is the farthest it reaches. Heights, widths and the
horizontal rectangle of least area follow from it without sampling a surface. Does not know cameras.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.simulate.meshes import package_meshes
from training.simulate.renderer import Solid

Vector = npt.NDArray[np.float64]

#: Directions of a quarter turn that are tried for the rectangle, and rounds that narrow them down.
_DIRECTIONS, _ROUNDS = 360, 3


@dataclass(frozen=True, eq=False)
class UprightBox:
    """The least upright box of a thing; metres.

    Attributes:
        centre: (3,) in the world.
        length, width: sides of the least horizontal rectangle, length >= width.
        foot, top: lowest and highest point above the world's z = 0.
        yaw: direction of the length about the vertical, radians in -pi/2 to pi/2.
    """

    centre: Vector
    length: float
    width: float
    foot: float
    top: float
    yaw: float

    @property
    def height(self) -> float:
        """Foot to top."""
        return self.top - self.foot


def support(solid: Solid, directions: Vector) -> Vector:
    """Farthest reach (N,) of a solid along unit directions (N, 3), from the world's origin."""
    own = np.abs(directions @ solid.rotation)
    a, b, c = solid.half
    if solid.kind == "box":
        reach = own @ np.array([a, b, c])
    elif solid.kind == "ellipsoid":
        reach = np.sqrt((own**2) @ np.array([a * a, b * b, c * c]))
    elif solid.kind == "sphere":
        reach = np.full(len(own), a)
    elif solid.kind == "capsule":
        reach = b * own[:, 2] + a
    elif solid.kind == "cylinder":
        reach = b * own[:, 2] + a * np.sqrt(np.maximum(0.0, 1.0 - own[:, 2] ** 2))
    elif solid.mesh is not None:
        vertices = package_meshes().meshes[solid.mesh].vertices
        reach = np.max(directions @ solid.rotation @ vertices.T, axis=1)
    else:
        raise ValueError(f"no support function for a solid of kind {solid.kind}")
    return np.asarray(directions @ solid.position + reach)


def reach_of(solids: list[Solid], directions: Vector) -> Vector:
    """Farthest reach (N,) of a thing along unit directions (N, 3)."""
    return np.asarray(np.max([support(solid, directions) for solid in solids], axis=0))


def lowest(solids: list[Solid]) -> float:
    """Height of the lowest point of a thing, metres."""
    return -float(reach_of(solids, np.array([[0.0, 0.0, -1.0]]))[0])


def _sides(solids: list[Solid], angles: Vector) -> tuple[Vector, Vector]:
    """Lower and upper ends (2, N) of the extents along and across each horizontal angle (N,)."""
    zero = np.zeros_like(angles)
    along = np.stack([np.cos(angles), np.sin(angles), zero], axis=1)
    across = np.stack([-np.sin(angles), np.cos(angles), zero], axis=1)
    ends = reach_of(solids, np.concatenate([along, across, -along, -across])).reshape(4, -1)
    return -ends[2:], ends[:2]


def upright_box(solids: list[Solid]) -> UprightBox:
    """The least upright box of a thing."""
    step = math.pi / 2 / _DIRECTIONS
    angles = np.arange(_DIRECTIONS, dtype=np.float64) * step
    for _ in range(_ROUNDS):
        low, high = _sides(solids, angles)
        best = float(angles[int(np.argmin(np.prod(high - low, axis=0)))])
        angles = np.linspace(best - step, best + step, 41, dtype=np.float64)
        step /= 20
    low, high = _sides(solids, np.array([best]))
    middle, extent = ((low + high) / 2)[:, 0], (high - low)[:, 0]
    yaw = best if extent[0] >= extent[1] else best + math.pi / 2
    c, s = math.cos(best), math.sin(best)
    foot, top = lowest(solids), float(reach_of(solids, np.array([[0.0, 0.0, 1.0]]))[0])
    centre = np.array(
        [c * middle[0] - s * middle[1], s * middle[0] + c * middle[1], (foot + top) / 2]
    )
    turned = (yaw + math.pi / 2) % math.pi - math.pi / 2
    return UprightBox(centre, float(extent.max()), float(extent.min()), foot, top, turned)
