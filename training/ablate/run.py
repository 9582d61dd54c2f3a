"""`python -m training.ablate CONFIG`: the paper's ablation, with controls, at nano's size.

Every row of `training.ablate.rows` starts from the same base without depth, trains the same number
of steps on the same questions, and is then asked about frames outside of the training data, as they
are and under each control. Schedules the rows over processes and resumes an interrupted run; does
not know how a row is trained (`training`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import typer
import yaml

from sdvlm_core.model.checkpoint import load as load_checkpoint
from training.ablate.config import Config, read_config
from training.ablate.data import prepare
from training.ablate.report import MARKDOWN, write_report
from training.ablate.training import answer_files, run_row, train_base
from training.processes import exit_on_sigterm, terminate_workers
from training.run_config import check_unchanged
from training.simulate.render import SettingsError, render_frames


def _prepare_frames(out: Path, config: Config) -> None:
    """Simulate the training and test frames and prepare the arrays of all rows."""
    tower = load_checkpoint("nano", "cpu").model.float().model.vision_tower
    for name, recipe in (("train", config.train), ("test", config.test)):
        try:
            render_frames(out / name, recipe["scenes"], recipe["seed"], recipe["width"])
        except SettingsError as error:
            raise typer.BadParameter(str(error)) from error
        prepare(out / name, tower)


def _pool(workers: int) -> ProcessPoolExecutor:
    """Worker processes; from Python 3.11 a new one per task, which frees the task's memory."""
    context = multiprocessing.get_context("spawn")
    if sys.version_info >= (3, 11):
        return ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1)
    return ProcessPoolExecutor(workers, mp_context=context)


def _run_rows(out: Path, config: Config, workers: int) -> None:
    """Train the bases, then the rows, in worker processes; skips finished rows."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    runs = [
        (name, seed)
        for name, seeds in config.rows.items()
        for seed in seeds
        if not all(file.exists() for file in answer_files(out, config, name, seed).values())
    ]
    with _pool(workers) as pool:
        try:
            seeds = sorted({seed for _, seed in runs})
            bases = [pool.submit(train_base, out, config, seed, threads) for seed in seeds]
            for base in bases:
                typer.echo(f"{base.result().name} trained", err=True)
            rows = [pool.submit(run_row, out, config, *run, threads) for run in runs]
            for count, row in enumerate(as_completed(rows), start=1):
                typer.echo(f"{row.result().name} finished, {count} of {len(runs)}", err=True)
        except BaseException:
            terminate_workers(pool)
            raise


def ablate(
    config_file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.")],
    out: Annotated[Path | None, typer.Option(help="Output folder; overrides the file.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Rows trained at the same time.")] = 2,
) -> None:
    """Train and question every row; write OUT/ablation.md, ablation.json and ablation.png.

    Run it again to resume an interrupted run; other steps or frames need another OUT.

    Example: python -m training.ablate training/configs/ablation_nano.yaml
    """
    try:
        config = read_config(config_file)
        out = out or Path(config.out)
        check_unchanged(out, config.recipe())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise typer.BadParameter(str(error)) from error
    _prepare_frames(out, config)
    _run_rows(out, config, workers)
    summary = write_report(out, config_file.name, config)
    typer.echo((out / MARKDOWN).read_text(encoding="utf-8"), err=True)
    sys.stdout.write(json.dumps(summary) + "\n")


def main() -> None:
    """Entry point of `python -m training.ablate`."""
    exit_on_sigterm()
    typer.run(ablate)
