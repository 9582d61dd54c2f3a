"""`python -m training.nano.qwen_style OUT`: an untrained model of Qwen3-VL's kind, at nano's size.

Dynamic resolution, patches merged two by two, M-RoPE and DeepStack, in at most eight million
parameters with random weights; `training.finetune` trains it in full. Its words are those of the
installed nano, with Qwen's control tokens. Knows sizes only; does not know data or training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sdvlm_core.files import atomic_directory
from sdvlm_core.model.depth_encoding import EncodingSettings
from training.nano.architecture import ENCODING

#: Control tokens of the template, and the placeholder of a video, which the config must name.
_CONTROL = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]
_PATCH, _MERGE = 8, 2
#: Pixels of the resized picture: 192 image tokens for any frame of 4:3 from 256x192 on.
_MIN_PIXELS, _MAX_PIXELS = 128 * 96, 256 * 192


def config_of(tokenizer: Any) -> Any:
    """The configuration for a tokenizer that has the control tokens."""
    from transformers import Qwen3VLConfig

    ids = tokenizer.convert_tokens_to_ids
    return Qwen3VLConfig(
        vision_config={
            "depth": 5,
            "hidden_size": 160,
            "intermediate_size": 640,
            "num_heads": 5,
            "patch_size": _PATCH,
            "spatial_merge_size": _MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": 256,
            "num_position_embeddings": 32 * 32,
            "deepstack_visual_indexes": [1, 3],
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 256,
            "intermediate_size": 640,
            "num_hidden_layers": 5,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": ids("<|im_end|>"),
        },
        image_token_id=ids("<image>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def write_untrained(directory: Path, encoding: EncodingSettings, seed: int = 0) -> int:
    """Write a model directory with random weights; returns the number of parameters."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    from sdvlm_core.model.checkpoint import NANO_DIRECTORY, assembled, write_model

    tokenizer: Any = AutoTokenizer.from_pretrained(NANO_DIRECTORY, local_files_only=True)
    tokenizer.add_special_tokens({"additional_special_tokens": _CONTROL}, False)
    config = config_of(tokenizer)
    config.depth_encoding = encoding.to_mapping()
    config.prompt_template, config.dialect = "qwen3_vl", "msmu"
    torch.manual_seed(seed)
    model: Any = AutoModelForImageTextToText.from_config(config)
    limits = {"shortest_edge": _MIN_PIXELS, "longest_edge": _MAX_PIXELS}
    preprocessor = {
        "size": limits,
        "patch_size": _PATCH,
        "merge_size": _MERGE,
        "temporal_patch_size": 2,
    }
    made = assembled(str(directory), model, tokenizer, torch.device("cpu"), preprocessor)
    with atomic_directory(directory) as folder:
        write_model(made, folder)
    return sum(parameter.numel() for parameter in model.parameters())


def main(
    out: Annotated[Path, typer.Argument(help="Directory of the model; must not exist.")],
    depth: Annotated[
        bool, typer.Option(help="With the depth code of nano, or without any.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the random weights.")] = 0,
) -> None:
    """Write an untrained model, for training.finetune with lora_rank 0.

    Example: python -m training.nano.qwen_style runs/qwen_style/base
    """
    if out.exists():
        raise typer.BadParameter(f"{out} exists already; choose another name")
    encoding = ENCODING if depth else EncodingSettings(kind="none")
    typer.echo(f"{out}: {write_untrained(out, encoding, seed)} parameters")


if __name__ == "__main__":
    typer.run(main)
