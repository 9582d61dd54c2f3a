"""LLaVA-OneVision: pictures, image tokens and boxes against transformers' own code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText
from transformers.models.llava_onevision import modeling_llava_onevision as modeling
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.backbones.llava_onevision import LlavaOneVision
from sdvlm_core.model.backbones.picture import HALF
from sdvlm_core.model.prompt import TEMPLATES
from tests.core.model.backbones import tiles
from tests.tiny_backbones import tiny_config

PINPOINTS = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]
#: preprocessor_config.json of llava-hf/llava-onevision-qwen2-0.5b-ov-hf.
PREPROCESSOR = {
    "do_resize": True,
    "image_grid_pinpoints": PINPOINTS,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 384, "width": 384},
}


def published() -> Any:
    """The sizes of the published models."""
    config = tiny_config("llava_onevision")
    config.vision_config.image_size, config.image_grid_pinpoints = 384, PINPOINTS
    return config


BACKBONE = LlavaOneVision.of(published(), PREPROCESSOR)


@pytest.mark.parametrize(
    "size", [(480, 640), (720, 1280), (500, 500), (30, 40), (1, 1), (3, 900), (899, 1024)]
)
def test_the_pixels_are_those_of_the_librarys_processor(size: tuple[int, int]) -> None:
    assert _differences(size).max() < 0.001


@pytest.mark.parametrize("size", [(640, 480), (900, 3)])
def test_where_pillow_resizes_columns_first_few_pixels_differ(size: tuple[int, int]) -> None:
    # Pillow 13 does so where it is cheaper; torchvision, which the models were tried with, never.
    differences = _differences(size)
    assert differences.max() < 2.01
    assert (differences > 0.5).mean() < 0.01
    assert (differences > 1.5).mean() < 1e-5


def _differences(size: tuple[int, int]) -> Any:
    rgb = tiles.smooth_picture(*size)
    library = LlavaOnevisionImageProcessorPil(**PREPROCESSOR)
    theirs = library(Image.fromarray(rgb), return_tensors="np")
    ours = BACKBONE.prepare(rgb, tiles.CPU)
    assert ours["image_sizes"].tolist() == theirs["image_sizes"].tolist()
    return tiles.grey_levels(ours["pixel_values"], theirs["pixel_values"], HALF)


def _pack(model: Any, views: Any, sizes: Any, newline: Any) -> Any:
    return modeling.LlavaOnevisionModel.pack_image_features(
        model, views, sizes, newline, "anyres_max_9"
    )


sides = st.integers(1, 3000)


@settings(max_examples=150, deadline=None)
@given(sides, sides)
def test_the_boxes_are_where_the_library_puts_the_patches(height: int, width: int) -> None:
    theirs = tiles.library_boxes(modeling, _pack, published(), height, width)
    ours = BACKBONE.token_boxes(height, width)
    assert BACKBONE.image_pieces(height, width) == [len(theirs)]
    hidden = (theirs[:, :2] >= (width, height)).any(1) | (theirs[:, 2:] <= 0).any(1)
    theirs[hidden] = np.nan
    patch = theirs[:, 2:] - theirs[:, :2]
    if not (ours[:, 2:] - ours[:, :2] > patch + 1e-6).any():
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
        return
    # Interpolated: the library's rectangle of a token is a patch in its middle. They agree but
    # beside the strip of 6 pixels between two tiles, which no patch shows.
    seen = np.isfinite(theirs[:, 0])
    assert np.isfinite(ours[seen]).all()
    middles = [(boxes[seen, :2] + boxes[seen, 2:]) / 2 for boxes in (ours, theirs)]
    difference = np.abs(middles[0] - middles[1])
    assert np.median(difference) < 1e-9
    assert (difference <= 6 / 14 * np.nanmax(patch, 0)).all()


@settings(max_examples=50, deadline=None)
@given(sides, sides)
def test_the_base_shows_every_pixel_but_the_towers_last_six(height: int, width: int) -> None:
    base = BACKBONE.token_boxes(height, width)[:729]
    end = [width * 378 / 384, height * 378 / 384]
    np.testing.assert_allclose([*base[0, :2], *base[-1, 2:]], [0, 0, *end], atol=1e-9)
    x1, y1, x2, y2 = base.T
    assert np.isclose(((x2 - x1) * (y2 - y1)).sum(), end[0] * end[1])


def _local(tile: int, limit: str) -> tuple[Any, LlavaOneVision]:
    config = tiny_config("llava_onevision")
    config.vision_config.image_size, config.vision_aspect_ratio = tile, limit
    config.image_grid_pinpoints = [[tile, 2 * tile], [2 * tile, tile], [2 * tile, 2 * tile]]
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).eval().requires_grad_(False)
    tiles.make_local(model, "out_proj")
    return model, LlavaOneVision.of(config, {})


# A tile of 62 has four patches of 14 and a strip of 6 that no token shows.
@pytest.mark.parametrize("tile", [56, 62])
@pytest.mark.parametrize("size", [(112, 112), (124, 62), (100, 60), (170, 60)])
def test_a_changed_pixel_changes_the_tokens_whose_box_holds_it(
    size: tuple[int, int], tile: int
) -> None:
    model, backbone = _local(tile, "anyres_max_9")
    tiles.check_order(model, backbone, *size, reach=1 + 2 * max(size) / tile)


@pytest.mark.parametrize(("limit", "tokens"), [("anyres_max_1", 4 * 5), ("anyres_max_2", 5 * 6)])
@pytest.mark.parametrize("tile", [56, 62])
def test_an_interpolated_token_follows_the_pixels_in_the_middle_of_its_box(
    limit: str, tokens: int, tile: int
) -> None:
    model, backbone = _local(tile, limit)
    assert backbone.image_pieces(110, 110) == [16 + tokens]
    # Without antialiasing it is made of the two patches nearest to its middle.
    tiles.check_order(model, backbone, 110, 110, reach=1 + 2 * 2 + 14, core=0.5)


def test_the_template_is_known() -> None:
    assert LlavaOneVision.template in TEMPLATES


def test_without_a_preprocessor_the_published_values_count() -> None:
    assert LlavaOneVision.of(published(), {}) == BACKBONE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("vision_config.image_size", value) for value in (0, "384", 1 << 20)),
        *(("vision_config.patch_size", value) for value in (0, 385, 1)),
        ("vision_config.model_type", "clip_vision_model"),
        ("vision_feature_select_strategy", "default"),
        *(("image_grid_pinpoints", value) for value in (None, [[384, 400]], [[384, 384 << 20]])),
        *(
            ("vision_aspect_ratio", value)
            for value in ("square", "anyres_max_0", "anyres_max_", "anyres_max_-3", None, 9)
        ),
        *(("vision_aspect_ratio", value) for value in ("anyres_max_9\n", "anyres_max_" + "9" * 99)),
    ],
)
def test_an_impossible_value_of_the_config_is_refused(key: str, value: Any) -> None:
    config = published()
    part = config.vision_config if key.startswith("vision_config.") else config
    object.__setattr__(part, key.split(".")[-1], value)
    with pytest.raises(CheckpointError, match=key.split(".")[-1]) as refused:
        LlavaOneVision.of(config, {})
    assert len(str(refused.value)) < 300


def test_a_preprocessor_of_other_tiles_is_refused() -> None:
    for values in ({"size": {"height": 384, "width": 383}}, {"image_grid_pinpoints": [[384, 384]]}):
        with pytest.raises(CheckpointError, match="preprocessor"):
            LlavaOneVision.of(published(), {**PREPROCESSOR, **values})
