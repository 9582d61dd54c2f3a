"""Meshes with segment annotations -> Mesh and Instances, as both ScanNet and ScanNet++ store them.

Knows PLY, `segIndices` per vertex and `segGroups` of segments. Does not know folders or images.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh

from sdvlm_core.files import read_json
from training.build.boxes import annotated_box, upright_box
from training.build.scene import Instance, Mesh, SceneError, UprightBox, Vector


def read_annotation(path: Path) -> dict[str, Any]:
    """A JSON file of the data set, which holds one object.

    Raises:
        SceneError: `missing file` or `damaged file`; names it.
    """
    if not path.exists():
        raise SceneError("missing file", str(path))
    try:
        return read_json(path)
    except ValueError as error:
        raise SceneError("damaged file", str(error)) from error


def read_mesh(path: Path) -> tuple[Vector, npt.NDArray[np.int64]]:
    """(vertices (V, 3) float64, faces (F, 3)) of a PLY file, in its order."""
    if not path.exists():
        raise SceneError("missing file", str(path))
    try:
        with path.open("rb") as file:
            loaded = trimesh.load_mesh(file, file_type="ply", process=False)
        vertices, faces = np.asarray(loaded.vertices, np.float64), np.asarray(loaded.faces)
    except Exception as error:
        raise SceneError("damaged file", f"{path}: {error}") from error
    if len(vertices) == 0 or len(faces) == 0 or not np.isfinite(vertices).all():
        raise SceneError("damaged file", f"{path} has no triangles, or non-finite vertices")
    return vertices, faces


def annotate(
    vertices: Vector,
    faces: npt.NDArray[np.int64],
    segments: Any,
    groups: Any,
    where: str,
    skipped: Counter[str],
) -> tuple[Mesh, tuple[Instance, ...]]:
    """The object of each triangle, and the upright box of each object.

    A triangle belongs to an object if at least two of its corners do. The number of an object is
    objectId + 1, as in the source's own instance masks. Its box is the annotated oriented box if
    that is upright, else the smallest upright box.

    Args:
        segments: {"segIndices": one per vertex}.
        groups: {"segGroups": [{"objectId", "segments", "label", "obb"?}]}.
        where: the scene, for error messages.
        skipped: objects that are left out are counted in it, by reason.

    Raises:
        SceneError: the files are damaged, or segments and vertices do not match.
    """
    try:
        index = np.asarray(segments["segIndices"], np.int64)
        listed = list(groups["segGroups"])
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError("damaged file", f"{where}: {error!r} is missing or not a list") from error
    if len(index) != len(vertices):
        raise SceneError(
            "segments do not fit",
            f"{where}: {len(index)} segment indices for {len(vertices)} vertices",
        )
    of_vertex = np.zeros(len(vertices), np.int64)
    instances = []
    for group in listed:
        try:
            number, label = int(group["objectId"]) + 1, str(group["label"]).strip().lower()
            members = np.isin(index, np.asarray(group["segments"], np.int64))
        except (KeyError, TypeError, ValueError):
            skipped["object damaged"] += 1
            continue
        if number < 1 or not label or not members.any():
            skipped["object empty"] += 1
            continue
        of_vertex[members] = number
        box = _annotated_box(group.get("obb")) or upright_box(vertices[members])
        instances.append(Instance(number, label, box))
    corners = of_vertex[faces]
    owner = np.where(corners[:, 0] == corners[:, 1], corners[:, 0], 0)
    owner = np.where(corners[:, 0] == corners[:, 2], corners[:, 0], owner)
    owner = np.where(corners[:, 1] == corners[:, 2], corners[:, 1], owner)
    return Mesh(vertices, faces, owner), tuple(instances)


def _annotated_box(obb: Any) -> UprightBox | None:
    """The upright box of {"centroid", "axesLengths", "normalizedAxes"}; None if not usable."""
    try:
        lengths = np.array(obb["axesLengths"], np.float64)
        axes = np.array(obb["normalizedAxes"], np.float64).reshape(3, 3)
        centroid = np.array(obb["centroid"], np.float64)
    except (KeyError, TypeError, ValueError):
        return None
    whole = np.concatenate([lengths, centroid, axes.ravel()])
    if lengths.shape != (3,) or centroid.shape != (3,) or not np.isfinite(whole).all():
        return None
    if (lengths <= 0).any():
        return None
    return annotated_box(centroid, lengths, axes)
