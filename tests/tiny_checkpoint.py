"""Writes a real LLaVA checkpoint of toy size with random weights: gibberish answers, real code."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model.depth_encoding import EncodingSettings

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")


def _character_tokenizer() -> PreTrainedTokenizerFast:
    letters = [*string.printable]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def write_tiny_checkpoint(directory: Path, encoding: str = "xyz", seed: int = 0) -> Path:
    """Write config.json, model.safetensors and tokenizer.json; returns the directory.

    `encoding` is a kind of `depth_encoding`, or "none".
    """
    torch.manual_seed(seed)
    tokenizer = _character_tokenizer()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=56,
            patch_size=14,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=4096,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        image_token_index=SPECIAL.index("<image>"),
    )
    config.prompt_template = "raw"
    if encoding != "none":
        config.depth_encoding = EncodingSettings(kind=encoding).to_mapping()  # type: ignore[arg-type]
    model = LlavaForConditionalGeneration(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return Path(directory)


def noise_frame(seed: int = 0) -> RgbdFrame:
    """A 64x48 frame of noise with valid depth."""
    rng = np.random.default_rng(seed)
    return RgbdFrame(
        rng.integers(0, 255, (48, 64, 3), dtype=np.uint8),
        rng.uniform(0.5, 3, (48, 64)).astype(np.float32),
        CameraIntrinsics(60, 60, 31.5, 23.5, 64, 48),
    )
