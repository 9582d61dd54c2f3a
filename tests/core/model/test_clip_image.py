"""The tower's input image equals the output of CLIP's and LLaVA's own preprocessing."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdvlm_core.model.backbones import clip_image
from sdvlm_core.model.backbones.clip_image import (
    PADDING_RGB,
    clip_pixels,
    resized_on,
    square_picture,
)
from sdvlm_core.model.image_tokens import SquareCanvas
from tests.paths import SHARED

PARITY = SHARED / "parity"


@pytest.mark.parametrize(("width", "height"), [(40, 30), (30, 40), (31, 16), (16, 16)])
def test_a_frame_is_centred_on_a_square_of_the_padding_colour(width, height):
    canvas = SquareCanvas(width, height)
    picture = square_picture(np.full((height, width, 3), 255, np.uint8), canvas.side)
    inside = (picture == 255).all(axis=2)
    assert inside.sum() == width * height
    assert inside[canvas.top, canvas.left]
    assert not inside.all() or width == height
    if width != height:
        assert tuple(picture[~inside][0]) == PADDING_RGB


def _padded_then_resized(rgb: np.ndarray, size: int) -> np.ndarray:
    """LLaVA's order: a whole square first."""
    canvas = SquareCanvas(rgb.shape[1], rgb.shape[0])
    square = np.full((canvas.side, canvas.side, 3), PADDING_RGB, np.uint8)
    square[canvas.top :, canvas.left :][: canvas.height, : canvas.width] = rgb
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC))


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from((16, 56, 192, 336)))
def test_resized_rows_then_padding_give_exactly_the_pixels_of_a_padded_square(width, height, size):
    rgb = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(square_picture(rgb, size), _padded_then_resized(rgb, size))


@pytest.mark.parametrize(("width", "height"), [(3000, 2), (2, 3000), (2900, 2100), (2100, 2900)])
def test_large_and_long_frames_give_exactly_the_pixels_of_a_padded_square(width, height):
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(square_picture(rgb, 192), _padded_then_resized(rgb, 192))


@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.sampled_from((16, 56, 192, 336)),
    st.sampled_from(("noise", "black and white")),
)
def test_a_picture_that_is_resized_on_a_device_has_exactly_the_same_pixels(
    width, height, size, kind
):
    rng = np.random.default_rng(width * height)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind != "noise":  # the kernel overshoots at edges
        rgb = np.where(rgb > 127, np.uint8(255), np.uint8(0))
    on_device = resized_on(torch.device("cpu"), rgb, size).numpy()
    np.testing.assert_array_equal(on_device, clip_pixels(rgb, size))


def test_a_large_picture_is_resized_on_a_device_in_blocks(monkeypatch):
    monkeypatch.setattr(clip_image, "_BLOCK_PX", 10_000)
    rgb = np.random.default_rng(1).integers(0, 256, (300, 500, 3), np.uint8)
    on_device = resized_on(torch.device("cpu"), rgb, 192).numpy()
    np.testing.assert_array_equal(on_device, clip_pixels(rgb, 192))


@pytest.mark.parametrize("shape", [(1, 30_000, 3), (30_000, 1, 3)])
def test_a_frame_as_long_as_a_line_takes_little_memory(shape):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    square_picture(np.zeros(shape, np.uint8), 336)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 100_000  # the square has 2.7 GB


@pytest.mark.skipif(not PARITY.exists(), reason="../shared/parity with the recordings is absent")
@pytest.mark.parametrize("case", ["landscape", "portrait"])
def test_pixels_equal_those_recorded_from_the_official_code(case):
    recorded = np.load(PARITY / f"case_{case}.npz")
    ours = clip_pixels(recorded["rgb"], 336)
    np.testing.assert_allclose(ours, recorded["pixel_values"].reshape(3, 336, 336), atol=1e-5)
