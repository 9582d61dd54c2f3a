"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5 against transformers' processor and models."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoConfig, AutoModelForImageTextToText, Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from sdvlm_core.errors import CheckpointError, FrameError
from sdvlm_core.model.backbones.qwen_vl import MAX_ASPECT, QwenVL
from sdvlm_core.model.prompt import prefix_ids, question_ids, template
from tests.tiny_backbones import IMAGE, tiny_config, tiny_model

CPU = torch.device("cpu")
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")
#: Small pictures, so that a tiny model sees few tokens.
SMALL = {"size": {"shortest_edge": 56 * 56, "longest_edge": 320 * 320}}
PUBLISHED = {
    "qwen2_5_vl": {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
    },
    "qwen3_vl": {
        "size": {"longest_edge": 16777216, "shortest_edge": 65536},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "Qwen2VLImageProcessorFast",
    },
}
PUBLISHED["qwen2_vl"] = PUBLISHED["qwen2_5_vl"]
PUBLISHED["qwen3_5"] = PUBLISHED["qwen3_vl"]


def config_of(model_type: str) -> Any:
    if model_type != "qwen2_vl":
        return tiny_config(model_type)
    relative = tiny_config("qwen2_5_vl").to_dict()
    tower = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    text = {**relative["text_config"], "model_type": "qwen2_vl_text"}
    tokens = {key: value for key, value in relative.items() if key.endswith("_token_id")}
    return AutoConfig.for_model(model_type, vision_config=tower, text_config=text, **tokens)


def model_of(model_type: str) -> Any:
    if model_type != "qwen2_vl":
        return tiny_model(model_type)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config_of(model_type))
    return model.eval().requires_grad_(False)


def backbone(model_type: str, preprocessor: dict[str, Any] | None = None) -> QwenVL:
    return QwenVL.of(config_of(model_type), SMALL if preprocessor is None else preprocessor)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def without_attention(model_type: str) -> Any:
    """A model whose image tokens see their own patches alone."""
    model = model_of(model_type)
    for block in model.model.visual.blocks:
        block.attn.proj.weight.zero_()
        block.attn.proj.bias.zero_()
    return model


def features_of(model: Any, prepared: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """All features that reach the language model, each (tokens, channels)."""
    output = model.get_image_features(**prepared, return_dict=True)
    deep = getattr(output, "deepstack_features", None) or []
    return [output.pooler_output[0], *(layer[0] for layer in deep)]


def by_library(model_type: str, rgb: np.ndarray) -> Any:
    """The picture as the library's processor makes it, with the published preprocessor."""
    stated = {key: value for key, value in PUBLISHED[model_type].items() if "type" not in key}
    return Qwen2VLImageProcessorPil(**stated)(rgb, return_tensors="pt")


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize(
    ("height", "width"), [(640, 480), (720, 1280), (17, 23), (1201, 77), (448, 672)]
)
def test_pixels_and_grid_equal_those_of_the_library(model_type, height, width):
    rgb = noise(height, width)
    expected = by_library(model_type, rgb)
    prepared = backbone(model_type, PUBLISHED[model_type]).prepare(rgb, CPU)
    assert prepared["image_grid_thw"].equal(expected["image_grid_thw"])
    torch.testing.assert_close(
        prepared["pixel_values"], expected["pixel_values"], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize(("height", "width"), [(480, 640), (30, 1900)])
def test_a_picture_whose_width_alone_grows_differs_by_roundings_alone(model_type, height, width):
    """Pillow 13 resizes columns first where that is cheaper, and `prepare` rows first.

    Both round between the two passes: by up to half a level each, times the filter's gain. On a
    smooth picture nothing else remains.
    """
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17 + y / 29), np.cos(x / 23 - y / 13), np.sin(y / 19) * np.cos(x / 31)]
    rgb = np.uint8(127.5 + 120 * np.stack(waves, -1))
    expected = by_library(model_type, rgb)
    prepared = backbone(model_type, PUBLISHED[model_type]).prepare(rgb, CPU)
    assert prepared["image_grid_thw"].equal(expected["image_grid_thw"])
    std = torch.tensor(PUBLISHED[model_type]["image_std"])[:, None]
    difference = prepared["pixel_values"] - expected["pixel_values"]
    levels = (difference.unflatten(1, (3, -1)) * std * 255).abs()
    assert levels.max() < 2.01
    assert (levels > 1.01).float().mean() < 1e-3


@pytest.mark.parametrize("model_type", FAMILIES)
def test_without_a_preprocessor_the_published_values_hold(model_type):
    assert backbone(model_type, {}) == backbone(model_type, PUBLISHED[model_type])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_full_hd_frame_takes_a_few_thousand_tokens(model_type):
    tokens = len(backbone(model_type, {}).token_boxes(1080, 1920))
    assert tokens == (39 * 69 if model_type.startswith("qwen2") else 34 * 60)


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize(("height", "width"), [(196, 308), (150, 260), (250, 111)])
def test_pixels_in_a_box_change_the_token_of_the_box_alone(model_type, height, width):
    model, form = without_attention(model_type), backbone(model_type)
    rgb = noise(height, width)
    before = features_of(model, form.prepare(rgb, CPU))
    rows, columns = form.grid(height, width)
    cell = form.patch * form.merge
    # The reach of the bicubic filter, in pixels of the original.
    margin = [2.5 * max(1, height / (rows * cell)), 2.5 * max(1, width / (columns * cell))]
    boxes = form.token_boxes(height, width)
    for token, (x1, y1, x2, y2) in enumerate(boxes):
        changed = rgb.copy()
        inside = changed[
            int(y1 + margin[0]) + 1 : int(y2 - margin[0]),
            int(x1 + margin[1]) + 1 : int(x2 - margin[1]),
        ]
        assert inside.size
        inside[:] = 255 - inside
        after = features_of(model, form.prepare(changed, CPU))
        for old, new in zip(before, after, strict=True):
            assert (old != new).any(-1).nonzero().ravel().tolist() == [token]
    assert len(boxes) == len(before[0])


def test_the_features_of_qwen3_vl_include_deepstack():
    form = backbone("qwen3_vl")
    assert len(features_of(model_of("qwen3_vl"), form.prepare(noise(150, 260), CPU))) == 3


def test_last_hidden_state_of_qwen2_5_vl_is_in_another_order_than_the_boxes():
    """Why the code goes to `pooler_output`: a place far from the first window shows it."""
    model, form = without_attention("qwen2_5_vl"), backbone("qwen2_5_vl")
    rgb = noise(196, 308)
    changed = rgb.copy()
    token = 4  # the fifth of the first row; the windows are two tokens wide
    x1, y1, x2, y2 = form.token_boxes(196, 308)[token].astype(int)
    changed[y1:y2, x1:x2] = 0
    before, after = (
        model.get_image_features(**form.prepare(one, CPU), return_dict=True).last_hidden_state
        for one in (rgb, changed)
    )
    moved = (before != after).any(-1).reshape(-1, 4).any(1).nonzero().ravel().tolist()
    assert moved == [8]


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize(("height", "width"), [(196, 308), (250, 111), (60, 60)])
@pytest.mark.parametrize(("before", "after"), [(3, 5), (0, 0), (0, 4), (2, 0)])
def test_positions_equal_those_of_the_model(model_type, height, width, before, after):
    model, form = model_of(model_type), backbone(model_type)
    pieces = [before, *form.image_pieces(height, width), after]
    ids = [
        token
        for piece, fill in zip(pieces, (5, 0, IMAGE, 0, 5), strict=True)
        for token in ([7] if isinstance(piece, str) else [fill] * piece)
    ]
    is_image = np.array(ids) == IMAGE
    wanted, deltas = model.model.get_rope_index(
        torch.tensor([ids]),
        mm_token_type_ids=torch.tensor(is_image)[None].int(),
        image_grid_thw=form.prepare(noise(height, width), CPU)["image_grid_thw"],
    )
    got, following = form.positions(is_image, height, width)
    assert got.dtype == wanted.dtype
    assert got.equal(wanted)
    assert following == len(ids) + int(deltas)


def test_positions_of_a_prompt_without_image_count_its_tokens():
    got, following = backbone("qwen3_vl").positions(np.zeros(4, bool), 100, 100)
    assert got.tolist() == [[[0, 1, 2, 3]]] * 3
    assert following == 4


@pytest.mark.parametrize("is_image", [[1, 0, 1, 1, 1], [1, 1, 1], [1] * 5])
def test_positions_refuse_image_tokens_of_another_picture(is_image):
    form = backbone("qwen3_vl")
    assert len(form.token_boxes(64, 64)) == 4
    with pytest.raises(ValueError, match="one block of 4"):
        form.positions(np.array(is_image, bool), 64, 64)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_image_pieces_hold_as_many_placeholders_as_the_model_has_features(model_type):
    model, form = model_of(model_type), backbone(model_type)
    for height, width in [(196, 308), (20, 300), (250, 111)]:
        (feature, *_) = features_of(model, form.prepare(noise(height, width), CPU))
        assert form.image_pieces(height, width) == [
            "<|vision_start|>",
            len(feature),
            "<|vision_end|>",
        ]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FAMILIES), st.integers(1, 3000), st.integers(1, 3000))
def test_boxes_cover_the_image_once_for_every_size(model_type, height, width):
    form = backbone(model_type, {})
    if max(height, width) > MAX_ASPECT * min(height, width):
        with pytest.raises(FrameError, match="crop"):
            form.token_boxes(height, width)
        return
    cell = form.patch * form.merge
    rows, columns = form.grid(height, width)
    limits = {"min_pixels": form.min_pixels, "max_pixels": form.max_pixels}
    assert form.picture_size(height, width) == (rows * cell, columns * cell)
    assert form.picture_size(height, width) == smart_resize(height, width, cell, **limits)
    boxes = form.token_boxes(height, width)
    assert form.image_pieces(height, width)[1] == len(boxes) == rows * columns
    assert boxes[0, :2].tolist() == [0, 0]
    assert boxes[-1, 2:].tolist() == [width, height]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert (area > 0).all()
    assert area.sum() == pytest.approx(height * width)
    raster = boxes.reshape(rows, columns, 4)
    assert (raster[:, 1:, 0] == raster[:, :-1, 2]).all()
    assert (raster[1:, :, 1] == raster[:-1, :, 3]).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 1 << 22), st.integers(1, 1 << 20))
def test_grids_equal_the_library_for_any_limits(height, width, high, low):
    low = min(low, high)
    form = backbone("qwen3_vl", {"min_pixels": low, "max_pixels": high})
    if max(height, width) <= MAX_ASPECT * min(height, width):
        assert form.picture_size(height, width) == smart_resize(height, width, 32, low, high)
        assert min(form.grid(height, width)) >= 1


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_limits_of_the_checkpoint_hold(model_type):
    limits = {"max_pixels": 100_000, "min_pixels": 3136}
    for preprocessor in (limits, {"size": {"longest_edge": 100_000, "shortest_edge": 3136}}):
        form = backbone(model_type, preprocessor)
        assert (form.min_pixels, form.max_pixels) == (3136, 100_000)
        assert len(form.token_boxes(1080, 1920)) * (form.patch * form.merge) ** 2 <= 100_000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patch_size", 0),
        ("patch_size", -14),
        ("patch_size", 1 << 40),
        ("patch_size", [14, 14]),
        ("spatial_merge_size", 0),
        ("spatial_merge_size", 10**9),
        ("temporal_patch_size", 0),
        ("temporal_patch_size", 10**6),
        ("in_channels", 4),
    ],
)
def test_an_impossible_config_is_refused_with_its_key(key, value):
    vision = {
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "in_channels": 3,
        key: value,
    }
    config = SimpleNamespace(model_type="qwen3_vl", vision_config=SimpleNamespace(**vision))
    with pytest.raises(CheckpointError, match=key):
        QwenVL.of(config, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patch_size", 14),
        ("patch_size", "16"),
        ("merge_size", 1),
        ("temporal_patch_size", 1),
        ("min_pixels", 0),
        ("min_pixels", 1 << 30),
        ("max_pixels", 0),
        ("max_pixels", -5),
        ("max_pixels", 1e7),
        ("max_pixels", "many"),
        ("max_pixels", 1 << 40),
        ("size", {"longest_edge": 1 << 40}),
        ("size", {"shortest_edge": "x\n"}),
        ("size", [224, 224]),
        ("image_mean", [0.5, 0.5]),
        ("image_mean", [0.5, 0.5, float("nan")]),
        ("image_mean", "grey"),
        ("image_std", [0.5, 0.5, 0.0]),
        ("image_std", [0.5, -0.5, 0.5]),
        ("image_std", [0.5, True, 0.5]),
        ("resample", 0),
        ("resample", "bicubic"),
        ("do_resize", False),
        ("do_rescale", 0),
        ("do_normalize", "no"),
        ("rescale_factor", 1.0),
        ("rescale_factor", float("nan")),
    ],
)
def test_an_impossible_preprocessor_is_refused_with_its_key(key, value):
    with pytest.raises(CheckpointError, match=key) as caught:
        backbone("qwen3_vl", {key: value})
    assert "\n" not in str(caught.value)


def test_a_null_in_the_preprocessor_is_no_value():
    nothing = dict.fromkeys(PUBLISHED["qwen2_5_vl"])
    assert backbone("qwen3_vl", nothing) == backbone("qwen3_vl", {})


def test_another_model_type_is_refused():
    with pytest.raises(CheckpointError, match="llava"):
        QwenVL.of(tiny_config("llava"), {})


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Qwen's own splitting and control tokens, with a word for each byte and a few joined ones."""
    words = sorted(ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("Ċ", "Ċ"), (".", "Ċ")]
    vocabulary = {word: number for number, word in enumerate([*words, *map("".join, merges)])}
    names = ("im_start", "vision_start", "vision_end", "image_pad")
    return Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        eos_token="<|im_end|>",
        extra_special_tokens=[f"<|{name}|>" for name in names],
    )


#: A prompt with one image and one question, as the published chat templates write it.
_USER = "<|im_start|>user\n<|vision_start|>{image}<|vision_end|>{question}<|im_end|>\n"
_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
CHATS = {
    "qwen2_vl": _SYSTEM + _USER + "<|im_start|>assistant\n",
    "qwen2_5_vl": _SYSTEM + _USER + "<|im_start|>assistant\n",
    "qwen3_vl": _USER + "<|im_start|>assistant\n",
    "qwen3_5": _USER + "<|im_start|>assistant\n<think>\n\n</think>\n\n",
}


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("question", ["How tall is the mug?", " the\n\nthe ", "."])
def test_a_prompt_in_parts_has_the_ids_of_the_published_chat(model_type, question):
    tokenizer, form = qwen_tokenizer(), backbone(model_type)
    (image_id,) = tokenizer.encode("<|image_pad|>")
    words, pieces = template(form.template), form.image_pieces(100, 200)
    ids = prefix_ids(tokenizer, words, image_id, pieces)
    ids += question_ids(tokenizer, words, question, image_id)
    image = "<|image_pad|>" * len(form.token_boxes(100, 200))
    assert ids == tokenizer.encode(CHATS[model_type].format(image=image, question=question))


def test_each_model_has_its_template_and_its_boxes():
    stated = [backbone(name, {}) for name in FAMILIES]
    assert [(one.template, one.boxes) for one in stated] == [
        ("qwen2_vl", "thousand"),
        ("qwen2_vl", "pixels"),
        ("qwen3_vl", "thousand"),
        ("qwen3_5", "thousand"),
    ]


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_projector_has_these_names_and_lora_the_layers_of_the_language_model(model_type):
    form, modules = backbone(model_type), dict(model_of(model_type).named_modules())
    for name in form.projector:
        assert f"model.{name}" in modules
    linear = {name for name, one in modules.items() if isinstance(one, torch.nn.Linear)}
    # One row per head each: the gates of recurrent layers.
    left = {"lm_head", *(name for name in linear if name.endswith(("in_proj_a", "in_proj_b")))}
    language = {name for name in linear if ".visual." not in name} - left
    assert {name for name in linear if re.fullmatch(form.lora_targets, name)} == language
