"""LLaVA-NeXT: pictures, image tokens and boxes against transformers' own code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.llava_next import modeling_llava_next as modeling
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.backbones.llava_next import LlavaNext, VicunaLlavaNext
from sdvlm_core.model.backbones.picture import CLIP
from sdvlm_core.model.prompt import TEMPLATES
from tests.core.model.backbones import tiles
from tests.tiny_backbones import tiny_config, tiny_model

PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
#: preprocessor_config.json of llava-hf/llava-v1.6-mistral-7b-hf.
PREPROCESSOR = {
    "crop_size": {"height": 336, "width": 336},
    "do_resize": True,
    "image_grid_pinpoints": PINPOINTS,
    "image_mean": list(CLIP.mean),
    "image_std": list(CLIP.std),
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 336},
}


def published() -> Any:
    """The sizes of the published models."""
    config = tiny_config("llava_next")
    config.vision_config.image_size, config.image_grid_pinpoints = 336, PINPOINTS
    return config


BACKBONE = LlavaNext.of(published(), PREPROCESSOR)


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
    library = LlavaNextImageProcessorPil(**PREPROCESSOR)
    theirs = library(Image.fromarray(rgb), return_tensors="np")
    ours = BACKBONE.prepare(rgb, tiles.CPU)
    assert ours["image_sizes"].tolist() == theirs["image_sizes"].tolist()
    return tiles.grey_levels(ours["pixel_values"], theirs["pixel_values"], CLIP)


def _pack(model: Any, views: Any, sizes: Any, newline: Any) -> Any:
    return modeling.LlavaNextModel.pack_image_features(model, views, sizes, "default", newline)


sides = st.integers(1, 3000)


@settings(max_examples=150, deadline=None)
@given(sides, sides)
def test_the_boxes_are_where_the_library_puts_the_patches(height: int, width: int) -> None:
    theirs = tiles.library_boxes(modeling, _pack, published(), height, width)
    ours = BACKBONE.token_boxes(height, width)
    assert BACKBONE.image_pieces(height, width) == [len(theirs)]
    hidden = (theirs[:, :2] >= (width, height)).any(1) | (theirs[:, 2:] <= 0).any(1)
    theirs[hidden] = np.nan
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(sides, sides)
def test_the_base_shows_every_pixel_and_the_tiles_all_but_their_edge(
    height: int, width: int
) -> None:
    boxes = BACKBONE.token_boxes(height, width)
    base, grid = boxes[:576], boxes[576:]
    np.testing.assert_allclose([*base[0, :2], *base[-1, 2:]], [0, 0, width, height], atol=1e-9)
    x1, y1, x2, y2 = base.T
    assert np.isclose(((x2 - x1) * (y2 - y1)).sum(), height * width)
    if not np.isfinite(grid).any():  # a picture thinner than half a row of patches
        return
    left, top, right, bottom = np.r_[np.nanmin(grid[:, :2], 0), np.nanmax(grid[:, 2:], 0)]
    patch = np.nanmax(grid[:, 2:] - grid[:, :2], 0)
    # transformers rounds the padding: at most half a row of patches of the picture is cut off.
    assert max(left, width - right) <= patch[0] / 2 + 1e-9
    assert max(top, height - bottom) <= patch[1] / 2 + 1e-9


@pytest.fixture(scope="module")
def local() -> Any:
    model = tiny_model("llava_next")
    tiles.make_local(model, "out_proj")
    return model


# (56, 112) is a canvas: nothing is resized in the tiles; the others have padding on every side.
@pytest.mark.parametrize("size", [(56, 112), (112, 112), (100, 60), (50, 90), (170, 60)])
def test_a_changed_pixel_changes_the_tokens_whose_box_holds_it(
    local: Any, size: tuple[int, int]
) -> None:
    tiny = LlavaNext.of(local.config, {})
    tiles.check_order(local, tiny, *size, reach=1 + 2 * max(size) / 56)


def test_the_words_follow_the_language_model() -> None:
    config = published()
    assert type(LlavaNext.of(config, {})) is VicunaLlavaNext
    config.text_config.model_type = "mistral"
    assert type(LlavaNext.of(config, {})) is LlavaNext
    assert {LlavaNext.template, VicunaLlavaNext.template} <= set(TEMPLATES)
    config.text_config.model_type, config.text_config.vocab_size = "llama", 128_320
    with pytest.raises(CheckpointError, match="prompt_template"):
        LlavaNext.of(config, {})
    config.prompt_template = "raw"
    assert LlavaNext.of(config, {})


def test_without_a_preprocessor_the_published_values_count() -> None:
    assert LlavaNext.of(published(), {}) == VicunaLlavaNext.of(published(), PREPROCESSOR)


def _changed(path: str, value: Any) -> Any:
    config = published()
    part = config.vision_config if path.startswith("vision_config.") else config
    object.__setattr__(part, path.split(".")[-1], value)
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("vision_config.image_size", value) for value in (0, -336, "336", 1 << 20, None, 14.5)),
        *(("vision_config.patch_size", value) for value in (0, -14, "14", 337, None, True)),
        ("vision_config.patch_size", 1),  # 338,688 tokens
        ("vision_config.model_type", "siglip_vision_model"),
        ("vision_feature_select_strategy", "full"),
        *(
            ("image_grid_pinpoints", value)
            for value in (
                *(None, [], "336", [[336]], [[0, 336]], [[336, 400]], [["336", 336]], [336]),
                *([[336, 336 * 1000]], [[336, 672]] * 300, [[-336, 336]]),
            )
        ),
    ],
)
def test_an_impossible_value_of_the_config_is_refused(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=key.split(".")[-1]) as refused:
        LlavaNext.of(_changed(key, value), {})
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("image_mean", value) for value in ([0.5], "0.5", [0.5, 0.5, "0.5"], [1e9] * 3)),
        *(("image_std", value) for value in ([0.5, 0.5, 0], [-1.0] * 3, [float("nan")] * 3, 0.5)),
        *(("size", value) for value in (224, "336", [336, 336])),
        ("shortest_edge", 224),
        ("height", "336"),
        *(("resample", value) for value in (0, "3", 99, [3])),
        ("width", 335),
        ("image_grid_pinpoints", [[336, 672]]),
        ("do_resize", False),
        ("do_rescale", "yes"),
        ("do_normalize", 0),
        ("rescale_factor", 1.0),
        ("rescale_factor", 10**400),
    ],
)
def test_an_impossible_value_of_the_preprocessor_is_refused(key: str, value: Any) -> None:
    sized = key in ("shortest_edge", "height", "width")
    values = {"size": {key: value}} if sized else {key: value}
    with pytest.raises(CheckpointError, match=key) as refused:
        LlavaNext.of(published(), {**PREPROCESSOR, **values})
    assert len(str(refused.value)) < 300
