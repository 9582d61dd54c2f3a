"""PLY files -> the triangles of a scan, in the order of the file.

The header is checked against the size of the file before the file is loaded, because a header of a
hundred bytes can state billions of vertices. Knows PLY and the extent of rooms. Does not know
objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import trimesh

from training.build.reasons import Reason
from training.build.scene import SceneError, Vector

_MAX_HEADER_BYTES = 1 << 16
#: The largest meshes of ScanNet++ have some ten million vertices.
_MAX_ELEMENTS = 40_000_000
_FORMATS = ("ascii", "binary_little_endian", "binary_big_endian")
_BYTES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "float", "int32", "uint32", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}
_FLOATS = ("float", "float32", "double", "float64")
#: Largest side of a scanned place, metres: a room in millimetres has thousands, and in centimetres
#: hundreds. A mesh in feet is found by its depth (`view_truth`).
_EXTENT_M = (0.5, 100.0)
#: Part of the vertices on each side that may be strays.
_STRAYS = 0.005


@dataclass(frozen=True)
class _Element:
    """What a header states about one kind of records.

    least_bytes: of one record; a list is counted as empty.
    """

    name: str
    count: int
    least_bytes: int


@dataclass(frozen=True, eq=False)
class Triangles:
    """vertices (V, 3) metres, faces (F, 3), colours (V, 3) uint8 or None, in the file's order."""

    vertices: Vector
    faces: npt.NDArray[np.int64]
    colours: npt.NDArray[np.uint8] | None


def read_mesh(path: Path) -> Triangles:
    """The triangles of a PLY file.

    Raises:
        SceneError: `missing file`, `mesh damaged`, `file too large`, or `not in metres`.
    """
    _check_header(path)
    try:
        with path.open("rb") as file:
            loaded = trimesh.load_mesh(file, file_type="ply", process=False)
        vertices, faces = np.asarray(loaded.vertices, np.float64), np.asarray(loaded.faces)
        coloured = loaded.visual.kind == "vertex"
        colours = np.array(loaded.visual.vertex_colors[:, :3], np.uint8) if coloured else None
    # trimesh raises any type of error for a file that is not PLY.
    except Exception as error:
        raise SceneError(Reason.MESH_DAMAGED, f"{path}: {error}") from error
    check_mesh(vertices, faces, str(path))
    return Triangles(vertices, faces.astype(np.int64), colours)


def check_mesh(vertices: Vector, faces: npt.NDArray[np.int64], where: str) -> None:
    """Raise SceneError unless these are triangles of a place in metres."""
    if vertices.ndim != 2 or vertices.shape[1:] != (3,) or faces.shape[1:] != (3,):
        raise SceneError(Reason.MESH_DAMAGED, f"{where} holds no triangles in space")
    if len(vertices) == 0 or len(faces) == 0 or not np.isfinite(vertices).all():
        raise SceneError(Reason.MESH_DAMAGED, f"{where} has no triangles, or non-finite vertices")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise SceneError(
            Reason.MESH_DAMAGED,
            f"{where}: triangles name vertices {faces.min()} to {faces.max()} of {len(vertices)}",
        )
    low, high = np.quantile(vertices, (_STRAYS, 1 - _STRAYS), axis=0)
    extent = float((high - low).max())
    if not _EXTENT_M[0] <= extent <= _EXTENT_M[1]:
        raise SceneError(
            Reason.NOT_IN_METRES,
            f"{where} has an extent of {extent:.4g}, expected {_EXTENT_M[0]} to {_EXTENT_M[1]} m",
        )


def _check_header(path: Path) -> None:
    """Raise SceneError unless the file is long enough for what its header states."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_MAX_HEADER_BYTES)
    except FileNotFoundError as error:
        raise SceneError(Reason.MISSING_FILE, str(path)) from error
    except OSError as error:
        raise SceneError(Reason.MESH_DAMAGED, f"{path}: {error}") from error
    head, end, _ = start.partition(b"end_header")
    if not start.startswith(b"ply") or not end:
        raise SceneError(Reason.MESH_DAMAGED, f"{path} has no PLY header")
    try:
        coding, elements = _parse(head.decode("ascii"))
    except (ValueError, KeyError, IndexError) as error:
        raise SceneError(Reason.MESH_DAMAGED, f"{path}: PLY header: {error}") from error
    for element in elements:
        if element.count > _MAX_ELEMENTS:
            raise SceneError(
                Reason.FILE_TOO_LARGE,
                f"{path}: {element.count} of {element.name}, at most {_MAX_ELEMENTS} are read",
            )
    # In ASCII a record has two bytes at least: a digit and the end of the line.
    least = sum(e.count * (2 if coding == "ascii" else e.least_bytes) for e in elements)
    if least > size:
        raise SceneError(
            Reason.MESH_DAMAGED, f"{path} has {size} bytes, its header states {least} at least"
        )


def _parse(header: str) -> tuple[str, list[_Element]]:
    """(coding, elements) of the lines before `end_header`; positions must be real numbers."""
    coding, elements, position = "", [], []
    for line in header.splitlines():
        words = line.split()
        if words[:1] == ["format"]:
            coding = words[1]
        elif words[:1] == ["element"]:
            elements.append(_Element(words[1], int(words[2]), 0))
        elif words[:1] == ["property"]:
            last = elements.pop()
            if words[1] == "list":
                _check_list(last.name, words)
                length = _BYTES[words[2]]
            else:
                length = _BYTES[words[1]]
                if last.name == "vertex" and words[2] in ("x", "y", "z"):
                    position.append(words[1])
            elements.append(_Element(last.name, last.count, last.least_bytes + length))
    if coding not in _FORMATS:
        raise ValueError(f"format {coding!r} is unknown")
    if len(position) != 3 or not set(position) <= set(_FLOATS):
        raise ValueError(f"x, y, z of the vertices have the types {position}")
    if min((element.count for element in elements), default=0) < 0:
        raise ValueError("a negative number of elements")
    if not {"vertex", "face"} <= {element.name for element in elements}:
        raise ValueError("no vertices or no faces")
    return coding, elements


def _check_list(element: str, words: list[str]) -> None:
    """Numbers of vertices are whole: as real numbers they would be read wrongly."""
    if element != "face" or words[4] not in ("vertex_indices", "vertex_index"):
        _BYTES[words[3]]
        return
    if words[2] in _FLOATS or words[3] in _FLOATS:
        raise ValueError(f"a face is a list of {words[2]} and {words[3]}")
