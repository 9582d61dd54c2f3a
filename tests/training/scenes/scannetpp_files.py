"""Writes a scan in the published files of ScanNet++.

Formats: common/scene_release.py, common/utils/nerfstudio.py and iphone/prepare_iphone_data.py of
github.com/scannetpp/scannetpp. The mesh is aligned: z up, metres. Poses in transforms.json are of
nerfstudio: camera axes right, up, back, in a world whose x and y are exchanged and whose z is
negated. `aligned_pose` of the iPhone is camera-to-world of the mesh, camera axes right, down,
forward. Depth of the iPhone is smaller than its colour and covers the same field of view.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from tests.training.scenes.scannet_files import Camera, groups_of, jpeg_of, write_ply
from tests.training.scenes.solids import (
    Mesh,
    Thing,
    fisheye_rays,
    look,
    mesh_of,
    pinhole_rays,
)

DSLR = Camera(240, 160, np.array([[105.0, 0, 119.2], [0, 105.2, 80.3], [0, 0, 1]]))
DISTORTION = np.array([-0.026, -0.008, 0.004, -0.0012])
PHONE = Camera(240, 180, np.array([[200.0, 0, 119.3], [0, 200.0, 89.1], [0, 0, 1]]))
PHONE_DEPTH = (80, 60)

#: World of nerfstudio from the mesh's, and camera axes.
TO_NERFSTUDIO = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
FLIP = np.diag([1.0, -1, -1, 1])


@dataclass
class DslrFrame:
    name: str
    pose: np.ndarray
    jpeg: bytes
    is_bad: bool = False


@dataclass
class PhoneFrame:
    name: str
    pose: np.ndarray
    jpeg: bytes
    depth: np.ndarray
    matrix: np.ndarray


@dataclass
class Scan:
    """Everything that is written for a scan; a test may spoil any part of it first."""

    name: str
    mesh: Mesh
    groups: list[dict]
    dslr: list[DslrFrame]
    phone: list[PhoneFrame]
    camera: dict = field(default_factory=dict)
    ply: str = "binary_little_endian"
    segments: list[int] = field(default_factory=list)
    phone_depth: bool = True


def obb_of(thing: Thing) -> dict:
    """Oriented box as the annotation has it; `normalizedAxes` are three unit vectors in a row."""
    low, high = thing.bounds
    corners = thing.corners()
    return {
        "centroid": thing.centre.tolist(),
        "axesLengths": (high - low).tolist(),
        "normalizedAxes": thing.rotation.T.ravel().tolist(),
        "min": corners.min(0).tolist(),
        "max": corners.max(0).tolist(),
    }


def scan_of(
    name: str, things: list[Thing], dslr: list[np.ndarray], phone: list[np.ndarray]
) -> Scan:
    """The scan of a room; the poses are in the mesh's frame."""
    mesh = mesh_of(things)
    labelled = [thing for thing in things if thing.label is not None]
    groups = [
        {**group, "id": group["id"] + 1, "objectId": group["objectId"] + 1, "obb": obb_of(thing)}
        for group, thing in zip(groups_of(things, mesh), labelled, strict=True)
    ]
    wide = fisheye_rays(DSLR.width, DSLR.height, DSLR.matrix, DISTORTION)
    rays = pinhole_rays(PHONE.width, PHONE.height, PHONE.matrix)
    small = PHONE.matrix.copy()
    small[0] *= PHONE_DEPTH[0] / PHONE.width
    small[1] *= PHONE_DEPTH[1] / PHONE.height
    few = pinhole_rays(*PHONE_DEPTH, small)
    k1, k2, k3, k4 = (float(value) for value in DISTORTION)
    return Scan(
        name,
        mesh,
        groups,
        [
            DslrFrame(f"DSC{6000 + 3 * i:05d}.JPG", pose, jpeg_of(look(things, pose, wide).colour))
            for i, pose in enumerate(dslr)
        ],
        [
            PhoneFrame(
                f"frame_{10 * i:06d}",
                pose,
                jpeg_of(look(things, pose, rays).colour),
                np.round(look(things, pose, few).depth * 1000).astype(np.uint16),
                PHONE.matrix,
            )
            for i, pose in enumerate(phone)
        ],
        {
            "fl_x": DSLR.matrix[0, 0],
            "fl_y": DSLR.matrix[1, 1],
            "cx": DSLR.matrix[0, 2],
            "cy": DSLR.matrix[1, 2],
            "w": DSLR.width,
            "h": DSLR.height,
            **{"k1": k1, "k2": k2, "k3": k3, "k4": k4},
            "camera_model": "OPENCV_FISHEYE",
        },
        segments=[int(value) for value in mesh.segments],
    )


def _dslr(folder: Path, scan: Scan) -> None:
    (folder / "nerfstudio").mkdir(parents=True)
    (folder / "resized_images").mkdir()
    frames = []
    for frame in scan.dslr:
        (folder / "resized_images" / frame.name).resolve().write_bytes(frame.jpeg)
        pose = TO_NERFSTUDIO @ frame.pose @ FLIP
        entry = {"file_path": frame.name, "mask_path": frame.name.replace(".JPG", ".png")}
        frames.append({**entry, "transform_matrix": pose.tolist(), "is_bad": frame.is_bad})
    whole = {**scan.camera, "frames": frames, "test_frames": []}
    (folder / "nerfstudio" / "transforms.json").write_text(json.dumps(whole, indent=4))


def _phone(folder: Path, scan: Scan) -> None:
    for name in ("rgb", "depth") if scan.phone_depth else ("rgb",):
        (folder / name).mkdir(parents=True)
    frames = {}
    for index, frame in enumerate(scan.phone):
        (folder / "rgb" / f"{frame.name}.jpg").write_bytes(frame.jpeg)
        if scan.phone_depth:
            assert cv2.imwrite(str(folder / "depth" / f"{frame.name}.png"), frame.depth)
        frames[frame.name] = {
            "timestamp": index / 60,
            "pose": np.eye(4).tolist(),
            "intrinsic": frame.matrix.tolist(),
            "aligned_pose": frame.pose.tolist(),
            "imu": {"gravity": [0.0, -1.0, 0.0]},
        }
    (folder / "pose_intrinsic_imu.json").write_text(json.dumps(frames))


def write_scan(root: Path, scan: Scan) -> Path:
    """Writes the scan to `root/data/<name>` and returns that folder."""
    folder = root / "data" / scan.name
    scans = folder / "scans"
    scans.mkdir(parents=True)
    write_ply(scans / "mesh_aligned_0.05.ply", scan.mesh, scan.ply)
    (scans / "segments.json").write_text(
        json.dumps({"sceneId": scan.name, "segIndices": scan.segments})
    )
    (scans / "segments_anno.json").write_text(
        json.dumps({"sceneId": scan.name, "segGroups": scan.groups})
    )
    if scan.dslr:
        _dslr(folder / "dslr", scan)
    if scan.phone:
        _phone(folder / "iphone", scan)
    return folder
