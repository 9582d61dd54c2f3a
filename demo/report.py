"""demo/report.html: the image, the depth and the answers on one self-contained page.

Draws with matplotlib, renders report.html.jinja, and replaces the old page in one step. Does not
know ROS: it reads the images from the bag.
"""

from __future__ import annotations

import base64
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from sdvlm_core.answer import Asked
from sdvlm_core.files import write_text
from sdvlm_core.frame import depth_in_metres, pixel_from_fraction
from sdvlm_core.language.reading import read

if TYPE_CHECKING:
    from demo.run import Row

TEMPLATE = "report.html.jinja"
Picture: TypeAlias = npt.NDArray[np.uint8]
Depth: TypeAlias = npt.NDArray[np.float32]
_DEPTH_HEADER_BYTES = 12  # header of image_transport's compressedDepth
_ACCENT, _TRUTH = "#ff2d78", "#00c2a8"


def read_pictures(bag: Path) -> tuple[Picture, Depth]:
    """The first colour (H, W, 3) uint8, red first, and depth (H, W) float32 metres of a bag."""
    types = get_typestore(Stores.ROS2_JAZZY)
    found: dict[str, Any] = {}
    with Reader(bag) as reader:
        for connection, _, data in reader.messages():
            coding = connection.topic.rsplit("/", 1)[-1]
            if coding in ("compressed", "compressedDepth") and coding not in found:
                message: Any = types.deserialize_cdr(data, connection.msgtype)
                found[coding] = message.data
            if len(found) == 2:
                break
    bgr: Any = cv2.imdecode(found["compressed"], cv2.IMREAD_COLOR)
    raw: Any = cv2.imdecode(found["compressedDepth"][_DEPTH_HEADER_BYTES:], cv2.IMREAD_UNCHANGED)
    return bgr[..., ::-1], depth_in_metres(raw, 0.001)


def write_report(
    path: Path, bag: Path, entries: Sequence[dict[str, Any]], rows: Sequence[Row], model: str
) -> None:
    """Write the page; it replaces the old one in one step."""
    rgb, depth = read_pictures(bag)
    answered = [row for row in rows if not row.error]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template(TEMPLATE).render(
        model=model,
        rows=rows,
        answered=len(answered),
        correct=sum(row.correct for row in rows),
        latency=statistics.median([row.total for row in answered]) if answered else None,
        picture=_data_uri(_draw_picture(rgb, entries, rows)),
        depth=_data_uri(_draw_depth(depth)),
        width=rgb.shape[1],
        height=rgb.shape[0],
    )
    write_text(path, page)


def _figure(shape: tuple[int, ...]) -> tuple[Figure, Axes]:
    """A figure without margins, twice the picture's pixels."""
    figure = Figure(figsize=(shape[1] / 100, shape[0] / 100), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def write_picture(
    path: Path, bag: Path, entries: Sequence[dict[str, Any]], rows: Sequence[Row]
) -> None:
    """Write the README's PNG: the picture with questions, answers and true values beside it."""
    rgb, _ = read_pictures(bag)
    height, width = rgb.shape[:2]
    share = 0.55  # fraction of the width for the image
    figure = Figure(figsize=(width / share / 100, height / 100), dpi=150, facecolor="#101418")
    axes = figure.add_axes((0, 0, share, 1))
    _annotate(axes, rgb, entries, rows)
    for place, row in enumerate(rows):
        top = 0.955 - place * 0.92 / len(rows)
        mark, colour = ("\u2713", "#38d3a5") if row.correct else ("\u2717", "#ff6b81")
        answer = " ".join((row.error or row.answer).split())[:60]
        figure.text(
            share + 0.02, top, row.question, color="#98a4b1", fontsize=7, va="top", wrap=True
        )
        figure.text(share + 0.02, top - 0.042, mark, color=colour, fontsize=9, va="top")
        # Without parse_math a "$" in an answer would start a formula.
        plain: dict[str, Any] = {"parse_math": False, "va": "top"}
        figure.text(share + 0.045, top - 0.042, answer, color="white", fontsize=9, **plain)
        truth = f"truth {row.truth}"
        figure.text(0.985, top - 0.045, truth, color="#98a4b1", fontsize=7, va="top", ha="right")
    figure.savefig(path)


def _draw_picture(rgb: Picture, entries: Sequence[dict[str, Any]], rows: Sequence[Row]) -> bytes:
    figure, axes = _figure(rgb.shape)
    _annotate(axes, rgb, entries, rows)
    return _png(figure)


def _annotate(
    axes: Axes, rgb: Picture, entries: Sequence[dict[str, Any]], rows: Sequence[Row]
) -> None:
    """Draw the colour image, the objects of the questions, and the points of the answers."""
    axes.imshow(rgb, interpolation="lanczos")
    label = {"fontsize": 7, "color": "white", "family": "DejaVu Sans"}
    backdrop = {"boxstyle": "round,pad=0.25", "fc": "#101418", "ec": "none", "alpha": 0.72}
    boxes = {name: box for entry in entries for name, box in entry["boxes"].items()}
    for name, (x1, y1, x2, y2) in boxes.items():
        axes.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec="white", lw=0.8, alpha=0.85)
        )
        axes.text(x1 + 2, max(8, y1 - 7), name, va="center", bbox=backdrop, **label)
    height, width = rgb.shape[:2]
    for entry, row in zip(entries, rows, strict=True):
        if entry["type"] != "grounding":
            continue
        truth = entry["reference"]
        if isinstance(truth, list):
            x, y = pixel_from_fraction(truth[0], truth[1], width, height)
            axes.plot(x, y, "o", mfc="none", mec=_TRUTH, ms=13, mew=2)
        for u, v in read(row.answer, Asked()).image_points[:1]:
            x, y = pixel_from_fraction(u, v, width, height)
            axes.plot(x, y, "+", color=_ACCENT, ms=14, mew=2)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_axis_off()


def _draw_depth(depth: Depth) -> bytes:
    """Depth in metres with its scale; grey = no reading."""
    figure, axes = _figure(depth.shape)
    colours = mpl.colormaps["turbo_r"].with_extremes(bad="#3a3f45")
    low, high = np.nanpercentile(depth, [1, 99])
    shown = axes.imshow(depth, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    backdrop = {"transform": axes.transAxes, "fc": "#101418", "ec": "none", "alpha": 0.72}
    axes.add_patch(Rectangle((0.025, 0.025), 0.37, 0.125, **backdrop))
    bar = figure.colorbar(
        shown, cax=figure.add_axes((0.045, 0.075, 0.33, 0.022)), orientation="horizontal"
    )
    bar.ax.set_title("metres along the optical axis", color="white", fontsize=7, pad=4)
    bar.ax.tick_params(colors="white", labelsize=7)
    bar.outline.set_edgecolor("white")
    return _png(figure)


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
