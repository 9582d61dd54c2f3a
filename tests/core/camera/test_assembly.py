"""Assembly: registration, frame_ids, sizes, and what is refused before anything is decoded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sdvlm_core.camera.assembly import frame_from_messages
from sdvlm_core.camera.registration import edge_shift
from sdvlm_core.camera.settings import DEFAULT_SETTINGS
from sdvlm_core.cautions import Caution
from sdvlm_core.errors import DepthError, FrameError, IntrinsicsError
from sdvlm_core.frame import RgbdFrame, depth_in_metres
from tests import bags
from tests.bags import START_NS
from tests.paths import ROOT

WIDTH, HEIGHT = 640, 480


def boxes_on_a_wall(seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Colour and millimetres of boxes of random colours and distances before a noisy wall."""
    random = np.random.default_rng(seed)
    rgb = random.integers(100, 130, (HEIGHT, WIDTH, 3), np.uint8)
    depth = random.integers(1990, 2010, (HEIGHT, WIDTH)).astype(np.uint16)
    for _ in range(14):
        x, y = random.integers(20, WIDTH - 120), random.integers(20, HEIGHT - 120)
        width, height = random.integers(40, 100, 2)
        rgb[y : y + height, x : x + width] = random.integers(0, 256, 3)
        depth[y : y + height, x : x + width] = random.integers(900, 1600)
    return rgb, depth


def framed(
    shift: tuple[int, int] = (0, 0),
    depth_id: str = "optical",
    info_id: str = "optical",
    color_id: str = "optical",
    **options: Any,
) -> RgbdFrame:
    rgb, depth = boxes_on_a_wall(0)
    color = bags.image(rgb, "rgb8", START_NS)
    metres = bags.image(np.roll(depth, shift, (1, 0)), "16UC1", START_NS)
    info = bags.camera_info(START_NS, WIDTH, HEIGHT)
    messages = [
        replace(message, header=replace(message.header, frame_id=frame_id))
        for message, frame_id in ((color, color_id), (metres, depth_id), (info, info_id))
    ]
    return frame_from_messages(*messages, **options)


def test_depth_with_another_frame_id_is_a_caution() -> None:
    frame = framed(depth_id="depth_optical")
    assert frame.cautions == (Caution.UNREGISTERED_DEPTH,)
    assert "depth has frame_id 'depth_optical' but colour 'optical'" in frame.reasons[0]


def test_depth_that_is_visibly_shifted_is_refused_with_the_shift() -> None:
    assert framed(shift=(14, 0)).cautions == (), "equal frame_ids are believed"
    with pytest.raises(DepthError, match=r"edges of depth are \+14 columns and [+-][0-2] rows"):
        framed(shift=(14, 0), depth_id="depth_optical")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shift", [(12, 0), (-18, 4), (0, 16), (30, -8)])
def test_a_shift_of_depth_is_measured(seed: int, shift: tuple[int, int]) -> None:
    rgb, millimetres = boxes_on_a_wall(seed)
    depth = depth_in_metres(np.roll(millimetres, shift, (1, 0)), 0.001)
    found = edge_shift(rgb, depth)
    assert found is not None
    assert np.abs(np.subtract(found, shift)).max() <= 2
    assert edge_shift(rgb, depth_in_metres(millimetres, 0.001)) is None


@pytest.mark.parametrize("missing", ["depth_id", "color_id", "info_id"])
def test_an_empty_frame_id_proves_nothing(missing: str) -> None:
    assert framed(**{missing: ""}).cautions == ()


def test_without_frame_ids_a_visible_shift_is_a_caution() -> None:
    frame = framed(shift=(14, 0), depth_id="")
    assert frame.cautions == (Caution.UNREGISTERED_DEPTH,)
    assert "the edges of depth are +14 columns" in frame.reasons[0]


def test_the_slash_of_ros_1_makes_no_other_frame() -> None:
    assert framed(depth_id="/optical", info_id="/optical").cautions == ()


def test_a_camera_info_of_another_camera_is_a_caution() -> None:
    frame = framed(info_id="infra_optical")
    assert frame.cautions == (Caution.CAMERA_INFO_MISMATCH,)
    assert "camera_info has frame_id 'infra_optical' but colour 'optical'" in frame.reasons[0]


def test_every_caution_has_its_reason_and_both_travel() -> None:
    frame = framed(info_id="a", depth_id="b")
    assert frame.cautions == (Caution.CAMERA_INFO_MISMATCH, Caution.UNREGISTERED_DEPTH)
    assert len(frame.reasons) == 2
    assert frame.frame_id == "optical"


def test_depth_with_other_intrinsics_is_refused_with_both() -> None:
    other = bags.camera_info(START_NS, WIDTH, HEIGHT)
    assert framed(depth_info=other).cautions == ()
    k = other.k.copy()
    k[[0, 4]] = 500.0
    with pytest.raises(DepthError, match=r"info is 640x480 fx=500 .* colour's 640x480 fx=640"):
        framed(depth_info=replace(other, k=k, p=np.zeros(12)))


def test_text_from_a_peer_is_clipped_and_escaped_in_a_reason() -> None:
    reason = framed(depth_id="x\n" * 5000).reasons[0]
    assert "\n" not in reason
    assert len(reason) < 600


def test_a_frame_without_depth_has_only_the_cautions_of_its_calibration() -> None:
    rgb, _ = boxes_on_a_wall(0)
    frame = frame_from_messages(
        bags.image(rgb, "rgb8", START_NS), None, bags.camera_info(START_NS, WIDTH, HEIGHT)
    )
    assert (frame.depth, frame.cautions) == (None, ())


def png_of(width: int, height: int, dtype: type) -> bytes:
    """A PNG of zeros, which is small however large the image is."""
    return cv2.imencode(".png", np.zeros((height, width), dtype))[1].tobytes()


def test_an_image_larger_than_the_limits_is_refused_with_the_parameter() -> None:
    info = bags.camera_info(START_NS)
    small = replace(DEFAULT_SETTINGS, max_pixels=3000)
    color = bags.image(bags.picture(0), "rgb8", START_NS)
    with pytest.raises(FrameError, match=r"64x48 = 3072 pixels; at most 3000 .*max_pixels"):
        frame_from_messages(color, None, info, small)
    wide = bags.image(np.zeros((4, 36, 3), np.uint8), "rgb8", START_NS)
    with pytest.raises(FrameError, match=r"36x4; a ratio of its sides up to 8 .*max_aspect"):
        frame_from_messages(wide, None, info)
    depth = bags.compressed(png_of(30_000, 1, np.uint16), "16UC1; png compressed ", START_NS)
    with pytest.raises(DepthError, match=r"30000x1; a ratio of its sides up to 8"):
        frame_from_messages(color, depth, info)


def test_sizes_that_do_not_match_are_refused_before_decoding() -> None:
    info = bags.camera_info(START_NS)
    torn = png_of(32, 24, np.uint8)[:60]  # it has its header, but cannot be decoded
    with pytest.raises(IntrinsicsError, match="camera_info is 64x48 but colour is 32x24"):
        frame_from_messages(bags.compressed(torn, "png", START_NS), None, info)


def test_a_huge_image_costs_no_memory(tmp_path: Path) -> None:
    """14000x14000 and 30000x1 as PNG and raw: refused without taking memory for pixels."""
    (tmp_path / "huge.png").write_bytes(png_of(14_000, 14_000, np.uint8))
    code = f"""
import resource
from pathlib import Path
import cv2
import numpy as np
from sdvlm_core.camera.assembly import frame_from_messages
from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.errors import FrameError
from tests import bags
path = Path({str(tmp_path / "huge.png")!r})
coded = path.read_bytes()
info = bags.camera_info(1)
color = bags.image(bags.picture(0), "rgb8", 1)
frame_from_messages(color, bags.image(bags.millimetres(0), "16UC1", 1), info)  # imports
images = [bags.compressed(coded, form, 1) for form in ("png", "rgb8; png compressed bgr8")]
images.append(bags.compressed(coded, "16UC1; png compressed ", 1))
images.append(bags.image(np.zeros((1, 30000, 3), np.uint8), "rgb8", 1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refused = 0
for message in images:
    for parts in ((message, None), (color, message)):
        try:
            frame_from_messages(*parts, info)
        except FrameError:
            refused += 1
try:
    read_frame(path)
except FrameError:
    refused += 1
print(refused, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    refused, megabytes = map(int, done.stdout.split())
    assert refused == 9
    assert megabytes < 20
