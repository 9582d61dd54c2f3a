"""Options that several commands share, and how their values are read.

Each option has one type and one help text here. Does not print and does not run anything.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from sdvlm_core.answer import AnswerBy
from sdvlm_core.camera.settings import DEFAULT_SETTINGS, RECTIFY, CameraSettings
from sdvlm_core.errors import SdvlmError, shown
from sdvlm_core.frame import Region
from sdvlm_core.geometry.sensor_noise import SENSORS

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
Rgb = Annotated[Path, typer.Option(help="Colour image, 8 bit.")]
DepthScale = Annotated[
    float | None,
    typer.Option(
        help="Metres per unit of integer depth, e.g. 0.0001 for a D405. Default: as in the "
        "intrinsics file if there is one, else 0.001 (millimetres)."
    ),
]
Model = Annotated[str, typer.Option(help="nano, a model directory, or the name of a download.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ..., balanced.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, float16, bfloat16.")]
Quantization = Annotated[str, typer.Option(help="none, bnb-int8, bnb-nf4 (bitsandbytes).")]
Attention = Annotated[str, typer.Option(help="auto, eager, sdpa, flash_attention_2.")]
Threads = Annotated[
    int,
    typer.Option(
        min=0,
        help="Threads of the CPU; 0 = one for a small model or one on a GPU, all physical cores "
        "but one for others.",
    ),
]
Server = Annotated[
    str,
    typer.Option(
        help="URL of a vLLM server (sdvlm serve) that holds the language model; its key is in "
        "SDVLM_SERVER_KEY, or in the file SDVLM_SERVER_KEY_FILE."
    ),
]
ServedModel = Annotated[
    str, typer.Option(help="With --server: the model's name there. Default: as --model.")
]
Boxes = Annotated[
    list[str] | None,
    typer.Option(help="LABEL=x1,y1,x2,y2 in pixels: an object's box; any number of times."),
]
Points = Annotated[
    list[str] | None,
    typer.Option(help="LABEL=u,v in pixels: a point on an object; any number of times."),
]
Sensor = Annotated[str, typer.Option(help=f"The depth camera: {', '.join(SENSORS)}.")]

Up = Annotated[
    str | None,
    typer.Option(
        help="x,y,z: the direction against gravity in the optical frame (x right, y down, "
        "z forward); 0,-0.7,-0.7 = a camera that looks down at 45 degrees.",
    ),
]

NumbersBy = Annotated[
    AnswerBy | None,
    typer.Option(
        "--answer-by",
        help="Whose numbers an answer has: language = the model's, geometry = those measured from "
        "depth, alone, both = the model's, checked against geometry's. The model says where an "
        "object without a region is. Default: language.",
    ),
]
GravityFrame = Annotated[
    str,
    typer.Option(
        help="A frame of the bag's transforms whose z axis points against gravity, as base_link."
    ),
]
Color = Annotated[str | None, typer.Option(help="Topic of the colour image, raw or compressed.")]
Info = Annotated[str | None, typer.Option(help="Topic of the colour camera's info.")]
SyncSlop = Annotated[
    float, typer.Option(min=0.0, help="Largest difference of the stamps of one frame, s.")
]
Rectify = Annotated[
    str,
    typer.Option(
        help="Raw images with lens distortion: always, never, or auto = by the topic's name."
    ),
]

DEPTH_HELP = "Depth of the same pixels: uint16 PNG, 0 = no reading."
INTRINSICS_HELP = (
    'JSON with "fx", "fy", "cx", "cy", "width", "height"; for raw images also '
    '"distortion_model" and "d".'
)


# What frames are read from, where a command takes files, a bag or a node.
FilesRgb = Annotated[Path | None, typer.Option(help="Colour image, 8 bit.")]
FilesDepth = Annotated[str | None, typer.Option(help=f"{DEPTH_HELP} With --bag: its topic.")]
FilesIntrinsics = Annotated[Path | None, typer.Option(help=INTRINSICS_HELP)]
Bag = Annotated[Path | None, typer.Option(help="A ROS 2 bag instead of image files.")]
BagTime = Annotated[
    float | None,
    typer.Option(help="With --bag: seconds from its start; else the first complete frame."),
]
Node = Annotated[
    str | None, typer.Option(help="A running node instead, e.g. /spatial_query; needs ROS 2.")
]
NodeCamera = Annotated[
    str, typer.Option(help="With --node: one of its cameras, if it has several.")
]
#: Value of --model without which nothing is loaded.
NO_MODEL = "none"
ModelOrNone = Annotated[
    str,
    typer.Option(help=f"nano, a model directory, the name of a download, or {NO_MODEL}."),
]


def check_sensor(name: str) -> None:
    """Raises typer.BadParameter for a sensor without a preset."""
    if name not in SENSORS:
        raise typer.BadParameter(f"--sensor is one of {', '.join(SENSORS)}, not {name!r}")


def camera_settings(
    sensor: str,
    depth_scale: float | None = None,
    rectify: str = DEFAULT_SETTINGS.rectify,
) -> CameraSettings:
    """The settings of --sensor, --depth-scale and --rectify.

    Raises:
        typer.BadParameter: a value that the option does not have.
    """
    check_sensor(sensor)
    unit_m = DEFAULT_SETTINGS.depth_unit_m if depth_scale is None else depth_scale
    if not (math.isfinite(unit_m) and unit_m > 0):
        raise typer.BadParameter(
            f"--depth-scale is positive metres per unit (0.001 = millimetres), not {unit_m}"
        )
    if rectify not in RECTIFY:
        raise typer.BadParameter(
            f"--rectify is one of {', '.join(RECTIFY)}, not {shown(rectify)!r}"
        )
    return CameraSettings(
        depth_unit_m=unit_m,
        range_m=SENSORS[sensor].range_m,
        rectify=rectify,
    )


def parse_up(text: str | None) -> tuple[float, float, float] | None:
    """The unit vector of --up; None if it was not given.

    Raises:
        typer.BadParameter: not three finite numbers, or all three are 0.
    """
    if text is None:
        return None
    try:
        x, y, z = (float(value) for value in text.split(","))
    except ValueError:
        x = y = z = math.nan
    size = math.hypot(x, y, z)
    if not (math.isfinite(size) and size > 0):
        raise typer.BadParameter(
            f"--up is x,y,z, three finite numbers that are not all 0, not {shown(text)!r}"
        )
    return x / size, y / size, z / size


def parse_regions(boxes: list[str] | None, points: list[str] | None) -> list[Region]:
    """The regions of --region and --point; their labels are unique.

    Raises:
        typer.BadParameter: a value is malformed, or a label is repeated.
    """
    regions = [_parse_region(text, 4) for text in boxes or []]
    regions += [_parse_region(text, 2) for text in points or []]
    labels = [region.label for region in regions]
    if len(set(labels)) < len(labels):
        raise typer.BadParameter(f"labels must differ, got {', '.join(labels)}")
    return regions


def _parse_region(text: str, count: int) -> Region:
    """LABEL=x1,y1,x2,y2 (`count` 4) or LABEL=u,v (`count` 2), pixels."""
    form = "LABEL=x1,y1,x2,y2" if count == 4 else "LABEL=u,v"
    label, equals, values = text.rpartition("=")
    try:
        pixels = tuple(float(value) for value in values.split(","))
    except ValueError:
        pixels = ()
    if not (equals and label.strip() and len(pixels) == count and all(map(math.isfinite, pixels))):
        raise typer.BadParameter(f"{text!r} is not {form} with finite pixel coordinates")
    try:
        if count == 4:
            x1, y1, x2, y2 = pixels
            return Region(label.strip(), box=(x1, y1, x2, y2))
        return Region(label.strip(), point=(pixels[0], pixels[1]))
    except SdvlmError as error:
        raise typer.BadParameter(str(error)) from error
