"""Vision-language models of every family at toy size with random weights: real code, no meaning."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

from sdvlm_core.files import write_json
from sdvlm_core.model.backbones.smolvlm import is_supported
from sdvlm_core.model.checkpoint import Checkpoint, assembled
from sdvlm_core.model.depth_encoding import EncodingSettings

#: Rows of the embedding, and the ids at its end that all families share here.
VOCABULARY = 300
VIDEO, START, END, IMAGE = 296, 297, 298, 299

_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 8192,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
_QWEN_TOWER: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "out_hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
}
_QWEN_TOKENS = {
    "image_token_id": IMAGE,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
    "video_token_id": VIDEO,
}
_TILES = [[56, 112], [112, 56], [112, 112]]


def _rope(sections: list[int], **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "mrope_section": sections, "rope_theta": 1e6, **more}


_CONFIGS: dict[str, dict[str, Any]] = {
    "llava": {
        "vision_config": {**_TOWER, "model_type": "clip_vision_model"},
        "text_config": {**_TEXT, "model_type": "llama"},
        "image_token_index": IMAGE,
    },
    "llava_next": {
        "vision_config": {**_TOWER, "model_type": "clip_vision_model"},
        "text_config": {**_TEXT, "model_type": "llama"},
        "image_token_index": IMAGE,
        "image_grid_pinpoints": _TILES,
    },
    "llava_onevision": {
        "vision_config": {**_TOWER, "model_type": "siglip_vision_model"},
        "text_config": {**_TEXT, "model_type": "qwen2"},
        "image_token_index": IMAGE,
        "image_grid_pinpoints": _TILES,
        "vision_feature_select_strategy": "full",
        "vision_feature_layer": -1,
    },
    "qwen2_5_vl": {
        "vision_config": {**_QWEN_TOWER, "window_size": 56, "fullatt_block_indexes": [1]},
        "text_config": {**_TEXT, "rope_parameters": _rope([1, 1, 2])},
        **_QWEN_TOKENS,
    },
    "qwen3_vl": {
        "vision_config": {
            **_QWEN_TOWER,
            "depth": 3,
            "deepstack_visual_indexes": [0, 1],
            "num_position_embeddings": 64,
        },
        "text_config": {
            **_TEXT,
            # One more than have DeepStack: what is added after the last one has no effect.
            "num_hidden_layers": 3,
            "head_dim": 8,
            "rope_parameters": _rope([2, 1, 1], mrope_interleaved=True),
        },
        **_QWEN_TOKENS,
    },
    "qwen3_5": {
        "vision_config": {**_QWEN_TOWER, "num_position_embeddings": 64},
        "text_config": {
            **_TEXT,
            "num_hidden_layers": 4,
            "head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
        **_QWEN_TOKENS,
    },
    "internvl": {
        "vision_config": {**_TOWER, "image_size": [56, 56], "patch_size": [14, 14]},
        "text_config": {**_TEXT, "model_type": "qwen2"},
        "image_token_id": IMAGE,
        "downsample_ratio": 0.5,
    },
    "smolvlm": {
        "vision_config": _TOWER,
        "text_config": {**_TEXT, "model_type": "llama"},
        "image_token_id": IMAGE,
        "scale_factor": 2,
    },
    "paligemma": {
        "vision_config": {**_TOWER, "model_type": "siglip_vision_model", "projection_dim": 32},
        "text_config": {**_TEXT, "model_type": "gemma2", "head_dim": 8},
        "image_token_index": IMAGE,
        "projection_dim": 32,
        "hidden_size": 32,
    },
    "gemma3": {
        "vision_config": {**_TOWER, "model_type": "siglip_vision_model"},
        "text_config": {
            **_TEXT,
            "head_dim": 8,
            "sliding_window": 32,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "image_token_index": IMAGE,
        "mm_tokens_per_image": 4,
        "boi_token_index": START,
        "eoi_token_index": END,
    },
}
MODEL_TYPES = tuple(name for name in _CONFIGS if name != "smolvlm" or is_supported())
SMOLVLM = pytest.param(
    "smolvlm", marks=pytest.mark.skipif(not is_supported(), reason="transformers before 5.21")
)


def tiny_config(model_type: str) -> Any:
    """The configuration of a family at toy size."""
    return AutoConfig.for_model(model_type, **_CONFIGS[model_type])


def tiny_model(model_type: str, seed: int = 0) -> Any:
    """A model of a family with random weights, for inference."""
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(tiny_config(model_type))
    if model_type == "gemma3":  # its projector begins at zero: the image would not matter
        torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.1)
    return model.eval().requires_grad_(False)


_CONTROL = (
    "<pad>", "<bos>", "<eos>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>",
    "<|vision_end|>", "<img>", "</img>", "<fake_token_around_image>", "<global-img>",
    "<end_of_utterance>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
)  # fmt: skip


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each printable character and each control token; `<image>` is IMAGE."""
    words = [*_CONTROL, *string.printable]
    words += [f"<unused{number}>" for number in range(len(words), IMAGE)] + ["<image>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    control = [*_CONTROL, *words[len(_CONTROL) + len(string.printable) :]]
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


#: Pictures of few tokens; {} = the published rule, of a picture as small as the tower.
PREPROCESSORS: dict[str, dict[str, Any]] = {
    **{
        name: {"size": {"shortest_edge": 3136, "longest_edge": 96 * 96}}
        for name in ("qwen2_5_vl", "qwen3_vl", "qwen3_5")
    },
    "internvl": {"max_patches": 4},
}


def tiny_checkpoint(model_type: str, encoding: str = "xyz", seed: int = 0) -> Checkpoint:
    """A checkpoint in memory; `encoding` is a kind of depth encoding, or `none`."""
    model = tiny_model(model_type, seed)
    if encoding != "none":
        settings = EncodingSettings(kind=encoding, optional=True)  # type: ignore[arg-type]
        model.config.depth_encoding = settings.to_mapping()
    preprocessor = PREPROCESSORS.get(model_type)
    return assembled(model_type, model, tiny_tokenizer(), torch.device("cpu"), preprocessor)


def write_tiny_backbone(directory: Path, model_type: str, encoding: str = "xyz") -> Path:
    """Write a checkpoint as `sdvlm ask --model` loads it; returns the directory."""
    checkpoint = tiny_checkpoint(model_type, encoding)
    checkpoint.model.save_pretrained(directory)
    checkpoint.tokenizer.save_pretrained(directory)
    if model_type in PREPROCESSORS:
        write_json(directory / "preprocessor_config.json", PREPROCESSORS[model_type])
    return directory
