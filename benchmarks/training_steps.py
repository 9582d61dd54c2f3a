"""`python benchmarks/training_steps.py`: measures the time saved by preparing data once and by
packing turns.

Fine-tunes nano (its real size, float32, one thread) for a few steps in four ways: depth grids
cached with the data or pooled from the depth image in the loop; all turns of an image in one
conversation or one sample per turn. Prints a table, then one JSON line. Compare ratios across
machines, not seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # `training` is used from the checkout
SCENES, WIDTH, ROUNDS = 48, 640, 3


def _run(*words: object) -> None:
    subprocess.run([sys.executable, "-m", *map(str, words)], cwd=ROOT, check=True, stdout=2)


def main() -> None:
    """Measure and print."""
    import torch

    from sdvlm_core.frame import RgbdFrame, depth_in_metres
    from sdvlm_core.model.checkpoint import load
    from sdvlm_core.model.depth_encoding import pool
    from sdvlm_core.model.own_settings import encoding_settings
    from training.data.conversations import load as read
    from training.finetune.batches import Collator
    from training.finetune.config import Config
    from training.finetune.prepare import Preparation, prepare
    from training.finetune.samples import Samples
    from training.finetune.trainee import Trainee

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames, data = folder / "frames", folder / "data"
        _run("training.simulate", "--scenes", SCENES, "--width", WIDTH, "--out", frames)
        _run(
            "training.build", "--simulated", frames, "--style", "metric", "--test-share", 0,
            "--out", data,
        )  # fmt: skip
        checkpoint = load("nano", "cpu", "float32")
        settings = encoding_settings(checkpoint.model.config)
        config = Config("nano", str(data), name, gradient_checkpointing=False, dtype="float32")
        samples, questions = {}, {}
        for turns in ("packed", "single"):
            how = Preparation("nano", settings, "", turns, 4096, "train")
            samples[turns] = Samples(prepare(data, folder, how, checkpoint))
            chosen = samples[turns]
            questions[turns] = sum(_ends(chosen[i].labels) for i in range(len(chosen)))
        trainee, collate = Trainee(checkpoint, config), Collator.of(checkpoint)
        optimizer = torch.optim.AdamW(trainee.groups(config))

        def train(turns: str, batch: int) -> float:
            """Seconds per question for forward, backward and step; best of the rounds."""
            chosen, best = samples[turns], float("inf")
            count = min(len(chosen), 4 * batch)
            for _ in range(ROUNDS):
                begun, asked = time.perf_counter(), 0
                for start in range(0, count - batch + 1, batch):
                    members = [chosen[i] for i in range(start, start + batch)]
                    asked += sum(_ends(m.labels) for m in members)
                    trainee(collate(members)).backward()
                    optimizer.step()
                    optimizer.zero_grad()
                best = min(best, (time.perf_counter() - begun) / asked)
            return best

        packed, single = train("packed", 4), train("single", 16)
        cached = pooled = float("inf")
        prepare_image = checkpoint.backbone.prepare
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            for number in range(len(samples["packed"])):
                prepare_image(samples["packed"][number].rgb, checkpoint.device)
            cached = min(cached, (time.perf_counter() - begun) / len(samples["packed"]))
            begun, count = time.perf_counter(), 0
            for sample in read(data):
                # The work for every sample of every epoch without a cache.
                assert sample.depth_mm is not None
                depth = depth_in_metres(sample.depth_mm, 0.001)
                frame = RgbdFrame(sample.rgb, depth, sample.intrinsics)
                tokens = checkpoint.backbone.token_pixels(frame.height, frame.width)
                pool(frame.depth, frame.intrinsics, settings, tokens)
                prepare_image(frame.rgb, checkpoint.device)
                count += 1
            pooled = min(pooled, (time.perf_counter() - begun) / count)
    figures = {
        "packed_ms_per_question": round(1e3 * packed, 2),
        "single_ms_per_question": round(1e3 * single, 2),
        "single_over_packed": round(single / packed, 2),
        "cached_ms_per_picture": round(1e3 * cached, 2),
        "in_the_loop_ms_per_picture": round(1e3 * pooled, 2),
        "loop_over_cached": round(pooled / cached, 2),
        "questions_per_picture": round(questions["packed"] / len(samples["packed"]), 1),
        "cpus": os.cpu_count(),
    }
    for key, value in figures.items():
        print(f"{key:30} {value}")
    print(json.dumps(figures))


def _ends(labels: np.ndarray) -> int:
    """Answers in a conversation: runs of labels that are not IGNORED."""
    learnt = labels >= 0
    return int((learnt[1:] & ~learnt[:-1]).sum())


if __name__ == "__main__":
    main()
