"""`sdvlm bench`: how long a model takes on this machine.

Times one image, one question, ten questions together, and the first answer beside busy processes,
as on a robot. Does not time the node, memory or the full-size model: benchmarks/ in the repository
does.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from sdvlm_core.cli import options
from sdvlm_core.cli.output import print_json, refusals, stderr_console
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model.generation_options import GenerationOptions, Query
from sdvlm_core.threads import usable_cores

if TYPE_CHECKING:
    import torch

    from sdvlm_core.engine import SpatialEngine

QUESTION = "How tall is the red box?"
_MAX_TOKENS = 32  # only the length of the answer matters, not its text


def bench(
    model: options.Model = "nano",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    quantization: options.Quantization = "none",
    attention: options.Attention = "auto",
    threads: options.Threads = 0,
    captured: Annotated[
        bool, typer.Option(help="On one CUDA device, decode with captured graphs.")
    ] = True,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the captured step.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Pictures; the times are medians.")] = 10,
    as_json: options.AsJson = False,
) -> None:
    """Time a model on this machine: an image, a question, an answer, ten, beside busy processes.

    Examples:

      sdvlm bench

      sdvlm bench --model sd-vlm-7b --quantization bnb-nf4 --rounds 3 --json | jq .decode_s
    """
    with refusals(as_json):
        with redirect_stdout(sys.stderr):
            from sdvlm_core.engine import LoadOptions, load_engine

            engine = load_engine(LoadOptions(model, device, dtype, quantization, attention))
            engine.use_threads(threads)
            captured_s = engine.capture(compiled) if captured else 0.0
            turns = track(range(rounds), "asking", console=stderr_console(), transient=True)
            figures = measure(engine, turns) | {"captured_s": round(captured_s, 1)}
        if as_json:
            print_json(figures)
        else:
            table = Table(box=None, show_header=False)
            for name, value in figures.items():
                table.add_row(name, escape(str(value)))
            Console().print(table)


def measure(engine: SpatialEngine, rounds: Iterable[int]) -> dict[str, Any]:
    """Medians in seconds over the rounds, after one warm-up round.

    `encode_s` is the image (vision tower, projector, depth code, prompt prefix), `prefill_s` the
    question up to the first token, `decode_s` the `tokens` after it. `first_answer_s` is the time
    from a new image to its answer, `next_answer_s` to one more answer from the open session,
    `ten_answers_s` to ten that are decoded together. `busy_first_answer_s` is `first_answer_s`
    beside one busy process for each usable core.
    """
    frame = _frame()
    seconds: dict[str, list[float]] = defaultdict(list)
    text = engine.open(frame).ask(QUESTION, GenerationOptions(max_new_tokens=_MAX_TOKENS)).text
    for _ in rounds:
        started = time.perf_counter()
        session = engine.open(frame)
        first = session.ask(QUESTION, GenerationOptions(max_new_tokens=_MAX_TOKENS))
        answered = time.perf_counter()
        session.ask(QUESTION, GenerationOptions(max_new_tokens=_MAX_TOKENS))
        asked = time.perf_counter()
        session.ask_many([Query(QUESTION, GenerationOptions(max_new_tokens=_MAX_TOKENS))] * 10)
        seconds["ten_answers_s"].append(time.perf_counter() - asked)
        seconds["encode_s"].append(first.timings.encode)
        seconds["prefill_s"].append(first.timings.prefill)
        seconds["decode_s"].append(first.timings.decode)
        seconds["first_answer_s"].append(answered - started)
        seconds["next_answer_s"].append(asked - answered)
    with busy_neighbours():
        for _ in seconds["encode_s"]:
            started = time.perf_counter()
            engine.open(frame).ask(QUESTION, GenerationOptions(max_new_tokens=_MAX_TOKENS))
            seconds["busy_first_answer_s"].append(time.perf_counter() - started)
    checkpoint = engine.checkpoint
    return {
        "model": engine.model_id,
        "dtype": str(checkpoint.model.dtype).removeprefix("torch."),
        "machine": machine(checkpoint.device),
        "rounds": len(seconds["encode_s"]),
        "tokens": len(checkpoint.tokenizer.encode(text, add_special_tokens=False)),
        **{name: round(statistics.median(values), 5) for name, values in seconds.items()},
    }


@contextmanager
def busy_neighbours() -> Iterator[None]:
    """One busy process for each core that this one may use."""
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(usable_cores())]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def machine(device: torch.device) -> str:
    """The GPU or CPU that computes, and the version of torch."""
    import torch

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    return f"{name}, {threads}, torch {torch.__version__}"


def _frame() -> RgbdFrame:
    """640x480 of noise: the time does not depend on the content."""
    rng = np.random.default_rng(0)
    return RgbdFrame(
        rng.integers(0, 255, (480, 640, 3), dtype=np.uint8),
        rng.uniform(0.5, 4, (480, 640)).astype(np.float32),
        CameraIntrinsics(525.0, 525.0, 319.5, 239.5, 640, 480),
    )
