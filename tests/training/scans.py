"""Writes scans of exactly known geometry in the real file formats of ScanNet and ScanNet++.

The scanned room is the one of `tests/blocks.py`.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import trimesh

from tests.blocks import POSES, WORLD, picture, pinhole_rays


def mesh(world=WORLD) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(vertices, faces, block number of every vertex, 0 = floor), finely divided."""
    vertices, faces, owner = [], [], []
    floor = trimesh.creation.box((9, 9, 0.02)).subdivide().subdivide()
    parts = [(np.add(floor.vertices, (0, 3, -0.01)), floor.faces, 0)]
    for number, block in enumerate(world, start=1):
        box = trimesh.creation.box(block.sides).subdivide().subdivide()
        parts.append((box.vertices @ block.turn.T + block.centre, box.faces, number))
    for points, triangles, number in parts:
        faces.append(triangles + sum(map(len, vertices)))
        vertices.append(points)
        owner.append(np.full(len(points), number))
    return np.concatenate(vertices), np.concatenate(faces), np.concatenate(owner)


def write_ply(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """A PLY file as ScanNet writes it."""
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nproperty uchar alpha\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    points = np.zeros(len(vertices), [("p", "<f4", 3), ("c", "u1", 4)])
    points["p"] = vertices
    triangles = np.zeros(len(faces), [("n", "u1"), ("i", "<i4", 3)])
    triangles["n"], triangles["i"] = 3, faces
    path.write_bytes(header.encode() + points.tobytes() + triangles.tobytes())


def _annotation(owner: np.ndarray, world, obb: bool) -> tuple[dict, dict]:
    """segments.json and segments_anno.json: two segments per object, with separate numbers."""
    segments = owner * 10 + (np.arange(len(owner)) % 2)
    groups = []
    for number, block in enumerate(world, start=1):
        group = {
            "id": number - 1,
            "objectId": number - 1,
            "segments": [number * 10, number * 10 + 1],
            "label": block.label,
        }
        if obb:
            group["obb"] = {
                "centroid": block.centre.tolist(),
                "axesLengths": list(block.sides),
                "normalizedAxes": block.turn.T.ravel().tolist(),
            }
        groups.append(group)
    return {"segIndices": segments.tolist()}, {"segGroups": groups}


def _jpeg(rgb: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])[1])


#: Scan frame -> upright world: the scan is turned and shifted.
ALIGNMENT = np.eye(4)
ALIGNMENT[:2, :2] = [[np.cos(0.65), -np.sin(0.65)], [np.sin(0.65), np.cos(0.65)]]
ALIGNMENT[:3, 3] = [1.5, -2.0, 0.3]

COLOR_K = np.array([[577.0, 0, 319.5, 0], [0, 578.0, 239.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
DEPTH_K = np.array([[290.0, 0, 160.0, 0], [0, 290.0, 120.0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
COLOR_SIZE, DEPTH_SIZE = (640, 480), (320, 240)


def frame_bytes(pose: np.ndarray, world=WORLD) -> tuple[bytes, bytes]:
    """JPEG colour and raw depth (uint16 millimetres) seen from a pose."""
    rgb, _ = picture(pose, pinhole_rays(COLOR_K, *COLOR_SIZE), world)
    _, depth = picture(pose, pinhole_rays(DEPTH_K, *DEPTH_SIZE), world)
    return _jpeg(rgb), np.round(depth * 1000).astype("<u2").tobytes()


def write_sens(path: Path, poses, world=WORLD, lost: tuple[int, ...] = ()) -> None:
    """A .sens file, version 4: JPEG colour, zlib depth; `lost` frames have a pose of -inf."""
    name = b"StructureSensor"
    data = [struct.pack("<IQ", 4, len(name)), name]
    for matrix in (COLOR_K, np.eye(4), DEPTH_K, np.eye(4)):
        data.append(struct.pack("<16f", *matrix.ravel()))
    data.append(struct.pack("<2i4IfQ", 2, 1, *COLOR_SIZE, *DEPTH_SIZE, 1000.0, len(poses)))
    to_scan = np.linalg.inv(ALIGNMENT)
    for index, pose in enumerate(poses):
        color, depth = frame_bytes(pose, world)
        stored = np.full((4, 4), -np.inf) if index in lost else to_scan @ pose
        packed = zlib.compress(depth)
        data.append(struct.pack("<16f4Q", *stored.ravel(), 0, 0, len(color), len(packed)))
        data += [color, packed]
    path.write_bytes(b"".join(data))


def write_scannet(
    root: Path, name: str = "scene0000_00", poses=POSES, world=WORLD, exported: bool = False
) -> Path:
    """A scene in the layout of ScanNet v2, under root/scans; returns its folder."""
    folder = root / "scans" / name
    folder.mkdir(parents=True)
    vertices, faces, owner = mesh(world)
    to_scan = np.linalg.inv(ALIGNMENT)
    scanned = vertices @ to_scan[:3, :3].T + to_scan[:3, 3]
    write_ply(folder / f"{name}_vh_clean_2.ply", scanned, faces)
    segments, groups = _annotation(owner, world, obb=False)
    (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segments))
    (folder / f"{name}.aggregation.json").write_text(json.dumps(groups))
    numbers = " ".join(f"{value:.6f}" for value in ALIGNMENT.ravel())
    (folder / f"{name}.txt").write_text(f"axisAlignment = {numbers} \ncolorHeight = 480\n")
    if not exported:
        write_sens(folder / f"{name}.sens", poses, world)
        return folder
    for part in ("color", "depth", "pose", "intrinsic"):
        (folder / part).mkdir()
    np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", COLOR_K)
    np.savetxt(folder / "intrinsic" / "intrinsic_depth.txt", DEPTH_K)
    for index, pose in enumerate(poses):
        color, depth = frame_bytes(pose, world)
        (folder / "color" / f"{index}.jpg").write_bytes(color)
        pixels = np.frombuffer(depth, "<u2").reshape(DEPTH_SIZE[::-1])
        cv2.imwrite(str(folder / "depth" / f"{index}.png"), pixels)
        np.savetxt(folder / "pose" / f"{index}.txt", to_scan @ pose)
    return folder


FISHEYE = {"fl_x": 380.0, "fl_y": 381.0, "cx": 350.0, "cy": 232.0, "w": 700, "h": 466}
BENT = {"k1": 0.03, "k2": -0.01, "k3": 0.002, "k4": -0.0005}


def _to_nerfstudio(pose: np.ndarray) -> list:
    """As nerfstudio's converter from COLMAP writes camera_to_world."""
    moved = pose.copy()
    moved[0:3, 1:3] *= -1
    moved = moved[[1, 0, 2, 3], :]
    moved[2, :] *= -1
    return moved.tolist()


def write_scannetpp(root: Path, name: str = "0a1b2c3d4e", poses=POSES, world=WORLD) -> Path:
    """A scene in the layout of ScanNet++ with DSLR fisheye and iPhone images, under root/data."""
    folder = root / "data" / name
    for part in ("scans", "dslr/nerfstudio", "dslr/resized_images", "iphone/rgb", "iphone/depth"):
        (folder / part).mkdir(parents=True)
    vertices, faces, owner = mesh(world)
    write_ply(folder / "scans" / "mesh_aligned_0.05.ply", vertices, faces)
    segments, groups = _annotation(owner, world, obb=True)
    (folder / "scans" / "segments.json").write_text(json.dumps(segments))
    (folder / "scans" / "segments_anno.json").write_text(json.dumps(groups))

    k = np.array(
        [[FISHEYE["fl_x"], 0, FISHEYE["cx"]], [0, FISHEYE["fl_y"], FISHEYE["cy"]], [0, 0, 1]]
    )
    u, v = np.meshgrid(np.arange(FISHEYE["w"]), np.arange(FISHEYE["h"]))
    pixels = np.stack([u, v], -1).reshape(-1, 1, 2).astype(np.float64)
    straight = cv2.fisheye.undistortPoints(pixels, k, np.array(list(BENT.values())))
    rays = np.concatenate([straight[:, 0], np.ones((len(straight), 1))], 1)
    rays = rays.reshape(FISHEYE["h"], FISHEYE["w"], 3)
    frames = []
    for index, pose in enumerate(poses):
        file = f"DSC{index:05d}.JPG"
        (folder / "dslr/resized_images" / file).write_bytes(_jpeg(picture(pose, rays, world)[0]))
        frames.append(
            {"file_path": file, "transform_matrix": _to_nerfstudio(pose), "is_bad": False}
        )
    camera = FISHEYE | BENT | {"camera_model": "OPENCV_FISHEYE"}
    transforms = camera | {"frames": frames[:-1], "test_frames": frames[-1:]}
    (folder / "dslr/nerfstudio/transforms.json").write_text(json.dumps(transforms))

    poses_of = {}
    k = COLOR_K[:3, :3]
    for index, pose in enumerate(poses[::2]):
        key = f"frame_{index * 10:06d}"
        color, _ = frame_bytes(pose, world)
        _, depth = picture(pose, pinhole_rays(k, *COLOR_SIZE)[1::2, 1::2], world)
        (folder / "iphone/rgb" / f"{key}.jpg").write_bytes(color)
        cv2.imwrite(
            str(folder / "iphone/depth" / f"{key}.png"), np.round(depth * 1000).astype(np.uint16)
        )
        poses_of[key] = {"aligned_pose": pose.tolist(), "intrinsic": k.tolist(), "timestamp": 0}
    (folder / "iphone/pose_intrinsic_imu.json").write_text(json.dumps(poses_of))
    return folder
