"""Situations of files: intrinsics.json with distortion, huge images, and damaged bags.

Each writes its files into a folder and gives the options of `sdvlm measure`. The node reads no
files. Does not know how the command is run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

try:
    from compression import zstd
except ImportError:  # before Python 3.14
    from backports import zstd

from tests import bags
from tests.situations.calibrations import AZURE, FISHEYE, WIDE
from tests.situations.contents import huge_png
from tests.situations.outcome import Cautioned, Lengths, Must, Refused, Right
from tests.situations.scene import CAMERA, HEIGHT, WIDTH, Camera, good_shot
from tests.situations.situation import undistorted

START_NS = bags.START_NS
#: Largest folder of temporary files that reading a bag may need, bytes.
MOST_TEMPORARY_BYTES = 300_000_000


@dataclass(frozen=True, eq=False)
class FileSituation:
    """What is on the disk, and what must come of it.

    Attributes:
        write: writes files into a folder; returns the options of `sdvlm measure`.
        truth: label -> (length, width, height), metres.
        bounded: whether the command's memory and temporary files are measured.
    """

    name: str
    must: tuple[Must, ...]
    write: Callable[[Path], list[str]]
    truth: Lengths
    bounded: bool = False


def intrinsics_situations() -> tuple[FileSituation, ...]:
    """intrinsics.json of several programs, for raw images of a lens."""

    def k_of(camera: Camera) -> dict[str, Any]:
        k = camera.k
        return {
            "fx": k[0, 0],
            "fy": k[1, 1],
            "cx": k[0, 2],
            "cy": k[1, 2],
            "width": WIDTH,
            "height": HEIGHT,
        }

    def row(
        name: str, must: tuple[Must, ...], camera: Camera, document: dict[str, Any]
    ) -> FileSituation:
        def write(folder: Path) -> list[str]:
            return write_images(folder, camera, document)

        truth = undistorted(camera) if camera.d else good_shot(START_NS, camera).truth
        return FileSituation(f"intrinsics.json: {name}", must, write, truth)

    def refused(*words: str) -> tuple[Must, ...]:
        return (Refused("BAD_CAMERA_INFO", words),)

    wide, pinhole = k_of(WIDE), k_of(CAMERA)
    d = list(WIDE.d)
    right = (Right(0.02),)
    used_or_refused = (Right(0.02), Refused("BAD_CAMERA_INFO", ("dist|coeff|'d'",)))
    realsense = {"width": WIDTH, "height": HEIGHT, "fx": FOCAL_W, "fy": FOCAL_W}
    realsense |= {"ppx": wide["cx"], "ppy": wide["cy"]}
    brown = {"model": "distortion.brown_conrady", "coeffs": d}
    inverse = {"model": "distortion.inverse_brown_conrady", "coeffs": d}
    open3d = {
        "width": WIDTH,
        "height": HEIGHT,
        "intrinsic_matrix": CAMERA.k.T.reshape(9).tolist(),  # column by column
    }
    return (
        row("without distortion", (Right(),), CAMERA, pinhole),
        row(
            "d and distortion_model", right, WIDE, {**wide, "d": d, "distortion_model": WIDE.model}
        ),
        row("D", used_or_refused, WIDE, {**wide, "D": d}),
        row("dist", used_or_refused, WIDE, {**wide, "dist": d}),
        row("coeffs", used_or_refused, WIDE, {**wide, "coeffs": d}),
        row("dist_coeffs", used_or_refused, WIDE, {**wide, "dist_coeffs": d}),
        row("k1, k2", refused_or_right("k1"), WIDE, {**wide, "k1": d[0], "k2": d[1]}),
        row(
            "rational_polynomial of 8",
            right,
            AZURE,
            {**k_of(AZURE), "d": list(AZURE.d), "distortion_model": AZURE.model},
        ),
        row(
            "equidistant",
            right,
            FISHEYE,
            {**k_of(FISHEYE), "d": list(FISHEYE.d), "distortion_model": FISHEYE.model},
        ),
        row(
            "an unknown distortion_model",
            refused("lens_of_mine"),
            WIDE,
            {**wide, "d": d, "distortion_model": "lens_of_mine"},
        ),
        row("d that is not numbers", refused("d"), WIDE, {**wide, "d": ["a", None]}),
        row("RealSense's ppx, ppy, coeffs", used_or_refused, WIDE, {**realsense, **brown}),
        row(
            "RealSense's inverse_brown_conrady",
            (Right(0.02), Refused("BAD_CAMERA_INFO", ("inverse_brown_conrady",))),
            WIDE,
            {**realsense, **inverse},
        ),
        row("Open3D's intrinsic_matrix", (Right(),), CAMERA, open3d),
        row(
            "focal length 1.0",
            refused("focal|fx=1"),
            CAMERA,
            {**pinhole, "fx": 1.0, "fy": 1.0},
        ),
        row(
            "K of 320x240 for 640x480",
            (Refused("BAD_CAMERA_INFO"), Cautioned("implausible_intrinsics")),
            CAMERA,
            {**pinhole, "fx": 300.0, "fy": 300.0, "cx": 159.5, "cy": 119.5},
        ),
    )


FOCAL_W = WIDE.focal


def refused_or_right(*words: str) -> tuple[Must, ...]:
    """Used, or refused by name."""
    return (Right(0.02), Refused("BAD_CAMERA_INFO", words))


def write_images(folder: Path, camera: Camera, document: dict[str, Any]) -> list[str]:
    """rgb.png, depth.png (uint16 mm), k.json; the options that name them and the regions."""
    shot = good_shot(START_NS, camera)
    cv2.imwrite(str(folder / "rgb.png"), shot.rgb[..., ::-1])
    cv2.imwrite(str(folder / "depth.png"), np.rint(shot.metres * 1000).astype(np.uint16))
    (folder / "k.json").write_text(json.dumps(document))
    return [*_named(folder, "rgb.png", "depth.png", "k.json"), *region_options(shot.regions)]


def region_options(regions: dict[str, tuple[int, ...]]) -> list[str]:
    """--region LABEL=x1,y1,x2,y2 of each."""
    boxes = [f"{label}={','.join(map(str, box))}" for label, box in regions.items()]
    return [word for box in boxes for word in ("--region", box)]


def _named(folder: Path, rgb: str, depth: str, intrinsics: str) -> list[str]:
    names = {"--rgb": rgb, "--depth": depth, "--intrinsics": intrinsics}
    return [word for option, name in names.items() for word in (option, str(folder / name))]


def huge_file_situations() -> tuple[FileSituation, ...]:
    """Small files that decode to gigabytes."""
    k = {"fx": 600, "fy": 600, "cx": 319.5, "cy": 239.5, "width": WIDTH, "height": HEIGHT}

    def huge_rgb(folder: Path) -> list[str]:
        options = write_images(folder, CAMERA, k)
        (folder / "rgb.png").write_bytes(huge_png(14000, channels=3, bits=8))
        return options

    def huge_depth(folder: Path) -> list[str]:
        options = write_images(folder, CAMERA, k)
        (folder / "depth.png").write_bytes(huge_png(14000, channels=1, bits=16))
        return options

    def line(folder: Path) -> list[str]:
        options = write_images(folder, CAMERA, {**k, "width": 30000, "height": 1, "cx": 14999.5})
        cv2.imwrite(str(folder / "rgb.png"), np.full((1, 30000, 3), 90, np.uint8))
        cv2.imwrite(str(folder / "depth.png"), np.full((1, 30000), 1500, np.uint16))
        return options

    return (
        FileSituation(
            "a colour PNG of 14000 x 14000", (Refused("", ("14000",)),), huge_rgb, {}, True
        ),
        FileSituation(
            "a depth PNG of 14000 x 14000", (Refused("", ("14000",)),), huge_depth, {}, True
        ),
        FileSituation("image files of 30000 x 1", (Refused("", ("30000",)),), line, {}, True),
    )


def bag_situations() -> tuple[FileSituation, ...]:
    """Bags as they lie on robots' disks: torn, packed, of another version."""
    return tuple(
        FileSituation(f"bag: {name}", must, write, good_shot(START_NS).truth, write is bomb)
        for name, must, write in _BAGS
    )


def _good_bag(folder: Path, storage: str = "MCAP", compression: str = "NONE") -> Path:
    """A bag of three frames."""
    records = [
        record
        for number in range(3)
        for record in good_shot(START_NS + number * bags.PERIOD_NS).records()
    ]
    return bags.write_bag(folder / "bag", records, storage, compression)


def _measure(path: Path) -> list[str]:
    return ["--bag", str(path), *region_options(good_shot(START_NS).regions)]


def _only(bag: Path, pattern: str) -> Path:
    (found,) = bag.glob(pattern)
    return found


def _message_compressed_file(folder: Path) -> list[str]:
    bag = _good_bag(folder, compression="MESSAGE")
    return _measure(_only(bag, "*.mcap*"))


def _message_compressed(folder: Path) -> list[str]:
    return _measure(_good_bag(folder, compression="MESSAGE"))


def _file_compressed(folder: Path) -> list[str]:
    return _measure(_good_bag(folder, compression="FILE"))


def _file_compressed_alone(folder: Path) -> list[str]:
    bag = _good_bag(folder, compression="FILE")
    alone = folder / "drive.mcap.zstd"
    shutil.copy(_only(bag, "*.zstd"), alone)
    return _measure(alone)


def _torn(storage: str, pattern: str, alone: bool) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        bag = _good_bag(folder, storage)
        path = _only(bag, pattern)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 6 // 10])
        return _measure(path if alone else bag)

    return write


def _edited(old: str, new: str) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        bag = _good_bag(folder)
        metadata = bag / "metadata.yaml"
        text = metadata.read_text()
        assert old in text, text
        metadata.write_text(text.replace(old, new))
        return _measure(bag)

    return write


def _without_metadata(folder: Path) -> list[str]:
    bag = _good_bag(folder)
    (bag / "metadata.yaml").unlink()
    return _measure(bag)


def _without_data(folder: Path) -> list[str]:
    bag = _good_bag(folder)
    _only(bag, "*.mcap").unlink()
    return _measure(bag)


def _one_file(storage: str, pattern: str) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        return _measure(_only(_good_bag(folder, storage), pattern))

    return write


def _directory(storage: str) -> Callable[[Path], list[str]]:
    return lambda folder: _measure(_good_bag(folder, storage))


def _ros1(folder: Path) -> list[str]:
    path = folder / "drive.bag"
    path.write_bytes(b"#ROSBAG V2.0\n" + bytes(4096))
    return _measure(path)


def _file_with(name: str, content: bytes) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return _measure(folder / name)

    return write


def _absent(folder: Path) -> list[str]:
    return _measure(folder / "no such bag")


def bomb(folder: Path) -> list[str]:
    """A file-compressed bag of some 100 kB that expands to 3 GB."""
    bag = _good_bag(folder, compression="FILE")
    path = _only(bag, "*.zstd")
    plain = zstd.decompress(path.read_bytes())
    packer = zstd.ZstdCompressor()
    with path.open("wb") as packed:
        packed.write(packer.compress(plain))
        zeros = bytes(1 << 24)
        for _ in range(3 * 64):
            packed.write(packer.compress(zeros))
        packed.write(packer.flush())
    return _measure(bag)


_RIGHT = (Right(),)


def _bad(*words: str) -> tuple[Must, ...]:
    return (Refused("NO_IMAGE", words),)


_BAGS: tuple[tuple[str, tuple[Must, ...], Callable[[Path], list[str]]], ...] = (
    ("mcap directory", _RIGHT, _directory("MCAP")),
    ("sqlite3 directory", _RIGHT, _directory("SQLITE3")),
    ("one .mcap", _RIGHT, _one_file("MCAP", "*.mcap")),
    ("one .db3", _RIGHT, _one_file("SQLITE3", "*.db3")),
    ("messages compressed, directory", _RIGHT, _message_compressed),
    ("file compressed, directory", _RIGHT, _file_compressed),
    (
        "messages compressed, only the file given",
        (*_RIGHT, *_bad("compress", "director")),
        _message_compressed_file,
    ),
    (
        ".mcap.zstd alone",
        (*_RIGHT, *_bad("compress", "director|unzstd|zstd -d")),
        _file_compressed_alone,
    ),
    ("torn .mcap", _bad("mcap recover"), _torn("MCAP", "*.mcap", True)),
    ("torn .mcap in its directory", _bad("mcap recover"), _torn("MCAP", "*.mcap", False)),
    (
        "torn .db3",
        _bad("recover|torn|damaged|incomplete|truncated"),
        _torn("SQLITE3", "*.db3", False),
    ),
    (
        'storage_identifier: ""',
        (*_RIGHT, *_bad("storage_identifier", ".mcap|reindex")),
        _edited("storage_identifier: mcap", 'storage_identifier: ""'),
    ),
    (
        "metadata.yaml missing",
        (*_RIGHT, *_bad("metadata.yaml", "reindex|.mcap")),
        _without_metadata,
    ),
    ("the .mcap missing", _bad(".mcap"), _without_data),
    ("ROS 1 .bag", _bad("ROS 1", "rosbags-convert"), _ros1),
    ("an empty .mcap", _bad("empty|0 bytes"), _file_with("drive.mcap", b"")),
    ("a .mcap of other bytes", _bad("mcap"), _file_with("drive.mcap", b"hello " * 1000)),
    ("a picture", _bad("bag"), _file_with("drive.png", huge_png(8, 3, 8))),
    ("an absent path", _bad("not exist"), _absent),
    ("100 kB that expand to 3 GB", _bad("expand|decompress|larger|GB|bytes"), bomb),
)
