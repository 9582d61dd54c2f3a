"""`python -m training.build`: 3-D scans -> the MSMU data set, in shards; resumes when interrupted.

Knows options and messages. Does not know how shards are planned (`plan`), run (`executors`) or
written (`shards`).
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from training.build.config import BuildConfig
from training.build.endpoint import EndpointError
from training.build.executors import ExecutorError, executor
from training.build.manifest import MANIFEST, write_manifest
from training.build.phrasing import STYLES
from training.build.plan import PlanError, Task, open_folder, plan, shard_path
from training.build.roles import Role, check_models, read_roles, share_rate
from training.build.selection import Rules
from training.build.shards import ANSWERS
from training.build.statistics import PAGE, write_page
from training.processes import exit_on_sigterm
from training.progress_bar import ProgressBar


def build(
    out: Annotated[Path, typer.Option(help="Folder for the shards; created if missing.")],
    scannet: Annotated[Path | None, typer.Option(help="ScanNet v2 root.")] = None,
    scannetpp: Annotated[Path | None, typer.Option(help="ScanNet++ root.")] = None,
    simulated: Annotated[Path | None, typer.Option(help="A folder of training.simulate.")] = None,
    style: Annotated[str, typer.Option(help=f"Wording: {', '.join(STYLES)}.")] = "msmu",
    per_type: Annotated[int, typer.Option(min=1, help="Questions of each type per image.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    test_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of places in the test split.")
    ] = 0.04,
    min_visible: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum visible fraction of objects asked about.")
    ] = 0.7,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per core.")
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="YAML: models that name objects and reason (training/build/roles.py)."),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, or `local`; replaces processes.")
    ] = None,
) -> None:
    """Build MSMU-style data from 3-D scans: scene graphs, questions of eight types, depth.

    A second run with the same options resumes after the last complete shard.

    Examples:

      python -m training.build --scannet /data/scannet --out msmu

      python -m training.build --simulated runs/sim7 --style metric --out nano-data

      python -m training.build --scannetpp /data/scannetpp --out msmu --ray auto

      python -m training.build --scannet /data/scannet --out msmu --models models.yaml
    """
    if style not in STYLES:
        raise typer.BadParameter(f"--style is one of {', '.join(STYLES)}")
    roots = {"scannet": scannet, "scannetpp": scannetpp, "simulated": simulated}
    tasks = _plan_all(roots, test_share)
    try:
        roles = {} if models is None else read_roles(models)
    except ValueError as error:
        raise typer.BadParameter(f"--models: {error}") from error
    config = BuildConfig(style, per_type, seed, Rules(min_visible=min_visible), (*roles.items(),))
    try:
        open_folder(out, config, tasks)
    except PlanError as error:
        raise typer.BadParameter(str(error)) from error
    missing = [task for task in tasks if not shard_path(out, task.name).exists()]
    workers = min(workers or _default_workers(roles), max(1, len(missing)))
    if missing and roles:
        try:
            check_models(roles, out / ANSWERS)
        except EndpointError as error:
            raise typer.BadParameter(f"--models {models}: {error}") from error
        config = replace(config, roles=(*share_rate(roles, workers).items(),))
    logging.basicConfig(
        level=logging.WARNING, handlers=[RichHandler(console=Console(stderr=True))], force=True
    )
    try:
        _write_shards(tasks, missing, config, out, ray, workers)
    except ExecutorError as error:
        raise typer.BadParameter(str(error)) from error
    manifest = write_manifest(out, config, tasks)
    write_page(out, manifest)
    _report(out, manifest, len(missing), len(tasks), with_models=bool(roles))


def _plan_all(roots: dict[str, Path | None], test_share: float) -> list[Task]:
    """The shards of every source that was given."""
    given = {source: root for source, root in roots.items() if root is not None}
    if not given:
        raise typer.BadParameter("give at least one of --scannet, --scannetpp, --simulated")
    tasks = []
    for source, root in given.items():
        found = plan(source, root, test_share)
        if not found:
            raise typer.BadParameter(f"--{source} {root} holds no scenes of this source")
        tasks += found
    return tasks


def _default_workers(roles: dict[str, Role]) -> int:
    # A local model is loaded once; each further worker would load it again.
    local = any(role.directory for role in roles.values())
    return 1 if local else os.cpu_count() or 1


def _write_shards(
    tasks: list[Task],
    missing: list[Task],
    config: BuildConfig,
    out: Path,
    ray: str | None,
    workers: int,
) -> None:
    """Write the missing shards, with a progress bar over the scenes of all tasks."""
    total = sum(len(task.scenes) for task in tasks)
    completed = total - sum(len(task.scenes) for task in missing)
    questions = 0
    with ProgressBar("scenes", total, completed) as bar, executor(ray, workers, out) as run:
        for task, report in run(missing, config):
            questions += sum(report.questions.values())
            bar.advance(len(task.scenes))
            bar.show_rate(f"{60 * questions / (bar.elapsed_s or 1.0):,.0f} questions/min")


def _report(
    out: Path, manifest: dict[str, Any], written: int, shards: int, with_models: bool
) -> None:
    typer.echo(
        f"{manifest['rows']} images with {manifest['questions']} questions in {out} "
        f"({written} of {shards} shards written now); {out / PAGE}"
    )
    if with_models:
        typer.echo(
            f"models: {manifest['relabelled']} objects named, {manifest['thoughts']} chains of "
            f"thought accepted, {sum(manifest['refused'].values())} answers refused"
        )
    if manifest["failures"]:
        typer.echo(f"{len(manifest['failures'])} scenes failed, see {out / MANIFEST}", err=True)


def main() -> None:
    """Entry point of `python -m training.build`."""
    exit_on_sigterm()
    typer.run(build)
