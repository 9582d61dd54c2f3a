"""`python -m training.nano.install`: score a trained, calibrated nano and put it into the package.

Evaluates it on frames of seeds outside of training and calibration, as they are and under every
control, and writes model, tokenizer, `training.json` (all figures), README.md (the model card, from
the same figures) and reliability.png to sdvlm_core/assets/nano. Does not train or calibrate.
"""

from __future__ import annotations

import json
import os
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
from training.nano.config import NanoConfig, read_config
from training.simulate.frames import MANIFEST, SHARD_SCENES

SCENES, SEEDS = 500, (9001, 9002)
#: Of these, those that the controls are asked about: they are to show large differences.
CONTROL_SCENES = 200
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


def _training(file: Path, config: NanoConfig, processes: int, machine: str) -> dict[str, Any]:
    """What the card says of one training."""
    recipe = read_json(config.data / MANIFEST)
    frames = config.shards * SHARD_SCENES or recipe["scenes"]
    launcher = f"torchrun --standalone --nproc-per-node {processes}" if processes > 1 else "python"
    return {
        "commands": [
            f"python -m training.simulate --scenes {frames} --seed {recipe['seed']} "
            f"--width {recipe['width']} --out DATA",
            f"{launcher} -m training.nano {file}",
        ],
        "data": {"frames": frames, "seed": recipe["seed"], "width": recipe["width"]},
        "stages": {s: _stage(config.out / f"{s}.jsonl", processes) for s in ("tower", "language")},
        "machine": machine,
    }


def install(
    config_files: Annotated[
        list[Path],
        typer.Argument(metavar="CONFIG...", help="Of the trainings, in order; installs the last."),
    ],
    work: Annotated[Path, typer.Option(help="Folder for test frames and answers.")],
    machine: Annotated[
        str, typer.Option(help="What they ran on, for the card: processor, cores, GPU.")
    ],
    processes: Annotated[int, typer.Option(help="Number of training processes.")] = 2,
) -> None:
    """Score the trained model and install it as nano.

    Example: python -m training.nano.install training/configs/nano.yaml --work runs/test \\
    --machine "two CPU cores, no GPU"
    """
    try:
        configs = [read_config(file) for file in config_files]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    model = configs[-1].out / "model"
    if not read_json(model / "config.json").get("calibration"):
        raise typer.BadParameter(f"{model} is not calibrated: run training.calibrate first")
    for seed in SEEDS:
        frames = work / f"frames-{seed}"
        _run("training.simulate", f"--scenes={SCENES}", f"--seed={seed}", f"--out={frames}")

    def measure(name: str, seed: int) -> dict[str, Any]:
        out = work / f"{name}-{seed}"
        scenes = SCENES if name == "own" else CONTROL_SCENES
        printed = _run(
            "training.evaluate", f"--model={model}", f"--benchmark={work / f'frames-{seed}'}",
            f"--out={out}", f"--limit={scenes}", *_CONTROLS[name],
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
    trainings = [
        _training(file, config, processes, machine)
        for file, config in zip(config_files, configs, strict=True)
    ]
    stored = NANO_DIRECTORY / "training.json"
    earlier = read_json(stored)["trainings"] if configs[0].base == "nano" else []
    # Without these runs, if they were installed before.
    mine = [training["commands"] for training in trainings]
    earlier = [one for one in earlier if one["commands"] not in mine]
    document = {
        "trainings": [*earlier, *trainings],
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
