"""`sdvlm measure` as scripts see it: exact JSON, exit statuses, reasons, the drawn image."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from sdvlm_core.cautions import Caution
from sdvlm_core.cli.app import app
from sdvlm_core.cli.measure import print_measured
from sdvlm_core.geometry.measure import measure_in
from sdvlm_core.geometry.scene import open_scene
from tests.core.geometry.test_measure import FAR, NEAR, table

runner = CliRunner()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Options that name a frame of two boxes on a table, and its regions."""
    folder = tmp_path_factory.mktemp("frame")
    frame, regions = table(width=640, noise=0.001)
    cv2.imwrite(str(folder / "rgb.png"), frame.rgb)
    cv2.imwrite(str(folder / "depth.png"), np.round(frame.depth * 1000).astype(np.uint16))
    k = frame.intrinsics
    values = {"fx": k.fx, "fy": k.fy, "cx": k.cx, "cy": k.cy, "width": 640, "height": 480}
    (folder / "k.json").write_text(json.dumps(values))
    names = {"--rgb": "rgb.png", "--depth": "depth.png", "--intrinsics": "k.json"}
    picture = [word for option, name in names.items() for word in (option, str(folder / name))]
    boxes = [
        f"{region.label}=" + ",".join(f"{value:.1f}" for value in region.box) for region in regions
    ]
    return picture, [word for box in boxes for word in ("--region", box)]


def refuse_constant(text: str) -> Any:
    raise AssertionError(f"{text} is not JSON")


def test_json_is_exactly_the_documented_document(files):
    picture, regions = files
    result = runner.invoke(app, ["measure", *picture, *regions, "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout, parse_constant=refuse_constant)
    assert list(document) == ["cautions", "regions", "pairs"]
    near, far = document["regions"]
    assert list(near) == [
        "label",
        "position_m",
        "orientation_xyzw",
        "camera_distance_m",
        "length_m",
        "width_m",
        "height_m",
        "top_above_support_m",
        "support_plane",
        "std_dev",
        "interval_90",
        "valid_fraction",
        "warnings",
        "distance_warnings",
    ]
    assert (near["label"], far["label"]) == ("thing 1", "thing 2")
    assert near["height_m"] == pytest.approx(0.10, abs=0.006)
    assert near["length_m"] >= near["width_m"]
    assert set(near["std_dev"]) == {
        "position_m",
        "camera_distance_m",
        "length_m",
        "width_m",
        "height_m",
    }
    (pair,) = document["pairs"]
    assert list(pair) == [
        "a",
        "b",
        "distance_m",
        "gap_m",
        "distance_std_dev_m",
        "gap_std_dev_m",
        "distance_interval_90_m",
        "gap_interval_90_m",
        "warnings",
        "distance_warnings",
    ]
    assert pair["distance_m"] > pair["gap_m"] > 0


def test_json_has_the_orientation_of_the_box_and_the_plane_it_stands_on(files):
    picture, regions = files
    document = json.loads(runner.invoke(app, ["measure", *picture, *regions, "--json"]).stdout)
    for one in document["regions"]:
        axes = Rotation.from_quat(one["orientation_xyzw"]).as_matrix()
        normal = np.array(one["support_plane"]["normal"])
        # The camera looks down at 45 degrees from 0.64 m above the table.
        np.testing.assert_allclose(normal, (0, -math.sqrt(0.5), -math.sqrt(0.5)), atol=0.01)
        assert one["support_plane"]["offset_m"] == pytest.approx(0.64, abs=0.005)
        np.testing.assert_allclose(axes[:, 2], normal, atol=1e-6)
        top = np.array(one["position_m"]) + axes[:, 2] * one["height_m"] / 2
        above = normal @ top + one["support_plane"]["offset_m"]
        assert one["top_above_support_m"] == pytest.approx(above, abs=1e-6)
    # The near box is longer across the view than along it.
    axes = Rotation.from_quat(document["regions"][0]["orientation_xyzw"]).as_matrix()
    assert abs(axes[0, 0]) == pytest.approx(1.0, abs=0.01)


def test_what_was_not_measured_has_no_orientation_and_no_plane(files):
    arguments = ["measure", *files[0], "--region", "gone=700,10,720,40", "--json"]
    (gone,) = json.loads(runner.invoke(app, arguments).stdout)["regions"]
    assert gone["orientation_xyzw"] == [None] * 4
    assert gone["support_plane"] is None
    assert gone["top_above_support_m"] is None


def test_without_json_a_table_is_printed_within_100_columns(files):
    picture, regions = files
    result = runner.invoke(app, ["measure", *picture, *regions])
    assert result.exit_code == 0, result.output
    assert "thing 1 - thing 2: distance" in result.stdout
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert re.fullmatch(r" *length m +width m +height m +from camera m +x, y, z m *", lines[0])
    number, interval = r"\d\.\d{3}", r"\d\.\d{3}-\d\.\d{3}"
    values = " +".join([f"{number} ± {number}"] * 4)
    assert re.fullmatch(rf" thing 1 +{values} +-?{number}, -?{number}, {number} *", lines[1])
    intervals = " +".join([interval] * 4)
    assert re.fullmatch(rf" +90 % +{intervals} +± {number} each *", lines[2])


def test_a_long_label_does_not_make_the_table_wider(files):
    box = files[1][1].partition("=")[2]
    result = runner.invoke(app, ["measure", *files[0], "--region", f"{'ab ' * 60}={box}"])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert re.search(r"\d\.\d{3} ± \d\.\d{3}  ", result.stdout)


def test_a_top_above_the_support_is_printed_if_the_object_stands_on_another(capsys):
    frame, regions = table(width=640, things=(NEAR, FAR))
    scene = open_scene(frame)
    (near, far), _ = measure_in(scene, regions)
    near, far = (replace(one, warnings=()) for one in (near, far))
    print_measured((replace(near, top_above_support_m=near.height_m + 0.08), far), (), scene)
    out = capsys.readouterr().out
    assert f"thing 1: its top is {near.height_m + 0.08:.3f} m above the support plane" in out
    assert "thing 2: " not in out


def test_a_warning_of_the_pair_alone_is_printed_below_it(capsys):
    frame, regions = table(width=640, things=(NEAR, FAR))
    scene = open_scene(frame)
    found, (pair,) = measure_in(scene, regions)
    found = tuple(replace(one, warnings=()) for one in found)
    print_measured(found, (replace(pair, warnings=(Caution.AMBIGUOUS_EXTENT,)),), scene)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("thing 1 - thing 2: distance")
    assert lines[-1] == "  ambiguous_extent"


def test_a_point_without_depth_is_null_with_a_warning(files, tmp_path):
    picture, _ = files
    depth = cv2.imread(picture[3], cv2.IMREAD_UNCHANGED)
    depth[60:140, 60:140] = 0
    cv2.imwrite(str(tmp_path / "hole.png"), depth)
    options = [*picture[:2], "--depth", str(tmp_path / "hole.png"), *picture[4:]]
    result = runner.invoke(app, ["measure", *options, "--point", "it=100,100", "--json"])
    assert result.exit_code == 0, result.output
    (one,) = json.loads(result.stdout, parse_constant=refuse_constant)["regions"]
    assert one["height_m"] is None
    assert one["position_m"] == [None, None, None]
    assert "too_few_points" in one["warnings"]


def test_a_region_outside_the_image_is_null_and_the_others_are_measured(files, tmp_path):
    picture, regions = files
    extra = ["--region", "gone=700,10,720,40", "--draw", str(tmp_path / "out.png")]
    result = runner.invoke(app, ["measure", *picture, *extra, *regions, "--json"])
    assert result.exit_code == 0, result.output
    gone, near, _ = json.loads(result.stdout, parse_constant=refuse_constant)["regions"]
    assert (gone["height_m"], gone["warnings"]) == (None, ["outside_image"])
    assert near["height_m"] == pytest.approx(0.10, abs=0.006)


def turned_files(files, folder) -> tuple[list[str], list[str]]:
    """The same options for a camera that is mounted upside-down."""
    picture, regions = files
    for option, name in (("--rgb", "rgb.png"), ("--depth", "depth.png")):
        image = cv2.imread(picture[picture.index(option) + 1], cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(folder / name), np.rot90(image, 2))
    k = picture[picture.index("--intrinsics") + 1]  # its principal point is the image's middle
    names = ["--rgb", str(folder / "rgb.png"), "--depth", str(folder / "depth.png")]
    boxes = []
    for word in regions[1::2]:
        label, _, box = word.partition("=")
        x1, y1, x2, y2 = map(float, box.split(","))
        boxes += ["--region", f"{label}={640 - x2},{480 - y2},{640 - x1},{480 - y1}"]
    return [*names, "--intrinsics", k], boxes


def test_with_up_an_upside_down_camera_measures_the_same(files, tmp_path):
    upright = runner.invoke(app, ["measure", *files[0], *files[1], "--json"])
    picture, boxes = turned_files(files, tmp_path)
    # Not normalized; the camera looks down at 45 degrees.
    result = runner.invoke(app, ["measure", *picture, *boxes, "--up", "0,2,-2", "--json"])
    assert result.exit_code == 0, result.output
    expected, document = json.loads(upright.stdout), json.loads(result.stdout)
    assert document["cautions"] == []
    for one, same in zip(document["regions"], expected["regions"], strict=True):
        for key in ("height_m", "length_m", "width_m", "camera_distance_m"):
            assert one[key] == pytest.approx(same[key], abs=1e-6)
        x, y, z = same["position_m"]
        assert one["position_m"] == pytest.approx([-x, -y, z], abs=1e-6)


def test_an_up_vector_that_the_table_contradicts_is_printed_with_the_reason(files):
    arguments = ["measure", *files[0], *files[1], "--up", "0,-1,0"]
    document = json.loads(runner.invoke(app, [*arguments, "--json"]).stdout)
    assert document["cautions"] == ["up_uncertain"]
    assert all(one["warnings"][0] == "up_uncertain" for one in document["regions"])
    text = " ".join(runner.invoke(app, arguments).stdout.split())
    assert "cautions: up_uncertain" in text
    assert (
        "with up = (0.00, -1.00, 0.00) the largest plane is neither upright nor level below" in text
    )


@pytest.mark.parametrize(
    ("extra", "kind", "reason"),
    [
        (["--point", "it=5,9", "--depth", "/nowhere.png"], "DepthError", "/nowhere.png"),
        (["--point", "it=5,9", "--rgb", "/nowhere.png"], "FrameError", "/nowhere.png"),
        (["--point", "it=5,9", "--intrinsics", "/no.json"], "IntrinsicsError", "/no.json"),
        (["--point", "it=5,9", "--draw", "/nowhere/out.png"], "QueryError", "/nowhere/out.png"),
    ],
)
def test_a_region_or_file_that_cannot_be_measured_is_refused_with_the_reason(
    files, extra, kind, reason
):
    result = runner.invoke(app, ["measure", *files[0], *extra, "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["type"] == kind
    assert reason in result.stderr


def test_images_of_different_sizes_are_refused_with_both_sizes(files, tmp_path):
    cv2.imwrite(str(tmp_path / "small.png"), np.ones((240, 320), np.uint16))
    extra = ["--depth", str(tmp_path / "small.png"), "--point", "it=5,9"]
    result = runner.invoke(app, ["measure", *files[0], *extra])
    assert result.exit_code == 1
    assert "320x240" in result.stderr
    assert "640x480" in result.stderr


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["--region", "it"],
        ["--region", "it=1,2,3"],
        ["--region", "=1,2,3,4"],
        ["--region", "it=1,2,three,4"],
        ["--region", "it=1,2,nan,4"],
        ["--region", "it=30,2,3,4"],
        ["--point", "it=1,2,3"],
        ["--point", "it=1,2", "--point", "it=3,4"],
        ["--point", "it=1,2", "--sensor", "sonar"],
        ["--point", "it=1,2", "--up", "0,0,0"],
        ["--point", "it=1,2", "--up", "0,nan,1"],
        ["--point", "it=1,2", "--up", "0,-1"],
        ["--point", "it=1,2", "--up", "up"],
    ],
)
def test_wrong_usage_is_status_two(files, extra):
    result = runner.invoke(app, ["measure", *files[0], *extra])
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_label_may_contain_an_equals_sign(files):
    box = files[1][1].partition("=")[2]
    result = runner.invoke(app, ["measure", *files[0], "--region", f"a=b={box}", "--json"])
    assert json.loads(result.stdout)["regions"][0]["label"] == "a=b"


def test_the_drawing_has_the_image_size_and_marks_the_objects(files, tmp_path):
    out = tmp_path / "out.png"
    result = runner.invoke(app, ["measure", *files[0], *files[1], "--draw", str(out)])
    assert result.exit_code == 0, result.output
    drawn = cv2.imread(str(out))
    assert drawn.shape == (480, 640, 3)
    colours = {tuple(colour) for colour in drawn.reshape(-1, 3)[::1].tolist()}
    assert (70, 70, 255) in colours  # the length's red, in BGR
    assert (255, 150, 90) in colours  # the height's blue


def test_measuring_loads_no_torch():
    code = (
        "import sys, sdvlm_core.geometry.measure, sdvlm_core.geometry.drawing; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert math.isfinite(0.0)
