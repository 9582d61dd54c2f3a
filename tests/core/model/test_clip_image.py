"""The tower's input image equals the output of CLIP's and LLaVA's own preprocessing."""

from __future__ import annotations

import numpy as np
import pytest

from sdvlm_core.model.backbones.clip_image import PADDING_RGB, clip_pixels, square_picture
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


@pytest.mark.skipif(not PARITY.exists(), reason="../shared/parity with the recordings is absent")
@pytest.mark.parametrize("case", ["landscape", "portrait"])
def test_pixels_equal_those_recorded_from_the_official_code(case):
    recorded = np.load(PARITY / f"case_{case}.npz")
    ours = clip_pixels(recorded["rgb"], 336)
    np.testing.assert_allclose(ours, recorded["pixel_values"].reshape(3, 336, 336), atol=1e-5)
