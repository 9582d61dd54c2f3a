"""`sdvlm measure --bag`: one frame of a bag is measured as the same image files are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from sdvlm_core.camera.bag_frames import CameraOptions
from sdvlm_core.camera.bag_moment import read_bag_frame
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.cli.app import app
from sdvlm_core.errors import BagError, DepthError
from tests import bags
from tests.paths import ROOT
from tests.replays import bag_of

runner = CliRunner()
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
