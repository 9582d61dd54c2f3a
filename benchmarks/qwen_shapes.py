"""Configurations of Qwen3-VL: the published 4B, and one of its kind for a CPU. No weights."""

from __future__ import annotations

from typing import Any

from transformers import Qwen3VLConfig


def qwen3_vl_4b() -> Qwen3VLConfig:
    """The published sizes of Qwen3-VL-4B-Instruct."""
    return _qwen3_vl(
        vision={
            "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16,
            "out_hidden_size": 2560, "deepstack_visual_indexes": [5, 11, 17],
        },
        text={
            "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "vocab_size": 151936, "tie_word_embeddings": True,
        },
        sections=[24, 20, 20],
    )  # fmt: skip


def tiny_qwen3_vl() -> Qwen3VLConfig:
    """The same at a size for a CPU."""
    return _qwen3_vl(
        vision={
            "depth": 3, "hidden_size": 64, "intermediate_size": 96, "num_heads": 2,
            "out_hidden_size": 64, "deepstack_visual_indexes": [0, 1],
        },
        text={
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 400,
        },
        sections=[4, 2, 2],
    )  # fmt: skip


def _qwen3_vl(vision: dict[str, Any], text: dict[str, Any], sections: list[int]) -> Qwen3VLConfig:
    rope = {
        "rope_type": "default", "rope_theta": 5e6, "mrope_section": sections,
        "mrope_interleaved": True,
    }  # fmt: skip
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return Qwen3VLConfig(
        vision_config=vision,
        text_config=text | special | {"rope_parameters": rope, "max_position_embeddings": 32768},
        image_token_id=399,
        video_token_id=398,
        vision_start_token_id=397,
        vision_end_token_id=396,
    )
