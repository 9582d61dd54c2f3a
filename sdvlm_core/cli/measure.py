"""`sdvlm measure`: words to regions, measurements to JSON, a table and a picture.

Owns the form of its arguments and of what it prints. Does not measure (`geometry`) and knows no
exit statuses (`cli`).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sdvlm_core.answer import without_nan
from sdvlm_core.errors import QueryError, SdvlmError
from sdvlm_core.frame import Region
from sdvlm_core.geometry.measure import Measured, Pair, Scene
from sdvlm_core.geometry.sensor_noise import SENSORS


def check_sensor(name: str) -> None:
    """Raises typer.BadParameter for a sensor without a preset."""
    if name not in SENSORS:
        raise typer.BadParameter(f"--sensor is one of {', '.join(SENSORS)}, not {name!r}")


def parse_regions(boxes: list[str] | None, points: list[str] | None) -> list[Region]:
    """The regions of --region and --point, with a label of its own each.

    Raises:
        typer.BadParameter: one is malformed, or a label comes twice.
    """
    regions = [parse_region(text, 4) for text in boxes or []]
    regions += [parse_region(text, 2) for text in points or []]
    labels = [region.label for region in regions]
    if len(set(labels)) < len(labels):
        raise typer.BadParameter(f"labels must differ, got {', '.join(labels)}")
    return regions


def parse_region(text: str, numbers: int) -> Region:
    """LABEL=x1,y1,x2,y2 (`numbers` 4) or LABEL=u,v (2) as a region.

    Raises:
        typer.BadParameter: it is anything else.
    """
    form = "LABEL=x1,y1,x2,y2" if numbers == 4 else "LABEL=u,v"
    label, equals, values = text.rpartition("=")
    try:
        pixels = tuple(float(value) for value in values.split(","))
    except ValueError:
        pixels = ()
    if not (
        equals and label.strip() and len(pixels) == numbers and all(map(math.isfinite, pixels))
    ):
        raise typer.BadParameter(f"{text!r} is not {form} with numbers of pixels")
    try:
        if numbers == 4:
            x1, y1, x2, y2 = pixels
            return Region(label.strip(), box=(x1, y1, x2, y2))
        return Region(label.strip(), point=(pixels[0], pixels[1]))
    except SdvlmError as error:
        raise typer.BadParameter(str(error)) from error


def write_drawing(
    path: Path,
    scene: Scene,
    found: tuple[Measured, ...],
    pairs: tuple[Pair, ...],
) -> None:
    """Write the picture with everything drawn in; the pair's line where there is only one pair.

    Raises:
        QueryError: the file cannot be written.
    """
    import cv2

    from sdvlm_core.geometry.drawing import draw_measurements

    picture = draw_measurements(scene.frame.rgb, scene.cloud, found, pairs)
    try:
        written = cv2.imwrite(str(path), picture[..., ::-1])
    except cv2.error:
        written = False
    if not written:
        raise QueryError(f"cannot write a picture to {path}: no such folder, or not .png or .jpg")


def measurement_document(found: tuple[Measured, ...], pairs: tuple[Pair, ...]) -> dict[str, Any]:
    """What `sdvlm measure --json` prints: metres, null for unknown, warnings by their codes."""
    document: dict[str, Any] = {
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


def print_measured(found: tuple[Measured, ...], pairs: tuple[Pair, ...]) -> None:
    """A table for people, the warnings, and a line for every pair."""

    def metres(value: float, spread: float) -> str:
        return "?" if math.isnan(value) else f"{value:.3f} ± {spread:.3f}"

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
    for one in found:
        if one.warnings:
            codes = ", ".join(code.value for code in one.warnings)
            console.print(f"[yellow]{escape(one.label)}: {codes}[/]")
    for pair in pairs:
        apart, gap = (metres(x, pair.std_dev_m) for x in (pair.distance_m, pair.gap_m))
        console.print(f"{escape(pair.a)} - {escape(pair.b)}: distance {apart} m, gap {gap} m")
