"""Gemma 3 against transformers' processor and model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.backbones.contract import ImageAttention
from sdvlm_core.model.backbones.gemma3 import Gemma3
from sdvlm_core.model.prompt import prefix_ids, question_ids, template
from tests.tiny_backbones import tiny_config, tiny_model

CPU = torch.device("cpu")
#: preprocessor_config.json of the published models, without the names of classes.
PUBLISHED: dict[str, Any] = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_pan_and_scan": None,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_seq_length": 256,
    "image_std": [0.5, 0.5, 0.5],
    "pan_and_scan_max_num_crops": None,
    "pan_and_scan_min_crop_size": None,
    "pan_and_scan_min_ratio_to_activate": None,
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": 896, "width": 896},
}
#: The library's values, at which its processor crops.
SCAN = {
    "do_pan_and_scan": True,
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}


def published(**more: Any) -> Gemma3:
    vision = SimpleNamespace(image_size=896, patch_size=14)
    config = SimpleNamespace(vision_config=vision, mm_tokens_per_image=256)
    return Gemma3.of(config, {**PUBLISHED, **more})


def tiny(**preprocessor: Any) -> Gemma3:
    return Gemma3.of(tiny_config("gemma3"), preprocessor)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def waves(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    parts = [np.sin(x / 17 + y / 29), np.cos(x / 23 - y / 13), np.sin(y / 19) * np.cos(x / 31)]
    return np.uint8(127.5 + 120 * np.stack(parts, -1))


def by_library(rgb: np.ndarray, **preprocessor: Any) -> Any:
    stated = {**PUBLISHED, **preprocessor}
    del stated["image_seq_length"]
    processor = Gemma3ImageProcessorPil(**stated)
    return processor(rgb, return_tensors="pt", input_data_format="channels_last")


def without_attention() -> Any:
    """A model whose image tokens see their own patches alone."""
    model = tiny_model("gemma3")
    for layer in model.model.vision_tower.encoder.layers:
        layer.self_attn.out_proj.weight.zero_()
        layer.self_attn.out_proj.bias.zero_()
    return model


def features_of(model: Any, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
    output = model.get_image_features(**prepared, return_dict=True).pooler_output
    return output.flatten(0, 1)


@pytest.mark.parametrize("pan_and_scan", [{}, SCAN])
@pytest.mark.parametrize(
    ("height", "width"), [(480, 640), (720, 1280), (600, 260), (17, 23), (300, 1900), (1000, 1000)]
)
def test_pixels_equal_those_of_the_library(height, width, pan_and_scan):
    rgb = noise(height, width)
    expected = by_library(rgb, **pan_and_scan)
    prepared = published(**pan_and_scan).prepare(rgb, CPU)
    torch.testing.assert_close(
        prepared["pixel_values"], expected["pixel_values"], rtol=0, atol=1e-6
    )
    assert len(prepared["pixel_values"]) == 1 + int(expected["num_crops"][0])


@pytest.mark.parametrize("pan_and_scan", [{}, SCAN])
@pytest.mark.parametrize(("height", "width"), [(1280, 720), (1900, 300)])
def test_a_picture_that_grows_and_shrinks_differs_by_roundings_alone(height, width, pan_and_scan):
    """Where only the width grows, Pillow 13 resizes columns first, and `prepare` rows first.

    Both round between the two passes, by up to half a level each. On a smooth picture nothing else
    remains.
    """
    rgb = waves(height, width)
    expected = by_library(rgb, **pan_and_scan)["pixel_values"]
    prepared = published(**pan_and_scan).prepare(rgb, CPU)["pixel_values"]
    assert prepared.shape == expected.shape
    levels = (prepared - expected).abs() * 0.5 * 255
    assert levels.max() < 1.01
    assert (levels > 0.01).float().mean() < 0.5


def test_without_a_preprocessor_the_published_values_hold():
    config = SimpleNamespace(
        vision_config=SimpleNamespace(image_size=896, patch_size=14), mm_tokens_per_image=256
    )
    assert Gemma3.of(config, {}) == published()
    assert published().cell == 56
    assert published().crops is None
    only_on = published(do_pan_and_scan=True)
    assert only_on == published(**SCAN)


@pytest.mark.parametrize(
    ("height", "width", "views"), [(480, 640, 3), (720, 1280, 3), (500, 2000, 5)]
)
def test_a_camera_frame_takes_as_many_tokens_as_published(height, width, views):
    assert len(published().token_boxes(height, width)) == 256
    assert len(published(**SCAN).token_boxes(height, width)) == 256 * views


@pytest.mark.parametrize(
    ("height", "width", "scan"),
    [(300, 500, {}), (112, 113, {}), (300, 700, SCAN), (900, 300, SCAN), (280, 1100, SCAN)],
)
def test_pixels_in_a_box_change_the_tokens_of_the_boxes_alone(height, width, scan):
    """In every view: the bilinear filter reaches two pixels of the smaller picture."""
    model, form, rgb = without_attention(), tiny(**scan), noise(height, width)
    boxes, views = form.token_boxes(height, width), form.views(height, width)
    assert len(views) == ({700: 3, 300: 4, 1100: 5}[width] if scan else 1)
    before = features_of(model, form.prepare(rgb, CPU))
    assert len(boxes) == len(before)
    reach = np.repeat(
        [
            [max(1, (right - left) / form.side), max(1, (bottom - top) / form.side)]
            for left, top, right, bottom in views
        ],
        form.view_tokens,
        axis=0,
    )
    for token, (x1, y1, x2, y2) in enumerate(boxes):
        middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
        reach_x, reach_y = 1 + reach[token]
        x, right = int(min(x1 + reach_x, middle_x)), int(max(x2 - reach_x, middle_x + 1))
        y, bottom = int(min(y1 + reach_y, middle_y)), int(max(y2 - reach_y, middle_y + 1))
        changed = rgb.copy()
        changed[y:bottom, x:right] = 255 - changed[y:bottom, x:right]
        after = features_of(model, form.prepare(changed, CPU))
        moved = set((before != after).any(-1).nonzero().ravel().tolist())

        def near(
            grown: Any, x: int = x, y: int = y, right: int = right, bottom: int = bottom
        ) -> set:
            """Tokens whose boxes, grown by so much, hold a changed pixel."""
            return set(
                (
                    (boxes[:, 0] < right + grown[:, 0])
                    & (boxes[:, 1] < bottom + grown[:, 1])
                    & (boxes[:, 2] > x - grown[:, 0])
                    & (boxes[:, 3] > y - grown[:, 1])
                ).nonzero()[0]
            )

        assert token in moved
        assert near(0 * reach) <= moved <= near(reach)
        of_view = token - token % form.view_tokens
        assert {one for one in moved if of_view <= one < of_view + form.view_tokens} == {token}


def gemma_like_tokenizer() -> PreTrainedTokenizerFast:
    """A BPE that merges line breaks and words across spaces, as SentencePiece's do."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    tokens += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    corpus = [
        "user\n\n\n",
        "\n\nHow tall is the mug?",
        "user\nHere is the original image \n\n",
        "\n\n and here are some crops to help you see better \n\n",
        "\n\n \n\n",
        "\nmodel\n",
    ]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=tokens, show_progress=False)
    tokenizer.train_from_iterator(corpus * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )


@pytest.mark.parametrize("scan", [{}, SCAN])
@pytest.mark.parametrize(("height", "width"), [(300, 500), (300, 700), (900, 300), (280, 1003)])
def test_pieces_encoded_one_by_one_have_the_ids_of_the_library(height, width, scan):
    tokenizer, form = gemma_like_tokenizer(), tiny(**scan)
    images = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    processor = Gemma3Processor(images, tokenizer, image_seq_length=4)
    question, image_id = "How tall is the mug?", tokenizer.image_token_id
    opening, closing = "<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"
    expected = processor(
        images=noise(height, width), text=f"{opening}<start_of_image>{question}{closing}", **scan
    )
    pieces, words = form.image_pieces(height, width), template(Gemma3.template)
    ids = prefix_ids(tokenizer, words, image_id, pieces)
    ids += question_ids(tokenizer, words, question, image_id)
    assert ids == expected["input_ids"][0]
    is_image = np.array(ids) == image_id
    assert is_image.tolist() == [bool(one) for one in expected["token_type_ids"][0]]
    assert is_image.sum() == len(form.token_boxes(height, width))


def test_the_processor_of_the_library_takes_its_own_crops_and_ours_those_of_the_file():
    """The library passes `do_pan_and_scan=False` with each call, whatever the file states."""
    images = Gemma3ImageProcessorPil(size={"height": 56, "width": 56}, **SCAN)
    processor = Gemma3Processor(images, gemma_like_tokenizer(), image_seq_length=4)
    encoded = processor(images=noise(300, 700), text="<start_of_image>")
    assert len(encoded["pixel_values"]) == 1
    assert len(images(noise(300, 700))["pixel_values"]) == 3
    assert len(tiny(**SCAN).views(300, 700)) == 3


def test_image_tokens_attend_to_each_other():
    assert published().attention is ImageAttention.IMAGE


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.integers(16, 400),
    st.integers(1, 16),
    st.floats(0.5, 4),
)
def test_crops_equal_those_of_the_library_for_every_size(height, width, crop, most, ratio):
    stated = {
        "pan_and_scan_min_crop_size": crop,
        "pan_and_scan_max_num_crops": most,
        "pan_and_scan_min_ratio_to_activate": ratio,
    }
    numbered = np.arange(height * width).reshape(1, height, width)
    crops = Gemma3ImageProcessorPil().pan_and_scan(numbered, **stated)
    form = published(do_pan_and_scan=True, **stated)
    _, *views = form.views(height, width)
    ours = [numbered[:, int(y1) : int(y2), int(x1) : int(x2)] for x1, y1, x2, y2 in views]
    assert [one.shape for one in ours] == [one.shape for one in crops]
    assert all(
        (one[:, 0, 0] == other[:, 0, 0]).all() for one, other in zip(ours, crops, strict=True)
    )


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([{}, SCAN]))
def test_boxes_cover_the_image_in_every_view_for_every_size(height, width, scan):
    form = published(**scan)
    boxes = form.token_boxes(height, width)
    pieces = form.image_pieces(height, width)
    assert sum(one for one in pieces if isinstance(one, int)) == len(boxes)
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).reshape(-1, 256)
    assert (area > 0).all()
    whole, crops = area[0], area[1:]
    assert whole.sum() == pytest.approx(height * width)
    assert not len(crops) or crops.sum() == pytest.approx(height * width)
    raster = boxes.reshape(-1, 16, 16, 4)
    assert (raster[:, :, 1:, 0] == raster[:, :, :-1, 2]).all()
    assert (raster[:, 1:, :, 1] == raster[:, :-1, :, 3]).all()
    assert raster[0, -1, -1, 2:].tolist() == [width, height]
    assert raster[-1, -1, -1, 2:].tolist() == [width, height]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 1200), st.integers(1, 1200), st.sampled_from([{}, SCAN]))
def test_a_model_has_as_many_features_as_boxes_for_every_size(height, width, scan):
    form = tiny(**scan)
    prepared = form.prepare(np.zeros((height, width, 3), np.uint8), CPU)
    features = features_of(tiny_model("gemma3"), prepared)
    assert len(form.token_boxes(height, width)) == len(features)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 0),
        ("image_size", "896"),
        ("image_size", 1 << 40),
        ("patch_size", 0),
        ("patch_size", -14),
        ("patch_size", 897),
        ("mm_tokens_per_image", 0),
        ("mm_tokens_per_image", 255),
        ("mm_tokens_per_image", 9),
        ("mm_tokens_per_image", 1 << 30),
        ("mm_tokens_per_image", None),
    ],
)
def test_an_impossible_config_is_refused_with_its_key(key, value):
    values = {"image_size": 896, "patch_size": 14, "mm_tokens_per_image": 256, key: value}
    tokens = values.pop("mm_tokens_per_image")
    config = SimpleNamespace(vision_config=SimpleNamespace(**values), mm_tokens_per_image=tokens)
    with pytest.raises(CheckpointError, match=key):
        Gemma3.of(config, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", {"height": 448, "width": 448}),
        ("size", {"height": 896}),
        ("size", {"longest_edge": 896}),
        ("size", {"height": "x\n", "width": 896}),
        ("size", 896),
        ("do_pan_and_scan", "yes"),
        ("do_pan_and_scan", 1),
        ("pan_and_scan_min_crop_size", 0),
        ("pan_and_scan_min_crop_size", 1 << 40),
        ("pan_and_scan_min_crop_size", "256"),
        ("pan_and_scan_max_num_crops", 0),
        ("pan_and_scan_max_num_crops", 1000),
        ("pan_and_scan_max_num_crops", 2.5),
        ("pan_and_scan_min_ratio_to_activate", 0),
        ("pan_and_scan_min_ratio_to_activate", float("nan")),
        ("pan_and_scan_min_ratio_to_activate", "1.2\n"),
        ("image_mean", [0.5]),
        ("image_std", [0.5, 0.5, 0.0]),
        ("resample", 0),
        ("do_normalize", False),
        ("rescale_factor", 1),
    ],
)
def test_an_impossible_preprocessor_is_refused_with_its_key(key, value):
    with pytest.raises(CheckpointError, match=key) as caught:
        published(**{**SCAN, key: value})
    assert "\n" not in str(caught.value)


def test_the_names_of_the_parts_are_those_of_the_model():
    names = dict(tiny_model("gemma3").model.named_modules())
    assert all(one in names for one in Gemma3.projector)
