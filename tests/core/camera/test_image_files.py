"""Frames from image files go the way of messages: rectified, checked, and bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from sdvlm_core import tabletop
from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.camera.settings import CameraSettings
from sdvlm_core.cli.app import app
from sdvlm_core.errors import DepthError, FrameError, IntrinsicsError
from tests import lenses
from tests.lenses import CAMERAS, Camera

SIZES = ("length_m", "width_m", "height_m")


def write(folder: Path, camera: Camera, **intrinsics: Any) -> tuple[Path, Path, Path]:
    """The table as this camera's raw image: rgb.png, depth.png in 0.1 mm, intrinsics.json."""
    rgb, depth, _ = lenses.table(camera)
    k = camera.k
    values = {"fx": k.fx, "fy": k.fy, "ppx": k.cx, "ppy": k.cy, "width": k.width}
    values |= {"height": k.height, "model": camera.model, "coeffs": camera.d}
    values |= {"depth_scale": 0.0001, **intrinsics}
    folder.mkdir(exist_ok=True)
    paths = folder / "rgb.png", folder / "depth.png", folder / "intrinsics.json"
    cv2.imwrite(str(paths[0]), rgb[..., ::-1])
    cv2.imwrite(str(paths[1]), np.rint(depth * 10_000).astype(np.uint16))
    paths[2].write_text(json.dumps(values))
    return paths


def measure(paths: tuple[Path, Path, Path], *options: str) -> dict[str, Any]:
    rgb, depth, intrinsics = map(str, paths)
    files = ["--rgb", rgb, "--depth", depth, "--intrinsics", intrinsics]
    up = ",".join(map(str, tabletop.UP))
    result = CliRunner().invoke(
        app, ["measure", *files, "--up", up, "--sensor", "simulated", "--json", *options]
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", ["plumb_bob 4", "equidistant 4"])
def test_sdvlm_measure_measures_through_a_lens(tmp_path: Path, name: str) -> None:
    camera = CAMERAS[name]
    boxes = lenses.table(camera)[2]
    regions = [f"--region={label}={','.join(map(str, box))}" for label, box in boxes.items()]
    document = measure(write(tmp_path, camera), *regions)
    assert document["cautions"] == []
    known = {item.name: item.size for item in tabletop.TABLE}
    for one in document["regions"]:
        if one["label"] == "green can":
            continue  # 27 pixels wide: see test_rectification
        sizes = [one[size] for size in SIZES]
        np.testing.assert_allclose(sizes, known[one["label"]], rtol=0.025)


def test_the_unit_of_depth_is_the_files_unless_it_contradicts_the_option(tmp_path: Path) -> None:
    paths = write(tmp_path, CAMERAS["plumb_bob 4"], coeffs=[0] * 4)
    truth = lenses.table(CAMERAS["plumb_bob 4"])[1]
    for given in (None, 0.0001):
        frame = read_frame(*paths, given)
        np.testing.assert_allclose(frame.depth, truth, atol=1e-4)
    with pytest.raises(DepthError, match=r"scale is 0\.001, but .* states 0\.0001"):
        read_frame(*paths, 0.001)


def test_without_a_stated_unit_the_settings_apply(tmp_path: Path) -> None:
    paths = write(tmp_path, CAMERAS["plumb_bob 4"], coeffs=[0] * 4, depth_scale=None)
    near = read_frame(*paths, settings=CameraSettings(depth_unit_m=0.0001))
    assert np.nanmedian(near.depth) < 4
    far = read_frame(*paths)  # as millimetres
    np.testing.assert_allclose(far.depth, 10 * near.depth, rtol=1e-5)


def test_a_distortion_that_is_not_supported_is_refused_by_name(tmp_path: Path) -> None:
    paths = write(tmp_path, CAMERAS["plumb_bob 4"], model="inverse_brown_conrady")
    with pytest.raises(IntrinsicsError, match="inverse_brown_conrady"):
        read_frame(*paths)
    never = read_frame(*paths, settings=CameraSettings(rectify="never"))
    assert never.lens is None


def test_paths_may_be_strings_and_intrinsics_may_be_absent(tmp_path: Path) -> None:
    paths = write(tmp_path, CAMERAS["plumb_bob 4"])
    frame = read_frame(*map(str, paths[:2]), depth_scale=0.0001)  # type: ignore[arg-type]
    assert frame.intrinsics is None
    assert frame.depth is not None


def test_depth_without_a_reading_is_refused_as_in_messages(tmp_path: Path) -> None:
    paths = write(tmp_path, CAMERAS["plumb_bob 4"])
    cv2.imwrite(str(paths[1]), np.zeros((480, 640), np.uint16))
    with pytest.raises(DepthError, match="no usable reading"):
        read_frame(*paths)


def test_an_image_is_refused_by_its_header_and_by_its_format(tmp_path: Path) -> None:
    paths = write(tmp_path, CAMERAS["plumb_bob 4"])
    with pytest.raises(FrameError, match="max_pixels"):
        read_frame(*paths, settings=CameraSettings(max_pixels=1000))
    bitmap = tmp_path / "rgb.bmp"  # its size would not be known before it is decoded
    cv2.imwrite(str(bitmap), np.zeros((480, 640, 3), np.uint8))
    with pytest.raises(FrameError, match=r"rgb\.bmp is not a PNG or JPEG"):
        read_frame(bitmap, *paths[1:])


def test_a_depth_image_given_as_colour_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, CAMERAS["plumb_bob 4"])
    with pytest.raises(FrameError, match=r"has 16 bits per channel, but a colour image has 8"):
        read_frame(paths[1], *paths[1:])
