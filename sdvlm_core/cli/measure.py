"""`sdvlm measure`: measures objects in image files or in a bag; prints JSON or a table, and draws.

Does not measure (`geometry`), does not read bags (`camera`), and does not define the JSON document
(`geometry.documents`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sdvlm_core.camera.bag_frames import CameraOptions
from sdvlm_core.camera.bag_moment import read_bag_frame
from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.camera.rectification import rectified_regions
from sdvlm_core.cautions import Caution
from sdvlm_core.cli import options
from sdvlm_core.cli.output import print_cautions, print_json, refusals
from sdvlm_core.errors import QueryError

if TYPE_CHECKING:
    from sdvlm_core.frame import RgbdFrame
    from sdvlm_core.geometry.measured import Measured
    from sdvlm_core.geometry.pairs import Pair
    from sdvlm_core.geometry.scene import Scene

#: Width of the printed table.
_TABLE_COLUMNS = 100
_TABLE_KEYS = ("length_m", "width_m", "height_m", "camera_distance_m")


def measure(
    rgb: options.FilesRgb = None,
    depth: options.FilesDepth = None,
    intrinsics: options.FilesIntrinsics = None,
    bag: options.Bag = None,
    time: options.BagTime = None,
    color: options.Color = None,
    info: options.Info = None,
    sync_slop: options.SyncSlop = 0.03,
    rectify: options.Rectify = "auto",
    gravity_frame: options.GravityFrame = "",
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

    No model is involved. A box may be loose, as a detector's is. Each value has one standard
    deviation and a 90 % interval. --json adds the orientation of each box and its support plane.

    Examples:

      sdvlm measure --rgb c.png --depth d.png --intrinsics k.json --region mug=189,193,266,300

      sdvlm measure --rgb c.png --depth d.png --intrinsics k.json --point mug=228,250 \\
        --point can=332,131 --draw out.png --json | jq .pairs

      sdvlm measure --bag demo/table --time 0.5 --region can=364,398,405,450
    """
    from sdvlm_core.geometry.documents import measurement_document
    from sdvlm_core.geometry.measure import measure_in
    from sdvlm_core.geometry.scene import open_scene

    settings = options.camera_settings(sensor, depth_scale, rectify)
    regions, upward = options.parse_regions(region, point), options.parse_up(up)
    if not regions:
        raise typer.BadParameter(
            "give at least one --region LABEL=x1,y1,x2,y2 or --point LABEL=u,v"
        )
    camera = CameraOptions(
        color=color,
        depth=depth,
        info=info,
        settings=settings,
        up=upward,
        gravity_frame=gravity_frame,
    )
    if bag is None:
        read = _file_reader(rgb, intrinsics, camera, depth_scale, time)
    else:
        read = _bag_reader(bag, camera, sync_slop, time, rgb, intrinsics)
    with refusals(as_json):
        scene = open_scene(read())
        found, pairs = measure_in(scene, rectified_regions(scene.frame, regions), sensor)
        if draw is not None:
            _write_drawing(draw, scene, found, pairs)
        if as_json:
            print_json(measurement_document(found, pairs, scene.cautions))
        else:
            print_measured(found, pairs, scene)


def _bag_reader(
    bag: Path,
    camera: CameraOptions,
    slop_s: float,
    time_s: float | None,
    rgb: Path | None,
    intrinsics: Path | None,
) -> Callable[[], RgbdFrame]:
    """What reads the frame of --bag; typer.BadParameter for options that exclude each other."""
    if rgb is not None or intrinsics is not None:
        raise typer.BadParameter("--bag excludes --rgb and --intrinsics")
    if camera.up is not None and camera.gravity_frame:
        raise typer.BadParameter("give --up or --gravity-frame, not both")
    return lambda: read_bag_frame(bag, camera, slop_s, time_s)


def _file_reader(
    rgb: Path | None,
    intrinsics: Path | None,
    camera: CameraOptions,
    depth_scale: float | None,
    time_s: float | None,
) -> Callable[[], RgbdFrame]:
    """What reads the frame of image files; typer.BadParameter for missing options, or a bag's."""
    if rgb is None or camera.depth is None or intrinsics is None:
        raise typer.BadParameter("give --rgb, --depth and --intrinsics, or --bag")
    if (time_s, camera.color, camera.info, camera.gravity_frame) != (None, None, None, ""):
        raise typer.BadParameter("--time, --color, --info and --gravity-frame need --bag")
    depth = Path(camera.depth)
    return lambda: read_frame(
        rgb, depth, intrinsics, depth_scale, settings=camera.settings, up=camera.up
    )


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


def print_measured(found: tuple[Measured, ...], pairs: tuple[Pair, ...], scene: Scene) -> None:
    """Print a table, the scene's cautions with their reasons, warnings, and a line for each pair.

    Each object has two lines: values with their standard deviation, and 90 % intervals. A pair's
    warnings are printed if no region has them. docs/geometry.md explains all warnings.
    """
    # Redirected output has no width. A terminal may be narrower, and wraps the columns.
    console = Console() if sys.stdout.isatty() else Console(width=_TABLE_COLUMNS)
    console.print(_table(found))
    print_cautions(console, scene.cautions, scene.reasons)
    for one in found:
        notes = _notes(one, scene)
        if notes:
            console.print(f"[yellow]{escape(one.label)}: {', '.join(notes)}[/]")
    printed = {code for one in found for code in one.warnings}
    for pair in pairs:
        distance = _metres(pair.distance_m, pair.distance_std_dev_m)
        gap = _metres(pair.gap_m, pair.gap_std_dev_m)
        console.print(f"{escape(pair.a)} - {escape(pair.b)}: distance {distance} m, gap {gap} m")
        own = [code.value for code in pair.warnings if code not in printed]
        if own:
            console.print(f"  [yellow]{', '.join(own)}[/]")


def _table(found: tuple[Measured, ...]) -> Table:
    table = Table(box=None)
    for name in ("", "length m", "width m", "height m", "from camera m", "x, y, z m"):
        table.add_column(name, overflow="fold")
    for one in found:
        table.add_row(
            escape(one.label),
            *(_metres(getattr(one, key), one.std_dev[key]) for key in _TABLE_KEYS),
            ", ".join("?" if math.isnan(x) else f"{x:.3f}" for x in one.position_m),
        )
        if not math.isnan(one.camera_distance_m):
            table.add_row(
                "  90 %",
                *(_interval(*one.interval_90[key]) for key in _TABLE_KEYS),
                f"± {one.std_dev['position_m']:.3f} each",
                style="dim",
            )
    return table


def _notes(one: Measured, scene: Scene) -> list[str]:
    """The warnings of a region itself, and its top if it is not one height above the support."""
    notes = [code.value for code in one.warnings if code not in scene.cautions]
    if Caution.OUTSIDE_IMAGE in one.warnings:
        height, width = scene.frame.rgb.shape[:2]
        notes.append(f"the image has {width}x{height} pixels")
    if abs(one.top_above_support_m - one.height_m) > one.std_dev["height_m"]:
        notes.append(f"its top is {one.top_above_support_m:.3f} m above the support plane")
    return notes


def _metres(value: float, std_dev: float) -> str:
    return "?" if math.isnan(value) else f"{value:.3f} ± {std_dev:.3f}"


def _interval(low: float, high: float) -> str:
    return "?" if math.isnan(low) else f"{low:.3f}-{high:.3f}"
