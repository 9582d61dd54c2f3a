"""`python -m training.nano.install`: score a trained, calibrated nano and put it into the package.

Evaluates it on frames of seeds outside of training and calibration, as they are and under every
control, and writes model, tokenizer, `training.json` (all figures), README.md (the model card, from
the same figures) and reliability.png to sdvlm_core/assets/nano. Does not train or calibrate.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from sdvlm_core.files import read_json, write_json, write_text
from sdvlm_core.model.checkpoint import NANO_DIRECTORY
from training.evaluate.outputs import RELIABILITY
from training.loop.metrics import STEPS_PER_ENTRY
from training.nano.card import model_card
from training.nano.config import read_config
from training.simulate.frames import SHARD_SCENES

SCENES, SEEDS = 500, (9001, 9002)
#: Options of training.evaluate by the control's name in the card; for the first seed only.
_CONTROLS: dict[str, list[str]] = {
    "own": [],
    "shuffled_frames": ["--frames", "shuffled"],
    "shuffled_depth": ["--depth", "shuffled"],
    "constant_depth": ["--depth", "constant"],
    "noise_0.1_m": ["--depth", "noise:0.1"],
    "wrong_intrinsics": ["--intrinsics", "wrong"],
    "no_depth": ["--depth", "none"],
    "blank": ["--frames", "blank"],
}
_FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
_KEPT = ("macro", "per_type", "intervals", "asked", "reliability", "refusals")


def _run(module: str, *arguments: str) -> str:
    """Standard output of a training command; one thread, because several run at once."""
    command = [sys.executable, "-m", module, *arguments]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=alone).stdout


def _stage(log: Path, processes: int) -> dict[str, Any]:
    """Steps, wall-clock minutes and CPU minutes of all processes of a stage, from its metrics."""
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    if not text:
        return {"steps": 0, "minutes": 0.0, "cpu_minutes": 0.0}
    lines = [json.loads(line) for line in text.splitlines()]
    wall = STEPS_PER_ENTRY * sum(line["seconds_per_step"] for line in lines)
    busy = STEPS_PER_ENTRY * processes * sum(line["cpu_seconds_per_step"] for line in lines)
    return {
        "steps": lines[-1]["step"],
        "minutes": round(wall / 60, 1),
        "cpu_minutes": round(busy / 60, 1),
        "last": lines[-1],
    }


def install(
    config_file: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="The file that training.nano was run with.")
    ],
    work: Annotated[Path, typer.Option(help="Folder for test frames and answers.")],
    processes: Annotated[int, typer.Option(help="Number of training processes.")] = 2,
) -> None:
    """Score the trained model and install it as nano.

    Example: python -m training.nano.install training/configs/nano.yaml --work runs/test
    """
    try:
        config = read_config(config_file)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    run, data = config.out, config.data
    model = run / "model"
    if not read_json(model / "config.json").get("calibration"):
        raise typer.BadParameter(f"{model} is not calibrated: run training.calibrate first")
    for seed in SEEDS:
        frames = work / f"frames-{seed}"
        _run("training.simulate", f"--scenes={SCENES}", f"--seed={seed}", f"--out={frames}")

    def measure(name: str, seed: int) -> dict[str, Any]:
        out = work / f"{name}-{seed}"
        printed = _run(
            "training.evaluate", f"--model={model}", f"--benchmark={work / f'frames-{seed}'}",
            f"--out={out}", *_CONTROLS[name],
        )  # fmt: skip
        summary = json.loads(printed.splitlines()[-1])
        return {key: summary[key] for key in _KEPT}

    tasks = [(name, SEEDS[0]) for name in _CONTROLS] + [("own", seed) for seed in SEEDS[1:]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = list(pool.map(lambda task: measure(*task), tasks))
    scores = {
        name if seed == SEEDS[0] else f"{name}_seed_{seed}": found
        for (name, seed), found in zip(tasks, measured, strict=True)
    }
    recipe = read_json(data / "simulation.json")
    shards = config.shards or len(list(data.glob("shard-*.parquet")))
    stored = NANO_DIRECTORY / "training.json"
    earlier = read_json(stored)["trainings"] if config.base == "nano" else []
    training = {
        "commands": [
            f"python -m training.simulate --scenes {shards * SHARD_SCENES} --seed {recipe['seed']} "
            f"--width {recipe['width']} --out DATA",
            f"torchrun --standalone --nproc-per-node {processes} -m training.nano {config_file}",
        ],
        "data": {
            "frames": shards * SHARD_SCENES,
            "seed": recipe["seed"],
            "width": recipe["width"],
        },
        "stages": {s: _stage(run / f"{s}.jsonl", processes) for s in ("tower", "language")},
        "machine": f"{platform.machine()}, {platform.python_version()}, two CPU cores, no GPU",
    }
    if earlier and earlier[-1]["commands"] == training["commands"]:
        earlier.pop()  # this run, installed before
    document = {
        "trainings": [*earlier, training],
        "scored_on": f"python -m training.simulate --scenes {SCENES} --seed {SEEDS[0]} --out DATA",
        "scores": scores,
    }
    for name in (*_FILES, "tokenizer_config.json"):
        shutil.copyfile(model / name, NANO_DIRECTORY / name)
    shutil.copyfile(work / f"own-{SEEDS[0]}" / RELIABILITY, NANO_DIRECTORY / RELIABILITY)
    write_json(stored, document, indent=1)
    write_text(NANO_DIRECTORY / "README.md", model_card(document))
    typer.echo({name: entry["macro"] for name, entry in scores.items()})


def main() -> None:
    """Entry point of `python -m training.nano.install`."""
    typer.run(install)


if __name__ == "__main__":
    main()
