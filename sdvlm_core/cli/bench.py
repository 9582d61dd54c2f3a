"""How long a model takes on this machine: the figures of `sdvlm bench`.

One picture, one question, the engine as it is. Knows no arguments and prints nothing; figures of
the node, of memory and of the real size are made by benchmarks/ in the repository.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame

QUESTION = "How tall is the red box?"
_MAX_TOKENS = 32  # a length; what is said about noise is of no interest


def measure(engine: SpatialEngine, rounds: Iterable[int]) -> dict[str, Any]:
    """Medians in seconds over the rounds, after one more that is not counted.

    `encode_s` is the picture (vision tower, projector, depth code, prompt prefix), `prefill_s` the
    question up to the first token, `decode_s` the `tokens` after it. `first_answer_s` is the time
    from a new picture to its answer, `next_answer_s` to one more answer from the open session.
    """
    frame = _frame()
    seconds: dict[str, list[float]] = defaultdict(list)
    text = engine.open(frame).ask(QUESTION, max_new_tokens=_MAX_TOKENS).text
    for _ in rounds:
        started = time.perf_counter()
        session = engine.open(frame)
        first = session.ask(QUESTION, max_new_tokens=_MAX_TOKENS)
        answered = time.perf_counter()
        session.ask(QUESTION, max_new_tokens=_MAX_TOKENS)
        seconds["encode_s"].append(first.timings.encode)
        seconds["prefill_s"].append(first.timings.prefill)
        seconds["decode_s"].append(first.timings.decode)
        seconds["first_answer_s"].append(answered - started)
        seconds["next_answer_s"].append(time.perf_counter() - answered)
    checkpoint = engine.checkpoint
    return {
        "model": engine.model_id,
        "dtype": str(checkpoint.model.dtype).removeprefix("torch."),
        "machine": machine(checkpoint.device),
        "rounds": len(seconds["encode_s"]),
        "tokens": len(checkpoint.tokenizer.encode(text, add_special_tokens=False)),
        **{name: round(statistics.median(values), 5) for name, values in seconds.items()},
    }


def machine(device: torch.device) -> str:
    """What computes, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    return f"{name}, {threads}, torch {torch.__version__}"


def _frame() -> RgbdFrame:
    """640x480 of noise: what a picture shows costs nothing."""
    rng = np.random.default_rng(0)
    return RgbdFrame(
        rng.integers(0, 255, (480, 640, 3), dtype=np.uint8),
        rng.uniform(0.5, 4, (480, 640)).astype(np.float32),
        CameraIntrinsics(525.0, 525.0, 319.5, 239.5, 640, 480),
    )
