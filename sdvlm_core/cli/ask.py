"""`sdvlm ask`: one question about one image file, and the answer as text or JSON.

Does not know how an answer is found (`engine`) or checked (`verification`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from sdvlm_core.answer import (
    UNITS,
    Measurement,
    Source,
    SpatialAnswer,
    Status,
    answer_document,
)
from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.camera.rectification import rectified_regions
from sdvlm_core.cautions import Caution
from sdvlm_core.cli import options
from sdvlm_core.cli.output import print_cautions, print_json, refusals, stderr_console
from sdvlm_core.frame import Region

if TYPE_CHECKING:
    from sdvlm_core.engine import FrameSession
    from sdvlm_core.geometry.measured import Measured
    from sdvlm_core.geometry.pairs import Pair
    from sdvlm_core.geometry.scene import Scene
    from sdvlm_core.verification import Check

_STATUS_HINTS = {
    Status.NO_DEPTH: "answered from the colour image alone; give --depth for a measured answer",
    Status.DISAGREEMENT: "the depth image contradicts the answer",
}


@dataclass(frozen=True)
class _Outcome:
    """The answer, the measurements in the given regions, and the checks of --verify.

    `reasons` explain the answer's cautions. `measured` is None without regions, `checks` is None
    without --verify.
    """

    answer: SpatialAnswer
    reasons: tuple[str, ...]
    measured: tuple[tuple[Measured, ...], tuple[Pair, ...], Scene] | None
    checks: tuple[Check, ...] | None


def ask(
    question: Annotated[str, typer.Argument(help="In words, in English.")],
    rgb: options.Rgb,
    depth: Annotated[Path | None, typer.Option(help=options.DEPTH_HELP)] = None,
    intrinsics: Annotated[Path | None, typer.Option(help=options.INTRINSICS_HELP)] = None,
    depth_scale: options.DepthScale = None,
    up: options.Up = None,
    model: options.Model = "nano",
    estimate_depth: Annotated[
        str | None,
        typer.Option(help="A depth estimator, directory or name, for an image without depth."),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    quantization: options.Quantization = "none",
    attention: options.Attention = "auto",
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every length against the depth's geometry.")
    ] = False,
    region: options.Boxes = None,
    point: options.Points = None,
    sensor: options.Sensor = "realsense",
    as_json: options.AsJson = False,
) -> None:
    """Ask one question about one image, with its depth or with estimated depth.

    The objects of --region and --point are measured from depth, as `sdvlm measure` does, and
    printed with the answer; with --verify the answer's lengths are checked against them.

    Examples:

      sdvlm ask "How tall is the red mug?" --rgb c.png --depth d.png --intrinsics k.json

      sdvlm ask "How far is the box from the lamp?" --rgb c.jpg --depth d.png \\
        --intrinsics k.json --json | jq .measurements

      sdvlm ask "Which is closer, the cup or the box?" --rgb c.jpg --model sd-vlm-7b \\
        --estimate-depth sd-vlm-7b/depth_estimator --quantization bnb-nf4

      sdvlm ask "How wide is the box?" --rgb c.png --depth d.png --intrinsics k.json --verify \\
        --region box=330,152,501,283
    """
    settings = options.camera_settings(sensor)
    regions, upward = options.parse_regions(region, point), options.parse_up(up)
    if depth is not None and estimate_depth is not None:
        raise typer.BadParameter("give --depth or --estimate-depth, not both")
    with refusals(as_json):
        # Keeps prints of libraries out of the JSON on stdout.
        with redirect_stdout(sys.stderr):
            frame = read_frame(rgb, depth, intrinsics, depth_scale, settings=settings, up=upward)
            from sdvlm_core.engine import LoadOptions, load_engine

            engine = load_engine(
                LoadOptions(model, device, dtype, quantization, attention, estimate_depth)
            )
            outcome = _answer(engine.open(frame), question, regions, sensor, verify)
        if as_json:
            print_json(_document(outcome))
        else:
            _print(outcome)


def _answer(
    session: FrameSession, question: str, regions: Sequence[Region], sensor: str, verify: bool
) -> _Outcome:
    from sdvlm_core.geometry.measure import measure_in
    from sdvlm_core.geometry.scene import open_scene
    from sdvlm_core.verification import verify as verify_answer

    regions = rectified_regions(session.frame, regions)
    # Measured before the question, which may take a minute, so that an invalid region fails at
    # once.
    measured = None
    if regions:
        scene = open_scene(session.frame)
        measured = *measure_in(scene, regions, sensor), scene
    answer, checks = session.ask(question), None
    if verify:
        answer, checks = verify_answer(session, answer, regions, sensor)
    reasons = session.frame.reasons
    if Caution.UP_UNCERTAIN in answer.cautions:
        reasons = open_scene(session.frame).reasons  # open already: it found the caution
    return _Outcome(answer, reasons, measured, checks)


def _document(outcome: _Outcome) -> dict[str, Any]:
    from sdvlm_core.cli.measure import measurement_document

    document = answer_document(outcome.answer)
    if outcome.checks is not None:
        document["checks"] = [
            {
                "kind": check.claim.kind.name,
                "label": check.claim.name,
                "agree": check.agrees,
                "why": check.reason,
                "warnings": [code.value for code in check.warnings],
            }
            for check in outcome.checks
        ]
    if outcome.measured is not None:
        found, pairs, scene = outcome.measured
        # The scene's cautions include the answer's.
        document |= measurement_document(found, pairs, scene.cautions)
    return document


def _print(outcome: _Outcome) -> None:
    from sdvlm_core.cli.measure import print_measured

    _print_answer(outcome.answer)
    if outcome.measured is None:
        print_cautions(Console(), outcome.answer.cautions, outcome.reasons)
    if outcome.measured is not None:
        print_measured(*outcome.measured)
    for check in outcome.checks or ():
        stderr_console().print(
            f"{check.claim.kind.name.lower()} {check.claim.name}: {check.reason}"
        )


def _print_answer(answer: SpatialAnswer) -> None:
    console = Console()
    console.print(escape(answer.text) or "[yellow](no text)[/]", style="bold")
    if answer.status in _STATUS_HINTS:
        console.print(f"  [yellow]{answer.status.name}: {_STATUS_HINTS[answer.status]}[/]")
    for measurement in answer.measurements:
        console.print("  " + escape(_measurement_line(measurement)))
    for point in answer.positions:
        console.print(
            f"  position in the camera's frame: {point.x:.3f} {point.y:.3f} {point.z:.3f} m"
        )
    spent = answer.timings
    console.print(
        f"[dim]{escape(answer.model_id)}, encode {spent.encode:.2f} s, "
        f"generate {spent.prefill + spent.decode:.2f} s, confidence {answer.confidence:.2f}[/]"
    )


def _measurement_line(measurement: Measurement) -> str:
    unit = UNITS.get(measurement.kind, "m")
    std_dev = "" if math.isnan(measurement.std_dev) else f" ± {measurement.std_dev:.3g}"
    of = f" of {measurement.name}" if measurement.name else ""
    value = f"{measurement.value:.4g}{std_dev} {unit}".rstrip()
    source = "" if measurement.source is Source.LANGUAGE else f" ({measurement.source.name})"
    return f"{measurement.kind.name.lower()}{of}: {value}{source}"
