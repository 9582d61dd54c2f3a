"""A bag is read without ROS: any storage, topics by name or content, messages paired by stamp."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sdvlm_core.camera.bag_frames import CameraOptions, decode, frames, open_camera
from sdvlm_core.camera.bag_topics import find_topics
from sdvlm_core.camera.bags import open_bag
from sdvlm_core.errors import BagError
from tests import bags
from tests.bags import CAMERA_INFO, DEPTH, IMAGE, INFO, PERIOD_NS, RGB, START_NS
from tests.paths import ROOT
from tests.replays import (
    SLOP_NS,
    bag_of,
    entries,
    replay,
    without_timings,
)


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        ("SQLITE3", "NONE"),
        ("SQLITE3", "FILE"),
        ("SQLITE3", "MESSAGE"),
        ("MCAP", "NONE"),
        ("MCAP", "FILE"),
        ("MCAP", "MESSAGE"),
        ("MCAP", "STORAGE"),
    ],
)
def test_every_storage_format_and_compression_gives_the_same_answers(
    tmp_path: Path, storage: str, compression: str
) -> None:
    plain = replay(bag_of(tmp_path / "plain", 3), tmp_path / "a")
    bag = bag_of(tmp_path / "bag", 3, storage=storage, compression=compression)
    assert replay(bag, tmp_path / "b") == plain
    assert without_timings(tmp_path / "a") == without_timings(tmp_path / "b")
    assert plain.answered == 3


def test_compressed_images_are_the_pixels_that_opencv_decodes(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 1, "compressed")
    with open_bag(bag) as reader:
        camera = open_camera(reader, CameraOptions())
        frame = decode(next(frames(reader, camera.topics, SLOP_NS)), camera)
    jpeg = cv2.imencode(".jpg", bags.picture(0)[..., ::-1])[1]
    np.testing.assert_array_equal(frame.rgb, cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
    assert frame.depth is not None
    np.testing.assert_array_equal(np.isnan(frame.depth), bags.millimetres(0) == 0)


def test_a_single_mcap_file_is_a_bag_too(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 2)
    assert replay(bag / "bag.mcap", tmp_path / "out").answered == 2


def test_a_path_without_a_bag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"it has no metadata\.yaml"), open_bag(tmp_path):
        pass
    with pytest.raises(BagError, match="does not exist"), open_bag(tmp_path / "no.mcap"):
        pass
    (tmp_path / "half.mcap").write_bytes(b"\x89MCAP0\r\n half of it")
    with pytest.raises(BagError, match="cannot be read"), open_bag(tmp_path / "half.mcap"):
        pass


def test_a_damaged_bag_keeps_the_answers_before_the_damage(tmp_path: Path) -> None:
    # A chunk in the middle is damaged; the index after it is intact.
    rgb, depth = bags.picture(0, 320, 240), bags.millimetres(0, 320, 240)
    records = [r for number in range(24) for r in bags.frame(number, rgb=rgb, depth=depth)]
    bag = bags.write_bag(tmp_path / "bag", records, compression="STORAGE")
    data = bytearray((bag / "bag.mcap").read_bytes())
    at = len(data) * 7 // 10
    data[at : at + len(data) // 10] = bytes(len(data) // 10)
    (bag / "bag.mcap").write_bytes(data)
    with pytest.raises(BagError, match="cannot be read further"):
        replay(bag, tmp_path / "out")
    assert 0 < len(entries(tmp_path / "out")) < 24


def renamed(names: dict[str, str], *numbers: int) -> list[bags.Record]:
    return [
        bags.Record(names.get(r.topic, r.topic), r.kind, r.bag_ns, r.data)
        for number in numbers
        for r in bags.frame(number)
    ]


def topics_of(bag: Path, **named: Any) -> Any:
    with open_bag(bag) as reader:
        return find_topics(reader, **named)


def test_topics_of_any_name_are_found_by_their_content(tmp_path: Path) -> None:
    names = {RGB: "/cam/a", DEPTH: "/cam/b", INFO: "/other/info"}
    found = topics_of(bags.write_bag(tmp_path / "bag", renamed(names, 0)))
    assert (found.color, found.depth, found.info) == ("/cam/a", "/cam/b", "/other/info")


def test_camera_info_in_the_namespace_of_the_colour_image_is_chosen(tmp_path: Path) -> None:
    names = {RGB: "/cam/color/image_raw", DEPTH: "/cam/depth/image", INFO: "/cam/color/camera_info"}
    other = bags.record("/cam/depth/camera_info", CAMERA_INFO, bags.camera_info(START_NS), START_NS)
    bag = bags.write_bag(tmp_path / "bag", [*renamed(names, 0), other])
    assert topics_of(bag).info == "/cam/color/camera_info"


def test_a_raw_topic_is_preferred_to_its_compressed_copy(tmp_path: Path) -> None:
    names = {RGB: "/cam/image", DEPTH: "/cam/depth", INFO: "/cam/camera_info"}
    jpeg = cv2.imencode(".jpg", bags.picture(0))[1].tobytes()
    copy = bags.compressed(jpeg, "jpeg", START_NS)
    record = bags.record("/cam/image/compressed", bags.COMPRESSED, copy, START_NS)
    assert topics_of(bags.write_bag(tmp_path / "bag", [*renamed(names, 0), record])).color == (
        "/cam/image"
    )


def test_two_cameras_are_refused_with_a_list_until_one_is_chosen(tmp_path: Path) -> None:
    left = {RGB: "/left/image", DEPTH: "/left/depth", INFO: "/left/camera_info"}
    right = {RGB: "/right/image", DEPTH: "/right/depth", INFO: "/right/camera_info"}
    bag = bags.write_bag(tmp_path / "bag", [*renamed(left, 0), *renamed(right, 0)])
    with pytest.raises(BagError, match=r"/left/image and /right/image could be colour") as refusal:
        topics_of(bag)
    assert "--color TOPIC" in str(refusal.value)
    assert f"/right/depth ({IMAGE}, 1 messages)" in str(refusal.value)
    found = topics_of(bag, color="/right/image", depth="right/depth")
    assert (found.color, found.depth, found.info) == (
        "/right/image",
        "/right/depth",
        "/right/camera_info",
    )
    with pytest.raises(BagError, match="no images on /nowhere"):
        topics_of(bag, color="/nowhere")


def test_without_depth_the_error_suggests_an_estimator(tmp_path: Path) -> None:
    records = [r for r in bags.frame(0) if r.topic != DEPTH]
    bag = bags.write_bag(tmp_path / "bag", records)
    with pytest.raises(BagError, match="--estimate-depth"):
        topics_of(bag)
    assert topics_of(bag, with_depth=False).depth is None


def test_an_unpaired_frame_or_bad_depth_is_an_error_entry(tmp_path: Path) -> None:
    unpaired = [r for r in bags.frame(1) if r.topic != DEPTH]
    without_info = [r for r in bags.frame(2) if r.topic != INFO]
    empty = bags.frame(3, depth=np.zeros((48, 64), np.uint16))
    wide = bags.frame(4, depth=bags.millimetres(4, width=80))
    truncated = [
        bags.Record(r.topic, r.kind, r.bag_ns, r.data[:300] if r.topic == RGB else r.data)
        for r in bags.frame(5)
    ]
    shorter_than_a_header = [
        bags.Record(r.topic, r.kind, r.bag_ns, r.data[:6] if r.topic == RGB else r.data)
        for r in bags.frame(6)
    ]
    unset = [
        bags.record(RGB, IMAGE, bags.image(bags.picture(7), "rgb8", 0), START_NS + 7 * PERIOD_NS),
        *bags.frame(7)[1:],
    ]
    bayer = [
        bags.record(
            RGB,
            IMAGE,
            bags.image(bags.picture(8), "bayer_rggb8", START_NS + 8 * PERIOD_NS),
            START_NS + 8 * PERIOD_NS,
        ),
        *bags.frame(8)[1:],
    ]
    groups = [
        bags.frame(0),
        unpaired,
        without_info,
        empty,
        wide,
        truncated,
        shorter_than_a_header,
        unset,
        bayer,
    ]
    bag = bags.write_bag(tmp_path / "bag", [r for group in [*groups, bags.frame(9)] for r in group])
    summary = replay(bag, tmp_path / "out", outputs=True)
    found = entries(tmp_path / "out")
    assert [e["frame"] for e in found] == [*range(10)]
    names = [e["error"]["name"] if e["error"] else "" for e in found]
    assert names == [
        "",
        "BAD_DEPTH",
        "",  # a camera_info is static: the last one belongs to every later image
        "BAD_DEPTH",
        "BAD_DEPTH",
        "NO_IMAGE",
        "NO_IMAGE",
        "STALE_IMAGE",
        "NO_IMAGE",
        "",
    ]
    assert found[1]["error"]["code"] == 9603
    assert "no depth within 0.03 s (--sync-slop)" in found[1]["error"]["message"]
    assert "0.100 s away" in found[1]["error"]["message"]
    assert "80x48 but colour is 64x48" in found[4]["error"]["message"]
    assert "header.stamp is 0" in found[7]["error"]["message"]
    assert summary.answered == 3
    assert summary.errors.total() == 7


def test_matching_messages_recorded_before_or_after_the_image_are_found(tmp_path: Path) -> None:
    """Depth is four images late and info early: messages are paired by stamp, not by order."""
    records = [r for number in range(10) for r in bags.frame(number)]
    shift = {DEPTH: 4 * PERIOD_NS + 7, INFO: -3 * PERIOD_NS, RGB: 0}
    late = sorted(
        (bags.Record(r.topic, r.kind, r.bag_ns + shift[r.topic], r.data) for r in records),
        key=lambda r: r.bag_ns,
    )
    replay(bags.write_bag(tmp_path / "late", late), tmp_path / "b")
    replay(bags.write_bag(tmp_path / "plain", records), tmp_path / "a")
    texts = [[e["answer"]["text"] for e in entries(tmp_path / name)] for name in ("a", "b")]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 10


def test_after_stamps_jump_back_messages_of_one_loop_are_paired(tmp_path: Path) -> None:
    lap = [r for number in range(12) for r in bags.frame(number)]
    later = [bags.Record(r.topic, r.kind, r.bag_ns + 12 * PERIOD_NS, r.data) for r in lap]
    bag = bags.write_bag(tmp_path / "bag", [*lap, *later])
    assert replay(bag, tmp_path / "out").answered == 24
    texts = [e["answer"]["text"] for e in entries(tmp_path / "out")]
    assert texts[:12] == texts[12:]


def test_a_bag_is_streamed_not_loaded_into_memory(tmp_path: Path) -> None:
    """300 frames of 640x480 are 460 MB; only a small part is in memory at any time."""
    rgb, depth = bags.picture(0, 640, 480), bags.millimetres(0, 640, 480)
    bag = bags.write_bag(
        tmp_path / "bag",
        (r for number in range(300) for r in bags.frame(number, rgb=rgb, depth=depth)),
        compression="STORAGE",
    )
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from sdvlm_core.camera.bag_frames import frames\n"
        "from sdvlm_core.camera.bag_topics import find_topics\n"
        "from sdvlm_core.camera.bags import open_bag\n"
        f"with open_bag(Path({str(bag)!r})) as reader:\n"
        "    topics = find_topics(reader)\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"    count = sum(f.refusal is None for f in frames(reader, topics, {SLOP_NS}))\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "print(count, grown // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    count, megabytes = map(int, done.stdout.split())
    assert count == 300
    assert megabytes < 150
