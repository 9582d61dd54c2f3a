"""`python -m training.ablate CONFIG`: the paper's ablation, with controls, at nano's size.

Every row of `training.ablate.rows` starts from the same base without depth, trains the same number
of steps on the same questions, and is then asked about frames outside of the training data, as they
are and under each control. Schedules the trainings over processes and resumes an interrupted run;
does not know how a row is trained (`training`).
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import typer
import yaml

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.checkpoint import load as load_checkpoint
from training.ablate.config import Config, read_config
from training.ablate.data import prepare
from training.ablate.report import MARKDOWN, write_report
from training.ablate.training import BASE, Machine, Run, do_run, is_finished
from training.evaluate.sharding import WHOLE, Shard, parse_shard
from training.loop.parallel import own_device
from training.nano.stage import OutOfTime
from training.processes import exit_on_sigterm, terminate_workers
from training.run_config import check_unchanged
from training.simulate.render import SettingsError, render_frames


def runs_of(config: Config, part: Shard = WHOLE) -> list[Run]:
    """The trainings of a part in order: bases before rows.

    A part has a base and all rows of it, so that parts run on machines of their own.
    """
    groups = [(v, seed) for v, one in config.variants.items() for seed in one.rows["none"]]
    groups = [group for number, group in enumerate(groups) if part.holds(number)]
    rows = [
        Run(variant, name, seed)
        for variant, seed in groups
        for name, seeds in config.variants[variant].rows.items()
        if seed in seeds
    ]
    return [*(Run(variant, BASE, seed) for variant, seed in groups), *rows]


def _prepare_frames(config: Config, device: str) -> None:
    """Simulate the training and test frames and prepare the arrays of all rows."""
    tower = load_checkpoint("nano", device, "float32").model.model.vision_tower
    for name, recipe in (("train", config.train), ("test", config.test)):
        folder = Path(config.data) / name
        try:
            render_frames(folder, recipe["scenes"], recipe["seed"], recipe["width"])
        except SettingsError as error:
            raise typer.BadParameter(str(error)) from error
        prepare(folder, tower)


def _pool(workers: int) -> ProcessPoolExecutor:
    """Worker processes; from Python 3.11 a new one per task, which frees the task's memory."""
    context = multiprocessing.get_context("spawn")
    if sys.version_info >= (3, 11):
        return ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1)
    return ProcessPoolExecutor(workers, mp_context=context)


def _do(out: Path, config: Config, runs: Sequence[Run], machine: Machine) -> None:
    """Train the bases, then the rows, in worker processes; skips finished ones.

    Raises:
        OutOfTime: some are not finished.
    """
    left = [run for run in runs if not is_finished(out, config, run)]
    late: list[OutOfTime] = []
    with _pool(config.workers) as pool:
        try:
            # A row needs the weights of its base.
            for bases in (True, False):
                wanted = [run for run in left if (run.name == BASE) == bases and not late]
                started = [pool.submit(do_run, out, config, run, machine) for run in wanted]
                for count, done in enumerate(as_completed(started), start=1):
                    if isinstance(error := done.exception(), OutOfTime):
                        late.append(error)
                        continue
                    typer.echo(f"{done.result()} finished, {count} of {len(started)}", err=True)
        except BaseException:
            terminate_workers(pool)
            raise
    if late:
        raise OutOfTime(f"{len(late)} are not finished, the first is {late[0]}")


def ablate(
    config_file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    minutes: Annotated[
        float, typer.Option(min=0, help="Stop after so many; 0 = when it is finished.")
    ] = 0,
    part: Annotated[
        str, typer.Option(help="I/N: only the I-th of N parts; without it, also the report.")
    ] = "",
) -> None:
    """Train and question every row; write OUT/ablation.md, ablation.json and ablation.png.

    Run it again to resume an interrupted run; other steps or frames need another OUT.

    Example: python -m training.ablate training/configs/ablation_gpu.yaml --minutes 9 --part 1/9
    """
    until = time.time() + 60 * minutes if minutes else math.inf
    try:
        config, share = read_config(config_file), parse_shard(part)
        out = Path(config.out)
        check_unchanged(out, config.recipe())
        where = str(own_device(device))
    except (OSError, ValueError, CheckpointError, yaml.YAMLError) as error:
        raise typer.BadParameter(str(error)) from error
    _prepare_frames(config, where)
    threads = max(1, (os.cpu_count() or 1) // config.workers)
    try:
        _do(out, config, runs_of(config, share), Machine(where, threads, until))
    except OutOfTime as error:
        typer.echo(f"out of time, run it again to resume: {error}", err=True)
        return
    missing = [run for run in runs_of(config) if not is_finished(out, config, run)]
    if missing:
        typer.echo(f"no report yet: {len(missing)} trainings of other parts are missing", err=True)
        return
    summary = write_report(out, config_file.name, config)
    typer.echo((out / MARKDOWN).read_text(encoding="utf-8"), err=True)
    sys.stdout.write(json.dumps(summary) + "\n")


def main() -> None:
    """Entry point of `python -m training.ablate`."""
    exit_on_sigterm()
    typer.run(ablate)
