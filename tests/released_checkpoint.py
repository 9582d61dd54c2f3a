"""Writes a checkpoint in the layout of the SD-VLM release: toy sizes, random weights, every family.

The names are spelled out here from the release, not derived from the code under test.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaTokenizer

TEXT, TOWER, DEPTH, BLOCKS, WORDS = 64, 64, 64, 4, 270
NECK, FUSION, HEAD = (8, 16, 32, 32), 16, 8
TOWER_NAME = "model.vision_tower.vision_tower.vision_model."


def _linear(name: str, rows: int, columns: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    weight: dict[str, tuple[int, ...]] = {f"{name}.weight": (rows, columns)}
    return weight | {f"{name}.bias": (rows,)} if bias else weight


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _language() -> dict[str, tuple[int, ...]]:
    shapes = {
        "model.embed_tokens.weight": (WORDS, TEXT),
        "model.norm.weight": (TEXT,),
        "lm_head.weight": (WORDS, TEXT),
    }
    for layer in range(2):
        base = f"model.layers.{layer}."
        for name in "qkvo":
            shapes |= _linear(f"{base}self_attn.{name}_proj", TEXT, TEXT, bias=False)
        shapes[f"{base}self_attn.rotary_emb.inv_freq"] = (8,)
        for name in ("gate", "up"):
            shapes |= _linear(f"{base}mlp.{name}_proj", 96, TEXT, bias=False)
        shapes |= _linear(f"{base}mlp.down_proj", TEXT, 96, bias=False)
        shapes[f"{base}input_layernorm.weight"] = (TEXT,)
        shapes[f"{base}post_attention_layernorm.weight"] = (TEXT,)
    shapes |= _linear("model.mm_projector.0", TEXT, TOWER)
    return shapes | _linear("model.mm_projector.2", TEXT, TEXT)


def _tower() -> dict[str, tuple[int, ...]]:
    shapes = {
        f"{TOWER_NAME}embeddings.class_embedding": (TOWER,),
        f"{TOWER_NAME}embeddings.patch_embedding.weight": (TOWER, 3, 14, 14),
        f"{TOWER_NAME}embeddings.position_embedding.weight": (17, TOWER),
        f"{TOWER_NAME}embeddings.position_ids": (1, 17),
        **_norm(f"{TOWER_NAME}pre_layrnorm", TOWER),
        **_norm(f"{TOWER_NAME}post_layernorm", TOWER),
    }
    for layer in range(2):
        base = f"{TOWER_NAME}encoder.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{base}self_attn.{name}", TOWER, TOWER)
        shapes |= _linear(f"{base}mlp.fc1", 128, TOWER) | _linear(f"{base}mlp.fc2", TOWER, 128)
        shapes |= _norm(f"{base}layer_norm1", TOWER) | _norm(f"{base}layer_norm2", TOWER)
    return shapes


def depth_anything_shapes() -> dict[str, tuple[int, ...]]:
    """Upstream Depth-Anything-V2's names, at toy size."""
    shapes: dict[str, tuple[int, ...]] = {
        "pretrained.cls_token": (1, 1, DEPTH),
        "pretrained.pos_embed": (1, 26, DEPTH),
        "pretrained.mask_token": (1, DEPTH),
        "pretrained.patch_embed.proj.weight": (DEPTH, 3, 14, 14),
        "pretrained.patch_embed.proj.bias": (DEPTH,),
        **_norm("pretrained.norm", DEPTH),
    }
    for block in range(BLOCKS):
        base = f"pretrained.blocks.{block}."
        shapes |= _norm(f"{base}norm1", DEPTH) | _norm(f"{base}norm2", DEPTH)
        shapes |= _linear(f"{base}attn.qkv", 3 * DEPTH, DEPTH)
        shapes |= _linear(f"{base}attn.proj", DEPTH, DEPTH)
        shapes |= _linear(f"{base}mlp.fc1", 4 * DEPTH, DEPTH)
        shapes |= _linear(f"{base}mlp.fc2", DEPTH, 4 * DEPTH)
        shapes |= {f"{base}ls1.gamma": (DEPTH,), f"{base}ls2.gamma": (DEPTH,)}
    for index, width in enumerate(NECK):
        shapes |= {
            f"depth_head.projects.{index}.weight": (width, DEPTH, 1, 1),
            f"depth_head.projects.{index}.bias": (width,),
            f"depth_head.scratch.layer{index + 1}_rn.weight": (FUSION, width, 3, 3),
        }
        unit = f"depth_head.scratch.refinenet{index + 1}."
        shapes |= {
            f"{unit}out_conv.weight": (FUSION, FUSION, 1, 1),
            f"{unit}out_conv.bias": (FUSION,),
        }
        for residual in (1, 2):
            for conv in (1, 2):
                name = f"{unit}resConfUnit{residual}.conv{conv}"
                shapes |= {f"{name}.weight": (FUSION, FUSION, 3, 3), f"{name}.bias": (FUSION,)}
    for index, (width, kernel) in {0: (NECK[0], 4), 1: (NECK[1], 2), 3: (NECK[3], 3)}.items():
        name = f"depth_head.resize_layers.{index}"
        shapes |= {f"{name}.weight": (width, width, kernel, kernel), f"{name}.bias": (width,)}
    last = "depth_head.scratch.output_conv"
    return shapes | {
        f"{last}1.weight": (FUSION // 2, FUSION, 3, 3),
        f"{last}1.bias": (FUSION // 2,),
        f"{last}2.0.weight": (HEAD, FUSION // 2, 3, 3),
        f"{last}2.0.bias": (HEAD,),
        f"{last}2.2.weight": (1, HEAD, 1, 1),
        f"{last}2.2.bias": (1,),
    }


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Normal weights around 0, and around 1 for the scales of norms."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.2 * torch.randn(shape, generator=generator)
        + ("norm" in name and name.endswith("weight"))
        for name, shape in shapes.items()
    }


def released_weights(depth_projector: str = "new") -> dict[str, torch.Tensor]:
    """All families; `depth_projector` of the released code (new), or of the released file (old)."""
    shapes = _language() | _tower()
    shapes |= {f"depth.{name}": shape for name, shape in depth_anything_shapes().items()}
    if depth_projector == "new":
        shapes |= {
            "depth_projector.class_embedding": (8,),
            "depth_projector.patch_embedding.weight": (8, 1, 14, 14),
            "depth_projector.position_embedding.weight": (5, 8),
        }
    else:
        shapes |= {
            f"depth_projector.{i}.{part}": (8,) for i in (0, 1, 3, 4) for part in ("weight", "bias")
        }
    return random_weights(shapes)


CONFIG = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "model_type": "llava_llama",
    "hidden_size": TEXT,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "vocab_size": WORDS,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "image_aspect_ratio": "pad",
    "use_depth": True,
    "gt_depth": True,
    "torch_dtype": "float32",
}


def write_released_checkpoint(
    directory: Path, weights: dict[str, torch.Tensor] | None = None, shards: int = 3
) -> Path:
    """Write the weights as `shards` safetensors with an index, config.json and a tokenizer."""
    weights = released_weights() if weights is None else weights
    directory.mkdir(parents=True, exist_ok=True)
    names = sorted(weights)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        # Every family is spread over all files, as no writer promises otherwise.
        part = {name: weights[name].contiguous() for name in names[shard::shards]}
        weight_map.update(dict.fromkeys(part, file))
        save_file(part, directory / file, metadata={"format": "pt"})
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "config.json").write_text(json.dumps(CONFIG))
    write_llama_tokenizer(directory)
    return directory


def write_llama_tokenizer(directory: Path) -> None:
    """LLaMA's kind of tokenizer with 3 + 256 byte + a few word pieces."""
    words = ["\u2581", *"abcdefgh"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    LlamaTokenizer(vocab=vocabulary, merges=[]).save_pretrained(directory)
