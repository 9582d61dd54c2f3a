"""`sdvlm download` and `sdvlm convert`: get a model, list the known ones, convert a release.

Does not know the hub's protocol (`model.hub`) or the layout of a checkpoint (`model.convert`).
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import DownloadColumn, Progress
from rich.table import Table

from sdvlm_core.cli import options
from sdvlm_core.cli.output import print_json, refusals, stderr_console

if TYPE_CHECKING:
    from sdvlm_core.model.depth_encoding import Orientation
    from sdvlm_core.model.hub import Snapshot


def download(
    name: Annotated[
        str | None, typer.Argument(help="A name, owner/name, or one of them @revision.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Download a model into the local cache, verify it, and print its directory.

    Prints licence and size before the download starts. Run it again to resume after an
    interruption. The revision is resolved once and printed as owner/name@commit, which is stable.

    Examples:

      sdvlm download

      sdvlm download depth-anything-v2-small

      sdvlm convert $(sdvlm download sd-vlm-7b) sd-vlm-7b
    """
    if name is None:
        _print_releases(as_json)
        return
    with refusals(as_json):
        with redirect_stdout(sys.stderr):
            from sdvlm_core.model import hub

            snapshot = hub.look_up(name)
            print(
                f"{snapshot.pinned}\nlicence: {snapshot.licence}\n"
                f"{len(snapshot.files)} files, {snapshot.size / 1e9:.2f} GB",
            )
            directory = _downloaded(snapshot)
        if as_json:
            print_json(
                {
                    "repository": snapshot.repository,
                    "revision": snapshot.revision,
                    "commit": snapshot.commit,
                    "licence": snapshot.licence,
                    "bytes": snapshot.size,
                    "files": [file.path for file in snapshot.files],
                    "directory": str(directory),
                }
            )
        else:
            print(directory)


def _downloaded(snapshot: Snapshot) -> Path:
    """Download with a progress bar for the verification."""
    from sdvlm_core.model import hub

    bar = Progress(*Progress.get_default_columns(), DownloadColumn(), console=stderr_console())
    task = bar.add_task("checking", total=snapshot.size)

    def checked(size: int) -> None:
        bar.start()  # created after the hub's own progress bars
        bar.advance(task, size)

    try:
        return hub.download(snapshot, checked)
    finally:
        bar.stop()


def _print_releases(as_json: bool) -> None:
    from sdvlm_core.model.hub import RELEASES, cached

    directories = {name: cached(name) for name in RELEASES}
    if as_json:
        print_json(
            {
                name: asdict(release) | {"directory": directories[name] and str(directories[name])}
                for name, release in RELEASES.items()
            }
        )
        return
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    for name, release in RELEASES.items():
        note = "\n[green]downloaded[/]" if directories[name] else ""
        table.add_row(name, f"{escape(release.use)}\n[dim]{escape(release.licence)}[/]{note}")
    Console().print(table)


def convert(
    released: Annotated[Path, typer.Argument(help="Directory in SD-VLM's layout, or DAv2's .pth.")],
    out: Annotated[Path, typer.Argument(help="Directory to write; can be given to --model.")],
    vision_tower: Annotated[
        Path | None, typer.Option(help="CLIP directory; default: the tower inside.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Directory of the tokenizer; default: the released one.")
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(help="inverse or direct; default: gt_depth in config.json decides."),
    ] = None,
    parity: Annotated[
        bool, typer.Option("--parity", help="The released forward pass, with its defects.")
    ] = False,
    metric_range: Annotated[
        float | None, typer.Option(help="Of a metric .pth: 20 indoor, 80 outdoor (metres).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print what would be done.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Convert a released SD-VLM checkpoint, or Depth-Anything-V2's .pth, for use with --model.

    Needs about as much memory as the largest file. Run it again to resume after an interruption.

    Examples:

      sdvlm convert SD-VLM-7B sd-vlm-7b --dry-run

      sdvlm convert SD-VLM-7B sd-vlm-7b --vision-tower clip-vit-large-patch14-336

      sdvlm convert depth_anything_v2_vits.pth depth-anything-v2-small
    """
    with refusals(as_json), redirect_stdout(sys.stderr):
        if released.is_file():
            if dry_run or parity or vision_tower or tokenizer or orientation:
                raise typer.BadParameter(f"{released} is a file; use only --metric-range")
            from sdvlm_core.model.convert import convert_depth_anything

            convert_depth_anything(released, out, metric_range)
            report: dict[str, Any] = {"source": str(released)}
        else:
            if orientation not in (None, "inverse", "direct"):
                raise typer.BadParameter(f"--orientation is inverse or direct, not {orientation}")
            chosen = cast("Orientation | None", orientation)
            report = _convert_sd_vlm(
                released, out, vision_tower, tokenizer, chosen, parity, dry_run
            )
        report["out"] = None if dry_run else str(out)
    if as_json:
        print_json(report)
    else:
        for key, value in report.items():
            print(f"{key}: {value}")


def _convert_sd_vlm(
    released: Path,
    out: Path,
    vision_tower: Path | None,
    tokenizer: Path | None,
    orientation: Orientation | None,
    parity: bool,
    dry_run: bool,
) -> dict[str, Any]:
    """Write the converted checkpoint, unless `dry_run`; returns the plan."""
    from sdvlm_core.model import conversion_plan, convert

    plan = conversion_plan.plan(
        released, vision_tower=vision_tower, orientation=orientation, parity=parity
    )
    report = conversion_plan.describe(plan)
    if not dry_run:
        convert.check_out((source.path for source in plan.sources), out)
        convert.write_tokenizer(tokenizer or released, out)
        columns = (*Progress.get_default_columns(), DownloadColumn())
        with Progress(*columns, console=stderr_console()) as bar:
            task = bar.add_task("converting", total=report["bytes"])
            convert.write(plan, out, lambda done, _: bar.update(task, completed=done))
    return report
