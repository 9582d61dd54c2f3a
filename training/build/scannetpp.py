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
from training.build.annotation import annotate
from training.build.bounded_files import read_colour, read_depth, read_object
from training.build.camera_checks import image_size, number, pinhole, rigid_pose
from training.build.ply import read_mesh
from training.build.reasons import Reason
from training.build.scene import Scene, SceneError, Vector, View, Wanted

SOURCE = "scannetpp"
#: (scene folder, reasons -> skipped views, wanted) -> views of one camera.
_CameraViews = Callable[[Path, Counter[str], Wanted], Iterator[View]]
_FISHEYE, _PINHOLE = "OPENCV_FISHEYE", ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV")
#: Parameters of the camera; nerfstudio allows them in a frame too.
_OF_CAMERA = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_model")
_DISTORTION = ("k1", "k2", "k3", "k4")
#: Other distortion parameters of nerfstudio, which the fisheye model does not have.
_OTHER_DISTORTION = ("p1", "p2", "k5", "k6")
#: Largest angle from the optical axis at which a lens is tested, radians.
_MAX_LENS_ANGLE = 1.5


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
    surface = read_mesh(scans / "mesh_aligned_0.05.ply")
    segments = read_object(scans / "segments.json", Reason.ANNOTATION_DAMAGED)
    groups = read_object(scans / "segments_anno.json", Reason.ANNOTATION_DAMAGED)
    skipped: Counter[str] = Counter()
    annotated = annotate(surface, segments, groups, str(directory), skipped)
    cameras = [
        reader
        for file, reader in (
            (directory / "dslr" / "nerfstudio" / "transforms.json", _dslr_views),
            (directory / "iphone" / "pose_intrinsic_imu.json", _iphone_views),
        )
        if file.exists()
    ]
    if not cameras:
        raise SceneError(Reason.NO_PICTURES, f"{directory} has neither dslr/ nor iphone/ poses")
    views = partial(_all_views, directory, tuple(cameras), skipped)
    return Scene(
        directory.name,
        SOURCE,
        annotated.instances,
        annotated.mesh,
        views,
        skipped,
        annotated.unplaced,
    )


def _all_views(
    directory: Path, cameras: tuple[_CameraViews, ...], skipped: Counter[str], wanted: Wanted
) -> Iterator[View]:
    for camera in cameras:
        try:
            yield from camera(directory, skipped, wanted)
        except SceneError as error:
            skipped[f"view: {error.reason}"] += 1


def _from_nerfstudio(matrix: Any, name: str) -> Vector:
    """camera_to_world of nerfstudio -> camera_to_world of the mesh and the optical frame.

    Inverts nerfstudio's converter: it swaps the first two axes of the world, negates the third,
    and its camera looks along -z with y up.
    """
    pose = rigid_pose(matrix, name)
    pose[2] *= -1
    pose = pose[[1, 0, 2, 3]]
    pose[:3, 1:3] *= -1
    return pose


def _dslr_views(directory: Path, skipped: Counter[str], wanted: Wanted) -> Iterator[View]:
    file = directory / "dslr" / "nerfstudio" / "transforms.json"
    camera = read_object(file, Reason.CAMERA_DAMAGED)
    undistort = _lens(camera, file)
    pictures = directory / "dslr" / "resized_images"
    for name, frame in _dslr_frames(camera, file, skipped):
        try:
            if frame.get("is_bad"):
                raise SceneError(Reason.BAD_VIEW, name)
            if any(key in frame and frame[key] != camera.get(key) for key in _OF_CAMERA):
                raise SceneError(Reason.CAMERA_MODEL, f"{name} of {file} has its own camera")
            pose = _from_nerfstudio(frame.get("transform_matrix"), name)
            if not wanted(pose):
                continue
            rgb = undistort(read_colour(pictures / name))
            yield View(f"dslr/{Path(name).stem}", rgb, None, undistort.intrinsics, pose)
        except SceneError as error:
            skipped[f"view: {error.reason}"] += 1


def _dslr_frames(
    camera: dict[str, Any], file: Path, skipped: Counter[str]
) -> list[tuple[str, dict[str, Any]]]:
    """(image file, frame) by name; a file that is listed with two poses is no view."""
    listed: list[Any] = [camera.get("frames"), camera.get("test_frames", [])]
    if not all(isinstance(part, list) for part in listed):
        raise SceneError(Reason.CAMERA_DAMAGED, f"{file}: frames is missing or no list")
    if not any(listed):
        raise SceneError(Reason.NO_PICTURES, f"{file} lists no frames")
    named: dict[str, list[dict[str, Any]]] = {}
    for frame in (entry for part in listed for entry in part):
        path = frame.get("file_path") if isinstance(frame, dict) else None
        name = Path(path).name if isinstance(path, str) and "\0" not in path else ""
        if not name:
            skipped[f"view: {Reason.CAMERA_DAMAGED.value}"] += 1
            continue
        named.setdefault(Path(name).stem, []).append(frame | {"file_path": name})
    frames = []
    for stem in sorted(named):
        first, *again = named[stem]
        if any(other != first for other in again):
            skipped[f"view: {Reason.DUPLICATE_VIEW.value}"] += len(named[stem])
            continue
        if again:
            skipped[f"view: {Reason.DUPLICATE_VIEW.value}"] += len(again)
        frames.append((str(first["file_path"]), first))
    return frames


def _lens(camera: dict[str, Any], file: Path) -> _Undistorter:
    """What makes pinhole images of those of the camera."""
    try:
        fx, fy, cx, cy = (number(camera[key]) for key in ("fl_x", "fl_y", "cx", "cy"))
        width, height = camera["w"], camera["h"]
        model = str(camera["camera_model"])
        distortion = np.array([number(camera.get(key, 0.0)) for key in _DISTORTION])
        other = [number(camera.get(key, 0.0)) for key in _OTHER_DISTORTION]
    except (KeyError, ValueError) as error:
        raise SceneError(Reason.CAMERA_DAMAGED, f"{file}: {error!r}") from error
    supported = model == _FISHEYE or (model in _PINHOLE and not distortion.any())
    if not supported or any(other):
        raise SceneError(
            Reason.CAMERA_MODEL,
            f"{file}: {model!r} with {[*distortion.tolist(), *other]}; supported are {_FISHEYE} "
            f"with {', '.join(_DISTORTION)}, and {', '.join(_PINHOLE)} without distortion",
        )
    size = image_size(width, height, Reason.BAD_INTRINSICS, str(file))
    k = pinhole(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), size, str(file))
    return _Undistorter(k, distortion if model == _FISHEYE else None, str(file))


class _Undistorter:
    """Fisheye images -> pinhole images of the same size, without black corners."""

    def __init__(self, k: CameraIntrinsics, distortion: Vector | None, where: str) -> None:
        """Prepare the maps; `distortion` (4,) of the fisheye model, None = a pinhole camera.

        Raises:
            SceneError: `bad intrinsics`: this is no lens.
        """
        self._size = (k.width, k.height)
        self._maps: tuple[Any, Any] | None = None
        self.intrinsics = k
        if distortion is None:
            return
        if not _is_lens(k, distortion):
            raise SceneError(
                Reason.BAD_INTRINSICS, f"{where}: distortion {distortion.tolist()} folds the image"
            )
        matrix = np.array([[k.fx, 0, k.cx], [0, k.fy, k.cy], [0, 0, 1]])
        try:
            new = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
                matrix, distortion, self._size, np.eye(3), balance=0.0
            )
            self._maps = cv2.fisheye.initUndistortRectifyMap(
                matrix, distortion, np.eye(3), new, self._size, cv2.CV_16SC2
            )
        except cv2.error as error:
            raise SceneError(Reason.BAD_INTRINSICS, f"{where}: {error}") from error
        self.intrinsics = pinhole(np.asarray(new), self._size, f"{where}, undistorted")

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if (rgb.shape[1], rgb.shape[0]) != self._size:
            raise SceneError(
                Reason.OTHER_SIZE, f"{rgb.shape[1]}x{rgb.shape[0]}, expected {self._size}"
            )
        if self._maps is None:
            return rgb
        return np.asarray(cv2.remap(rgb, *self._maps, interpolation=cv2.INTER_LINEAR))


def _is_lens(k: CameraIntrinsics, distortion: Vector) -> bool:
    """Whether the distance from the image centre grows with the angle, up to the nearest border.

    Fisheye model of OpenCV: r = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8).
    """
    theta = np.linspace(0, _MAX_LENS_ANGLE, 300)
    powers = theta[:, None] ** np.arange(2, 10, 2)
    radius = theta * (1 + powers @ distortion)
    border = min(k.width / 2 / k.fx, k.height / 2 / k.fy)
    growing = np.diff(radius) > 0
    end = len(growing) if growing.all() else int(np.argmin(growing))
    return bool(radius[end] >= border)


def _iphone_views(directory: Path, skipped: Counter[str], wanted: Wanted) -> Iterator[View]:
    folder = directory / "iphone"
    frames = read_object(folder / "pose_intrinsic_imu.json", Reason.CAMERA_DAMAGED)
    if not (folder / "rgb").is_dir():
        raise SceneError(
            Reason.NOT_EXTRACTED,
            f"{folder}/rgb is missing; extract it with the official tools",
        )
    if not any((folder / "rgb").glob("*.jpg")):
        raise SceneError(Reason.NO_PICTURES, f"{folder}/rgb is empty")
    for name in sorted(frames):
        try:
            if name != Path(name).name or "\0" in name:
                raise SceneError(Reason.CAMERA_DAMAGED, f"{name!r} is no name of a frame")
            picture = folder / "rgb" / f"{name}.jpg"
            if not picture.exists():
                continue  # usually only every tenth frame is extracted
            pose, matrix = _iphone_camera(name, frames[name])
            if not wanted(pose):
                continue
            rgb = read_colour(picture)
            k = pinhole(matrix, (rgb.shape[1], rgb.shape[0]), name)
            depth = _iphone_depth(folder / "depth" / f"{name}.png", k)
            yield View(f"iphone/{name}", rgb, depth, k, pose)
        except SceneError as error:
            skipped[f"view: {error.reason}"] += 1


def _iphone_depth(path: Path, k: CameraIntrinsics) -> npt.NDArray[np.uint16] | None:
    """Depth in the size of the image, millimetres; None = there is no file."""
    if not path.exists():
        return None
    depth = read_depth(path)
    height, width = depth.shape
    if abs(width * k.height - height * k.width) > 0.02 * width * k.height:
        raise SceneError(
            Reason.DEPTH_DAMAGED, f"{path} is {width}x{height}, the image {k.width}x{k.height}"
        )
    return np.asarray(
        cv2.resize(depth, (k.width, k.height), interpolation=cv2.INTER_NEAREST), np.uint16
    )


def _iphone_camera(name: str, entry: Any) -> tuple[Vector, Vector]:
    """(camera_to_world (4, 4), intrinsics (3, 3)) of a frame."""
    if not isinstance(entry, dict):
        raise SceneError(Reason.DUPLICATE_VIEW, f"{name} has two poses, or none")
    try:
        k = np.array(entry["intrinsic"], np.float64).reshape(3, 3)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SceneError(Reason.BAD_INTRINSICS, f"{name}: {error!r}") from error
    return rigid_pose(entry.get("aligned_pose"), name), k
