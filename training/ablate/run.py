"""`python -m training.ablate CONFIG`: the paper's ablation, with controls, at nano's size.

Every row of `training.ablate.rows` goes on from the same base without depth for the same number
of steps on the same questions, and is then asked about frames that no training saw, as they are and
under each control. Owns the run: what is made of what, processes, resuming. Whatever was finished
is not done again; an interrupted training goes on from its last state.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
import yaml
from safetensors.torch import load_file, save_file

from sdvlm_core.model.checkpoint import load as load_checkpoint
from training.ablate.asking import BLIND, ask_about
from training.ablate.data import prepare, row_data
from training.ablate.model import DepthTokens, new_model
from training.ablate.report import write_report
from training.ablate.rows import ROWS
from training.nano.language import Recipe, train_language
from training.processes import exit_on_sigterm, terminate_workers
from training.run_config import check_unchanged
from training.simulate.render import SettingsError, render_frames


@dataclass(frozen=True)
class Config:
    """A file of training/configs/ablation*.yaml; its comments say what the keys are."""

    out: str
    train: dict[str, int]
    test: dict[str, int]
    base_steps: int
    steps: int
    rate: float
    rows: dict[str, list[int]]
    controls: list[str]
    blind: bool


def read_config(file: Path) -> Config:
    """The configuration, checked.

    Raises:
        ValueError: a key is missing, unknown or of another type, or a row does not exist.
    """
    stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    wanted = {field.name for field in fields(Config)}
    if not isinstance(stored, dict) or set(stored) != wanted:
        differing = sorted(wanted ^ set(stored or ()))
        raise ValueError(f"{file}: keys missing or unknown: {', '.join(differing)}")
    unknown = set(stored["rows"]) - set(ROWS)
    if unknown:
        raise ValueError(f"{file}: no such rows: {sorted(unknown)}; known: {', '.join(ROWS)}")
    return Config(**stored)


def _frames(out: Path, name: str, recipe: dict[str, int]) -> Path:
    folder = out / name
    try:
        render_frames(folder, recipe["scenes"], recipe["seed"], recipe["width"])
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from error
    return folder


def _train(
    out: Path, config: Config, name: str, seed: int, steps: int, base: Path | None, threads: int
) -> Path:
    """Train one row (or, without `base`, the base itself); returns its weights."""
    torch.set_num_threads(threads)
    row = ROWS[name]
    folder = out / (f"{name}-{seed}" if base else f"base-{seed}")
    weights = folder / "model.safetensors"
    if weights.exists():
        return weights
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_checkpoint("nano").tokenizer
    model = new_model(row, len(tokenizer), seed)
    data = row_data(out / "train", row)
    extra = None
    if row.extra:
        extra = DepthTokens(row, tokenizer, model.config.text_config.hidden_size)
        extra.look_up(data)
    if base:
        model.load_state_dict(load_file(base), strict=False)
    rate = config.rate if base else 1.0
    # Rows of one seed see the same questions; the base sees others.
    recipe = Recipe(steps, seed=seed if base is None else 1000 + seed, rate=rate)

    def see(chosen: np.ndarray) -> torch.Tensor:
        return data.features[chosen].float()

    train_language(model, tokenizer, data.frames, see, recipe, folder, extra)
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    if extra is not None:
        tensors |= {f"extra.{key}": value.clone() for key, value in extra.state_dict().items()}
    temporary = weights.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(weights)
    return weights


def _answers(out: Path, config: Config, name: str, seed: int) -> dict[str, Path]:
    """Where a row's answers lie, by control."""
    controls = ["own"]
    if seed == 0:
        controls += config.controls if ROWS[name].sees_depth else []
        controls += [BLIND] if config.blind and name == "none" else []
    return {control: out / f"{name}-{seed}" / f"{control}.jsonl" for control in controls}


def _run(out: Path, config: Config, name: str, seed: int, threads: int) -> str:
    """Train a row and ask it everything; returns what was run."""
    base = out / f"base-{seed}" / "model.safetensors"
    weights = _train(out, config, name, seed, config.steps, base, threads)
    for control, file in _answers(out, config, name, seed).items():
        ask_about(ROWS[name], weights, out / "test", control, file)
    return f"{name}-{seed}"


def ablate(
    config_file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A yaml file.")],
    out: Annotated[Path | None, typer.Option(help="Instead of the file's.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Rows trained at the same time.")] = 2,
) -> None:
    """Train and question every row; write OUT/ablation.md, ablation.json and ablation.png.

    Running it again goes on where it stopped; with other steps or frames it needs another OUT.

    Example: python -m training.ablate training/configs/ablation_nano.yaml
    """
    try:
        config = read_config(config_file)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise typer.BadParameter(str(error)) from error
    out = out or Path(config.out)
    try:
        # Rows, seeds and controls may be added to; what there is stays what it is.
        fixed = ("train", "test", "base_steps", "steps", "rate")
        check_unchanged(out, {key: getattr(config, key) for key in fixed})
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    tower = load_checkpoint("nano").model.float().model.vision_tower
    for name, recipe in (("train", config.train), ("test", config.test)):
        prepare(_frames(out, name, recipe), tower)
    threads = max(1, (os.cpu_count() or 1) // workers)
    runs = [
        (name, seed)
        for name, seeds in config.rows.items()
        for seed in seeds
        if not all(file.exists() for file in _answers(out, config, name, seed).values())
    ]
    context = multiprocessing.get_context("spawn")
    # One task a process: what a training leaves in memory is gone with it.
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        try:
            seeds = sorted({seed for _, seed in runs})
            bases = [
                pool.submit(_train, out, config, "none", seed, config.base_steps, None, threads)
                for seed in seeds
            ]
            for base in bases:
                typer.echo(f"base: {base.result().parent.name}", err=True)
            pending = [pool.submit(_run, out, config, *run, threads) for run in runs]
            for count, future in enumerate(as_completed(pending), start=1):
                typer.echo(f"{future.result()} done, {count} of {len(runs)}", err=True)
        except BaseException:
            terminate_workers(pool)
            raise
    summary = write_report(out, config_file.name, vars(config))
    typer.echo((out / "ablation.md").read_text(encoding="utf-8"), err=True)
    sys.stdout.write(json.dumps(summary) + "\n")


def main() -> None:
    """Entry point of `python -m training.ablate`."""
    exit_on_sigterm()
    typer.run(ablate)
