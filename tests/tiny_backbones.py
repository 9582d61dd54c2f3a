"""Vision-language models of every family at toy size with random weights: real code, no meaning."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

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
MODEL_TYPES = tuple(_CONFIGS)


def tiny_config(model_type: str) -> Any:
    """The configuration of a family at toy size."""
    return AutoConfig.for_model(model_type, **_CONFIGS[model_type])


def tiny_model(model_type: str, seed: int = 0) -> Any:
    """A model of a family with random weights, for inference."""
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(tiny_config(model_type))
    if model_type == "gemma3":  # the library starts at zero: all image features would be equal
        torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.1)
    return model.eval().requires_grad_(False)
