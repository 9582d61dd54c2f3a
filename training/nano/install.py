"""`python -m training.nano.install`: put a trained nano into the package, with its scores.

Measures it on frames of seeds that training never saw, alone and with the controls, and writes
model, tokenizer and `training.json` (commands, data, scores) to sdvlm_core/assets/nano.
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
from typing import Annotated

import typer

from sdvlm_core.checkpoint import NANO_DIRECTORY
from training.simulate import SHARD_SCENES

SCENES, SEED = 200, 9001
_CONTROLS = {
    "own": [],
    "shuffled_frames": ["--frames", "shuffled"],
    "shuffled_depth": ["--depth", "shuffled"],
}
_FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")


def _run(module: str, *arguments: str) -> str:
    """Standard output of a training command; one thread, because several run at once."""
    command = [sys.executable, "-m", module, *arguments]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=alone).stdout


def _stage(log: Path) -> dict[str, float]:
    """Steps and wall-clock minutes of a training stage, from its journal."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    seconds = sum(line["seconds_per_step"] for line in lines) * 50
    return {"steps": lines[-1]["step"], "minutes": round(seconds / 60, 1), "last": lines[-1]}


def install(
    run: Annotated[Path, typer.Option(help="The --out folder of training.nano.")],
    data: Annotated[Path, typer.Option(help="The --data folder it was trained on.")],
    work: Annotated[Path, typer.Option(help="Folder for test frames and answers.")],
    shards: Annotated[int | None, typer.Option(help="As it was trained; default: all.")] = None,
) -> None:
    """Score the model in RUN/model and install it as nano."""
    model = run / "model"
    frames = work / f"frames-{SEED}"
    _run("training.simulate", f"--scenes={SCENES}", f"--seed={SEED}", f"--out={frames}")

    def measure(name: str) -> dict:
        model_and_data = (f"--model={model}", f"--benchmark={frames}", f"--out={work / name}")
        printed = _run("training.evaluate", *model_and_data, *_CONTROLS[name])
        summary = json.loads(printed.splitlines()[-1])
        return {key: summary[key] for key in ("macro", "per_type", "asked")}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scores = dict(zip(_CONTROLS, pool.map(measure, _CONTROLS), strict=True))
    recipe = json.loads((data / "simulation.json").read_text())
    shards = shards or len(list(data.glob("shard-*.parquet")))
    stages = {stage: _stage(run / f"{stage}.jsonl") for stage in ("tower", "language")}
    card = {
        "commands": [
            f"python -m training.simulate --scenes {shards * SHARD_SCENES} --seed {recipe['seed']} "
            f"--width {recipe['width']} --out DATA",
            f"python -m training.nano --data DATA --out RUN --shards {shards} "
            f"--tower-steps {stages['tower']['steps']} --steps {stages['language']['steps']}",
        ],
        "frames": shards * SHARD_SCENES,
        "stages": stages,
        "machine": f"{platform.machine()}, {platform.python_version()}, two CPU cores, no GPU",
        "scored_on": f"python -m training.simulate --scenes {SCENES} --seed {SEED} --out DATA",
        "scores": scores,
    }
    NANO_DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name in (*_FILES, "tokenizer_config.json"):
        shutil.copyfile(model / name, NANO_DIRECTORY / name)
    text = json.dumps(card, indent=1) + "\n"
    (NANO_DIRECTORY / "training.json").write_text(text, encoding="utf-8")
    typer.echo({name: entry["macro"] for name, entry in card["scores"].items()})


if __name__ == "__main__":
    typer.run(install)
