"""PaliGemma against transformers' processor and model."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.paligemma.processing_paligemma import PaliGemmaProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.backbones.contract import ImageAttention
from sdvlm_core.model.backbones.paligemma import PaliGemma
from sdvlm_core.model.prompt import prefix_ids, question_ids, template
from tests.tiny_backbones import IMAGE, tiny_config, tiny_model, tiny_tokenizer

CPU = torch.device("cpu")
#: preprocessor_config.json of paligemma2-3b-pt-224.
PUBLISHED: dict[str, Any] = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "image_seq_length": 256,
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "PaliGemmaProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}


def sized(side: int, patch: int = 14, channels: int = 3) -> Any:
    vision = SimpleNamespace(image_size=side, patch_size=patch, num_channels=channels)
    return SimpleNamespace(model_type="paligemma", vision_config=vision)


def tiny() -> PaliGemma:
    return PaliGemma.of(tiny_config("paligemma"), {})


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def by_library(side: int, rgb: np.ndarray) -> torch.Tensor:
    processor = SiglipImageProcessorPil(size={"height": side, "width": side})
    return processor(rgb, return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize(
    ("side", "height", "width"),
    [(224, 480, 640), (448, 720, 1280), (224, 9, 13), (448, 60, 90), (224, 100, 1900)],
)
def test_pixels_equal_those_of_the_library(side, height, width):
    rgb = noise(height, width)
    pixels = PaliGemma.of(sized(side), {}).prepare(rgb, CPU)["pixel_values"]
    torch.testing.assert_close(pixels, by_library(side, rgb), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1900, 100), (500, 200), (1280, 720)])
def test_a_tall_picture_differs_by_roundings_alone(height, width):
    """Pillow 13 resizes columns first where that is cheaper, and `prepare` rows first.

    Both round between the two passes: by up to half a level each, times the filter's gain. On a
    smooth picture nothing else remains.
    """
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17 + y / 29), np.cos(x / 23 - y / 13), np.sin(y / 19) * np.cos(x / 31)]
    rgb = np.uint8(127.5 + 120 * np.stack(waves, -1))
    pixels = PaliGemma.of(sized(224), {}).prepare(rgb, CPU)["pixel_values"]
    levels = (pixels - by_library(224, rgb)).abs() * 127.5
    assert levels.max() < 2.01
    assert (levels > 1.01).float().mean() < 1e-3


def test_the_published_preprocessor_is_the_default():
    assert PaliGemma.of(sized(224), PUBLISHED) == PaliGemma.of(sized(224), {})


@pytest.mark.parametrize(("height", "width"), [(56, 56), (56, 112), (203, 100), (40, 30)])
def test_pixels_in_a_box_change_the_token_of_the_box_alone(height, width):
    model, form = tiny_model("paligemma"), tiny()
    for layer in model.model.vision_tower.encoder.layers:
        layer.self_attn.out_proj.weight.zero_()
        layer.self_attn.out_proj.bias.zero_()
    rgb = noise(height, width)
    (before,) = model.get_image_features(**form.prepare(rgb, CPU), return_dict=True).pooler_output
    boxes = form.token_boxes(height, width)
    assert len(boxes) == len(before)
    # The reach of the bicubic filter, in pixels of the original; 0 where nothing is resized.
    reach = [0 if side == 56 else 2 * max(1, side / 56) for side in (height, width)]
    for token, (x1, y1, x2, y2) in enumerate(boxes):
        changed = rgb.copy()
        inside = changed[
            int(np.ceil(y1 + reach[0])) : int(y2 - reach[0]),
            int(np.ceil(x1 + reach[1])) : int(x2 - reach[1]),
        ]
        assert inside.size
        inside[:] = 255 - inside
        prepared = form.prepare(changed, CPU)
        (after,) = model.get_image_features(**prepared, return_dict=True).pooler_output
        assert (before != after).any(-1).nonzero().ravel().tolist() == [token]


def test_the_prompt_is_image_tokens_then_the_beginning_of_the_sequence():
    model, form = tiny_model("paligemma"), tiny()
    output = model.get_image_features(**form.prepare(noise(30, 40), CPU), return_dict=True)
    assert form.image_pieces(30, 40) == [len(output.pooler_output[0]), "<bos>"]


def test_a_prompt_in_parts_has_the_ids_of_the_library():
    tokenizer, form, question = tiny_tokenizer(), tiny(), "detect red mug"
    images = SiglipImageProcessorPil(size={"height": 56, "width": 56})
    images.image_seq_length = 16
    (image_id,) = tokenizer.encode("<image>", add_special_tokens=False)
    words, pieces = template(PaliGemma.template), form.image_pieces(30, 40)
    ids = prefix_ids(tokenizer, words, image_id, pieces)
    ids += question_ids(tokenizer, words, question, image_id)
    processor = PaliGemmaProcessor(images, tokenizer)
    assert [ids] == processor(images=noise(30, 40), text=f"<image>{question}")["input_ids"]


def test_positions_are_those_that_the_model_gives_its_language_model():
    model, form = tiny_model("paligemma"), tiny()
    taken = []
    model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: taken.append(kwargs["position_ids"]), with_kwargs=True
    )
    ids = torch.tensor([[IMAGE] * 16 + [1, 5, 6, 7, 8]])
    pixels = form.prepare(noise(30, 40), CPU)
    model(input_ids=ids, token_type_ids=torch.zeros_like(ids), **pixels)
    positions, following = form.positions((ids[0] == IMAGE).numpy(), 30, 40)
    assert positions.equal(taken[0])
    assert following == int(positions.max()) + 1


def test_image_tokens_see_the_question():
    """Why the attention is PROMPT: the keys of the image are another question's."""
    model, form = tiny_model("paligemma"), tiny()
    prepared = form.prepare(noise(30, 40), CPU)
    last = []
    for word in (5, 6):
        ids = torch.tensor([[IMAGE] * 16 + [1, word]])
        out = model(
            input_ids=ids,
            token_type_ids=torch.zeros_like(ids),
            **prepared,
            output_hidden_states=True,
        )
        last.append(out.hidden_states[-1][0, 0])
    assert not torch.allclose(*last, atol=1e-6)
    assert form.attention is ImageAttention.PROMPT


def test_lora_adapts_the_layers_of_the_language_model():
    modules = tiny_model("paligemma").named_modules()
    linear = {name for name, one in modules if isinstance(one, torch.nn.Linear)}
    language = {name for name in linear if name.startswith("model.language_model.")}
    assert {name for name in linear if re.fullmatch(PaliGemma.lora_targets, name)} == language
    assert "model.multi_modal_projector.linear" in linear


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.sampled_from([(224, 14), (448, 14), (896, 14), (56, 7)]),
)
def test_boxes_cover_the_image_once_for_every_size(height, width, tower):
    form = PaliGemma.of(sized(*tower), {})
    boxes = form.token_boxes(height, width)
    cells = tower[0] // tower[1]
    assert form.image_pieces(height, width)[0] == len(boxes) == cells**2
    raster = boxes.reshape(cells, cells, 4)
    assert raster[0, 0, :2].tolist() == [0, 0]
    assert raster[-1, -1, 2:].tolist() == [width, height]
    assert (raster[:, 1:, 0] == raster[:, :-1, 2]).all()
    assert (raster[1:, :, 1] == raster[:-1, :, 3]).all()
    assert (raster[..., 2:] > raster[..., :2]).all()


def test_a_tower_that_does_not_see_the_last_pixels_has_no_box_there():
    form = PaliGemma.of(sized(60, 14), {})
    assert form.token_boxes(60, 60)[-1].tolist() == [42, 42, 56, 56]


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (sized(0), "image_size"),
        (sized(-224), "image_size"),
        (sized(1 << 30), "image_size"),
        (sized(224.0), "image_size"),  # type: ignore[arg-type]
        (sized(224, 0), "patch_size"),
        (sized(224, 1), "image_size"),
        (sized(7, 14), "image_size"),
        (sized(224, 14, 1), "num_channels"),
        (SimpleNamespace(model_type="llava\x1b[1m"), "llava"),
    ],
)
def test_an_impossible_config_is_refused_with_its_key(config, key):
    with pytest.raises(CheckpointError, match=key) as caught:
        PaliGemma.of(config, {})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", {"height": 448, "width": 224}),
        ("size", {"height": 224, "width": "224\n"}),
        ("size", 224),
        ("image_seq_length", 255),
        ("image_mean", []),
        ("image_std", [0, 0, 0]),
        ("resample", 99),
        ("do_resize", False),
    ],
)
def test_an_impossible_preprocessor_is_refused_with_its_key(key, value):
    with pytest.raises(CheckpointError, match=r"height|width" if type(value) is dict else key):
        PaliGemma.of(sized(224), {key: value})
