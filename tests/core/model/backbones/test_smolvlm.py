"""SmolVLM2 and Idefics3 against transformers' processors and models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.backbones.picture import resized, resized_on
from sdvlm_core.model.backbones.smolvlm import SmolVLM, is_supported
from sdvlm_core.model.prompt import prefix_ids, question_ids, template
from tests.tiny_backbones import tiny_config, tiny_model

pytestmark = pytest.mark.skipif(not is_supported(), reason="transformers before 5.21")

CPU = torch.device("cpu")
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
#: Name -> image size, patch size, scale factor and longest edge of the published checkpoints.
PUBLISHED = {
    "SmolVLM2-2.2B": (384, 14, 3, 1536),
    "SmolVLM2-500M": (512, 16, 4, 2048),
    "Idefics3-8B": (364, 14, 2, 1820),
}
SIZES = [(480, 640), (640, 480), (720, 1280), (30, 1900), (17, 23), (3, 2), (640, 640)]


def stated(edge: int, tile: int, **more: Any) -> dict[str, Any]:
    sides = {"size": {"longest_edge": edge}, "max_image_size": {"longest_edge": tile}}
    return {**sides, **HALF, "resample": 1, **more}


def published(name: str) -> SmolVLM:
    size, patch, merge, edge = PUBLISHED[name]
    vision = SimpleNamespace(image_size=size, patch_size=patch)
    config = SimpleNamespace(model_type="smolvlm", vision_config=vision, scale_factor=merge)
    return SmolVLM.of(config, stated(edge, size))


def tiny(edge: int = 224, tile: int = 56, **more: Any) -> SmolVLM:
    return SmolVLM.of(tiny_config("smolvlm"), stated(edge, tile, **more))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def model_of(model_type: str) -> Any:
    if model_type == "smolvlm":
        return tiny_model("smolvlm")
    values = {**tiny_config("smolvlm").to_dict(), "model_type": model_type}
    values["vision_config"]["model_type"] = "idefics3_vision"
    torch.manual_seed(0)
    config = AutoConfig.for_model(**values)
    return AutoModelForImageTextToText.from_config(config).eval().requires_grad_(False)


def without_attention(model_type: str) -> Any:
    """A model whose image tokens see their own patches alone."""
    model = model_of(model_type)
    for layer in model.model.vision_model.encoder.layers:
        layer.self_attn.out_proj.weight.zero_()
        layer.self_attn.out_proj.bias.zero_()
    return model


def features_of(model: Any, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
    (features,) = model.get_image_features(**prepared, return_dict=True).pooler_output
    return features


def by_library(kind: Any, rgb: np.ndarray, **preprocessor: Any) -> Any:
    processor = kind(return_row_col_info=True, **preprocessor)
    return processor(rgb, return_tensors="pt", input_data_format="channels_last")


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pixels_equal_those_of_the_library(height, width):
    rgb = noise(height, width)
    expected = by_library(SmolVLMImageProcessorPil, rgb, **stated(448, 112))
    prepared = tiny(448, 112).prepare(rgb, CPU)
    torch.testing.assert_close(
        prepared["pixel_values"], expected["pixel_values"], rtol=0, atol=1e-6
    )
    assert expected["pixel_attention_mask"].all()  # so the model needs none


def test_a_long_upright_picture_differs_by_roundings_alone():
    """Pillow 13 resizes its columns first, where that is less work, and `prepare` its rows.

    Both round between the two passes of each resize, by up to half a level times the filter's gain.
    On a smooth picture nothing else remains.
    """
    y, x = np.mgrid[:1201, :77]
    parts = [np.sin(x / 17 + y / 29), np.cos(x / 23 - y / 13), np.sin(y / 19) * np.cos(x / 31)]
    rgb = np.uint8(127.5 + 120 * np.stack(parts, -1))
    expected = by_library(SmolVLMImageProcessorPil, rgb, **stated(448, 112))["pixel_values"]
    prepared = tiny(448, 112).prepare(rgb, CPU)["pixel_values"]
    assert prepared.shape == expected.shape
    levels = (prepared - expected).abs() * 0.5 * 255
    assert levels.max() < 2.01
    assert (levels > 1.01).float().mean() < 1e-2


@pytest.mark.parametrize("name", PUBLISHED)
def test_pixels_of_published_sizes_equal_those_of_the_library(name):
    kind = Idefics3ImageProcessorPil if name == "Idefics3-8B" else SmolVLMImageProcessorPil
    size, *_, edge = PUBLISHED[name]
    rgb = noise(480, 640)
    expected = by_library(kind, rgb, **stated(edge, size))["pixel_values"]
    prepared = published(name).prepare(rgb, CPU)["pixel_values"]
    torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("resample", "edge"), [(2, 224), (3, 224), (1, 1365), (1, 56), (1, 30)])
def test_other_filters_and_sides_equal_those_of_the_library(resample, edge):
    rgb = noise(200, 301)
    preprocessor = stated(edge, 56 if edge < 300 else 364, resample=resample)
    expected = by_library(SmolVLMImageProcessorPil, rgb, **preprocessor)["pixel_values"]
    form = SmolVLM.of(tiny_config("smolvlm"), preprocessor)
    prepared = form.prepare(rgb, CPU)["pixel_values"]
    torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(120, 90), (31, 200)])
def test_a_picture_that_is_resized_again_on_a_device_has_exactly_the_same_pixels(height, width):
    first = torch.from_numpy(noise(height, width)).permute(2, 0, 1)
    on_host = resized(first, 64, 96, "lanczos", CPU)
    assert resized_on(CPU, first, 64, 96, "lanczos").equal(on_host)
    assert resized(noise(height, width), 64, 96, "lanczos", CPU).equal(on_host)


@pytest.mark.parametrize("name", ["SmolVLM2-2.2B", "SmolVLM2-500M"])
def test_without_a_preprocessor_the_published_values_hold(name):
    size, patch, merge, _ = PUBLISHED[name]
    vision = SimpleNamespace(image_size=size, patch_size=patch)
    form = SmolVLM.of(
        SimpleNamespace(model_type="smolvlm", vision_config=vision, scale_factor=merge), {}
    )
    assert form == published(name)


def test_a_camera_frame_takes_as_many_tokens_as_published():
    assert len(published("SmolVLM2-2.2B").token_boxes(480, 640)) == (4 * 3 + 1) * 81
    assert len(published("SmolVLM2-500M").token_boxes(480, 640)) == (4 * 3 + 1) * 64
    assert len(published("SmolVLM2-500M").token_boxes(720, 1280)) == (4 * 3 + 1) * 64
    assert len(published("Idefics3-8B").token_boxes(480, 640)) == (5 * 4 + 1) * 169


def changed_tokens(model: Any, form: SmolVLM, rgb: np.ndarray, part: tuple) -> list[int]:
    changed = rgb.copy()
    changed[part] = 255 - changed[part]
    before, after = (features_of(model, form.prepare(one, CPU)) for one in (rgb, changed))
    return (before != after).any(-1).nonzero().ravel().tolist()


@pytest.mark.parametrize("model_type", ["smolvlm", "idefics3"])
@pytest.mark.parametrize(
    ("height", "width", "tile"), [(448, 448, 56), (300, 500, 56), (520, 250, 56), (448, 448, 60)]
)
def test_pixels_in_a_box_change_the_tokens_of_the_boxes_alone(model_type, height, width, tile):
    """One token of a tile, and of the whole picture those within the reach of its filters."""
    model, form, rgb = without_attention(model_type), tiny(4 * tile, tile), noise(height, width)
    boxes = form.token_boxes(height, width)
    complete = len(boxes) - form.tile_tokens
    # Two Lanczos filters reach 3 pixels of the picture fitted to the edge each, here in pixels of
    # the original; a third one makes the whole.
    reach = [7 * max(1, max(height, width) / form.edge)] * 2
    wide = [one + 3 * size / tile for one, size in zip(reach, (height, width), strict=True)]
    for token in range(0, complete, 5):
        x1, y1, x2, y2 = boxes[token]
        y, x = int(y1 + reach[0]) + 1, int(x1 + reach[1]) + 1
        bottom, right = int(y2 - reach[0]), int(x2 - reach[1])
        assert bottom > y
        assert right > x
        changed = changed_tokens(model, form, rgb, np.s_[y:bottom, x:right])
        whole = boxes[complete:]
        may = ~(
            (whole[:, 0] > right + wide[1])
            | (whole[:, 1] > bottom + wide[0])
            | (whole[:, 2] < x - wide[1])
            | (whole[:, 3] < y - wide[0])
        )
        must = (
            (whole[:, 0] < right) & (whole[:, 1] < bottom) & (whole[:, 2] > x) & (whole[:, 3] > y)
        )
        assert [one for one in changed if one < complete] == [token]
        seen = {one - complete for one in changed if one >= complete}
        assert set(must.nonzero()[0]) <= seen <= set(may.nonzero()[0])


def test_pixels_in_the_middle_of_a_box_of_the_whole_picture_change_its_token_alone():
    model, form, rgb = without_attention("smolvlm"), tiny(), noise(448, 448)
    boxes = form.token_boxes(448, 448)
    for token in range(len(boxes) - 4, len(boxes)):
        x, y = boxes[token].reshape(2, 2).mean(0).astype(int)
        changed = changed_tokens(model, form, rgb, np.s_[y - 60 : y + 60, x - 60 : x + 60])
        assert [one for one in changed if one >= len(boxes) - 4] == [token]


def test_the_mask_of_the_library_changes_no_feature():
    model, rgb = tiny_model("smolvlm"), noise(200, 301)
    expected = by_library(SmolVLMImageProcessorPil, rgb, **stated(224, 56))
    prepared = {key: expected[key] for key in ("pixel_values", "pixel_attention_mask")}
    ours = features_of(model, tiny().prepare(rgb, CPU))
    torch.testing.assert_close(ours, features_of(model, prepared), rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", [0, 127, 128, 255])
def test_a_tile_of_one_colour_keeps_its_tokens(level):
    rgb = noise(224, 224)
    rgb[:100, :100] = level
    form = tiny()
    assert len(features_of(tiny_model("smolvlm"), form.prepare(rgb, CPU))) == 17 * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("mean", "level"), [(0.0, 0), (0.4, 102), (0.2, 51)])
def test_a_tile_that_is_normalised_to_zero_is_not_dropped_as_padding(dtype, mean, level):
    """The library drops it and fails: the prompt has placeholders for every tile."""
    values = {"image_mean": [mean] * 3, "image_std": [1.0] * 3}
    rgb = noise(224, 224)
    rgb[:100, :100] = level
    library = by_library(SmolVLMImageProcessorPil, rgb, **{**stated(224, 56), **values})
    pixels = library["pixel_values"]
    prepared = tiny(**values).prepare(rgb, CPU)
    torch.testing.assert_close(prepared["pixel_values"], pixels, rtol=0, atol=1e-4)
    model = tiny_model("smolvlm").to(dtype)
    assert len(features_of(model, prepared)) == 17 * 4
    # A level next to zero is zero in float16 only.
    dropped = dtype is torch.float16 or not pixels[0, 0].any()
    assert len(features_of(model, {"pixel_values": pixels})) == (16 if dropped else 17) * 4


def test_a_picture_that_is_all_zeros_keeps_its_tokens():
    form = tiny(image_mean=[0.0] * 3, image_std=[1.0] * 3)
    prepared = form.prepare(np.zeros((48, 64, 3), np.uint8), CPU)
    assert len(features_of(tiny_model("smolvlm"), prepared)) == 13 * 4


def joined(pieces: Any) -> str:
    return "".join(one if isinstance(one, str) else "<image>" * one for one in pieces)


def byte_level_tokenizer(tiles: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE as SmolLM2's, with tokens for rows and columns up to `tiles`."""
    tokens = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<|im_start|>"]
    sides = range(1, tiles + 1)
    tokens += [f"<row_{row}_col_{column}>" for row in sides for column in sides]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    corpus = ["User:How tall is the mug?\n\n", "\n\nUser:", "<row_1_col_2>\n<global-img>\n"] * 20
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=[*tokens, "<global-img>"] if tiles else tokens,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|im_start|>")


@pytest.mark.parametrize("edge", [56, 224])
@pytest.mark.parametrize(("height", "width"), [(448, 448), (300, 500), (520, 250), (10, 600)])
def test_the_image_in_a_prompt_equals_that_of_the_library(edge, height, width):
    form = tiny(edge)
    encoded = by_library(SmolVLMImageProcessorPil, noise(height, width), **stated(edge, 56))
    shape = (encoded["rows"][0][0], encoded["cols"][0][0], form.tile_tokens)
    tokens = {
        "fake_token_around_image": "<fake_token_around_image>",
        "image_token": "<image>",
        "global_image_token": "<global-img>",
    }
    pieces = form.image_pieces(height, width)
    assert joined(pieces) == get_image_prompt_string(*shape, **tokens)


@pytest.mark.parametrize("tiles", [0, 6])
@pytest.mark.parametrize("edge", [56, 224])
def test_pieces_encoded_one_by_one_have_the_ids_of_the_library(tiles, edge):
    """Also where rows and columns are no control tokens, as in the 2.2B model."""
    tokenizer = byte_level_tokenizer(tiles)
    images = Idefics3ImageProcessorPil(**stated(edge, 56))
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4)
    question = "How tall is the mug?"
    text = f"<|im_start|>User:<image>{question}<end_of_utterance>\nAssistant:"
    whole = processor(images=[noise(300, 500)], text=text)["input_ids"][0]
    form, image_id = template(SmolVLM.template), processor.image_token_id
    ids = prefix_ids(tokenizer, form, image_id, tiny(edge).image_pieces(300, 500))
    assert ids + question_ids(tokenizer, form, question, image_id) == whole


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([(224, 56), (99, 33), (50, 50)]))
def test_tiles_equal_those_of_the_library_for_every_size(height, width, sides):
    rgb = np.broadcast_to(np.uint8(0), (height, width, 3))
    encoded = by_library(SmolVLMImageProcessorPil, rgb, **stated(*sides, resample=2))
    form = SmolVLM(*sides, 1, 1, tiny().rule)
    rows, columns = form.grid(height, width)
    assert encoded["rows"][0][0] == (rows if rows * columns > 1 else 0)
    assert encoded["cols"][0][0] == (columns if rows * columns > 1 else 0)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from(sorted(PUBLISHED)))
def test_boxes_cover_the_image_twice_for_every_size(height, width, name):
    """Except for what fills no patch: 6 of the 384 pixels of SmolVLM2-2.2B's tiles."""
    form = published(name)
    boxes = form.token_boxes(height, width)
    rows, columns = form.grid(height, width)
    assert sum(one for one in form.image_pieces(height, width) if isinstance(one, int)) == len(
        boxes
    )
    side = round(form.tile_tokens**0.5)
    read = side * form.patch * form.merge / form.tile
    assert read == (1.0 if name != "SmolVLM2-2.2B" else 378 / 384)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert (area > 0).all()
    tiles, complete = area[: -form.tile_tokens], area[-form.tile_tokens :]
    for one in (tiles, complete):
        assert one.sum() == pytest.approx(height * width * read**2)
    raster = boxes[: -form.tile_tokens].reshape(rows, columns, side, side, 4)
    for view in (
        *raster.reshape(-1, side, side, 4),
        boxes[-form.tile_tokens :].reshape(side, side, 4),
    ):
        assert (view[:, 1:, 0] == view[:, :-1, 2]).all()
        assert (view[1:, :, 1] == view[:-1, :, 3]).all()
    starts = np.arange(columns) * width / columns
    assert raster[0, :, 0, 0, 0].tolist() == starts.tolist()
    assert boxes[-1, 2:].tolist() == [width * read, height * read]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 1200), st.integers(1, 1200), st.sampled_from([(224, 56), (100, 60), (56, 56)])
)
def test_a_model_has_as_many_features_as_boxes_for_every_size(height, width, sides):
    form = tiny(*sides)
    prepared = form.prepare(np.zeros((height, width, 3), np.uint8), CPU)
    features = features_of(tiny_model("smolvlm"), prepared)
    assert len(form.token_boxes(height, width)) == len(features)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 0),
        ("image_size", [384, 384]),
        ("image_size", 1 << 40),
        ("patch_size", 0),
        ("patch_size", -14),
        ("patch_size", 10**6),
        ("patch_size", "14"),
        ("scale_factor", 0),
        ("scale_factor", 1.5),
        ("scale_factor", 5),
        ("scale_factor", 1 << 30),
    ],
)
def test_an_impossible_config_is_refused_with_its_key(key, value):
    values = {"image_size": 384, "patch_size": 14, "scale_factor": 3, key: value}
    merge = values.pop("scale_factor")
    config = SimpleNamespace(
        model_type="smolvlm", vision_config=SimpleNamespace(**values), scale_factor=merge
    )
    with pytest.raises(CheckpointError, match=key):
        SmolVLM.of(config, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", {"longest_edge": 0}),
        ("size", {"longest_edge": -1}),
        ("size", {"longest_edge": 1 << 40}),
        ("size", {"longest_edge": "x\n"}),
        ("size", {"height": 384, "width": 384}),
        ("size", 384),
        ("size", {"longest_edge": 4096}),  # 74 rows of tiles of 56 pixels
        ("max_image_size", {"longest_edge": 0}),
        ("max_image_size", {"longest_edge": 13}),
        ("max_image_size", {"longest_edge": 1 << 20}),
        ("max_image_size", {"longest_edge": 70}),  # 5 patches, merged by 2
        ("max_image_size", 512),
        ("do_image_splitting", False),
        ("do_resize", False),
        ("image_mean", [0.5, 0.5]),
        ("image_std", [0, 0, 0]),
        ("resample", "lanczos"),
    ],
)
def test_an_impossible_preprocessor_is_refused_with_its_key(key, value):
    # The patch is what a tile of 13 pixels is too small for.
    with pytest.raises(CheckpointError, match=f"{key}|patch_size|scale_factor") as caught:
        SmolVLM.of(tiny_config("smolvlm"), {key: value})
    assert "\n" not in str(caught.value)


def test_more_image_tokens_than_any_published_model_has_are_refused():
    vision = SimpleNamespace(image_size=512, patch_size=1)
    with pytest.raises(CheckpointError, match="image tokens"):
        SmolVLM.of(SimpleNamespace(model_type="smolvlm", vision_config=vision, scale_factor=1), {})


def test_the_names_of_the_parts_are_those_of_the_model():
    for model_type in ("smolvlm", "idefics3"):
        names = dict(model_of(model_type).model.named_modules())
        assert all(one in names for one in SmolVLM.projector)
