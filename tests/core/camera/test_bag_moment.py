"""One frame of a bag: the nearest to a time; `sdvlm measure` measures it as image files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sdvlm_core.camera import bag_frames, bag_moment
from sdvlm_core.camera.bag_frames import CameraOptions
from sdvlm_core.camera.bag_moment import open_moments, read_bag_frame
from sdvlm_core.camera.bags import stream
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.cli.app import app
from sdvlm_core.errors import BagError, DepthError, FrameError
from tests import bags
from tests.paths import ROOT
from tests.replays import bag_of

runner = CliRunner()
_WALL = np.arange(900, 964, dtype=np.uint16).reshape(8, 8)
BOX = ["--region", "can=364,398,405,450", "--json"]


def red(path: Path, seconds: float | None = None, **options: Any) -> int:
    """Which frame was read, by its picture."""
    frame = read_bag_frame(path, CameraOptions(**options), 0.03, seconds)
    sums = [int(bags.picture(n).astype(int).sum()) for n in range(10)]
    return sums.index(int(frame.rgb.astype(int).sum()))


def test_the_image_nearest_to_the_time_is_read(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 6)
    assert red(bag) == 0
    assert [red(bag, seconds) for seconds in (0.0, 0.04, 0.06, 0.24, 0.26, 0.5)] == (
        [0, 0, 1, 2, 3, 5]
    )


def test_a_time_outside_the_bag_is_refused_with_its_length(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 6)
    for seconds in (0.6, -0.1, float("nan"), float("inf"), 1e300):
        with pytest.raises(BagError, match=r"give a time from 0 to 0\.500 s"):
            red(bag, seconds)


def test_without_a_time_the_first_complete_frame_is_read(tmp_path: Path) -> None:
    without_depth = [r for n in range(2) for r in bags.frame(n) if r.topic != bags.DEPTH]
    records = [*without_depth, *bags.frame(2), *bags.frame(3)]
    assert red(bags.write_bag(tmp_path / "bag", records)) == 2
    other = bags.frame(5)[1]
    bag = bags.write_bag(tmp_path / "never", [*without_depth, other])
    with pytest.raises(DepthError, match="no depth within"):
        red(bag)


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("infos", ["each", "one"])
def test_of_a_long_bag_only_the_part_around_the_time_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str, infos: str
) -> None:
    black, wall = np.zeros((48, 64, 3), np.uint8), bags.millimetres(0)
    records = [
        one
        for number in range(1200)
        for one in bags.frame(number, rgb=black, depth=wall)
        if infos == "each" or one.topic != bags.INFO or number == 0
    ]
    bag = bags.write_bag(tmp_path / "bag", records, storage)
    count = 0

    def counted(*arguments: Any) -> Iterator[Any]:
        nonlocal count
        for one in stream(*arguments):
            count += 1
            yield one

    monkeypatch.setattr(bag_frames, "stream", counted)
    with open_moments(bag, CameraOptions(), 0.03) as moments:
        for seconds, number in ((3.3, 33), (60.02, 600), (119.84, 1198), (119.9, 1199), (0.0, 0)):
            count = 0
            frame = moments.frame(seconds)
            assert (frame.stamp_ns - bags.START_NS) // bags.PERIOD_NS == number
            assert frame.intrinsics is not None
            assert count < 60


@given(data=st.data())
def test_the_frame_does_not_depend_on_where_reading_begins(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Rare images, gaps, depth and camera info that are missing, rare or late."""
    times = np.cumsum(data.draw(st.lists(st.sampled_from([1, 3, 30, 200]), min_size=1)))
    records = bags.frame(0, rgb=np.zeros((8, 8, 3), np.uint8), depth=_WALL)
    for number in times.tolist():
        for one in bags.frame(number, rgb=np.zeros((8, 8, 3), np.uint8), depth=_WALL):
            if one.topic == bags.RGB or data.draw(st.integers(0, 4)):
                late_ns = data.draw(st.sampled_from([0, 20_000_000, 400_000_000]))
                records.append(replace(one, bag_ns=one.bag_ns + late_ns))
    records.sort(key=lambda one: one.bag_ns)
    bag = bags.write_bag(tmp_path_factory.mktemp("bag") / "bag", records)
    length_s = (records[-1].bag_ns - records[0].bag_ns) / 1e9
    places = data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=5))

    def outcomes() -> list[Any]:
        found = []
        with open_moments(bag, CameraOptions(), 0.03) as moments:
            for place in places:
                try:
                    found.append(moments.frame(place * length_s).stamp_ns)
                except FrameError as error:
                    found.append(str(error))
        return found

    here = outcomes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bag_moment, "_WINDOW_NS", 10**15)
        assert here == outcomes()


def test_the_settings_reach_the_frame(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 1)
    settings = CameraSettings(depth_unit_m=0.0001)
    frame = read_bag_frame(bag, CameraOptions(settings=settings, up=(0.0, 0.0, -1.0)), 0.03)
    assert frame.depth is not None
    np.testing.assert_allclose(
        np.nan_to_num(frame.depth), bags.millimetres(0).astype(float) * 1e-4, rtol=1e-5
    )
    assert frame.up == (0.0, 0.0, -1.0)


def test_the_command_measures_a_bag_as_the_same_image_files(tmp_path: Path) -> None:
    bag = ROOT / "demo" / "table"
    frame = read_bag_frame(bag, CameraOptions(), 0.03, 0.5)
    assert frame.depth is not None
    assert frame.intrinsics is not None
    cv2.imwrite(str(tmp_path / "rgb.png"), frame.rgb[..., ::-1])
    stored = np.nan_to_num(frame.depth * 1000).round().astype(np.uint16)
    cv2.imwrite(str(tmp_path / "depth.png"), stored)
    keys = ("fx", "fy", "cx", "cy", "width", "height")
    values = {key: getattr(frame.intrinsics, key) for key in keys}
    (tmp_path / "k.json").write_text(json.dumps(values))
    files = ["--rgb", "rgb.png", "--depth", "depth.png", "--intrinsics", "k.json"]
    files = [word if word.startswith("-") else str(tmp_path / word) for word in files]
    of_files = runner.invoke(app, ["measure", *files, *BOX])
    of_bag = runner.invoke(app, ["measure", "--bag", str(bag), "--time", "0.5", *BOX])
    assert of_bag.exit_code == 0, of_bag.stderr
    assert of_bag.stdout == of_files.stdout
    assert json.loads(of_bag.stdout)["regions"][0]["label"] == "can"


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--bag", "BAG", "--rgb", "c.png"], 2, "excludes"),
        (["--bag", "BAG", "--intrinsics", "k.json"], 2, "excludes"),
        (["--bag", "BAG", "--up", "0,-1,0", "--gravity-frame", "map"], 2, "not both"),
        (["--rgb", "c", "--depth", "d", "--intrinsics", "k", "--time", "1"], 2, "need --bag"),
        (["--depth", "d"], 2, "or --bag"),
        (["--bag", "BAG", "--sensor", "radar"], 2, "--sensor"),
        (["--bag", "/nowhere"], 1, "/nowhere does not exist"),
        (["--bag", "BAG", "--color", "/nothing"], 1, "the bag has no images on /nothing"),
        (["--bag", "BAG", "--depth-scale", "0.1"], 1, "--depth-scale"),
        (["--bag", "BAG", "--gravity-frame", "map"], 1, "'map' is not a frame"),
    ],
)
def test_errors_are_those_of_replay(
    tmp_path: Path, arguments: list[str], status: int, reason: str
) -> None:
    bag = str(bag_of(tmp_path / "bag", 1))
    words = [bag if word == "BAG" else word for word in arguments]
    result = runner.invoke(app, ["measure", *words, *BOX])
    assert result.exit_code == status, result.output
    assert reason in " ".join(result.stderr.split())
