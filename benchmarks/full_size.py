"""LLaVA-1.5-7B's dimensions with random weights on this machine: memory, and what the DPE costs.

    python benchmarks/full_size.py                  # bfloat16, about 16 GB of memory
    python benchmarks/full_size.py --layers 4       # a quick look at any machine

Builds the very classes that answer, encodes one 640x480 frame with and without the depth code in
turns, asks one question, and prints a table and one JSON line. The weights say nothing, so the
answer does not either; times and memory are those of the real model.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import CLIPVisionConfig, LlamaConfig, LlamaTokenizer, LlavaConfig

from sdvlm_core.checkpoint import Checkpoint
from sdvlm_core.depth_encoding import EncodingSettings
from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model import DepthEncodedLlava
from sdvlm_core.official import padded_rows
from sdvlm_core.prompt import TEMPLATES

WORDS, BLOCK = 32000, 1 << 22
ENCODING = EncodingSettings(kind="relative", orientation="inverse")


def llava_7b(layers: int) -> LlavaConfig:
    """LLaVA-1.5-7B: CLIP ViT-L/14-336 and LLaMA-2 7B with the image token's rows."""
    return LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
        ),
        text_config=LlamaConfig(
            vocab_size=padded_rows(WORDS), num_hidden_layers=layers, max_position_embeddings=4096
        ),
        image_token_index=WORDS,
    )


def random_model(config: LlavaConfig, dtype: torch.dtype) -> DepthEncodedLlava:
    """The model with small random weights, made in place: no second copy, no 7e9 draws."""
    with torch.device("meta"):
        model = DepthEncodedLlava(config).to(dtype)
    model.to_empty(device="cpu")
    block = 0.02 * torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)).to(dtype)
    for name, parameter in model.named_parameters():
        flat = parameter.data.view(-1)
        if "norm" in name:
            flat.fill_(name.endswith("weight"))
            continue
        for start in range(0, flat.numel(), BLOCK):
            part = flat[start : start + BLOCK]
            part.copy_(block[: part.numel()])
    # Buffers that no checkpoint holds.
    tower = model.model.vision_tower.embeddings
    tower.position_ids = torch.arange(tower.num_positions).unsqueeze(0)
    rotary = type(model.model.language_model.rotary_emb)(config.text_config)
    model.model.language_model.rotary_emb = rotary
    return model.eval().requires_grad_(False)


def byte_tokenizer() -> LlamaTokenizer:
    """LLaMA's special and byte pieces: any text, more tokens than the real one makes of it."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    return LlamaTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[])


def frame() -> RgbdFrame:
    rng = np.random.default_rng(0)
    return RgbdFrame(
        rng.integers(0, 255, (480, 640, 3), dtype=np.uint8),
        rng.uniform(0.5, 4, (480, 640)).astype(np.float32),
        CameraIntrinsics(525, 525, 319.5, 239.5, 640, 480),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--layers", type=int, default=32, help="of the language model; 32 = 7B")
    parser.add_argument("--rounds", type=int, default=5, help="encodings of each kind")
    arguments = parser.parse_args()
    console = Console(stderr=True)

    with console.status("making weights"):
        config = llava_7b(arguments.layers)
        model = random_model(config, getattr(torch, arguments.dtype))
    form = TEMPLATES["vicuna_v1"]
    engine = SpatialEngine(
        Checkpoint("random-7b", model, byte_tokenizer(), form, torch.device("cpu"))
    )
    picture = frame()
    kinds = {"without": replace(ENCODING, kind="none"), "with": ENCODING}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    lengths = {}
    parameters = {}
    # In turns, after one of each that is not counted: a noisy machine is noisy for both.
    for turn in track(range(arguments.rounds + 1), "encoding", console=console):
        for kind in sorted(kinds, reverse=turn % 2 == 0):
            config.depth_encoding = kinds[kind].to_mapping()
            model.config.depth_encoding = config.depth_encoding
            started = time.perf_counter()
            session = engine.open(picture)
            if turn:
                seconds[kind].append(time.perf_counter() - started)
            lengths[kind] = session.prefix_tokens
            parameters[kind] = model.num_parameters()
    with console.status("one question"):
        answer = session.ask("How tall is the mug?", max_new_tokens=4)
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    result = {
        "benchmark": "full_size",
        "dtype": arguments.dtype,
        "layers": arguments.layers,
        "parameters": parameters["with"],
        "extra_parameters": parameters["with"] - parameters["without"],
        "extra_tokens": lengths["with"] - lengths["without"],
        "prefix_tokens": lengths["with"],
        "prefill_without_s": round(medians["without"], 3),
        "prefill_with_s": round(medians["with"], 3),
        "ratio": round(medians["with"] / medians["without"], 4),
        "question_prefill_s": round(answer.timings.prefill, 3),
        "decode_s": round(answer.timings.decode, 3),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    table = Table("figure", "value")
    for key, value in result.items():
        table.add_row(key, str(value))
    Console().print(table)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
