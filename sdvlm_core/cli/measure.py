"""`sdvlm measure`: measures objects in image files from depth; prints JSON or a table, and draws.

Defines the format of its output. Does not measure (`geometry`).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sdvlm_core.answer import without_nan
from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.camera.rectification import rectified_regions
from sdvlm_core.cli import options
from sdvlm_core.cli.output import print_cautions, print_json, refusals
from sdvlm_core.errors import QueryError

if TYPE_CHECKING:
    from sdvlm_core.cautions import Caution
    from sdvlm_core.geometry.measure import Measured, Pair
    from sdvlm_core.geometry.scene import Scene


def measure(
    rgb: options.Rgb,
    depth: Annotated[Path, typer.Option(help=options.DEPTH_HELP)],
    intrinsics: Annotated[Path, typer.Option(help=options.INTRINSICS_HELP)],
    region: options.Boxes = None,
    point: options.Points = None,
    depth_scale: options.DepthScale = None,
    up: options.Up = None,
    sensor: options.Sensor = "realsense",
    draw: Annotated[
        Path | None, typer.Option(help="Write the image with all measurements drawn.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure objects from depth alone: size, position, distances, each with its uncertainty.

    No model is involved. A box may be loose, as a detector's is.

    Examples:

      sdvlm measure --rgb c.png --depth d.png --intrinsics k.json --region mug=320,180,406,270

      sdvlm measure --rgb c.png --depth d.png --intrinsics k.json --point mug=365,219 \\
        --point can=270,216 --draw out.png --json | jq .pairs
    """
    from sdvlm_core.geometry.measure import measure_in
    from sdvlm_core.geometry.scene import open_scene

    settings = options.camera_settings(sensor)
    regions, upward = options.parse_regions(region, point), options.parse_up(up)
    if not regions:
        raise typer.BadParameter(
            "give at least one --region LABEL=x1,y1,x2,y2 or --point LABEL=u,v"
        )
    with refusals(as_json):
        frame = read_frame(rgb, depth, intrinsics, depth_scale, settings=settings, up=upward)
        scene = open_scene(frame)
        found, pairs = measure_in(scene, rectified_regions(scene.frame, regions), sensor)
        if draw is not None:
            _write_drawing(draw, scene, found, pairs)
        if as_json:
            print_json(measurement_document(found, pairs, scene.cautions))
        else:
            print_measured(found, pairs, scene)


def _write_drawing(
    path: Path,
    scene: Scene,
    found: tuple[Measured, ...],
    pairs: tuple[Pair, ...],
) -> None:
    """Write the image with all measurements drawn; the distance line only for a single pair.

    Raises:
        QueryError: the file cannot be written.
    """
    import cv2

    from sdvlm_core.geometry.drawing import draw_measurements

    picture = draw_measurements(scene, found, pairs)
    try:
        written = cv2.imwrite(str(path), picture[..., ::-1])
    except cv2.error:
        written = False
    if not written:
        raise QueryError(
            f"cannot write an image to {path}: the directory is missing, or it is not .png or .jpg"
        )


def measurement_document(
    found: tuple[Measured, ...], pairs: tuple[Pair, ...], cautions: tuple[Caution, ...]
) -> dict[str, Any]:
    """The JSON document of `sdvlm measure`: metres, null = unknown, warnings as codes."""
    document: dict[str, Any] = {
        "cautions": [code.value for code in cautions],
        "regions": [
            {
                "label": one.label,
                "position_m": list(one.position_m),
                "camera_distance_m": one.camera_distance_m,
                "length_m": one.length_m,
                "width_m": one.width_m,
                "height_m": one.height_m,
                "std_dev": one.std_dev,
                "valid_fraction": one.valid_fraction,
                "warnings": [code.value for code in one.warnings],
            }
            for one in found
        ],
        "pairs": [asdict(pair) for pair in pairs],
    }
    return without_nan(document)


def print_measured(found: tuple[Measured, ...], pairs: tuple[Pair, ...], scene: Scene) -> None:
    """Print a table, the scene's cautions with their reasons, warnings, and a line for each pair.

    The warnings of the regions are explained in docs/geometry.md.
    """

    def metres(value: float, std_dev: float) -> str:
        return "?" if math.isnan(value) else f"{value:.3f} ± {std_dev:.3f}"

    console = Console()
    table = Table(box=None)
    for name in ("", "length m", "width m", "height m", "from camera m", "x, y, z m"):
        table.add_column(name)
    for one in found:
        table.add_row(
            escape(one.label),
            *(
                metres(getattr(one, key), one.std_dev[key])
                for key in ("length_m", "width_m", "height_m", "camera_distance_m")
            ),
            ", ".join(f"{value:.3f}" for value in one.position_m),
        )
    console.print(table)
    print_cautions(console, scene.cautions, scene.reasons)
    for one in found:
        own = [code.value for code in one.warnings if code not in scene.cautions]
        if own:
            console.print(f"[yellow]{escape(one.label)}: {', '.join(own)}[/]")
    for pair in pairs:
        distance, gap = (metres(x, pair.std_dev_m) for x in (pair.distance_m, pair.gap_m))
        console.print(f"{escape(pair.a)} - {escape(pair.b)}: distance {distance} m, gap {gap} m")
