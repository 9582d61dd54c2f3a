"""Measures memory and the DPE's cost for LLaVA-1.5-7B's dimensions with random weights.

    python benchmarks/full_size.py                        # bfloat16: 16 GB of memory
    python benchmarks/full_size.py --quantization bnb-int8    # or bnb-nf4
    python benchmarks/full_size.py --layers 4             # a short run on any machine

Writes random weights of the real shape to a temporary directory (14 GB; TMPDIR chooses where),
loads them as any model is loaded, encodes one 640x480 frame with and without the depth code
alternately, asks one question, and prints a table and one JSON line. The answer is meaningless, as
the weights are random; times and memory are those of the real model.

Memory is reported twice: the peak that the process allocated, and the peak resident memory, which
includes pages of the weights' files that the system could drop.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model.checkpoint import assembled, load_model
from sdvlm_core.model.depth_encoding import EncodingSettings
from sdvlm_core.model.devices import QUANTIZATIONS, resolve
from sdvlm_core.model.generation_options import GenerationOptions
from sdvlm_core.model.release_layout import padded_rows

WORDS, BLOCK, SHARD, TOKENS = 32000, 1 << 22, 60, 9
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


def write_random(config: LlavaConfig, dtype: torch.dtype, directory: Path) -> None:
    """A checkpoint with small random weights in shards, made without 7e9 draws."""
    with torch.device("meta"):
        shapes = {
            name: value.shape
            for name, value in LlavaForConditionalGeneration(config).state_dict().items()
        }
    block = 0.02 * torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)).to(dtype)

    def weight(name: str) -> torch.Tensor:
        count = shapes[name].numel()
        if "norm" in name:
            return torch.full(shapes[name], float(name.endswith("weight")), dtype=dtype)
        return block.repeat(-(-count // BLOCK))[:count].view(shapes[name]).clone()

    names = sorted(shapes)
    index = {}
    for number, start in enumerate(track(range(0, len(names), SHARD), "writing weights")):
        file = f"model-{number:05d}.safetensors"
        shard = {name: weight(name) for name in names[start : start + SHARD]}
        save_file(shard, directory / file, metadata={"format": "pt"})
        index |= dict.fromkeys(shard, file)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (directory / "model.safetensors.index.json").write_text(text)
    config.save_pretrained(directory)


@contextmanager
def allocated() -> Iterator[list[float]]:
    """The peak anonymous memory of this process in GB, sampled every 50 ms."""
    peak, done = [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            status = Path("/proc/self/status").read_text()
            kilobytes = int(status.split("RssAnon:")[1].split()[0])
            peak[0] = max(peak[0], kilobytes / 2**20)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield peak
    finally:
        done.set()
        watch.join()


def byte_tokenizer() -> LlamaTokenizer:
    """LLaMA's special and byte tokens: encodes any text, with more tokens than LLaMA's own."""
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
    parser.add_argument("--quantization", default="none", choices=QUANTIZATIONS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=32, help="of the language model; 32 = 7B")
    parser.add_argument("--rounds", type=int, default=5, help="encodings of each kind")
    arguments = parser.parse_args()
    placement = resolve(arguments.device, arguments.dtype, arguments.quantization)
    with tempfile.TemporaryDirectory(prefix="full_size_") as directory:
        write_random(llava_7b(arguments.layers), placement.dtype, Path(directory))
        with allocated() as peak:
            started = time.perf_counter()
            model = load_model(Path(directory), placement)
            loaded = time.perf_counter() - started
            loading_peak = peak[0]
            result = measure(model, arguments.rounds)
    result = {
        "benchmark": "full_size",
        "dtype": arguments.dtype,
        "quantization": arguments.quantization,
        "layers": arguments.layers,
        **result,
        "load_s": round(loaded, 2),
        "peak_loading_gb": round(loading_peak, 2),
        "peak_allocated_gb": round(peak[0], 2),
        "peak_resident_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    table = Table("figure", "value")
    for key, value in result.items():
        table.add_row(key, str(value))
    Console().print(table)
    print(json.dumps(result))


def measure(model: LlavaForConditionalGeneration, rounds: int) -> dict[str, float]:
    """Encode alternately with and without the code, ask once; times are medians in seconds."""
    console = Console(stderr=True)
    where = model.get_input_embeddings().weight.device
    engine = SpatialEngine(assembled("random-7b", model, byte_tokenizer(), where))
    picture = frame()
    kinds = {"without": replace(ENCODING, kind="none"), "with": ENCODING}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    lengths = {}
    parameters = {}
    # Alternately, after one warm-up of each, so that machine noise affects both equally.
    for turn in track(range(rounds + 1), "encoding", console=console):
        for kind in sorted(kinds, reverse=turn % 2 == 0):
            model.config.depth_encoding = kinds[kind].to_mapping()
            started = time.perf_counter()
            session = engine.open(picture)
            if turn:
                seconds[kind].append(time.perf_counter() - started)
            lengths[kind] = session.prefix_tokens
            parameters[kind] = model.num_parameters()
    with console.status("one question"):
        answer = session.ask("How tall is the mug?", GenerationOptions(max_new_tokens=TOKENS))
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    return {
        "parameters": parameters["with"],
        "extra_parameters": parameters["with"] - parameters["without"],
        "extra_tokens": lengths["with"] - lengths["without"],
        "prefix_tokens": lengths["with"],
        "prefill_without_s": round(medians["without"], 3),
        "prefill_with_s": round(medians["with"], 3),
        "ratio": round(medians["with"] / medians["without"], 4),
        "question_prefill_s": round(answer.timings.prefill, 3),
        "token_s": round(answer.timings.decode / (TOKENS - 1), 3),
    }


if __name__ == "__main__":
    main()
