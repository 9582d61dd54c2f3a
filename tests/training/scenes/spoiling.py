"""Ways to spoil a scan: each changes a scan before it is written, or a file of it afterwards.

This module does not know what a reader should make of the fault: `faults` does.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from tests.training.scenes.scannet_files import ALIGNMENT, jpeg_of

#: The view that is spoilt, of three.
BAD = 1


def pose(change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    def spoil(scan) -> None:
        scan.frames[BAD].pose = change(scan.frames[BAD].pose.copy())

    return spoil  # fmt: skip


def scaled_axes(*scales: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pose: pose @ np.diag([*scales, 1.0])


def shift(pose: np.ndarray) -> np.ndarray:
    pose[:3, 3] += pose[:3, :3] @ [0.0, 0.0, -1.0]
    return pose


def aside(pose: np.ndarray) -> np.ndarray:
    pose[:3, 3] += pose[:3, :3] @ [0.3, 0.0, 0.0]
    return pose


def turned(pose: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(np.radians(10)), np.sin(np.radians(10))
    pose[:3, :3] = pose[:3, :3] @ [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
    return pose


def swapped(scan) -> None:
    """The poses of two frames are exchanged."""
    scan.frames[1].pose, scan.frames[2].pose = scan.frames[2].pose, scan.frames[1].pose


def depth(change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    def spoil(scan) -> None:
        scan.frames[BAD].depth = change(scan.frames[BAD].depth)

    return spoil  # fmt: skip


def group(scan, label: str) -> dict:
    return next(group for group in scan.groups if group["label"] == label)


def labelled(old: str, new: object) -> Callable:
    def spoil(scan) -> None:
        group(scan, old)["label"] = new

    return spoil  # fmt: skip


def put(**values: object) -> Callable:
    def spoil(scan) -> None:
        for name, value in values.items():
            setattr(scan, name, value)

    return spoil  # fmt: skip


def scaled_mesh(factor: float) -> Callable:
    def spoil(scan) -> None:
        scan.mesh = replace(scan.mesh, vertices=scan.mesh.vertices * factor)

    return spoil  # fmt: skip


def nan_vertices(scan) -> None:
    vertices = scan.mesh.vertices.copy()
    vertices[scan.mesh.things == 5] = np.nan
    scan.mesh = replace(scan.mesh, vertices=vertices)


def wild_faces(scan) -> None:
    faces = scan.mesh.faces.copy()
    faces[::7] += len(scan.mesh.vertices)
    scan.mesh = replace(scan.mesh, faces=faces)


def overlap(scan) -> None:
    """The desk's instance has the monitor's segments too."""
    group(scan, "desk")["segments"] += group(scan, "monitor")["segments"]


def same_ids(scan) -> None:
    group(scan, "backpack")["objectId"] = group(scan, "trash can")["objectId"]


def same_labels(label: object) -> Callable:
    def spoil(scan) -> None:
        for group in scan.groups:
            group["label"] = label

    return spoil  # fmt: skip


def cut_jpeg(scan) -> None:
    scan.frames[BAD].jpeg = scan.frames[BAD].jpeg[: len(scan.frames[BAD].jpeg) // 3]


def small_jpeg(scan) -> None:
    image = cv2.imdecode(np.frombuffer(scan.frames[BAD].jpeg, np.uint8), cv2.IMREAD_COLOR)
    scan.frames[BAD].jpeg = jpeg_of(cv2.resize(image, (108, 100))[..., ::-1])


def zero_matrix(scan) -> None:
    scan.colour = replace(scan.colour, matrix=np.zeros((3, 3)))


def copies(scan) -> None:
    scan.frames[1:] = [copy.deepcopy(scan.frames[0]) for _ in scan.frames[1:]]


def alignment(change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    def spoil(scan) -> None:
        scan.alignment = " ".join(f"{value:.6f}" for value in change(ALIGNMENT).ravel())

    return spoil  # fmt: skip


def edit(suffix: str, change: Callable[[bytes], bytes]) -> Callable:
    def patch(folder) -> None:
        path = next(p for p in sorted(folder.rglob("*")) if p.name.endswith(suffix))
        path.write_bytes(change(path.read_bytes()))

    return patch  # fmt: skip


def many_frames(data: bytes) -> bytes:
    at = 4 + 8 + len(b"StructureSensor") + 4 * 64 + 8 + 16 + 4
    return data[:at] + struct.pack("<Q", 2**60) + data[at + 8 :]


def big_frame(data: bytes) -> bytes:
    at = 4 + 8 + len(b"StructureSensor") + 4 * 64 + 8 + 16 + 4 + 8 + 64 + 16
    return data[:at] + struct.pack("<QQ", 2**62, 2**62) + data[at + 16 :]


def many_vertices(data: bytes) -> bytes:
    head, _, rest = data.partition(b"element vertex ")
    return head + b"element vertex 900000000000" + rest[rest.index(b"\n") :]


def without(name: str) -> Callable:
    def patch(folder) -> None:
        (folder / name).unlink()

    return patch  # fmt: skip


def byte_depth(folder) -> None:
    path = folder / "depth" / f"{BAD}.png"
    whole = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(path), (whole / 20).astype(np.uint8))


def phone_size(scan) -> None:
    image = cv2.imdecode(np.frombuffer(scan.phone[0].jpeg, np.uint8), cv2.IMREAD_COLOR)
    scan.phone[0].jpeg = jpeg_of(cv2.resize(image, (130, 180))[..., ::-1])


def phone_matrix(scan) -> None:
    scan.phone[0].matrix = np.zeros((3, 3))


def phone_pose(scan) -> None:
    scan.phone[0].pose = scan.phone[0].pose @ np.diag([1.0, -1.0, 1.0, 1.0])


def phone_off(scan) -> None:
    scan.phone[0].pose = shift(scan.phone[0].pose.copy())


def dslr_pose(scan) -> None:
    scan.dslr[0].pose = scan.dslr[0].pose @ np.diag([1.2, 1.0, 1.0, 1.0])


def camera(**values: object) -> Callable:
    def spoil(scan) -> None:
        scan.camera.update(values)

    return spoil  # fmt: skip


def outside(scan) -> None:
    scan.dslr[0].name = "../../../../../outside.JPG"


def marked(scan) -> None:
    scan.dslr[0].is_bad = True


def wild_box(scan) -> None:
    """The oriented box of the desk is that of something else."""
    box = group(scan, "desk")["obb"]
    box["axesLengths"] = [3 * value for value in box["axesLengths"]]
