"""Malformed scenes and views are reasons in the manifest; the good views beside them give rows."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdvlm_core.frame import CameraIntrinsics
from tests.blocks import POSES
from tests.training import scans
from training.build import scannet, scannetpp, simulated
from training.build.config import BuildConfig
from training.build.labels import categories
from training.build.labels_absence import absent
from training.build.plan import Task
from training.build.questions import named_view
from training.build.scene import SceneError
from training.build.shards import write_shard
from training.simulate.frames import SimulatedFrame, shard_path
from training.simulate.frames import write_shard as write_frames

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("scans")
    return {
        "exported": scans.write_scannet(root, poses=POSES[:1], exported=True),
        "sens": scans.write_scannet(root, "scene0001_00", poses=POSES[:1]),
        "scannetpp": scans.write_scannetpp(root, poses=POSES[:1]),
    }


@pytest.fixture
def folder(originals, tmp_path, request) -> Path:
    kind = getattr(request, "param", "exported")
    return Path(shutil.copytree(originals[kind], tmp_path / originals[kind].name))


def _views(scene) -> list:
    return list(scene.views(lambda pose: True))


def _build(folder: Path, source: str):
    return write_shard(
        Task(f"train-{source}-00000", source, (folder,)), BuildConfig(per_type=1), folder.parent
    )


# Views.

_GOOD = np.linalg.inv(scans.ALIGNMENT) @ POSES[0]


def _scaled(by: float) -> np.ndarray:
    pose = _GOOD.copy()
    pose[:3, :3] *= by
    return pose


def _mirrored() -> np.ndarray:
    return _GOOD @ np.diag([-1.0, 1, 1, 1])


def _beside(metres: float) -> np.ndarray:
    pose = _GOOD.copy()
    pose[:3, 3] += metres * pose[:3, 0]
    return pose


BAD_POSES = {
    "view: no pose": [np.full((4, 4), -INF), np.full((4, 4), NAN)],
    "view: pose not rigid": [np.zeros((4, 4)), _scaled(1000), _scaled(0.9), _mirrored(), _GOOD.T],
    "view: depth disagrees with the mesh": [_beside(0.5)],
}


def _add_frame(folder: Path, index: int) -> dict[str, Path]:
    """A copy of the only frame under another number; its files."""
    added = {}
    for part, suffix in (("color", "jpg"), ("depth", "png"), ("pose", "txt")):
        added[part] = folder / part / f"{index}.{suffix}"
        shutil.copy(folder / part / f"0.{suffix}", added[part])
    return added


def _png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


def test_a_good_view_among_bad_ones_gives_its_row_and_the_others_are_counted(folder):
    """Bad views come first: none of them may count as the previous key frame."""
    shutil.move(folder / "color/0.jpg", folder / "color/99.jpg")
    shutil.move(folder / "depth/0.png", folder / "depth/99.png")
    shutil.move(folder / "pose/0.txt", folder / "pose/99.txt")
    expected: Counter[str] = Counter()
    number = 0

    def bad(reason: str) -> dict[str, Path]:
        nonlocal number
        number += 1
        expected[reason] += 1
        files = {}
        for part, suffix in (("color", "jpg"), ("depth", "png"), ("pose", "txt")):
            files[part] = folder / part / f"{number}.{suffix}"
            shutil.copy(folder / part / f"99.{suffix}", files[part])
        return files

    for reason, poses in BAD_POSES.items():
        for pose in poses:
            np.savetxt(bad(reason)["pose"], pose)
    bad("view: no pose")["pose"].unlink()
    bad("view: no pose")["pose"].write_text("1 0 0")
    bad("view: colour damaged")["color"].write_bytes(b"\xff\xd8\xff")
    bad("view: colour damaged")["color"].write_bytes(b"")
    bad("view: depth damaged")["depth"].write_bytes(b"no png")
    bad("view: depth damaged")["depth"].unlink()
    depth = cv2.imread(str(folder / "depth/99.png"), -1)
    bad("view: depth damaged")["depth"].write_bytes(_png((depth // 256).astype(np.uint8)))
    bad("view: no depth reading")["depth"].write_bytes(_png(np.zeros_like(depth)))
    for wrong in (depth // 5, depth + 300, np.roll(depth, 30, 1), depth[:, ::-1]):
        bad("view: depth disagrees with the mesh")["depth"].write_bytes(
            _png(np.where(depth > 0, wrong, 0).astype(np.uint16))
        )
    half = cv2.imread(str(folder / "color/99.jpg"))[::2, ::2]
    bad("view: intrinsics of another size")["color"].write_bytes(
        bytes(cv2.imencode(".jpg", half)[1])
    )
    bomb = bytearray(_png(np.zeros((2, 2), np.uint16)))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bad("view: depth damaged")["depth"].write_bytes(bytes(bomb))
    twice = bad("view: duplicate view")
    shutil.copy(twice["color"], folder / "color" / f"{number:03d}.png")
    expected["view: duplicate view"] += 1
    report = _build(folder, "scannet")
    assert report.failures == []
    assert report.skipped == expected
    assert report.rows == 1


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (np.zeros((4, 4)), "view: bad intrinsics"),
        (np.full((4, 4), NAN), "view: bad intrinsics"),
        (np.diag([-1.0, 1, 1, 1]), "view: bad intrinsics"),
        (np.diag([1e-6, 1, 1, 1]), "view: bad intrinsics"),
        (np.diag([1e6, 1e6, 1, 1]), "view: bad intrinsics"),
        (np.diag([1.0, 1, 2, 1]), "view: bad intrinsics"),
    ],
)
@pytest.mark.parametrize("camera", ["color", "depth"])
def test_intrinsics_that_no_camera_has_are_counted(folder, camera, turn, reason):
    _set_intrinsics(folder, camera, lambda matrix: matrix @ turn)
    scene = scannet.read_scene(folder)
    assert _views(scene) == []
    assert scene.skipped == {reason: 1}


@pytest.mark.parametrize("by", [0.5, 0.6, 1.3, 2.0])
@pytest.mark.parametrize("camera", ["color", "depth"])
def test_intrinsics_of_another_image_size_are_counted(folder, camera, by):
    _set_intrinsics(folder, camera, lambda matrix: np.diag([by, by, 1, 1]) @ matrix)
    scene = scannet.read_scene(folder)
    assert _views(scene) == []
    assert scene.skipped == {"view: intrinsics of another size": 1}


def _set_intrinsics(folder: Path, camera: str, change) -> None:
    path = folder / "intrinsic" / f"intrinsic_{camera}.txt"
    with np.errstate(invalid="ignore"):
        np.savetxt(path, change(np.loadtxt(path)))


@pytest.mark.parametrize("text", ["", "1 2 3", "a " * 16, "1e999999 " * 15])
def test_unreadable_intrinsics_are_counted(folder, text):
    (folder / "intrinsic" / "intrinsic_color.txt").write_text(text)
    scene = scannet.read_scene(folder)
    assert _views(scene) == []
    assert scene.skipped == {"view: camera file damaged": 1}


def test_a_view_with_nothing_to_name_gives_no_row(folder):
    """Only denials could be asked."""
    groups = json.loads((folder / f"{folder.name}.aggregation.json").read_text())
    for group in groups["segGroups"]:
        group["label"] = "wall"
    (folder / f"{folder.name}.aggregation.json").write_text(json.dumps(groups))
    report = _build(folder, "scannet")
    assert report.rows == 0
    assert report.skipped == {"view: no named object": 1}


# The .sens file.


def _header(frames: int = 1, shift: float = 1000.0, sizes=(640, 480, 320, 240), k=scans.COLOR_K):
    matrices = (k, np.eye(4), scans.DEPTH_K, np.eye(4))
    packed = b"".join(struct.pack("<16f", *m.ravel()) for m in matrices)
    return (
        struct.pack("<IQ", 4, 0)
        + packed
        + struct.pack("<2i", 2, 1)
        + struct.pack("<4I", *sizes)
        + struct.pack("<fQ", shift, frames)
    )


@pytest.mark.parametrize("folder", ["sens"], indirect=True)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *[(_header(shift=shift), "view: no depth unit") for shift in (0.0, -1000.0, NAN, INF)],
        (_header(frames=2**63), "view: sens file truncated"),
        (_header(frames=0), "view: no pictures"),
        (_header(sizes=(2**31, 2**31, 320, 240)), "view: sens file damaged"),
        (_header(sizes=(0, 0, 320, 240)), "view: sens file damaged"),
        (_header(sizes=(640, 480, 60_000, 60_000)), "view: sens file damaged"),
        (_header(k=np.zeros((4, 4))), "view: bad intrinsics"),
        (_header(sizes=(1296, 968, 320, 240)), "view: intrinsics of another size"),
        (struct.pack(">IQ", 4, 0) + _header()[12:], "view: sens version"),
        (struct.pack("<IQ", 4, 2**62) + _header()[12:], "view: sens file damaged"),
        (b"", "view: sens file truncated"),
    ],
)
def test_a_malformed_header_of_a_recording_is_counted(folder, content, reason):
    (folder / f"{folder.name}.sens").write_bytes(content)
    scene = scannet.read_scene(folder)
    assert _views(scene) == []
    assert scene.skipped == {reason: 1}


def _frame(pose, color: bytes, depth: bytes, stated=None) -> bytes:
    sizes = stated or (len(color), len(depth))
    return struct.pack("<16f4Q", *np.ravel(pose), 0, 0, *sizes) + color + depth


@pytest.mark.parametrize("folder", ["sens"], indirect=True)
def test_a_good_frame_among_bad_ones_of_a_recording_gives_its_row(folder):
    color, depth = scans.frame_bytes(POSES[0])
    packed = zlib.compress(depth)
    bomb = zlib.compress(bytes(1 << 26))
    frames = [
        *[(why, _frame(pose, color, packed)) for why, poses in BAD_POSES.items() for pose in poses],
        ("view: depth damaged", _frame(_GOOD, color, bomb)),
        ("view: depth damaged", _frame(_GOOD, color, packed[:100])),
        ("view: depth damaged", _frame(_GOOD, color, depth)),
        ("view: colour damaged", _frame(_GOOD, color[:50], packed)),
        ("view: colour damaged", _frame(_GOOD, b"", packed)),
        ("view: picture of another size", _frame(_GOOD, bytes(
            cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1]), packed)),
        ("", _frame(_GOOD, color, packed)),
        ("view: sens file damaged", _frame(_GOOD, color, packed, (2**60, 2**60))),
    ]  # fmt: skip
    content = _header(len(frames)) + b"".join(data for _, data in frames)
    (folder / f"{folder.name}.sens").write_bytes(content)
    report = _build(folder, "scannet")
    assert report.failures == []
    assert report.skipped == Counter(reason for reason, _ in frames if reason)
    assert report.rows == 1


@pytest.mark.parametrize("folder", ["sens"], indirect=True)
@pytest.mark.parametrize(
    "mask",
    [np.zeros((480, 640, 3), np.uint8), np.zeros((640, 480), np.uint8), None],
)
def test_a_damaged_mask_is_counted(folder, mask):
    with zipfile.ZipFile(folder / f"{folder.name}_2d-instance-filt.zip", "w") as archive:
        archive.writestr("instance-filt/0.png", b"junk" if mask is None else _png(mask))
    scene = scannet.read_scene(folder)
    assert _views(scene) == []
    assert scene.skipped == {"view: mask damaged": 1}


@pytest.mark.parametrize("folder", ["sens"], indirect=True)
def test_an_archive_of_masks_that_is_none_is_counted(folder):
    path = folder / f"{folder.name}_2d-instance-filt.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("instance-filt/0.png", bytes(1 << 27))  # expands a thousand times
    whole = path.read_bytes()
    for content in (whole, whole[:-30], b"PK\x05\x06"):
        path.write_bytes(content)
        scene = scannet.read_scene(folder)
        assert _views(scene) == []
        assert scene.skipped == {"view: mask damaged": 1}


# Scenes.


def _alignment(*values: object) -> str:
    return f"axisAlignment = {' '.join(map(str, values))} \n"


_TURN = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_alignment(*[NAN] * 16), "bad alignment"),
        (_alignment(*[0] * 16), "bad alignment"),
        (_alignment(*[INF, *_TURN[1:]]), "bad alignment"),
        (_alignment(*[-1, *_TURN[1:]]), "bad alignment"),
        (_alignment(*[1000 * v for v in _TURN]), "bad alignment"),
        (_alignment(1, 0, 0, 0, 0, 0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1), "bad alignment"),
        (_alignment(1, 2, 3), "bad alignment"),
        (_alignment(*["x"] * 16), "bad alignment"),
    ],
)
def test_an_alignment_that_is_no_turn_about_the_vertical_is_a_reason(folder, text, reason):
    (folder / f"{folder.name}.txt").write_text(text)
    with pytest.raises(SceneError) as error:
        scannet.read_scene(folder)
    assert error.value.reason == reason


def _to_segments(count: int):
    def change(folder: Path) -> None:
        path = folder / f"{folder.name}_vh_clean_2.0.010000.segs.json"
        path.write_text(json.dumps({"segIndices": [10] * count}))

    return change


def _to_aggregation(text: str):
    def change(folder: Path) -> None:
        (folder / f"{folder.name}.aggregation.json").write_text(text)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_to_segments(7), "segments do not fit"),
        (_to_segments(0), "segments do not fit"),
        (_to_aggregation('{"segGroups": []}'), "no objects"),
        (_to_aggregation('{"segGroups": null}'), "annotation damaged"),
        (_to_aggregation('{"segGroups": [], "segGroups": [1]}'), "annotation damaged"),
        (_to_aggregation("[" * 100_000), "annotation damaged"),
        (_to_aggregation("\xff"), "annotation damaged"),
        (lambda f: shutil.rmtree(f / "color"), "no pictures"),
    ],
)
def test_a_malformed_scene_is_a_reason_and_no_traceback(folder, change, reason):
    change(folder)
    report = _build(folder, "scannet")
    assert report.failures == []
    assert report.rows == 0
    assert report.skipped == {f"scene: {reason}": 1}


@pytest.mark.parametrize("scale", [1000.0, 100.0, 0.001])
def test_a_mesh_in_other_units_is_a_reason(folder, scale):
    vertices, faces, _ = scans.mesh()
    scans.write_ply(folder / f"{folder.name}_vh_clean_2.ply", vertices * scale, faces)
    with pytest.raises(SceneError) as error:
        scannet.read_scene(folder)
    assert error.value.reason == "not in metres"


def test_a_mesh_in_feet_disagrees_with_the_depth(folder):
    vertices, faces, _ = scans.mesh()
    to_scan = np.linalg.inv(scans.ALIGNMENT)
    vertices = vertices @ to_scan[:3, :3].T + to_scan[:3, 3]
    scans.write_ply(folder / f"{folder.name}_vh_clean_2.ply", vertices * 3.28, faces)
    report = _build(folder, "scannet")
    assert report.rows == 0
    assert report.skipped == {"view: depth disagrees with the mesh": 1}


# ScanNet++.


def _transforms(folder: Path) -> tuple[Path, dict]:
    path = folder / "dslr/nerfstudio/transforms.json"
    return path, json.loads(path.read_text())


_CHANGES = {
    "camera file damaged": [
        {"fl_x": None}, {"fl_x": "380"}, {"frames": 7}, {"frames": None},
        {"frames": {}}, {"test_frames": "x"}, {"k1": "a"}, {"cx": True},
        {"fl_y": NAN}, {"fl_y": INF}, {"fl_x": 10**400},
    ],
    "bad intrinsics": [
        {"fl_x": 0}, {"fl_x": -380.0}, {"fl_x": 1e-9, "fl_y": 1e-9}, {"fl_x": 38.0},
        {"w": 0}, {"w": -700}, {"w": 10**9}, {"w": 700.5}, {"w": None},
        {"k1": -5.0}, {"k1": 1e30},
    ],
    "intrinsics of another size": [{"cx": 700.0}, {"w": 350, "h": 233}],
    "camera model": [
        {"camera_model": "PINHOLE"}, {"camera_model": "OPENCV"}, {"camera_model": "360"},
        {"camera_model": ""}, {"camera_model": None}, {"camera_model": 3},
        {"p1": 0.01}, {"k5": 0.01},
    ],
    "picture of another size": [{"w": 720, "h": 480}],
}  # fmt: skip


@pytest.mark.parametrize("folder", ["scannetpp"], indirect=True)
@pytest.mark.parametrize(
    ("change", "reason"),
    [(change, reason) for reason, changes in _CHANGES.items() for change in changes],
)
def test_a_camera_file_that_describes_no_supported_camera_is_counted(folder, change, reason):
    shutil.rmtree(folder / "iphone")
    path, camera = _transforms(folder)
    path.write_text(json.dumps(camera | change))
    scene = scannetpp.read_scene(folder)
    assert _views(scene) == []
    assert scene.skipped == {f"view: {reason}": 1}


@pytest.mark.parametrize("folder", ["scannetpp"], indirect=True)
@pytest.mark.parametrize("key", ["fl_x", "cy", "w", "camera_model", "frames"])
def test_a_camera_file_without_a_key_is_counted(folder, key):
    shutil.rmtree(folder / "iphone")
    path, camera = _transforms(folder)
    del camera[key]
    path.write_text(json.dumps(camera))
    scene = scannetpp.read_scene(folder)
    assert _views(scene) == []
    assert scene.skipped == {"view: camera file damaged": 1}


@pytest.mark.parametrize("folder", ["scannetpp"], indirect=True)
def test_a_good_frame_among_bad_ones_of_a_dslr_is_read_once(folder):
    shutil.rmtree(folder / "iphone")
    path, camera = _transforms(folder)
    (good,) = camera["test_frames"]
    file = folder / "dslr/resized_images" / good["file_path"]
    expected: Counter[str] = Counter()

    def bad(reason: str, **more) -> dict:
        expected[f"view: {reason}"] += 1
        name = f"A{expected.total():03d}.JPG"
        shutil.copy(file, file.with_name(name))
        return good | {"file_path": name} | more

    pose = np.array(good["transform_matrix"])
    two = bad("duplicate view")
    expected["view: duplicate view"] += 1 + 1
    camera["frames"] = [
        good, good | {},  # the same frame again is one view
        bad("pose not rigid", transform_matrix=(pose * 0).tolist()),
        bad("pose not rigid", transform_matrix=(pose @ np.diag([-1, 1, 1, 1])).tolist()),
        bad("no pose", transform_matrix=None),
        bad("no pose", transform_matrix=[[1, 2], [3]]),
        bad("no pose", transform_matrix=np.full((4, 4), -INF).tolist()),
        bad("camera model", fl_x=200.0),
        bad("bad view", is_bad=True),
        bad("missing file") | {"file_path": "nowhere.JPG"},
        bad("camera file damaged") | {"file_path": None},
        bad("camera file damaged") | {"file_path": "\0"},
        two, two | {"transform_matrix": np.eye(4).tolist()},
    ]  # fmt: skip
    camera["frames"] += [None, "x", 3]
    expected["view: camera file damaged"] += 3
    camera["test_frames"] = []
    path.write_text(json.dumps(camera))
    scene = scannetpp.read_scene(folder)
    assert [view.name for view in _views(scene)] == ["dslr/DSC00000"]
    assert scene.skipped == expected


@pytest.mark.parametrize("folder", ["scannetpp"], indirect=True)
def test_a_good_frame_among_bad_ones_of_an_iphone_gives_its_row(folder):
    shutil.rmtree(folder / "dslr")
    path = folder / "iphone/pose_intrinsic_imu.json"
    ((name, good),) = json.loads(path.read_text()).items()
    expected: Counter[str] = Counter()
    poses = {}

    def bad(reason: str, **more) -> str:
        expected[f"view: {reason}"] += 1
        key = f"a{expected.total():05d}"
        for part, suffix in (("rgb", "jpg"), ("depth", "png")):
            shutil.copy(
                folder / f"iphone/{part}/{name}.{suffix}", folder / f"iphone/{part}/{key}.{suffix}"
            )
        poses[key] = good | more
        return key

    bad("no pose", aligned_pose=None)
    bad("no pose", aligned_pose=np.full((4, 4), -INF).tolist())
    bad("pose not rigid", aligned_pose=np.zeros((4, 4)).tolist())
    bad("pose not rigid", aligned_pose=(2 * np.array(good["aligned_pose"])).tolist())
    bad("bad intrinsics", intrinsic=None)
    bad("bad intrinsics", intrinsic=np.zeros((3, 3)).tolist())
    bad("bad intrinsics", intrinsic=[[10**400, 0, 0]] * 3)
    bad("intrinsics of another size", intrinsic=[[1154, 0, 639], [0, 1156, 479], [0, 0, 1]])
    bad("depth disagrees with the mesh", aligned_pose=POSES[2].tolist())
    depth = cv2.imread(str(folder / f"iphone/depth/{name}.png"), -1)
    key = bad("depth damaged")
    (folder / f"iphone/depth/{key}.png").write_bytes(_png(depth[:, : depth.shape[1] // 2]))
    poses[bad("duplicate view")] = None
    poses[name] = good
    path.write_text(json.dumps(poses))
    report = _build(folder, "scannetpp")
    assert report.failures == []
    assert report.skipped == expected
    assert report.rows == 1


@pytest.mark.parametrize("folder", ["scannetpp"], indirect=True)
def test_cameras_without_frames_are_counted(folder):
    path, camera = _transforms(folder)
    path.write_text(json.dumps(camera | {"frames": [], "test_frames": []}))
    for picture in (folder / "iphone/rgb").iterdir():
        picture.unlink()
    scene = scannetpp.read_scene(folder)
    assert _views(scene) == []
    assert scene.skipped == {"view: no pictures": 2}


def test_an_export_without_images_is_counted(folder):
    (folder / "color/0.jpg").unlink()
    scene = scannet.read_scene(folder)
    assert _views(scene) == []
    assert scene.skipped == {"view: no pictures": 1}


# Simulated frames.


def _simulated(**more) -> SimulatedFrame:
    entry = {
        "instance": 1, "category": "cup", "colour": "red", "length_m": 0.1, "width_m": 0.1,
        "height_m": 0.1, "yaw_rad": 0.0, "centre_world_m": [0, 0, 0], "visible_pixels": 9,
        "centre_uv": [0.5, 0.5],
    }  # fmt: skip
    plane = np.zeros((6, 8), np.uint8)
    whole = {
        "scene": 0, "rgb": np.zeros((6, 8, 3), np.uint8), "depth_mm": plane.astype(np.uint16),
        "instance": plane, "intrinsics": CameraIntrinsics(8, 8, 3.5, 2.5, 8, 6),
        "camera_to_world": np.eye(4), "objects": [entry],
    }  # fmt: skip
    return SimulatedFrame(**(whole | more))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"camera_to_world": np.zeros((4, 4))}, "pose not rigid"),
        ({"camera_to_world": np.full((4, 4), -INF)}, "no pose"),
        ({"camera_to_world": np.eye(3)}, "no pose"),
        ({"objects": [{"instance": 1}]}, "damaged file"),
        ({"objects": [None]}, "damaged file"),
    ],
)
def test_a_malformed_simulated_frame_is_a_reason(tmp_path, change, reason):
    write_frames(shard_path(tmp_path, 0), [_simulated(), _simulated(**change)])
    good, bad = simulated.find(tmp_path)
    assert len(_views(simulated.read_scene(good))) == 1
    with pytest.raises(SceneError) as error:
        simulated.read_scene(bad)
    assert error.value.reason == reason


def test_a_scene_that_lacks_its_mesh_is_counted(folder):
    (folder / f"{folder.name}_vh_clean_2.ply").unlink()
    assert scannet.find(folder.parent) == [folder]
    assert _build(folder, "scannet").skipped == {"scene: missing file": 1}


def test_nothing_is_counted_or_denied_that_the_scene_has_at_an_unknown_place():
    """A label without vertices may be in any view."""
    entry = {"name": "", "category": "chair", "label": "chair", "visible_pixels": 900}
    unknown = [{"label": "desk"}, {"label": "armchair"}]
    sure = named_view([entry], 50, absent([], categories()))
    unsure = named_view([entry], 50, absent(unknown, categories()))
    assert sure.counts == {"chair": 1}
    assert unsure.counts == {}
    assert {"desk", "table", "tv"} <= set(sure.categories)
    assert not {"desk", "table", "chair", "stool"} & set(unsure.categories)
    assert "tv" in unsure.categories
    assert not named_view([entry], 50, absent([{"label": ""}], categories())).categories
