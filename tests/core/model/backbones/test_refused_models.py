"""Models and frames that would put depth at wrong tokens are refused, by name and value."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import CheckpointError, FrameError
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model.backbones import backbone_for
from sdvlm_core.model.backbones.picture import HALF
from sdvlm_core.model.checkpoint import assembled, load
from sdvlm_core.model.coded_features import coded_features
from sdvlm_core.model.depth_encoding import EncodingSettings
from tests.tiny_backbones import (
    MODEL_TYPES,
    tiny_checkpoint,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
    write_tiny_backbone,
)

CPU = torch.device("cpu")


def a_frame() -> RgbdFrame:
    return RgbdFrame(
        np.full((48, 72, 3), 100, np.uint8),
        np.ones((48, 72), np.float32),
        CameraIntrinsics(60, 60, 36, 24, 72, 48),
    )


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_alignment_of_the_release_is_for_llava_alone(model_type: str) -> None:
    """Qwen's 4 x 16 tokens are as many as those of a grid of 8 x 8, and show other places."""
    config = tiny_config(model_type)
    config.depth_encoding = EncodingSettings(alignment="reference").to_mapping()
    if model_type == "llava":
        backbone_for(config, {})
        return
    with pytest.raises(CheckpointError, match="alignment 'reference' is for the token grid"):
        backbone_for(config, {})


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_code_of_another_number_of_tokens_is_refused(model_type: str) -> None:
    checkpoint = tiny_checkpoint(model_type)
    inputs = checkpoint.backbone.prepare(a_frame().rgb, CPU)
    for tokens in (1, 17):  # one row would be added to all tokens
        with pytest.raises(CheckpointError, match=f"its config describes {tokens}$"):
            coded_features(checkpoint.model, inputs, torch.zeros(tokens, 32))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_an_image_without_room_in_the_context_is_refused_before_it_is_read(model_type: str) -> None:
    model = tiny_model(model_type)
    model.config.text_config.max_position_embeddings = 10
    engine = SpatialEngine(assembled(model_type, model, tiny_tokenizer(), CPU))

    def fails(*_: Any, **__: Any) -> None:
        raise AssertionError("the image is read")

    model.get_image_features = fails
    with pytest.raises(FrameError, match="context has 10: give a smaller frame"):
        engine.open(a_frame())


def test_an_image_token_that_is_a_word_of_the_template_is_refused() -> None:
    model, tokenizer = tiny_model("qwen3_vl"), tiny_tokenizer()
    model.config.image_token_id = tokenizer.encode("<|vision_start|>")[0]
    engine = SpatialEngine(assembled("x", model, tokenizer, CPU))
    with pytest.raises(CheckpointError, match="is a word of the prompt too"):
        engine.open(a_frame())


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ({"image_mean": list(HALF.mean), "image_std": list(HALF.std)}, "image_mean"),
        ({"resample": 2}, "resample"),
        ({"do_normalize": False}, "do_normalize"),
    ],
)
def test_a_llava_of_other_pixels_than_clips_is_refused(stated: dict[str, Any], name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        backbone_for(tiny_config("llava"), stated)


def test_a_llava_of_another_tower_is_refused() -> None:
    config = tiny_config("llava")
    config.vision_config.model_type = "siglip_vision_model"
    with pytest.raises(CheckpointError, match="it must be 'clip_vision_model'"):
        backbone_for(config, {})


@pytest.mark.parametrize("model_type", ["gemma3", "llava_onevision"])
def test_a_window_of_an_architecture_that_has_one_is_taken(tmp_path, model_type: str) -> None:
    directory = write_tiny_backbone(tmp_path / "model", model_type)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["sliding_window"] = 64
    path.write_text(json.dumps(config))
    load(str(directory), "cpu")
    config["text_config"]["sliding_window"] = 1
    path.write_text(json.dumps(config))
    if model_type == "gemma3":  # Qwen2 leaves it out, unless it is told to use it
        with pytest.raises(CheckpointError, match="sliding_window is 1"):
            load(str(directory), "cpu")


def test_a_processor_file_of_another_shape_is_refused(tmp_path) -> None:
    directory = write_tiny_backbone(tmp_path / "model", "gemma3")
    (directory / "processor_config.json").write_text(json.dumps({"image_processor": [5]}))
    with pytest.raises(CheckpointError, match="image_processor"):
        load(str(directory), "cpu")
