"""`python benchmarks/scene_graph.py`: time and peak memory of the scene graph of one large view.

The scene has the size of a ScanNet++ scan: 100 objects in a room, 510,000 vertices. The view is
1296x968 pixels and shows most of the objects. The digest of the scene graph shows whether two
versions of the code agree. Peak memory is the resident size of this process, as the kernel counts
it; the libraries alone take the first figure.
"""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections import Counter

import numpy as np
import trimesh

from sdvlm_core.frame import CameraIntrinsics
from training.build.boxes import upright_box
from training.build.graph import Rasterizer, depth_of, describe
from training.build.scene import Instance, Mesh, Scene, View

_ROWS = _COLUMNS = 10
_WIDTH, _HEIGHT = 1296, 968


def _parts() -> list[trimesh.Trimesh]:
    """The room, then the objects: boxes and balls on a grid, of random sizes."""
    rng = np.random.default_rng(0)
    room = trimesh.creation.box((14, 14, 3))
    for _ in range(6):
        room = room.subdivide()
    room.apply_translation((0, 0, 1.5))
    parts = [room]
    for number in range(_ROWS * _COLUMNS):
        if number % 25 < 16:
            part = trimesh.creation.box(rng.uniform(0.2, 0.7, 3))
            for _ in range(5):
                part = part.subdivide()
        else:
            part = trimesh.creation.icosphere(4, radius=rng.uniform(0.1, 0.3))
        row, column = divmod(number, _COLUMNS)
        place = (column - 4.5, row - 4.5, rng.uniform(0.4, 1.2))
        part.apply_transform(trimesh.transformations.rotation_matrix(rng.uniform(0, 3), (0, 0, 1)))
        part.apply_translation(np.array(place))
        parts.append(part)
    return parts


def large_scene() -> Scene:
    """The scene; its views are not used."""
    parts = _parts()
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = [part.faces + start for part, start in zip(parts, starts[:-1], strict=True)]
    owner = np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts])
    vertices = np.concatenate([part.vertices for part in parts])
    mesh = Mesh(vertices, np.concatenate(faces), owner)
    instances = tuple(
        Instance(number, "box", upright_box(np.asarray(part.vertices)))
        for number, part in enumerate(parts[1:], start=1)
    )
    return Scene("large", "scannetpp", instances, mesh, lambda wanted: iter(()), Counter())


def large_view() -> View:
    """A camera near one wall that looks down at the objects."""
    tilt = np.radians(25)
    pose = np.eye(4)
    forward = np.array([0, np.cos(tilt), -np.sin(tilt)])
    pose[:3, :3] = np.stack([[1, 0, 0], np.cross(forward, [1, 0, 0]), forward], axis=1)
    pose[:3, 3] = (0, -6.5, 2.6)
    k = CameraIntrinsics(700.0, 700.0, _WIDTH / 2, _HEIGHT / 2, _WIDTH, _HEIGHT)
    return View("0", np.zeros((_HEIGHT, _WIDTH, 3), np.uint8), None, k, pose)


def _peak_gb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def main() -> None:
    """Print one line of JSON."""
    scene, view = large_scene(), large_view()
    assert scene.mesh is not None
    before, start, cpu = _peak_gb(), time.perf_counter(), time.process_time()
    rasterizer = Rasterizer(scene.mesh)
    graph = describe(scene, view, rasterizer)
    first, cpu = time.perf_counter(), time.process_time() - cpu
    describe(scene, view, rasterizer)
    second = time.perf_counter()
    depth = depth_of(view, rasterizer)
    assert depth is not None
    end = time.perf_counter()
    digest = hashlib.sha256(json.dumps(graph).encode() + depth.tobytes()).hexdigest()
    print(
        json.dumps(
            {
                "vertices": len(scene.mesh.vertices),
                "faces": len(scene.mesh.faces),
                "objects": len(scene.instances),
                "visible": len(graph),
                "first_view_s": round(first - start, 2),
                "first_view_cpu_s": round(cpu, 2),
                "further_view_s": round(second - first, 2),
                "depth_s": round(end - second, 2),
                "scene_gb": before,
                "peak_gb": _peak_gb(),
                "graph_sha256": digest[:16],
            }
        )
    )


if __name__ == "__main__":
    main()
