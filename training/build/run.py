"""`python -m training.build`: 3-D scans -> the MSMU data set, in shards, resumable.

Owns arguments, the plan (which scenes make which shard), processes or a Ray cluster, progress, and
the manifest. What a shard is made of is up to `training.build.shards`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import platform
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from training.build.endpoint import EndpointError
from training.build.phrasing import STYLES
from training.build.roles import Role, read_roles, shared_by, try_all
from training.build.selection import Rules
from training.build.shards import (
    ANSWERS,
    SCENES_PER_SHARD,
    SOURCES,
    Recipe,
    Report,
    Task,
    report_path,
    shard_path,
    write_shard,
)
from training.build.statistics import write_page
from training.processes import terminate_workers

MANIFEST, PLAN = "manifest.json", "plan.json"
#: Of the file formats and of the generator; another one does not go on in the same folder.
FORMAT = 1


def plan(source: str, root: Path, test_share: float) -> list[Task]:
    """The shards of a source: scenes in order, split into train and test by place.

    Rescans of one place (ScanNet's scene0000_00, _01, ...) stay together, so that no place is in
    both.
    """
    scenes = SOURCES[source].find(root)
    tasks = []
    for split in ("train", "test"):
        test = split == "test"
        chosen = [path for path in scenes if (_drawn(source, path) < test_share) == test]
        size = SCENES_PER_SHARD[source]
        for number, start in enumerate(range(0, len(chosen), size)):
            part = tuple(chosen[start : start + size])
            tasks.append(Task(f"{split}-{source}-{number:05d}", source, part))
    return tasks


def _drawn(source: str, path: Path) -> float:
    """A number in [0, 1) that belongs to a place for ever."""
    place = re.sub(r"_\d\d$", "", path.name) if source == "scannet" else "/".join(path.parts[-2:])
    digest = hashlib.sha256(f"{source}/{place}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def build(
    out: Annotated[Path, typer.Option(help="Folder for the shards; made if absent.")],
    scannet: Annotated[Path | None, typer.Option(help="ScanNet v2 root.")] = None,
    scannetpp: Annotated[Path | None, typer.Option(help="ScanNet++ root.")] = None,
    simulated: Annotated[Path | None, typer.Option(help="A folder of training.simulate.")] = None,
    style: Annotated[str, typer.Option(help=f"Wording: {', '.join(STYLES)}.")] = "msmu",
    per_type: Annotated[int, typer.Option(min=1, help="Questions of a type per picture.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    test_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of places kept for testing.")
    ] = 0.04,
    min_visible: Annotated[
        float, typer.Option(min=0, max=1, help="Least visible fraction of what is asked about.")
    ] = 0.7,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per core.")
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="yaml: models that name objects and reason (training/build/roles.py)."),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, or `local`; instead of processes.")
    ] = None,
) -> None:
    """Build MSMU-style data of 3-D scans: scene graphs, questions of eight types, depth.

    Running it again with the same arguments goes on where it stopped.

    Examples:

      python -m training.build --scannet /data/scannet --out msmu

      python -m training.build --simulated runs/sim7 --style metric --out nano-data

      python -m training.build --scannetpp /data/scannetpp --out msmu --ray auto

      python -m training.build --scannet /data/scannet --out msmu --models models.yaml
    """
    if style not in STYLES:
        raise typer.BadParameter(f"--style is one of {', '.join(STYLES)}")
    roots = {"scannet": scannet, "scannetpp": scannetpp, "simulated": simulated}
    given = {source: root for source, root in roots.items() if root is not None}
    if not given:
        raise typer.BadParameter("give at least one of --scannet, --scannetpp, --simulated")
    tasks = []
    for source, root in given.items():
        found = plan(source, root, test_share)
        if not found:
            raise typer.BadParameter(f"--{source} {root} holds no scene of that kind")
        tasks += found
    roles = _roles(models)
    recipe = Recipe(style, per_type, seed, Rules(min_visible=min_visible), tuple(roles.items()))
    _check_plan(out, recipe, tasks)
    missing = [task for task in tasks if not shard_path(out, task.name).exists()]
    # A model of this machine is there once.
    local = any(role.directory for role in roles.values())
    workers = min(workers or (1 if local else os.cpu_count() or 1), max(1, len(missing)))
    if missing and roles:
        try:
            try_all(roles, out / ANSWERS)
        except EndpointError as error:
            raise typer.BadParameter(f"--models {models}: {error}") from error
        recipe = replace(recipe, roles=tuple(shared_by(roles, workers).items()))
    logging.basicConfig(
        level=logging.WARNING, handlers=[RichHandler(console=Console(stderr=True))], force=True
    )
    total = sum(len(task.scenes) for task in tasks)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("scenes", total=total, rate="")
        progress.advance(bar, total - sum(len(task.scenes) for task in missing))
        asked = 0
        with _executor(ray, workers, out) as run:
            for task, report in run(missing, recipe, out):
                asked += sum(report.questions.values())
                progress.advance(bar, len(task.scenes))
                elapsed = progress.tasks[0].elapsed or 1.0
                progress.update(bar, rate=f"{60 * asked / elapsed:,.0f} questions/min")
    manifest = _write_manifest(out, recipe, tasks)
    write_page(out, manifest)
    typer.echo(
        f"{manifest['rows']} pictures with {manifest['questions']} questions in {out} "
        f"({len(missing)} of {len(tasks)} shards made now); {out / 'statistics.html'}"
    )
    if roles:
        typer.echo(
            f"models: {manifest['relabelled']} objects named, {manifest['thoughts']} chains of "
            f"thought accepted, {sum(manifest['refused'].values())} answers refused"
        )
    if manifest["failures"]:
        typer.echo(f"{len(manifest['failures'])} scenes failed, see {out / MANIFEST}", err=True)


def _roles(models: Path | None) -> dict[str, Role]:
    if models is None:
        return {}
    try:
        return read_roles(models)
    except ValueError as error:
        raise typer.BadParameter(f"--models: {error}") from error


def _remove_leftovers(out: Path) -> None:
    """Remove what an interrupted run had not finished."""
    for leftover in out.glob(".*.tmp"):
        leftover.unlink()


def _check_plan(out: Path, recipe: Recipe, tasks: list[Task]) -> None:
    """Refuse to mix two recipes, or two sets of scenes, in one folder."""
    out.mkdir(parents=True, exist_ok=True)
    scenes = hashlib.sha256("\n".join(str(s) for t in tasks for s in t.scenes).encode())
    wanted = {"format": FORMAT, "recipe": recipe.described(), "scenes": scenes.hexdigest()}
    path = out / PLAN
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        if differing:
            raise typer.BadParameter(
                f"{out} was begun with another {' and '.join(differing)}; choose another --out"
            )
    _remove_leftovers(out)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


Results = Iterator[tuple[Task, Report]]
Run = Callable[[list[Task], Recipe, Path], Results]


@contextmanager
def _executor(address: str | None, workers: int, out: Path) -> Iterator[Run]:
    """What runs tasks: processes of this machine, or a Ray cluster."""
    if address is not None:
        with _ray_executor(address, workers) as run:
            yield run
        return
    # Spawned, because threads of numerical libraries do not survive a fork.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))

    def run(tasks: list[Task], recipe: Recipe, out: Path) -> Results:
        waiting: dict[Future[Report], Task] = {}
        queue = iter(tasks)
        while True:
            # As many as are worked on and one each besides: what waits takes no memory here.
            for task in queue:
                waiting[pool.submit(write_shard, task, recipe, out)] = task
                if len(waiting) >= 2 * workers:
                    break
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()

    try:
        yield run
        pool.shutdown()
    except BaseException:
        terminate_workers(pool)
        _remove_leftovers(out)
        raise


@contextmanager
def _ray_executor(address: str, workers: int) -> Iterator[Run]:
    try:
        import ray
    except ImportError as error:
        raise typer.BadParameter("--ray needs: pip install ray") from error
    checkout = str(Path(__file__).parents[2])
    environment = {"env_vars": {"PYTHONPATH": checkout}}
    if address == "local":
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            runtime_env=environment,
            logging_level=logging.ERROR,
        )
    else:
        ray.init(address=address, runtime_env=environment, logging_level=logging.ERROR)
    # A worker that dies (memory, a node that goes) is replaced and the shard begun anew.
    remote = ray.remote(max_retries=3)(write_shard)

    def run(tasks: list[Task], recipe: Recipe, out: Path) -> Results:
        room = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting: dict[Any, Task] = {}
        queue = iter(tasks)
        while True:
            for task in queue:
                waiting[remote.remote(task, recipe, out.resolve())] = task
                if len(waiting) >= room:
                    break
            if not waiting:
                return
            for reference in ray.wait(list(waiting), num_returns=1)[0]:
                yield waiting.pop(reference), ray.get(reference)

    try:
        yield run
    finally:
        ray.shutdown()


def _write_manifest(out: Path, recipe: Recipe, tasks: list[Task]) -> dict[str, Any]:
    """Sum the reports of all shards; the same for the same data, however it was made."""
    reports = {
        task.name: json.loads(report_path(out, task.name).read_text(encoding="utf-8"))
        for task in tasks
    }
    totals: dict[str, Counter[str]] = {key: Counter() for key in ("dropped", "skipped", "refused")}
    values: dict[str, Counter[str]] = {}
    per_source: dict[str, Counter[str]] = {}
    types: Counter[str] = Counter()
    usage: dict[str, Counter[str]] = {}
    for task in tasks:
        report = reports[task.name]
        types.update(report["questions"])
        for key, total in totals.items():
            total.update(report[key])
        counts = {key: report[key] for key in ("rows", "scenes", "objects")}
        counts["questions"] = sum(report["questions"].values())
        counts[f"{task.name.partition('-')[0]}_questions"] = counts["questions"]
        per_source.setdefault(task.source, Counter()).update(counts)
        for kind, found in report["values"].items():
            values.setdefault(kind, Counter()).update(found)
        for role, cost in report["usage"].items():
            usage.setdefault(role, Counter()).update(cost)
    manifest = {
        "format": FORMAT,
        "recipe": recipe.described(),
        "versions": {name: version(name) for name in ("numpy", "opencv-python-headless", "pyarrow")}
        | {"python": platform.python_version()},
        "rows": sum(report["rows"] for report in reports.values()),
        "questions": sum(types.values()),
        "types": dict(sorted(types.items())),
        "sources": {source: dict(counts) for source, counts in sorted(per_source.items())},
        "objects_not_asked_about": dict(totals["dropped"].most_common()),
        "left_out": dict(totals["skipped"].most_common()),
        "relabelled": sum(report["relabelled"] for report in reports.values()),
        "thoughts": sum(report["thoughts"] for report in reports.values()),
        "refused": dict(totals["refused"].most_common()),
        "usage": {role: dict(cost) for role, cost in usage.items()},
        "values": {kind: dict(sorted(found.items())) for kind, found in sorted(values.items())},
        "failures": [failure for report in reports.values() for failure in report["failures"]],
        "sha256": {f"{name}.parquet": report["sha256"] for name, report in reports.items()},
    }
    temporary = out / f"{MANIFEST}.tmp"
    temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    temporary.replace(out / MANIFEST)
    return manifest


def main() -> None:
    """Entry point of `python -m training.build`."""
    # SIGTERM ends as Ctrl-C does; by itself it would leave the workers running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    typer.run(build)
