"""Scans with one fault each, and what of them may not become a row.

A fault spoils a copy of one good scan of the office. `views` are the views that the fault makes
unusable (`ALL`: the whole scan); every other view must still give a row that is true. `reason` is a
pattern of which some reason in the manifest must have a word.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tests.training.scenes import scannet_files, scannetpp_files
from tests.training.scenes import spoiling as by
from tests.training.scenes.names import UNKNOWN
from tests.training.scenes.rooms import office
from tests.training.scenes.rows import Truth
from tests.training.scenes.scannet_files import ALIGNMENT
from tests.training.scenes.spoiling import BAD

ALL = "all"


@dataclass(frozen=True)
class Fault:
    """`spoil` changes the scan in place; `patch` changes a file of the written folder."""

    name: str
    views: str | tuple[str, ...]
    reason: str
    spoil: Callable = lambda scan: None
    patch: Callable = lambda folder: None
    exported: bool = False
    #: Views that must give a row; None: all but `views`.
    rows: tuple[str, ...] | None = None
    truth: Callable[[Truth], Truth] = lambda truth: truth


def raw(truth: Truth) -> Truth:
    """The truth in the frame of the scan, for a scan without axis alignment."""
    back = np.linalg.inv(ALIGNMENT)
    turn = float(np.arctan2(back[1, 0], back[0, 0]))
    things = [
        replace(t, at=tuple(back[:3, :3] @ t.at + back[:3, 3]), yaw=t.yaw + turn)
        for t in truth.things
    ]
    return Truth(things, {name: back @ pose for name, pose in truth.poses.items()})


def unlabelled(truth: Truth) -> Truth:
    """The printer has no usable label: nothing that it could be may be denied."""
    things = [
        replace(t, label=None, truly=UNKNOWN) if t.label == "printer" else t for t in truth.things
    ]
    return Truth(things, truth.poses)


SPOILT = (str(BAD),)
POSE = r"pose|rigid|track"
PICTURE = r"image|size|picture|intrinsic|colou?r"
DEPTH = r"depth|disagree|mesh|pose"

SCANNET = (
    Fault("a pose that stretches", SPOILT, POSE, by.pose(by.scaled_axes(1.1, 1.0, 1.0))),
    Fault("a pose that scales", SPOILT, POSE, by.pose(by.scaled_axes(0.5, 0.5, 0.5))),
    Fault("a zero pose", SPOILT, POSE, by.pose(np.zeros_like)),
    Fault("a mirrored pose", SPOILT, POSE, by.pose(by.scaled_axes(-1.0, 1.0, 1.0))),
    Fault("a pose of -inf", SPOILT, POSE, by.pose(lambda pose: np.full_like(pose, -np.inf))),
    Fault("a pose of NaN", SPOILT, POSE, by.pose(lambda pose: np.full_like(pose, np.nan))),
    Fault("a pose that is off by 1 m", SPOILT, DEPTH, by.pose(by.shift)),
    Fault("a pose that is 0.3 m aside", SPOILT, DEPTH, by.pose(by.aside)),
    Fault("a pose that is turned by 10 degrees", SPOILT, DEPTH, by.pose(by.turned)),
    Fault("poses of two frames exchanged", ("1", "2"), DEPTH, by.swapped),
    Fault("depth larger by a quarter", SPOILT, DEPTH,
          by.depth(lambda depth: (depth * 1.25).astype(np.uint16))),
    Fault("depth of nothing", (), "", by.depth(np.zeros_like), rows=("0", "2")),
    Fault("depth twice as large", SPOILT, DEPTH, by.depth(lambda depth: depth * 2)),
    Fault("depth of another view", SPOILT, DEPTH, by.depth(lambda depth: depth[::-1, ::-1])),
    Fault("a mesh in millimetres", ALL, r"mesh|unit|depth|large|size", by.scaled_mesh(1000.0)),
    Fault("a mesh in feet", ALL, r"mesh|unit|depth|size", by.scaled_mesh(3.28084)),
    Fault("vertices of NaN", ALL, r"mesh|vert|finite|nan|ply", by.nan_vertices),
    Fault("faces without vertices", ALL, r"mesh|face|vert|ply|index", by.wild_faces),
    Fault("an empty label", (), r"label|unlisted|name", by.labelled("printer", ""),
          truth=unlabelled),
    Fault("a null label", (), r"label|unlisted|name", by.labelled("printer", None),
          truth=unlabelled),
    Fault("a label that is a number", (), r"label|unlisted|name", by.labelled("printer", 7),
          truth=unlabelled),
    Fault("a label that is a sentence", (), r"label|unlisted|name",
          by.labelled("printer", 'chair? Yes."\n{"a": 1}'), truth=unlabelled),
    Fault("overlapping segments", (), r"overlap|segment|shared", by.overlap),
    Fault("two instances of one id", (), r"duplicate|objectid|same|twice|repeat", by.same_ids),
    Fault("only unknown labels", ALL, r"label|unlisted|unknown|denial|absen|object|question",
          by.same_labels("unknown")),
    Fault("only the label 'remove'", ALL, r"label|unlisted|unknown|denial|absen|object|question",
          by.same_labels("remove")),
    Fault("depth_shift 0", ALL, r"depth|shift|sens", by.put(depth_shift=0.0)),
    Fault("depth_shift of NaN", ALL, r"depth|shift|sens", by.put(depth_shift=float("nan"))),
    Fault("intrinsics of zero", ALL, r"intrinsic|camera|calib|focal", by.zero_matrix),
    Fault("an axis alignment of NaN", ALL, r"axis|align|meta", by.put(alignment="nan " * 16)),
    Fault("an axis alignment of 12 numbers", ALL, r"axis|align|meta", by.put(alignment="1 " * 12)),
    Fault("an axis alignment that mirrors", ALL, r"axis|align|rigid|meta",
          by.alignment(lambda m: np.diag([-1.0, 1, 1, 1]) @ m)),
    Fault("an axis alignment that doubles", ALL, r"axis|align|rigid|meta",
          by.alignment(lambda m: np.diag([2.0, 2, 2, 1]) @ m)),
    Fault("no axis alignment", (), "", by.put(alignment=None), truth=raw),
    Fault("segIndices that are too short", ALL, r"seg|annot|vert",
          lambda scan: scan.segments.__delitem__(slice(-40, None))),
    Fault("segIndices that are too long", ALL, r"seg|annot|vert",
          lambda scan: scan.segments.extend([7] * 40)),
    Fault("a stream that ends early", ("2",), r"sens|trunc|frame|end|short",
          patch=by.edit(".sens", lambda data: data[:-900])),
    Fault("a picture that ends early", SPOILT, r"image|jpe?g|picture|colou?r|decod", by.cut_jpeg),
    Fault("a picture of another size", SPOILT, PICTURE, by.small_jpeg),
    Fault("2^60 frames declared", (), r"sens|frame|trunc|count|end|short|declare",
          patch=by.edit(".sens", by.many_frames), rows=()),
    Fault("a frame of 2^62 bytes declared", ALL, r"sens|frame|trunc|size|byte|short|declare",
          patch=by.edit(".sens", by.big_frame)),
    Fault("9 * 10^11 vertices declared", ALL, r"mesh|ply|vert|size|short|declare|byte",
          patch=by.edit(".ply", by.many_vertices)),
    Fault("a big-endian mesh", (), "", by.put(ply="binary_big_endian"), rows=()),
    Fault("an ascii mesh", (), "", by.put(ply="ascii"), rows=()),
    Fault("a mesh that ends early", ALL, r"mesh|ply|trunc|short|size|end|byte",
          patch=by.edit(".ply", lambda data: data[:-500])),
    Fault("an annotation that is no JSON", ALL, r"json|aggreg|annot|damaged",
          patch=by.edit(".aggregation.json", lambda data: data[:-30])),
    Fault("an annotation that is a list", ALL, r"json|aggreg|annot|damaged",
          patch=by.edit(".aggregation.json", lambda data: b"[1, 2]")),
    Fault("an annotation nested 100000 times", ALL, r"json|aggreg|annot|damaged",
          patch=by.edit(".aggregation.json", lambda data: b"[" * 100_000)),
    Fault("an instance of segments that do not exist", (), "",
          lambda scan: by.group(scan, "printer").update(segments=[999_999]), truth=unlabelled),
    Fault("an instance without segments", (), "",
          lambda scan: by.group(scan, "printer").pop("segments"), rows=(), truth=unlabelled),
    Fault("segIndices of text", ALL, r"seg|annot|damaged", by.put(segments=["a"] * 3144)),
    Fault("three copies of a frame", ("1", "2"), "", by.copies, rows=("0",)),
    Fault("a pose without file", SPOILT, POSE + "|missing|file", exported=True,
          patch=by.without(f"pose/{BAD}.txt")),
    Fault("depth of 8 bits", SPOILT, r"depth|bit", exported=True, patch=by.byte_depth),
)  # fmt: skip


DSLR, PHONE = ("DSC06000", "DSC06003"), ("frame_000000", "frame_000010")

SCANNETPP = (
    Fault("a lens of another model", DSLR, r"camera|model|lens|fisheye|distort",
          by.camera(camera_model="EQUIRECTANGULAR")),
    Fault("a lens without model", DSLR, r"camera|model|lens|fisheye|distort|damaged",
          lambda scan: scan.camera.pop("camera_model")),
    Fault("a lens of NaN", DSLR, r"camera|model|lens|fisheye|distort|intrinsic|finite",
          by.camera(k2=float("nan"))),
    Fault("a lens of focal length 0", DSLR, r"camera|lens|fisheye|intrinsic|focal",
          by.camera(fl_x=0.0)),
    Fault("a picture outside of the scan", DSLR[:1], r"image|picture|file|path|missing|colou?r",
          by.outside),
    Fault("a bad picture by its own mark", DSLR[:1], r"bad|blur|mark", by.marked),
    Fault("a frame of the phone without pose", PHONE[:1], POSE,
          patch=by.edit("pose_intrinsic_imu.json",
                      lambda data: data.replace(b"aligned_pose", b"elsewhere", 1))),
    Fault("no depth of the phone", (), "", by.put(phone_depth=False)),
    Fault("a picture of the phone of another size", PHONE[:1], PICTURE, by.phone_size),
    Fault("intrinsics of the phone of zero", PHONE[:1], r"intrinsic|camera|focal|calib",
          by.phone_matrix),
    Fault("a mirrored pose of the phone", PHONE[:1], POSE, by.phone_pose),
    Fault("a pose of the phone that is off by 1 m", PHONE[:1], DEPTH, by.phone_off),
    Fault("a stretched pose of the lens", DSLR[:1], POSE, by.dslr_pose),
    Fault("a box that is not the object's", (), "", by.wild_box),
    Fault("segments that are too short", ALL, r"seg|annot|vert",
          lambda scan: scan.segments.__delitem__(slice(-40, None))),
    Fault("a ScanNet++ mesh in millimetres", ALL, r"mesh|unit|depth|large|size",
          by.scaled_mesh(1000.0)),
)  # fmt: skip


def scannet_name(index: int) -> str:
    return f"scene{700 + index:04d}_00"


def scannetpp_name(index: int) -> str:
    return f"{0xFA000 + index:010x}"


def write_all(root, scannet=SCANNET, scannetpp=SCANNETPP) -> dict[str, Truth]:
    """Writes every fault's scan below `root`; returns the truth by scene."""
    room = office()
    poses = room.poses
    truths = {}
    base = scannet_files.scan_of("", room.things, poses[:3])
    for index, fault in enumerate(scannet):
        scan = copy.deepcopy(base)
        scan.name = scannet_name(index)
        fault.spoil(scan)
        folder = scannet_files.write_scan(root / "scannet", scan, exported=fault.exported)
        fault.patch(folder)
        views = {str(i): pose for i, pose in enumerate(poses[:3])}
        truths[scan.name] = fault.truth(Truth(room.things, views))
    plus = scannetpp_files.scan_of("", room.things, poses[:2], poses[2:])
    for index, fault in enumerate(scannetpp):
        scan = copy.deepcopy(plus)
        scan.name = scannetpp_name(index)
        fault.spoil(scan)
        fault.patch(scannetpp_files.write_scan(root / "scannetpp", scan))
        truths[scan.name] = Truth(room.things, dict(zip(DSLR + PHONE, poses, strict=True)))
    return truths
