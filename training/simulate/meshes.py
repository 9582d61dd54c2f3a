"""Modelled household things from an installed package: robosuite's (MIT), if it is there.

`pip install --no-deps robosuite` adds a can, a milk carton, a cereal box and others. They are used
as their convex hulls, so that sizes and gaps stay exact; a mesh that its hull would fatten is left
out. The package is found without importing it, and nothing of it is stored here. Does not know
scenes.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

PACKAGE = "robosuite"
_FOLDER = "models/assets/objects/meshes"
#: Least volume of a mesh as a fraction of its hull's.
_CONVEX = 0.9


@dataclass(frozen=True, eq=False)
class HullMesh:
    """A convex hull, upright, the middle of its foot at the origin.

    Attributes:
        name: of the file.
        vertices: (N, 3) metres.
        faces: (M, 3) indices of vertices.
    """

    name: str
    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Package:
    """What a package gave: meshes by name, and the names that were left out as not convex."""

    meshes: dict[str, HullMesh]
    left_out: tuple[str, ...]


@cache
def package_meshes() -> Package:
    """The meshes of the installed package; empty without it."""
    import trimesh  # rooms do not need it

    found = importlib.util.find_spec(PACKAGE)
    roots = list(found.submodule_search_locations or []) if found else []
    paths = sorted(path for root in roots for path in Path(root, _FOLDER).glob("*.stl"))
    meshes, left_out = {}, []
    for path in paths:
        mesh = trimesh.load_mesh(path)
        hull = mesh.convex_hull
        if mesh.volume < _CONVEX * hull.volume:
            left_out.append(path.stem)
            continue
        low, high = hull.bounds
        origin = np.array([*(low + high)[:2] / 2, low[2]])
        vertices = np.asarray(hull.vertices - origin, np.float64)
        meshes[path.stem] = HullMesh(path.stem, vertices, np.asarray(hull.faces, np.int64))
    return Package(meshes, tuple(left_out))


def mesh_elements(names: list[str], with_faces: bool) -> str:
    """MJCF <mesh> elements; without faces MuJoCo makes the hull itself."""
    lines = []
    for name in names:
        mesh = package_meshes().meshes[name]
        vertices = " ".join(map(repr, map(float, mesh.vertices.ravel())))
        faces = " ".join(map(str, mesh.faces.ravel()))
        given = f' face="{faces}"' if with_faces else ""
        lines.append(f'<mesh name="{name}" vertex="{vertices}"{given}/>')
    return "\n".join(lines)
