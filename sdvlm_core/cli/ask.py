"""`sdvlm ask`: questions about one image file, in words or typed; answers as text or JSON.

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
    AnswerBy,
    Asked,
    Measurement,
    Quantity,
    Source,
    SpatialAnswer,
    Status,
    answered_by,
)
from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.camera.rectification import rectified_regions
from sdvlm_core.cautions import Caution
from sdvlm_core.cli import options, questions
from sdvlm_core.cli.output import print_cautions, print_json, refusals, stderr_console
from sdvlm_core.frame import Region
from sdvlm_core.language.question import check_labels, parse

if TYPE_CHECKING:
    from sdvlm_core.geometry.measured import Measured
    from sdvlm_core.geometry.pairs import Pair
    from sdvlm_core.geometry.scene import Scene
    from sdvlm_core.session import FrameSession
    from sdvlm_core.verification import Check

_STATUS_HINTS = {
    Status.NO_DEPTH: "answered from the colour image alone: without --depth, or by a model without "
    "depth encoding",
    Status.DISAGREEMENT: "the depth image contradicts the answer",
}


@dataclass(frozen=True)
class _Outcome:
    """The answers, the measurements in the given regions, and the checks of the answers.

    `reasons` explain the answers' cautions. `measured` is None without regions, an answer's checks
    are None if it is answered by language.
    """

    answers: tuple[tuple[SpatialAnswer, tuple[Check, ...] | None], ...]
    reasons: tuple[str, ...]
    measured: tuple[tuple[Measured, ...], tuple[Pair, ...], Scene] | None


def ask(
    rgb: options.Rgb,
    question: questions.Words = None,
    depth: Annotated[Path | None, typer.Option(help=options.DEPTH_HELP)] = None,
    intrinsics: Annotated[Path | None, typer.Option(help=options.INTRINSICS_HELP)] = None,
    depth_scale: options.DepthScale = None,
    up: options.Up = None,
    height_of: questions.HeightOf = None,
    width_of: questions.WidthOf = None,
    length_of: questions.LengthOf = None,
    size_of: questions.SizeOf = None,
    distance_between: questions.DistanceBetween = None,
    gap_between: questions.GapBetween = None,
    distance_to: questions.DistanceTo = None,
    model: options.Model = "nano",
    estimate_depth: Annotated[
        str | None,
        typer.Option(help="A depth estimator, directory or name, for an image without depth."),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    quantization: options.Quantization = "none",
    attention: options.Attention = "auto",
    threads: options.Threads = 0,
    server: options.Server = "",
    served_model: options.ServedModel = "",
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Check every answer against the depth's geometry: the same as --answer-by both.",
        ),
    ] = False,
    answer_by: options.NumbersBy = None,
    region: options.Boxes = None,
    point: options.Points = None,
    sensor: options.Sensor = "realsense",
    as_json: options.AsJson = False,
) -> None:
    """Ask questions about one image, with its depth or with estimated depth.

    A question is in words, or typed: an option that names the quantity, and the objects as its
    values. A number of a typed question is of that quantity of those objects, or there is none.

    The objects of --region and --point are measured from depth, as `sdvlm measure` does, and
    printed with the answers; with --verify the answers are checked against them, and every label
    must be the name of an asked object. --answer-by geometry gives the measured number alone; the
    model then only says where an object without a region is. --json prints the answer, or
    {"answers": [...]} if there are several questions.

    Examples:

      sdvlm ask "How tall is the red mug?" --rgb c.png --depth d.png --intrinsics k.json

      sdvlm ask --height-of "red mug" --gap-between "red mug" box --rgb c.png --depth d.png \\
        --intrinsics k.json --json | jq ".answers[].measurements"

      sdvlm ask "Which is closer, the cup or the box?" --rgb c.jpg --model sd-vlm-7b \\
        --estimate-depth sd-vlm-7b/depth_estimator --quantization bnb-nf4

      sdvlm ask --width-of box --rgb c.png --depth d.png --intrinsics k.json --verify \\
        --region box=330,152,501,283
    """
    settings = options.camera_settings(sensor)
    regions, upward = options.parse_regions(region, point), options.parse_up(up)
    if depth is not None and estimate_depth is not None:
        raise typer.BadParameter("give --depth or --estimate-depth, not both")
    typed = {
        Quantity.HEIGHT: height_of,
        Quantity.WIDTH: width_of,
        Quantity.LENGTH: length_of,
        Quantity.SIZE: size_of,
        Quantity.DISTANCE: distance_between,
        Quantity.GAP: gap_between,
        Quantity.CAMERA_DISTANCE: distance_to,
    }
    with refusals(as_json):
        by = answered_by(answer_by or AnswerBy.BOTH, verify or answer_by is AnswerBy.BOTH)
        asked = questions.all_questions(question, typed)
        understood = [parse(one) if isinstance(one, str) else one for one in asked]
        if by is not AnswerBy.LANGUAGE:
            check_labels([one.label for one in regions], *understood)
        # Keeps prints of libraries out of the JSON on stdout.
        with redirect_stdout(sys.stderr):
            frame = read_frame(rgb, depth, intrinsics, depth_scale, settings=settings, up=upward)
            from sdvlm_core.engine import LoadOptions, load_engine

            engine = load_engine(
                LoadOptions(
                    *(model, device, dtype, quantization, attention, estimate_depth),
                    server=server,
                    served_model=served_model,
                )
            )
            engine.use_threads(threads)
            outcome = _answer(engine.open(frame), asked, understood, regions, sensor, by)
        if as_json:
            print_json(_document(outcome))
        else:
            _print(outcome)


def _answer(
    session: FrameSession,
    asked: Sequence[str | Asked],
    understood: Sequence[Asked],
    regions: Sequence[Region],
    sensor: str,
    by: AnswerBy,
) -> _Outcome:
    from sdvlm_core.geometry.measure import measure_in
    from sdvlm_core.geometry.scene import open_scene
    from sdvlm_core.model.generation_options import Query
    from sdvlm_core.verification import verify

    regions = rectified_regions(session.frame, regions)
    # Measured before the questions, which may take minutes: an invalid region fails at once.
    measured = None
    if regions:
        scene = open_scene(session.frame)
        measured = *measure_in(scene, regions, sensor), scene
    answers = []
    for answer in session.ask_many([Query(question) for question in asked]):
        if isinstance(answer, Exception):
            raise answer
        checks = None
        if by is not AnswerBy.LANGUAGE:
            answer, checks = verify(
                session, answer, regions, sensor, others=understood, answer_by=by
            )
        answers.append((answer, checks))
    reasons = session.frame.reasons
    if any(Caution.UP_UNCERTAIN in answer.cautions for answer, _ in answers):
        reasons = open_scene(session.frame).reasons  # open already: it found the caution
    return _Outcome(tuple(answers), reasons, measured)


def _document(outcome: _Outcome) -> dict[str, Any]:
    from sdvlm_core.geometry.documents import measurement_document
    from sdvlm_core.verification import checked_document

    documents = [checked_document(answer, checks) for answer, checks in outcome.answers]
    document = documents[0] if len(documents) == 1 else {"answers": documents}
    if outcome.measured is not None:
        found, pairs, scene = outcome.measured
        # The scene's cautions include the answers'.
        document |= measurement_document(found, pairs, scene.cautions)
    return document


def _print(outcome: _Outcome) -> None:
    from sdvlm_core.cli.measure import print_measured

    for answer, checks in outcome.answers:
        _print_answer(answer, with_question=len(outcome.answers) > 1)
        for check in checks or ():
            stderr_console().print(
                f"{_words(check.claim.kind.name)} {check.claim.name}: {check.reason}"
            )
    if outcome.measured is None:
        cautions = dict.fromkeys(code for answer, _ in outcome.answers for code in answer.cautions)
        print_cautions(Console(), [*cautions], outcome.reasons)
    else:
        print_measured(*outcome.measured)


def _print_answer(answer: SpatialAnswer, with_question: bool) -> None:
    console = Console()
    if with_question:
        console.print(escape(answer.question), style="dim")
    console.print(escape(answer.text) or "[yellow](no text)[/]", style="bold")
    if answer.status in _STATUS_HINTS:
        console.print(f"  [yellow]{answer.status.name}: {_STATUS_HINTS[answer.status]}[/]")
    for measurement in answer.measurements:
        console.print("  " + escape(_measurement_line(measurement)))
    if answer.why_none:
        console.print(f"  [yellow]no number: {escape(answer.why_none)}[/]")
    for point in answer.positions:
        of = f" of {escape(point.label)}" if point.label else ""
        console.print(
            f"  position{of} in the camera's frame: {point.x:.3f} {point.y:.3f} {point.z:.3f} m"
        )
    spent = answer.timings
    known = not math.isnan(answer.confidence)
    console.print(
        f"[dim]{escape(answer.model_id)}, encode {spent.encode:.2f} s, "
        f"generate {spent.prefill + spent.decode:.2f} s"
        f"{f', confidence {answer.confidence:.2f}' if known else ''}[/]"
    )


def _measurement_line(measurement: Measurement) -> str:
    unit = UNITS.get(measurement.kind, "m")
    std_dev = "" if math.isnan(measurement.std_dev) else f" ± {measurement.std_dev:.3g}"
    of = f" of {measurement.name}" if measurement.name else ""
    value = f"{measurement.value:.4g}{std_dev} {unit}".rstrip()
    source = "" if measurement.source is Source.LANGUAGE else f" ({measurement.source.name})"
    return f"{_words(measurement.kind.name)}{of}: {value}{source}"


def _words(name: str) -> str:
    return name.lower().replace("_", " ")
