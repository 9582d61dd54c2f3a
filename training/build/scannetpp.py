"""ScanNet++ folders -> scenes, streamed.

Knows the names and formats of ScanNet++'s files: the aligned mesh with segments and annotated
boxes, the fisheye images of the DSLR with nerfstudio poses, and the images of the iPhone with poses
and depth (extracted by the data set's own tools). Does not know questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics
from training.build.annotation import annotate, read_annotation, read_mesh
from training.build.scene import Scene, SceneError, Vector, View, Wanted

SOURCE = "scannetpp"
#: (scene folder, reasons -> skipped views, wanted) -> views of one camera.
_CameraViews = Callable[[Path, Counter[str], Wanted], Iterator[View]]
_FISHEYE, _PINHOLE = "OPENCV_FISHEYE", ("PINHOLE", "OPENCV")


def find(root: Path) -> list[Path]:
    """The scene folders under a ScanNet++ root (with or without `data`), by name."""
    scans = [*root.glob("*/scans"), *root.glob("data/*/scans")]
    return sorted({path.parent for path in scans}, key=lambda path: path.name)


def read_scene(directory: Path) -> Scene:
    """One scene; its images, DSLR first, are read while its views are iterated.

    Raises:
        SceneError: mesh or annotation is missing or damaged, or there are no images.
    """
    scans = directory / "scans"
    vertices, faces = read_mesh(scans / "mesh_aligned_0.05.ply")
    segments = read_annotation(scans / "segments.json")
    groups = read_annotation(scans / "segments_anno.json")
    skipped: Counter[str] = Counter()
    mesh, instances = annotate(vertices, faces, segments, groups, str(directory), skipped)
    cameras = [
        reader
        for file, reader in (
            (directory / "dslr" / "nerfstudio" / "transforms.json", _dslr_views),
            (directory / "iphone" / "pose_intrinsic_imu.json", _iphone_views),
        )
        if file.exists()
    ]
    if not cameras:
        raise SceneError("no pictures", f"{directory} has neither dslr/ nor iphone/ poses")
    views = partial(_all_views, directory, tuple(cameras), skipped)
    return Scene(directory.name, SOURCE, instances, mesh, views, skipped)


def _all_views(
    directory: Path, cameras: tuple[_CameraViews, ...], skipped: Counter[str], wanted: Wanted
) -> Iterator[View]:
    for camera in cameras:
        try:
            yield from camera(directory, skipped, wanted)
        except SceneError as error:
            skipped[error.reason] += 1


def _from_nerfstudio(matrix: Any) -> Vector:
    """camera_to_world of nerfstudio -> camera_to_world of the mesh and the optical frame.

    Inverts nerfstudio's converter: it swaps the first two axes of the world, negates the third,
    and its camera looks along -z with y up.
    """
    pose = np.array(matrix, np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise SceneError("no pose", "transform_matrix is not 4 x 4 numbers")
    pose[2] *= -1
    pose = pose[[1, 0, 2, 3]]
    pose[:3, 1:3] *= -1
    return pose


def _dslr_views(directory: Path, skipped: Counter[str], wanted: Wanted) -> Iterator[View]:
    file = directory / "dslr" / "nerfstudio" / "transforms.json"
    camera = read_annotation(file)
    try:
        size = (int(camera["w"]), int(camera["h"]))
        fx, fy, cx, cy = (float(camera[key]) for key in ("fl_x", "fl_y", "cx", "cy"))
        model = str(camera["camera_model"])
        distortion = np.array([float(camera.get(f"k{i}", 0.0)) for i in range(1, 5)])
        frames = [*camera["frames"], *camera.get("test_frames", [])]
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError("damaged file", f"{file}: {error!r}") from error
    undistort = _Undistorter(
        model, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), distortion, size
    )
    pictures = directory / "dslr" / "resized_images"
    for frame in sorted(frames, key=lambda entry: str(entry.get("file_path"))):
        try:
            name = Path(str(frame.get("file_path", ""))).name
            if frame.get("is_bad"):
                raise SceneError("bad view", name)
            pose = _from_nerfstudio(frame.get("transform_matrix"))
            if not wanted(pose):
                continue
            bgr = cv2.imread(str(pictures / name), cv2.IMREAD_COLOR)
            if bgr is None:
                raise SceneError("colour damaged", str(pictures / name))
            rgb = undistort(np.ascontiguousarray(bgr[..., ::-1]))
            yield View(f"dslr/{Path(name).stem}", rgb, None, undistort.intrinsics, pose)
        except SceneError as error:
            skipped[error.reason] += 1


class _Undistorter:
    """Fisheye images -> pinhole images of the same size, without black corners."""

    def __init__(self, model: str, k: Vector, distortion: Vector, size: tuple[int, int]) -> None:
        if model not in (_FISHEYE, *_PINHOLE) or (model in _PINHOLE and distortion.any()):
            raise SceneError("camera model", f"{model} with distortion is not supported")
        self._size = size
        self._maps: tuple[Any, Any] | None = None
        new = k
        if model == _FISHEYE:
            new = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
                k, distortion, size, np.eye(3), balance=0.0
            )
            self._maps = cv2.fisheye.initUndistortRectifyMap(
                k, distortion, np.eye(3), new, size, cv2.CV_16SC2
            )
        self.intrinsics = CameraIntrinsics(
            float(new[0, 0]), float(new[1, 1]), float(new[0, 2]), float(new[1, 2]), *size
        )

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if (rgb.shape[1], rgb.shape[0]) != self._size:
            raise SceneError(
                "picture of another size", f"{rgb.shape[1]}x{rgb.shape[0]}, expected {self._size}"
            )
        if self._maps is None:
            return rgb
        return np.asarray(cv2.remap(rgb, *self._maps, interpolation=cv2.INTER_LINEAR))


def _iphone_views(directory: Path, skipped: Counter[str], wanted: Wanted) -> Iterator[View]:
    folder = directory / "iphone"
    frames = read_annotation(folder / "pose_intrinsic_imu.json")
    if not (folder / "rgb").is_dir():
        raise SceneError(
            "iphone not extracted", f"{folder}/rgb is missing; extract it with the official tools"
        )
    for name in sorted(frames):
        try:
            pose, k = _iphone_camera(name, frames[name])
            picture = folder / "rgb" / f"{name}.jpg"
            if not picture.exists() or not wanted(pose):
                continue  # usually only every tenth frame is extracted
            bgr = cv2.imread(str(picture), cv2.IMREAD_COLOR)
            if bgr is None:
                raise SceneError("colour damaged", str(picture))
            height, width = bgr.shape[:2]
            depth = cv2.imread(str(folder / "depth" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            if depth is not None:
                if depth.dtype != np.uint16 or depth.ndim != 2:
                    raise SceneError("depth damaged", f"{folder}/depth/{name}.png")
                depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
            intrinsics = CameraIntrinsics(
                float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), width, height
            )
            rgb = np.ascontiguousarray(bgr[..., ::-1])
            yield View(f"iphone/{name}", rgb, depth, intrinsics, pose)
        except SceneError as error:
            skipped[error.reason] += 1


def _iphone_camera(name: str, entry: Any) -> tuple[Vector, Vector]:
    try:
        pose = np.array(entry["aligned_pose"], np.float64).reshape(4, 4)
        k = np.array(entry["intrinsic"], np.float64).reshape(3, 3)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SceneError("damaged file", f"{name}: {error!r}") from error
    if not (np.isfinite(pose).all() and np.isfinite(k).all()):
        raise SceneError("no pose", name)
    return pose, k
