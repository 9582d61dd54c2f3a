"""What a GPU shows: shapes of LLaVA-1.5-7B and Qwen3-VL-4B with random weights, in eight minutes.

    python benchmarks/gpu_check.py                               # on a CUDA machine: 16 GB and more
    python benchmarks/gpu_check.py --compile --parity .gpu/parity
    python benchmarks/gpu_check.py --device cpu                  # tiny shapes: does the script run?

Needs no ROS and no model files. Prints a table and one JSON line. Every figure is a median after
warm-up; the answers are meaningless, as the weights are random, and run to their token limit.

floor: the language model's weights, read once at the measured speed of a copy on the device.
agreement: of the eager and the captured decode step, both fed with the same tokens: the share of
steps in which they choose the same next token.
Exits with 1 if a section fails; its error is in the JSON, and the others are measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from full_size import ENCODING, byte_tokenizer, frame, llava_7b
from qwen_shapes import qwen3_vl_4b, tiny_qwen3_vl
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.model.backbones.clip_image import clip_pixels, clip_pixels_on
from sdvlm_core.model.checkpoint import assembled
from sdvlm_core.model.depth_encoding import EncodingSettings, pool, pool_on
from sdvlm_core.model.generation_options import GenerationOptions, Query
from sdvlm_core.model.own_settings import encoding_settings
from sdvlm_core.model.rows import CachedRows
from sdvlm_core.model.slots import SlotRows

ROOT = Path(__file__).parents[1]
TOKENS = 12  # of an answer
QUESTIONS = [f"How tall is object number {n} in the picture?" for n in range(10)]
GOALS = {"token_ms": 7.5, "ten_over_one": 1.5, "open_ms": 28.0, "dpe_ratio": 1.02}


@dataclass
class Bench:
    """The model, and how often things are measured."""

    engine: SpatialEngine
    device: torch.device
    rounds: int
    compiled: bool
    recordings: Path | None

    def seconds(self, work: Callable[[], Any]) -> float:
        """The median of a piece of work, with the device's work waited for."""
        values = []
        for turn in range(self.rounds + 2):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            if turn > 1:
                values.append(time.perf_counter() - started)
        return statistics.median(values)

    def ms(self, work: Callable[[], Any]) -> float:
        return round(1e3 * self.seconds(work), 2)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def make(arguments: argparse.Namespace) -> Bench:
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    config = llava_7b(arguments.layers if on_gpu else 2)
    if not on_gpu:
        config.text_config.update(
            {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4}
            | {"num_key_value_heads": 4, "head_dim": 64}
        )
        config.vision_config.num_hidden_layers = 2
    model = _random(LlavaForConditionalGeneration, config, device)
    model.config.depth_encoding = ENCODING.to_mapping()
    engine = SpatialEngine(assembled("random-7b", model, byte_tokenizer(), device))
    return Bench(
        engine, device, arguments.rounds if on_gpu else 1, arguments.compile, arguments.parity
    )


def opening(bench: Bench) -> dict[str, Any]:
    """The stages of opening a 640x480 frame, and what the depth code adds."""
    engine, model, picture = bench.engine, bench.engine.checkpoint.model, frame()
    assert picture.depth is not None
    size = model.config.vision_config.image_size
    tokens = engine.checkpoint.backbone.token_pixels(picture.height, picture.width)
    pixels = torch.from_numpy(clip_pixels(picture.rgb, size))[None]
    pixels = pixels.to(bench.device, model.dtype)
    with torch.inference_mode():
        found = {
            "picture_cpu_ms": bench.ms(lambda: clip_pixels(picture.rgb, size)),
            "picture_ms": bench.ms(lambda: clip_pixels_on(bench.device, picture.rgb, size)),
            "pool_ms": bench.ms(
                lambda: pool_on(bench.device, picture.depth, None, ENCODING, tokens)
            ),
            "depth_code_ms": bench.ms(lambda: engine.depth_code(picture)),
            "tower_ms": bench.ms(lambda: model.get_image_features(pixels, return_dict=True)),
        }
    kinds = {
        "without": EncodingSettings(kind="none"),
        "relative": ENCODING,
        "xyz": EncodingSettings(kind="xyz"),
    }
    values: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(2 * bench.rounds + 2):
        for kind in sorted(kinds, reverse=turn % 2 == 0):  # noise affects all equally
            model.config.depth_encoding = kinds[kind].to_mapping()
            bench.wait()
            started = time.perf_counter()
            engine.open(picture)
            bench.wait()
            if turn > 1:
                values[kind].append(time.perf_counter() - started)
    model.config.depth_encoding = ENCODING.to_mapping()
    medians = {kind: statistics.median(one) for kind, one in values.items()}
    return found | {
        "open_ms": round(1e3 * medians["relative"], 2),
        "dpe_ratio": round(medians["relative"] / medians["without"], 4),
        "dpe_ratio_xyz": round(medians["xyz"] / medians["without"], 4),
    }


def floor(bench: Bench) -> dict[str, Any]:
    """The time to read the language model's weights once."""
    size = 2 << 30 if bench.device.type == "cuda" else 64 << 20
    one = torch.empty(size, dtype=torch.uint8, device=bench.device)
    other = torch.empty_like(one)
    speed = 2 * size / bench.seconds(lambda: other.copy_(one))
    model = bench.engine.checkpoint.model
    read = sum(
        p.numel() * p.element_size()
        for name, p in model.named_parameters()
        if "language_model.layers" in name or "lm_head" in name
    )
    return {"copy_TB_s": round(speed / 1e12, 2), "token_floor_ms": round(1e3 * read / speed, 2)}


def asking(bench: Bench) -> dict[str, Any]:
    """A token, and ten questions over one, with the frame opened: eager, captured, compiled."""
    found: dict[str, Any] = {}
    picture = frame()
    options = GenerationOptions(max_new_tokens=TOKENS)

    def measured(name: str) -> None:
        session = bench.engine.open(picture)
        for count in (1, 10):
            queries = [Query(words, options) for words in QUESTIONS[:count]]
            answers = session.ask_many(queries)
            steps = statistics.median(
                session.ask_many(queries)[0].timings.decode for _ in range(bench.rounds)
            )
            found[f"{name}_token_{count}_ms"] = round(1e3 * steps / (TOKENS - 1), 2)
            assert len(answers) == count
        one, ten = (
            bench.seconds(
                lambda count=count: bench.engine.open(picture).ask_many(
                    [Query(words, options) for words in QUESTIONS[:count]]
                )
            )
            for count in (1, 10)
        )
        alone = bench.seconds(lambda: [session.ask(words, options) for words in QUESTIONS])
        found[f"{name}_one_ms"], found[f"{name}_ten_ms"] = round(1e3 * one, 1), round(1e3 * ten, 1)
        found[f"{name}_ten_over_one"] = round(ten / one, 2)
        found[f"{name}_ten_one_by_one_ms"] = round(1e3 * alone, 1)

    measured("eager")
    if bench.device.type == "cuda":
        found["capture_s"] = round(bench.engine.capture(), 1)
        measured("captured")
        found["token_ms"], found["ten_over_one"] = (
            found["captured_token_1_ms"],
            found["captured_ten_over_one"],
        )
        if bench.compiled:
            found["compile_s"] = round(bench.engine.capture(compiled=True), 1)
            measured("compiled")
        found["peak_GB"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    return found


@torch.inference_mode()
def agreement(bench: Bench) -> dict[str, Any]:
    """Whether the captured step chooses as the eager one, fed with the same tokens."""
    from sdvlm_core.model.slots import Slot

    engine = bench.engine
    if bench.device.type == "cuda":
        engine.capture()
        slot = engine._slot
    else:
        checkpoint = engine.checkpoint
        slot = Slot(checkpoint.model, bench.device, 1088, 4, len(checkpoint.tokenizer))
    assert slot is not None
    session = engine.open(frame())
    prompts = [session._question_ids(words) for words in QUESTIONS[:4]]
    words = len(engine.checkpoint.tokenizer)
    eager = CachedRows(engine.checkpoint.model, session.decoder.prefix, words, bench.device)
    static = SlotRows(slot, session.decoder.prefix)
    *_, (_, one) = eager.prefill(prompts)
    *_, (_, other) = static.prefill(prompts)
    same = total = 0
    largest = 0.0
    for _ in range(250 if bench.device.type == "cuda" else 5):
        finite = torch.isfinite(one)
        largest = max(largest, float((one[finite] - other[finite]).abs().max()))
        tokens = one.argmax(-1)
        same += int((tokens == other.argmax(-1)).sum())
        total += len(tokens)
        one, other = eager.step(tokens), static.step(tokens)
    static.close()
    return {
        "agreement_pct": round(100 * same / total, 2),
        "agreement_steps": total,
        "agreement_logits": round(largest, 4),
    }


def training(bench: Bench) -> dict[str, Any]:
    """One optimiser step of the LoRA recipe (training.finetune), 28 turns for each picture."""
    from training.finetune.batches import Collator
    from training.finetune.config import Config
    from training.finetune.samples import Prepared, tokens_of
    from training.finetune.trainee import Trainee

    on_gpu = bench.device.type == "cuda"
    checkpoint, picture = bench.engine.checkpoint, frame()
    config = Config("x", "x", "x", gradient_checkpointing=on_gpu)
    trainee = Trainee(checkpoint, config).to(bench.device)
    trainee.train()
    optimizer = torch.optim.AdamW(trainee.groups(config), weight_decay=0.0)
    pictures, turns = (8, 28) if on_gpu else (1, 2)
    backbone = checkpoint.backbone
    ids, labels, _ = tokens_of(
        checkpoint.tokenizer,
        checkpoint.prompt_template,
        tuple((QUESTIONS[n % 10], "0.25 m, about.") for n in range(turns)),
        checkpoint.model.config.image_token_id,
        backbone.image_pieces(picture.height, picture.width),
        8192,
    )
    tokens = backbone.token_pixels(picture.height, picture.width)
    depth = pool(
        picture.depth, picture.intrinsics, encoding_settings(checkpoint.model.config), tokens
    )
    sample = Prepared(np.array(ids), np.array(labels), picture.rgb, depth.coordinates, depth.valid)
    batch = Collator.of(checkpoint)([sample] * pictures)

    def step() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16):
            loss = trainee(batch) / (pictures * turns * 10)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = replace(bench, rounds=min(bench.rounds, 3)).seconds(step)
    return {"lora_step_s": round(seconds, 3), "lora_questions_s": round(pictures * turns / seconds)}


def qwen(bench: Bench) -> dict[str, Any]:
    """Qwen3-VL-4B's shape with an xyz encoding: open, ask, and a LoRA step."""
    on_gpu = bench.device.type == "cuda"
    config = qwen3_vl_4b() if on_gpu else tiny_qwen3_vl()
    model = _random(AutoModelForImageTextToText.from_config, config, bench.device)
    model.config.depth_encoding = EncodingSettings(kind="xyz").to_mapping()
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    engine = SpatialEngine(assembled("random-qwen3-vl", model, tokenizer, bench.device))
    mine = replace(bench, engine=engine)
    found = {"open_ms": mine.ms(lambda: engine.open(frame()))}
    found["tokens"] = engine.open(frame()).prefix_tokens
    asked = asking(mine)
    kept = ("eager_one_ms", "eager_ten_over_one", "captured_token_1_ms", "captured_ten_over_one")
    found |= {name: asked[name] for name in kept if name in asked}
    found |= training(mine)
    return {f"qwen3_vl_4b_{name}": value for name, value in found.items()}


def _random(make_model: Callable[[Any], Any], config: Any, device: torch.device) -> Any:
    """A model with random weights on a device, in half precision on a GPU."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = make_model(config)
    torch.set_default_dtype(torch.float32)
    return model.to(device, dtype).eval().requires_grad_(False)


@torch.inference_mode()
def estimators(bench: Bench) -> dict[str, Any]:
    """Depth-Anything-V2's large network on a 640x480 frame, in both types."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    on_gpu = bench.device.type == "cuda"
    backbone = Dinov2Config(
        hidden_size=1024 if on_gpu else 64,
        num_hidden_layers=24 if on_gpu else 4,
        num_attention_heads=16 if on_gpu else 2,
        image_size=518,
        patch_size=14,
        out_features=[f"stage{n}" for n in ((5, 12, 18, 24) if on_gpu else (1, 2, 3, 4))],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    width = backbone.hidden_size
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=width,
        patch_size=14,
        neck_hidden_sizes=[256, 512, 1024, 1024] if on_gpu else [16, 32, 64, 64],
        fusion_hidden_size=256 if on_gpu else 16,
    )
    found = {}
    for dtype in (torch.float32, torch.float16) if on_gpu else (torch.float32,):
        network = DepthAnythingForDepthEstimation(config).to(bench.device, dtype).eval()
        pixels = torch.randn(1, 3, 518, 686, device=bench.device, dtype=dtype)
        name = f"estimator_{str(dtype).removeprefix('torch.')}_ms"
        found[name] = bench.ms(lambda n=network, p=pixels: n(p))
    return found


def parity(bench: Bench) -> dict[str, Any]:
    """The recorded outputs of the official code (tests/parity/compare.py), on this device."""
    directory = bench.recordings
    if directory is None:
        return {"parity": "not compared: no --parity"}
    found = {}
    for case in sorted(directory.glob("case_*.npz")):
        command = [sys.executable, "tests/parity/compare.py", str(case)]
        command += ["--checkpoint", str(directory / "official_checkpoint")]
        command += ["--vision-tower", str(directory / "clip_tiny"), "--device", bench.device.type]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stderr or done.stdout)[-1000:])
        found[f"parity_{case.stem}"] = json.loads(done.stdout.splitlines()[-1])["max_error"]
    return found


def tests(bench: Bench) -> dict[str, Any]:
    """The tests that need a CUDA device."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "captured"]
    command += ["tests/core/model/test_slots.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    line = (done.stdout.strip().splitlines() or [done.stderr])[-1]
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:])
    return {"tests": line}


#: In this order: the training changes the model.
SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    one.__name__: one
    for one in (floor, opening, asking, agreement, estimators, parity, tests, training, qwen)
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, or cpu with tiny shapes")
    parser.add_argument("--layers", type=int, default=32, help="of the language model; 32 = 7B")
    parser.add_argument("--rounds", type=int, default=10, help="of each measurement; their median")
    parser.add_argument("--compile", action="store_true", help="measure the compiled step too")
    parser.add_argument("--parity", type=Path, help="directory of ../shared/parity")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="a section; repeatable")
    arguments = parser.parse_args()
    started = time.perf_counter()
    bench = make(arguments)
    bench.wait()
    device = torch.cuda.get_device_name() if bench.device.type == "cuda" else "cpu, tiny shapes"
    result: dict[str, Any] = {"benchmark": "gpu_check", "device": device}
    result |= {"torch": torch.__version__, "build_s": round(time.perf_counter() - started, 1)}
    failed = False
    for name, section in SECTIONS.items():
        if arguments.only and name not in arguments.only:
            continue
        begun = time.perf_counter()
        try:
            found = section(bench)
            print(json.dumps(found), file=sys.stderr)  # what there is, should a time limit end it
            result |= found
        except Exception as error:  # noqa: BLE001 - reported; the other sections are measured
            failed = True
            traceback.print_exc()
            result[f"{name}_error"] = f"{type(error).__name__}: {str(error)[:500]}"
        print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    result["total_s"] = round(time.perf_counter() - started)
    table = Table("figure", "value", "goal")
    for key, value in result.items():
        table.add_row(key, str(value), f"<= {GOALS[key]}" if key in GOALS else "")
    Console().print(table)
    print(json.dumps(result))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
