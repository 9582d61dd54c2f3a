"""The depth camera's own camera_info, if a bag has it, proves whether depth is registered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdvlm_core.camera.bag_frames import CameraOptions, decode, frames, open_camera
from sdvlm_core.camera.bag_topics import Topics
from sdvlm_core.camera.bags import open_bag
from sdvlm_core.errors import FrameError
from sdvlm_core.frame import RgbdFrame
from tests import bags
from tests.replays import SLOP_NS

BESIDE = "/depth_registered/camera_info"


def depth_info(focal: float, late: bool = False) -> bags.Record:
    """Info of the depth camera, recorded at the start or after the first image."""
    info = bags.camera_info(bags.START_NS)
    k = np.array([focal, 0, 31.5, 0, focal, 23.5, 0, 0, 1.0])
    info.k, info.p = k, np.insert(k, (3, 6, 9), 0.0)
    bag_ns = bags.START_NS + (bags.PERIOD_NS // 2 if late else 0)
    return bags.record(BESIDE, bags.CAMERA_INFO, info, bag_ns)


def read(path: Path, *others: bags.Record) -> tuple[Topics, list[RgbdFrame | FrameError]]:
    """The topics, and each frame of the bag or its error."""
    records = sorted([*bags.frame(0), *bags.frame(1), *others], key=lambda record: record.bag_ns)
    found: list[RgbdFrame | FrameError] = []
    with open_bag(bags.write_bag(path, records)) as reader:
        camera = open_camera(reader, CameraOptions())
        for frame in frames(reader, camera.topics, SLOP_NS):
            try:
                found.append(decode(frame, camera))
            except FrameError as error:
                found.append(error)
    return camera.topics, found


@pytest.mark.parametrize("late", [False, True])
def test_other_intrinsics_of_depth_are_refused_for_every_frame(tmp_path: Path, late: bool) -> None:
    topics, found = read(tmp_path / "bag", depth_info(90.0, late))
    assert topics.depth_info == BESIDE
    assert all(isinstance(one, FrameError) for one in found)
    assert all("register" in str(one) for one in found)


def test_the_same_intrinsics_of_depth_are_accepted(tmp_path: Path) -> None:
    _, found = read(tmp_path / "bag", depth_info(64.0))
    assert all(isinstance(one, RgbdFrame) for one in found)


def test_an_info_of_depth_that_cannot_be_read_is_ignored(tmp_path: Path) -> None:
    broken = bags.Record(BESIDE, bags.CAMERA_INFO, bags.START_NS, bytes(20))
    _, found = read(tmp_path / "bag", broken)
    assert all(isinstance(one, RgbdFrame) for one in found)


def test_an_info_in_the_namespace_of_both_images_is_the_colour_cameras(tmp_path: Path) -> None:
    names = {bags.RGB: "/camera/rgb", bags.DEPTH: "/camera/depth", bags.INFO: "/camera/camera_info"}
    records = [
        bags.Record(names[one.topic], one.kind, one.bag_ns, one.data) for one in bags.frame(0)
    ]
    with open_bag(bags.write_bag(tmp_path / "bag", records)) as reader:
        topics = open_camera(reader, CameraOptions()).topics
    assert topics == Topics("/camera/rgb", "/camera/depth", "/camera/camera_info", None)
