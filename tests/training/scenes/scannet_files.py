"""Writes a scan in the published files of ScanNet v2.

Formats: README.md and SensReader of github.com/ScanNet/ScanNet. The mesh is a little-endian binary
PLY with colours; segments are per vertex; `<id>.txt` holds the axis alignment and the calibration;
frames are in `<id>.sens` (version 4, JPEG colour, zlib depth) or in the folders that SensReader
exports. Mesh and poses are in the scan's own frame: the axis alignment turns it into the room's.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from tests.training.scenes.solids import Mesh, Thing, look, mesh_of, pinhole_rays

#: Room from scan: a turn about z and a shift, as `<id>.txt` has it.
ALIGNMENT = np.array(
    [
        [0.891007, 0.453990, 0.0, -1.25],
        [-0.453990, 0.891007, 0.0, 0.75],
        [0.0, 0.0, 1.0, -0.08],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: size in pixels, 3x3 matrix."""

    width: int
    height: int
    matrix: np.ndarray


COLOUR = Camera(216, 160, np.array([[190.0, 0, 107.4], [0, 190.5, 79.8], [0, 0, 1]]))
DEPTH = Camera(160, 120, np.array([[140.0, 0, 79.6], [0, 140.2, 59.4], [0, 0, 1]]))


@dataclass
class Frame:
    """One frame as it is written: pose (scan's frame), JPEG bytes, depth in depth units."""

    pose: np.ndarray
    jpeg: bytes
    depth: np.ndarray


@dataclass
class Scan:
    """Everything that is written for a scan; a test may spoil any part of it first."""

    name: str
    mesh: Mesh
    groups: list[dict]
    frames: list[Frame]
    colour: Camera = COLOUR
    depth: Camera = DEPTH
    alignment: str | None = ""
    depth_shift: float = 1000.0
    ply: str = "binary_little_endian"
    segments: list[int] = field(default_factory=list)
    sens_size: int | None = None


def jpeg_of(rgb: np.ndarray, quality: int = 95) -> bytes:
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done
    return data.tobytes()


def scan_of(name: str, things: list[Thing], poses: list[np.ndarray]) -> Scan:
    """The scan of a room: `poses` are in the room's frame, z up."""
    mesh = mesh_of(things)
    back = np.linalg.inv(ALIGNMENT)
    raw = Mesh(
        mesh.vertices @ back[:3, :3].T + back[:3, 3],
        mesh.faces, mesh.colours, mesh.things, mesh.segments,
    )  # fmt: skip
    colour = pinhole_rays(COLOUR.width, COLOUR.height, COLOUR.matrix)
    depth = pinhole_rays(DEPTH.width, DEPTH.height, DEPTH.matrix)
    frames = [
        Frame(
            back @ pose,
            jpeg_of(look(things, pose, colour).colour),
            np.round(look(things, pose, depth).depth * 1000).astype(np.uint16),
        )
        for pose in poses
    ]
    return Scan(
        name,
        raw,
        groups_of(things, mesh),
        frames,
        alignment=" ".join(f"{value:.6f}" for value in ALIGNMENT.ravel()),
        segments=[int(value) for value in mesh.segments],
    )


def groups_of(things: list[Thing], mesh: Mesh) -> list[dict]:
    """The instances: every thing with a label, floors and walls too."""
    groups = []
    for index, thing in enumerate(things):
        if thing.label is None:
            continue
        parts = [int(s) for s in np.unique(mesh.segments[mesh.things == index])]
        group = {"id": len(groups), "objectId": len(groups), "segments": parts}
        groups.append({**group, "label": thing.label})
    return groups


def write_ply(path: Path, mesh: Mesh, kind: str) -> None:
    """The mesh as PLY: binary little endian as published, or big endian or ascii."""
    vertex = np.zeros(
        len(mesh.vertices), dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3), ("alpha", "u1")]
    )
    vertex["xyz"], vertex["rgb"], vertex["alpha"] = mesh.vertices, mesh.colours, 255
    face = np.zeros(len(mesh.faces), dtype=[("n", "u1"), ("index", "<i4", 3)])
    face["n"], face["index"] = 3, mesh.faces
    names = ["ply", f"format {kind} 1.0", "comment written by a test"]
    names += [f"element vertex {len(vertex)}"]
    names += [f"property float {axis}" for axis in "xyz"]
    names += [f"property uchar {channel}" for channel in ("red", "green", "blue", "alpha")]
    names += [f"element face {len(face)}", "property list uchar int vertex_indices", "end_header\n"]
    head = "\n".join(names).encode()
    if kind == "ascii":
        rows = [" ".join(f"{v:.6f}" for v in row["xyz"]) for row in vertex]
        tints = [" ".join(str(int(v)) for v in (*row["rgb"], 255)) for row in vertex]
        lines = [f"{row} {tint}" for row, tint in zip(rows, tints, strict=True)]
        lines += ["3 " + " ".join(str(int(v)) for v in row) for row in mesh.faces]
        path.write_bytes(head + ("\n".join(lines) + "\n").encode())
        return
    if kind == "binary_big_endian":
        vertex = vertex.astype([("xyz", ">f4", 3), ("rgb", "u1", 3), ("alpha", "u1")])
        face = face.astype([("n", "u1"), ("index", ">i4", 3)])
    path.write_bytes(head + vertex.tobytes() + face.tobytes())


def _square(matrix: np.ndarray) -> np.ndarray:
    whole = np.eye(4)
    whole[:3, :3] = matrix
    return whole


def write_sens(path: Path, scan: Scan) -> None:
    """The sensor stream, version 4; the count of IMU frames (none) is at its end."""
    name = b"StructureSensor"
    parts = [struct.pack("<IQ", 4, len(name)), name]
    for matrix in (_square(scan.colour.matrix), np.eye(4), _square(scan.depth.matrix), np.eye(4)):
        parts.append(np.asarray(matrix, "<f4").tobytes())
    parts.append(struct.pack("<ii", 2, 1))
    sizes = (scan.colour.width, scan.colour.height, scan.depth.width, scan.depth.height)
    parts.append(struct.pack("<IIII", *sizes))
    parts.append(struct.pack("<fQ", scan.depth_shift, len(scan.frames)))
    for index, frame in enumerate(scan.frames):
        depth = zlib.compress(frame.depth.astype("<u2").tobytes())
        parts.append(np.asarray(frame.pose, "<f4").tobytes())
        parts.append(struct.pack("<QQ", index * 33333, index * 33333))
        parts.append(struct.pack("<QQ", len(frame.jpeg), len(depth)))
        parts += [frame.jpeg, depth]
    parts.append(struct.pack("<Q", 0))
    path.write_bytes(b"".join(parts)[: scan.sens_size])


def write_folders(folder: Path, scan: Scan) -> None:
    """The folders that SensReader exports."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(scan.frames):
        (folder / "color" / f"{index}.jpg").write_bytes(frame.jpeg)
        assert cv2.imwrite(str(folder / "depth" / f"{index}.png"), frame.depth)
        np.savetxt(folder / "pose" / f"{index}.txt", frame.pose, fmt="%f")
    for name, matrix in (("color", scan.colour.matrix), ("depth", scan.depth.matrix)):
        np.savetxt(folder / "intrinsic" / f"intrinsic_{name}.txt", _square(matrix), fmt="%f")
        np.savetxt(folder / "intrinsic" / f"extrinsic_{name}.txt", np.eye(4), fmt="%f")


def _meta(scan: Scan) -> str:
    lines = [] if scan.alignment is None else [f"axisAlignment = {scan.alignment} "]
    lines += [f"colorHeight = {scan.colour.height}"]
    lines += ["colorToDepthExtrinsics = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1 "]
    lines += [f"colorWidth = {scan.colour.width}"]
    lines += [f"depthHeight = {scan.depth.height}", f"depthWidth = {scan.depth.width}"]
    for kind, camera in (("color", scan.colour), ("depth", scan.depth)):
        lines += [
            f"fx_{kind} = {camera.matrix[0, 0]:.6f}",
            f"fy_{kind} = {camera.matrix[1, 1]:.6f}",
        ]
        lines += [
            f"mx_{kind} = {camera.matrix[0, 2]:.6f}",
            f"my_{kind} = {camera.matrix[1, 2]:.6f}",
        ]
    count = len(scan.frames)
    lines += [f"numColorFrames = {count}", f"numDepthFrames = {count}", "numIMUmeasurements = 0"]
    return "\n".join([*lines, "sceneType = Office", ""])


def write_scan(root: Path, scan: Scan, *, exported: bool = False) -> Path:
    """Writes the scan to `root/scans/<name>` and returns that folder."""
    folder = root / "scans" / scan.name
    folder.mkdir(parents=True)
    write_ply(folder / f"{scan.name}_vh_clean_2.ply", scan.mesh, scan.ply)
    segments = {"params": {"kThresh": "0.01", "segMinVerts": "20"}, "sceneId": scan.name}
    (folder / f"{scan.name}_vh_clean_2.0.010000.segs.json").write_text(
        json.dumps({**segments, "segIndices": scan.segments})
    )
    source = f"{scan.name}_vh_clean_2.0.010000.segs.json"
    whole = {"sceneId": f"scannet.{scan.name}", "appId": "Aggregator.v2", "segGroups": scan.groups}
    (folder / f"{scan.name}.aggregation.json").write_text(
        json.dumps({**whole, "segmentsFile": f"scannet.{source}"})
    )
    (folder / f"{scan.name}.txt").write_text(_meta(scan))
    if exported:
        write_folders(folder, scan)
    else:
        write_sens(folder / f"{scan.name}.sens", scan)
    return folder
