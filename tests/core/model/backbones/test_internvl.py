"""InternVL: pictures, image tokens and boxes against transformers' own code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.internvl import processing_internvl
from transformers.models.internvl.modeling_internvl import InternVLModel

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.backbones.internvl import InternVL
from sdvlm_core.model.backbones.picture import IMAGENET
from sdvlm_core.model.prompt import TEMPLATES
from tests.core.model.backbones import tiles
from tests.tiny_backbones import tiny_config

#: preprocessor_config.json of OpenGVLab/InternVL3-1B-hf; its processor crops to patches.
PREPROCESSOR = {
    "crop_to_patches": True,
    "do_resize": True,
    "image_mean": list(IMAGENET.mean),
    "image_std": list(IMAGENET.std),
    "max_patches": 12,
    "min_patches": 1,
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 448, "width": 448},
}


def published() -> Any:
    """The sizes of the published models."""
    config = tiny_config("internvl")
    config.vision_config.image_size = [448, 448]
    return config


BACKBONE = InternVL.of(published(), PREPROCESSOR)


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


def _differences(size: tuple[int, int], **changed: Any) -> Any:
    values = {**PREPROCESSOR, **changed}
    rgb = tiles.smooth_picture(*size)
    theirs = GotOcr2ImageProcessorPil(**values)(Image.fromarray(rgb), return_tensors="np")
    ours = InternVL.of(published(), values).prepare(rgb, tiles.CPU)
    return tiles.grey_levels(ours["pixel_values"], theirs["pixel_values"], IMAGENET)


@pytest.mark.parametrize(
    "changed",
    [{"max_patches": 1}, {"min_patches": 5, "max_patches": 6}],
)
def test_other_limits_of_tiles_are_those_of_the_library(changed: dict[str, Any]) -> None:
    assert _differences((480, 640), **changed).max() < 0.001


def test_pictures_are_cut_whatever_the_published_file_states() -> None:
    # The library's processor does so too: its default comes before the file's value.
    # transformers before 5.21, of Python 3.10, keeps the default in a class of its own.
    defaults = getattr(processing_internvl.InternVLProcessor, "images_kwargs", None)
    if defaults is None:
        defaults = processing_internvl.InternVLProcessorKwargs._defaults["images_kwargs"]
    assert defaults["crop_to_patches"] is True
    assert InternVL.of(published(), {**PREPROCESSOR, "crop_to_patches": False}) == BACKBONE


sides = st.integers(1, 3000)


@settings(max_examples=200, deadline=None)
@given(sides, sides, st.integers(1, 12), st.integers(1, 12))
def test_the_tiles_are_as_many_as_the_librarys(
    height: int, width: int, one: int, other: int
) -> None:
    values = {**PREPROCESSOR, "min_patches": min(one, other), "max_patches": max(one, other)}
    backbone = InternVL.of(published(), values)
    tiles_of = GotOcr2ImageProcessorPil(**values).get_number_of_image_patches(height, width)
    assert backbone.image_pieces(height, width) == ["<img>", 256 * tiles_of, "</img>"]
    assert len(backbone.token_boxes(height, width)) == 256 * tiles_of


@settings(max_examples=100, deadline=None)
@given(sides, sides)
def test_the_boxes_are_where_the_library_puts_the_patches(height: int, width: int) -> None:
    """Every patch's "feature" is its middle on the stretched picture; the shuffle joins four."""
    rows, columns = BACKBONE.grid(height, width)
    y, x = torch.meshgrid(torch.arange(32.0) + 0.5, torch.arange(32.0) + 0.5, indexing="ij")
    tile = torch.stack([x, y], -1).double()
    places = [
        (tile + torch.tensor([32 * column, 32 * row])) / torch.tensor([32 * columns, 32 * rows])
        for row in range(rows)
        for column in range(columns)
    ]
    views = torch.stack(places + [tile / 32] * (rows * columns > 1))
    joined = InternVLModel.pixel_shuffle(None, views, 0.5).reshape(-1, 4, 2).numpy()
    boxes = BACKBONE.token_boxes(height, width)
    size = np.array([width, height])
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, joined.mean(1) * size, atol=1e-9)
    inside = (joined * size >= boxes[:, None, :2]) & (joined * size <= boxes[:, None, 2:])
    assert inside.all()


@settings(max_examples=50, deadline=None)
@given(sides, sides)
def test_each_view_shows_every_pixel(height: int, width: int) -> None:
    boxes = BACKBONE.token_boxes(height, width)
    views = [boxes] if len(boxes) == 256 else [boxes[:-256], boxes[-256:]]
    for x1, y1, x2, y2 in (view.T for view in views):
        assert [x1.min(), y1.min(), x2.max(), y2.max()] == [0, 0, width, height]
        assert np.isclose(((x2 - x1) * (y2 - y1)).sum(), height * width)


# (112, 168) is a grid of tiles: nothing is resized in them; the others are stretched.
@pytest.mark.parametrize("size", [(112, 168), (56, 56), (100, 60), (60, 170)])
@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_a_changed_pixel_changes_the_tokens_whose_box_holds_it(
    size: tuple[int, int], ratio: float
) -> None:
    config = tiny_config("internvl")
    config.downsample_ratio = ratio
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).eval().requires_grad_(False)
    tiles.make_local(model, "projection_layer")
    backbone = InternVL.of(config, {})
    tiles.check_order(model, backbone, *size, reach=1 + 2 * max(1, max(size) / 56))


def test_the_template_is_known() -> None:
    assert InternVL.template in TEMPLATES


def test_without_a_preprocessor_the_published_values_count() -> None:
    assert InternVL.of(published(), {}) == BACKBONE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("vision_config.image_size", value) for value in (0, "448", [448, 224], [448], 1 << 20)),
        *(("vision_config.patch_size", value) for value in (0, 449, [14, 7], None, 13)),
        ("vision_config.patch_size", 1),  # more tokens than any model's context
        ("vision_feature_select_strategy", "full"),
        *(("downsample_ratio", value) for value in (0, -0.5, 2, 0.3, 1 / 3, "0.5", None, 1e-9)),
        ("downsample_ratio", float("nan")),
    ],
)
def test_an_impossible_value_of_the_config_is_refused(key: str, value: Any) -> None:
    config = published()
    part = config.vision_config if key.startswith("vision_config.") else config
    object.__setattr__(part, key.split(".")[-1], value)
    name = "max_patches" if value == 1 else key.split(".")[-1]
    with pytest.raises(CheckpointError, match=name) as refused:
        InternVL.of(config, {})
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("max_patches", value) for value in (0, -1, 10**9, "12", 12.0, True)),
        *(("min_patches", value) for value in (0, 13, "1")),
        ("size", {"height": 448, "width": 224}),
        ("do_normalize", False),
    ],
)
def test_an_impossible_value_of_the_preprocessor_is_refused(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match="width" if key == "size" else key) as refused:
        InternVL.of(published(), {**PREPROCESSOR, key: value})
    assert len(str(refused.value)) < 300
