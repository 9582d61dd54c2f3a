"""ScanNet v2 folders -> scenes, streamed.

Knows the names and formats of ScanNet's files: `<id>_vh_clean_2.ply` with its segments and
aggregation, axisAlignment in `<id>.txt`, images in `<id>.sens` or in the exported folders color,
depth, pose and intrinsic, and the instance masks of `<id>_2d-instance-filt.zip`. Does not know
questions.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics
from training.build.annotation import annotate
from training.build.bounded_files import (
    decode_plane,
    read_colour,
    read_depth,
    read_matrix,
    read_object,
    read_text,
)
from training.build.camera_checks import is_rigid, pinhole, rigid_pose
from training.build.ply import read_mesh
from training.build.reasons import Reason
from training.build.scene import Scene, SceneError, Vector, View, Wanted
from training.build.sens import read_frames, read_header

SOURCE = "scannet"
#: axisAlignment turns about the vertical only: the scan is upright already.
_MAX_TILT_RAD = math.radians(10)
_MAX_MASK_BYTES = 1 << 26


def find(root: Path) -> list[Path]:
    """The scene folders under a ScanNet root (with or without `scans`), by name."""
    # Either file: a scene that lacks the other one is counted, not overlooked.
    kinds = ("*_vh_clean_2.ply", "*.aggregation.json")
    files = [
        path for kind in kinds for at in ("*", "scans/*") for path in root.glob(f"{at}/{kind}")
    ]
    return sorted({path.parent for path in files}, key=lambda path: path.name)


def read_scene(directory: Path) -> Scene:
    """One scene; its images are read while its views are iterated.

    Raises:
        SceneError: mesh or annotation is missing or damaged, or there are no images.
    """
    name = directory.name
    alignment = _axis_alignment(directory / f"{name}.txt")
    scanned = read_mesh(directory / f"{name}_vh_clean_2.ply")
    vertices = scanned.vertices @ alignment[:3, :3].T + alignment[:3, 3]
    surface = replace(scanned, vertices=vertices)
    segments = read_object(
        directory / f"{name}_vh_clean_2.0.010000.segs.json", Reason.ANNOTATION_DAMAGED
    )
    groups = read_object(_aggregation(directory), Reason.ANNOTATION_DAMAGED)
    skipped: Counter[str] = Counter()
    annotated = annotate(surface, segments, groups, str(directory), skipped)
    if (directory / f"{name}.sens").exists():
        views = partial(_recorded_views, directory, alignment, skipped)
    elif (directory / "color").is_dir():
        views = partial(_exported_views, directory, alignment, skipped)
    else:
        raise SceneError(Reason.NO_PICTURES, f"{directory} has neither {name}.sens nor color/")
    return Scene(
        name, SOURCE, annotated.instances, annotated.mesh, views, skipped, annotated.unplaced
    )


def _aggregation(directory: Path) -> Path:
    plain = directory / f"{directory.name}.aggregation.json"
    return plain if plain.exists() else directory / f"{directory.name}_vh_clean.aggregation.json"


def _axis_alignment(path: Path) -> Vector:
    """(4, 4) scan -> upright world; the identity if the file gives none."""
    for line in read_text(path).splitlines():
        key, _, values = line.partition("=")
        if key.strip() == "axisAlignment":
            try:
                matrix = np.array([float(value) for value in values.split()]).reshape(4, 4)
            except ValueError as error:
                raise SceneError(Reason.BAD_ALIGNMENT, f"{path}: {error}") from error
            if not np.isfinite(matrix).all() or not is_rigid(matrix):
                raise SceneError(Reason.BAD_ALIGNMENT, f"{path}: {values.strip()} is not rigid")
            if matrix[2, 2] < math.cos(_MAX_TILT_RAD):
                raise SceneError(Reason.BAD_ALIGNMENT, f"{path}: {values.strip()} tilts the scan")
            return matrix
    return np.eye(4)


def _recorded_views(
    directory: Path, alignment: Vector, skipped: Counter[str], wanted: Wanted
) -> Iterator[View]:
    path = directory / f"{directory.name}.sens"

    def skip(error: SceneError) -> None:
        skipped[f"view: {error.reason}"] += 1

    try:
        masks = _Masks(directory)
        with path.open("rb") as file:
            header = read_header(file)
        if header.frames == 0:
            raise SceneError(Reason.NO_PICTURES, f"{path} has no frames")
        k = pinhole(header.color_intrinsics, header.color_size, f"{path}, colour")
        depth_k = pinhole(header.depth_intrinsics, header.depth_size, f"{path}, depth")
        same_pose = np.allclose(header.depth_to_color, np.eye(4), atol=1e-4)
        for frame in read_frames(path, lambda pose: wanted(alignment @ pose), skip):
            try:
                mask = masks.of(frame.index, k)
            except SceneError as error:
                skip(error)
                continue
            depth = _on_color(frame.depth, header.depth_shift, depth_k, k) if same_pose else None
            pose = alignment @ frame.camera_to_world
            yield View(str(frame.index), frame.rgb, depth, k, pose, mask)
    except SceneError as error:
        skip(error)
    except OSError as error:
        skip(SceneError(Reason.SENS_DAMAGED, f"{path}: {error}"))


def _exported_views(
    directory: Path, alignment: Vector, skipped: Counter[str], wanted: Wanted
) -> Iterator[View]:
    try:
        masks = _Masks(directory)
        color_matrix = read_matrix(directory / "intrinsic" / "intrinsic_color.txt")
        depth_matrix = read_matrix(directory / "intrinsic" / "intrinsic_depth.txt")
    except SceneError as error:
        skipped[f"view: {error.reason}"] += 1
        return
    for index, file in _numbered(directory / "color", skipped):
        try:
            pose = _exported_pose(directory / "pose" / f"{file.stem}.txt", alignment)
            if not wanted(pose):
                continue
            rgb = read_colour(file)
            k = pinhole(color_matrix, (rgb.shape[1], rgb.shape[0]), f"{file}")
            stored = _exported_depth(directory / "depth" / f"{file.stem}.png")
            size = (stored.shape[1], stored.shape[0])
            depth = _on_color(stored, 1000.0, pinhole(depth_matrix, size, f"depth of {file}"), k)
            yield View(str(index), rgb, depth, k, pose, masks.of(index, k))
        except SceneError as error:
            skipped[f"view: {error.reason}"] += 1


def _numbered(folder: Path, skipped: Counter[str]) -> Iterator[tuple[int, Path]]:
    """(number, file) of the images of a folder, in order; a number that occurs twice is no view."""
    files: dict[int, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 10:
            files.setdefault(int(path.stem), []).append(path)
    if not files:
        skipped[f"view: {Reason.NO_PICTURES.value}"] += 1
    for index in sorted(files):
        if len(files[index]) > 1:
            skipped[f"view: {Reason.DUPLICATE_VIEW.value}"] += len(files[index])
            continue
        yield index, files[index][0]


def _exported_pose(path: Path, alignment: Vector) -> Vector:
    """camera_to_world (4, 4) of the upright world."""
    try:
        stored = read_matrix(path)
    except SceneError as error:
        raise SceneError(Reason.NO_POSE, str(error)) from error
    return alignment @ rigid_pose(stored, str(path))


def _exported_depth(path: Path) -> npt.NDArray[np.uint16]:
    try:
        return read_depth(path)
    except SceneError as error:
        raise SceneError(Reason.DEPTH_DAMAGED, str(error)) from error


def _on_color(
    depth: npt.NDArray[np.uint16],
    units_per_metre: float,
    depth_k: CameraIntrinsics,
    k: CameraIntrinsics,
) -> npt.NDArray[np.uint16]:
    """Depth registered to the colour image, millimetres; both cameras have one pose."""
    try:
        registered = cv2.warpPerspective(
            depth,
            _matrix(depth_k) @ np.linalg.inv(_matrix(k)),
            (k.width, k.height),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        )
    except cv2.error as error:
        raise SceneError(Reason.DEPTH_DAMAGED, str(error)) from error
    if units_per_metre == 1000.0:
        return np.asarray(registered, np.uint16)
    millimetres = np.round(registered * (1000.0 / units_per_metre))
    return np.where(millimetres > 65535, 0, millimetres).astype(np.uint16)


def _matrix(k: CameraIntrinsics) -> Vector:
    return np.array([[k.fx, 0, k.cx], [0, k.fy, k.cy], [0, 0, 1]])


class _Masks:
    """The instance masks of a scene, read from the zip one at a time; none without the zip."""

    def __init__(self, directory: Path) -> None:
        path = directory / f"{directory.name}_2d-instance-filt.zip"
        try:
            self._zip = zipfile.ZipFile(path) if path.exists() else None
        # A damaged directory of the archive raises more than BadZipFile.
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise SceneError(Reason.MASK_DAMAGED, f"{path}: {error}") from error

    def of(self, index: int, k: CameraIntrinsics) -> npt.NDArray[np.int32] | None:
        """The mask of an image, (H, W); None if the archive has none."""
        if self._zip is None:
            return None
        name = f"instance-filt/{index}.png"
        try:
            info = self._zip.getinfo(name)
            if info.file_size > _MAX_MASK_BYTES:
                raise SceneError(Reason.MASK_DAMAGED, f"{name} has {info.file_size} bytes")
            data = self._zip.read(info)
        except KeyError:
            return None
        # Encrypted and unknown coding, truncated data.
        except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError) as error:
            raise SceneError(Reason.MASK_DAMAGED, f"{name}: {error}") from error
        mask = decode_plane(data, Reason.MASK_DAMAGED, name)
        if abs(mask.shape[1] * k.height - mask.shape[0] * k.width) > 0.02 * k.width * k.height:
            raise SceneError(
                Reason.MASK_DAMAGED,
                f"{name} is {mask.shape[1]}x{mask.shape[0]}, the image {k.width}x{k.height}",
            )
        if mask.shape != (k.height, k.width):
            mask = cv2.resize(mask, (k.width, k.height), interpolation=cv2.INTER_NEAREST)
        return np.asarray(mask, np.int32)
