"""ScanNet v2 folders -> scenes, streamed.

Knows the names and formats of ScanNet's files: `<id>_vh_clean_2.ply` with its segments and
aggregation, axisAlignment in `<id>.txt`, images in `<id>.sens` or in the exported folders color,
depth, pose and intrinsic, and the instance masks of `<id>_2d-instance-filt.zip`. Does not know
questions.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics
from training.build.annotation import annotate, read_annotation, read_mesh
from training.build.scene import Scene, SceneError, Vector, View, Wanted
from training.build.sens import read_frames, read_header

SOURCE = "scannet"


def find(root: Path) -> list[Path]:
    """The scene folders under a ScanNet root (with or without `scans`), by name."""
    meshes = [*root.glob("*/*_vh_clean_2.ply"), *root.glob("scans/*/*_vh_clean_2.ply")]
    if not meshes:
        meshes = [*root.glob("*/*.aggregation.json"), *root.glob("scans/*/*.aggregation.json")]
    return sorted({path.parent for path in meshes}, key=lambda path: path.name)


def read_scene(directory: Path) -> Scene:
    """One scene; its images are read while its views are iterated.

    Raises:
        SceneError: mesh or annotation is missing or damaged, or there are no images.
    """
    name = directory.name
    alignment = _axis_alignment(directory / f"{name}.txt")
    vertices, faces = read_mesh(directory / f"{name}_vh_clean_2.ply")
    vertices = vertices @ alignment[:3, :3].T + alignment[:3, 3]
    segments = read_annotation(directory / f"{name}_vh_clean_2.0.010000.segs.json")
    groups = read_annotation(_aggregation(directory))
    skipped: Counter[str] = Counter()
    mesh, instances = annotate(vertices, faces, segments, groups, str(directory), skipped)
    if (directory / f"{name}.sens").exists():
        views = partial(_recorded_views, directory, alignment, skipped)
    elif (directory / "color").is_dir():
        views = partial(_exported_views, directory, alignment, skipped)
    else:
        raise SceneError("no pictures", f"{directory} has neither {name}.sens nor color/")
    return Scene(name, SOURCE, instances, mesh, views, skipped)


def _aggregation(directory: Path) -> Path:
    plain = directory / f"{directory.name}.aggregation.json"
    return plain if plain.exists() else directory / f"{directory.name}_vh_clean.aggregation.json"


def _axis_alignment(path: Path) -> Vector:
    """(4, 4) scan -> upright world; the identity if the file gives none."""
    if not path.exists():
        raise SceneError("missing file", f"{path} (axisAlignment)")
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, values = line.partition("=")
        if key.strip() == "axisAlignment":
            try:
                return np.array([float(value) for value in values.split()]).reshape(4, 4)
            except ValueError as error:
                raise SceneError("damaged file", f"{path}: axisAlignment: {error}") from error
    return np.eye(4)


def _recorded_views(
    directory: Path, alignment: Vector, skipped: Counter[str], wanted: Wanted
) -> Iterator[View]:
    path = directory / f"{directory.name}.sens"
    masks = _Masks(directory)

    def skip(error: SceneError) -> None:
        skipped[error.reason] += 1

    try:
        with path.open("rb") as file:
            header = read_header(file)
        k = _intrinsics(header.color_intrinsics, header.color_size)
        same_pose = np.allclose(header.depth_to_color, np.eye(4), atol=1e-4)
        for frame in read_frames(path, lambda pose: wanted(alignment @ pose), skip):
            try:
                mask = masks.of(frame.index, k)
            except SceneError as error:
                skip(error)
                continue
            depth = None
            if same_pose:
                depth = _on_color(frame.depth, header.depth_shift, header.depth_intrinsics, k)
            pose = alignment @ frame.camera_to_world
            yield View(str(frame.index), frame.rgb, depth, k, pose, mask)
    except SceneError as error:
        skip(error)


def _exported_views(
    directory: Path, alignment: Vector, skipped: Counter[str], wanted: Wanted
) -> Iterator[View]:
    masks = _Masks(directory)
    try:
        color_matrix = _matrix(directory / "intrinsic" / "intrinsic_color.txt")
        depth_matrix = _matrix(directory / "intrinsic" / "intrinsic_depth.txt")
    except SceneError as error:
        skipped[error.reason] += 1
        return
    files = {path.stem: path for path in (directory / "color").iterdir() if path.stem.isdigit()}
    for stem in sorted(files, key=int):
        try:
            pose = _matrix(directory / "pose" / f"{stem}.txt")
            if not np.isfinite(pose).all():
                raise SceneError("no pose", stem)
            pose = alignment @ pose
            if not wanted(pose):
                continue
            bgr = cv2.imread(str(files[stem]), cv2.IMREAD_COLOR)
            if bgr is None:
                raise SceneError("colour damaged", str(files[stem]))
            rgb = np.ascontiguousarray(bgr[..., ::-1])
            k = _intrinsics(color_matrix, (rgb.shape[1], rgb.shape[0]))
            stored = cv2.imread(str(directory / "depth" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
            if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
                raise SceneError("depth damaged", f"depth/{stem}.png of {directory}")
            depth = _on_color(stored, 1000.0, depth_matrix, k)
            yield View(stem, rgb, depth, k, pose, masks.of(int(stem), k))
        except SceneError as error:
            skipped[error.reason] += 1


def _matrix(path: Path) -> Vector:
    try:
        return np.array(path.read_text(encoding="utf-8").split(), np.float64).reshape(4, 4)
    except FileNotFoundError as error:
        raise SceneError("missing file", str(path)) from error
    except (OSError, ValueError) as error:
        raise SceneError("damaged file", f"{path}: {error}") from error


def _intrinsics(matrix: Vector, size: tuple[int, int]) -> CameraIntrinsics:
    return CameraIntrinsics(
        float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]), *size
    )


def _on_color(
    depth: npt.NDArray[np.uint16],
    units_per_metre: float,
    depth_matrix: Vector,
    k: CameraIntrinsics,
) -> npt.NDArray[np.uint16]:
    """Depth registered to the colour image, millimetres; both cameras have one pose."""
    color_matrix = np.array([[k.fx, 0, k.cx], [0, k.fy, k.cy], [0, 0, 1]])
    registered = cv2.warpPerspective(
        depth,
        depth_matrix[:3, :3] @ np.linalg.inv(color_matrix),
        (k.width, k.height),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
    )
    if units_per_metre == 1000.0:
        return np.asarray(registered, np.uint16)
    millimetres = np.round(registered * (1000.0 / units_per_metre))
    return np.where(millimetres > 65535, 0, millimetres).astype(np.uint16)


class _Masks:
    """The instance masks of a scene, read from the zip one at a time; none without the zip."""

    def __init__(self, directory: Path) -> None:
        path = directory / f"{directory.name}_2d-instance-filt.zip"
        try:
            self._zip = zipfile.ZipFile(path) if path.exists() else None
        except zipfile.BadZipFile as error:
            raise SceneError("damaged file", f"{path}: {error}") from error

    def of(self, index: int, k: CameraIntrinsics) -> npt.NDArray[np.int32] | None:
        if self._zip is None:
            return None
        try:
            info = self._zip.getinfo(f"instance-filt/{index}.png")
            data = self._zip.read(info) if info.file_size < 1 << 26 else b""
        except KeyError:
            return None
        except zipfile.BadZipFile as error:
            raise SceneError("mask damaged", str(error)) from error
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
        if mask is None or mask.ndim != 2:
            raise SceneError("mask damaged", f"instance-filt/{index}.png")
        if mask.shape != (k.height, k.width):
            mask = cv2.resize(mask, (k.width, k.height), interpolation=cv2.INTER_NEAREST)
        return np.asarray(mask, np.int32)
