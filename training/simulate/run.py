"""`python -m training.simulate`: options -> rendered frames.

Does not know how frames are rendered or stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.processes import exit_on_sigterm
from training.simulate.meshes import PACKAGE, package_meshes
from training.simulate.render import Kind, SettingsError, render_frames


def simulate(
    scenes: Annotated[int, typer.Option(min=1, help="Number of scenes; one frame each.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; created if missing.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same frames.")] = 0,
    width: Annotated[
        int, typer.Option(min=64, max=1920, help="Image width; the height is 3/4 or 9/16 of it.")
    ] = 320,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per core.")
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            help="room: household rooms. geometry: things stacked, touching, hidden, thin, flat, "
            "in bins and on shelves, seen with the errors of real depth cameras; also meshes of "
            "robosuite, if it is installed."
        ),
    ] = "room",
) -> None:
    """Render simulated scenes: colour, sensor depth, masks, exact scene graphs.

    A second run with the same options renders only the missing shards.

    Example: python -m training.simulate --scenes 200 --seed 7 --out runs/sim7
    Example: python -m training.simulate --kind geometry --scenes 150 --seed 1701 --out runs/hard
    """
    try:
        rendered = render_frames(out, scenes, seed, width, workers, kind)
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from error
    if kind == "geometry":
        typer.echo(_meshes_used())
    typer.echo(
        f"{scenes} frames in {out} ({rendered.new_shards} of {rendered.shards} shards rendered now)"
    )


def _meshes_used() -> str:
    package = package_meshes()
    if not package.meshes:
        return f"no meshes: {PACKAGE} is not installed; all things are made of primitives"
    left_out = (
        f"; left out, as not convex: {', '.join(package.left_out)}" if package.left_out else ""
    )
    return f"{len(package.meshes)} meshes of {PACKAGE}: {', '.join(package.meshes)}{left_out}"


def main() -> None:
    """Entry point of `python -m training.simulate`."""
    exit_on_sigterm()
    typer.run(simulate)
