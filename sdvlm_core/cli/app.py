"""The command `sdvlm`: ask about image files, measure in them, get models and time them.

Also answers about recordings (`replay`) and says what works here (`doctor`).
Owns arguments, exit statuses and printing: 0 answered, 1 refused with the reason on stderr,
2 wrong usage. With --json there is exactly one JSON document on stdout, on refusal too
(`{"error": ...}`); everything else goes to stderr. Knows no ROS; loads torch only to answer.
"""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import DownloadColumn, Progress, track
from rich.table import Table

from sdvlm_core import __version__
from sdvlm_core.answer import UNITS as _UNITS
from sdvlm_core.answer import Measurement, SpatialAnswer, Status, answer_document
from sdvlm_core.errors import SdvlmError
from sdvlm_core.frame import read_frame

if TYPE_CHECKING:
    from sdvlm_core.verification import Check

app = typer.Typer(
    name="sdvlm",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Measured answers to spatial questions about an RGB-D camera's picture.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]

# Options of several commands.
Rgb = Annotated[Path, typer.Option(help="Colour image, 8 bit.")]
DepthScale = Annotated[float, typer.Option(help="Metres per unit of the depth image.")]
Model = Annotated[str, typer.Option(help="nano, a model directory, or a name that was downloaded.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ..., balanced.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, float16, bfloat16.")]
Quantization = Annotated[str, typer.Option(help="none, bnb-int8, bnb-nf4 (bitsandbytes).")]
Attention = Annotated[str, typer.Option(help="auto, eager, sdpa, flash_attention_2.")]
Boxes = Annotated[
    list[str] | None,
    typer.Option(help="LABEL=x1,y1,x2,y2 in pixels: an object's box; any number of times."),
]
Points = Annotated[
    list[str] | None, typer.Option(help="LABEL=u,v: the object there; any number of times.")
]
Sensor = Annotated[
    str, typer.Option(help="The depth camera: realsense, kinect, azure_kinect or simulated.")
]


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Measured answers to spatial questions about an RGB-D camera's picture."""


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="In words, in English.")],
    rgb: Rgb,
    depth: Annotated[
        Path | None, typer.Option(help="Depth of the same pixels: uint16 PNG, 0 = none.")
    ] = None,
    intrinsics: Annotated[
        Path | None, typer.Option(help='JSON with "fx", "fy", "cx", "cy", "width", "height".')
    ] = None,
    depth_scale: DepthScale = 0.001,
    model: Model = "nano",
    estimate_depth: Annotated[
        str | None,
        typer.Option(help="A depth estimator, directory or name, for a picture without depth."),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = "none",
    attention: Attention = "auto",
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every length against the depth's geometry.")
    ] = False,
    region: Boxes = None,
    point: Points = None,
    sensor: Sensor = "realsense",
    as_json: AsJson = False,
) -> None:
    """Ask one question about one picture with depth, or with an estimate of it if so asked.

    What --region and --point name is measured from depth, as `sdvlm measure` does, and told beside
    the answer; with --verify the answer's lengths are checked against it.

    Examples:

      sdvlm ask "How tall is the red mug?" --rgb c.png --depth d.png --intrinsics k.json

      sdvlm ask "How far is the box from the lamp?" --rgb c.jpg --depth d.png \\
        --intrinsics k.json --json | jq .measurements

      sdvlm ask "Which is closer, the cup or the box?" --rgb c.jpg --model sd-vlm-7b \\
        --estimate-depth sd-vlm-7b/depth_estimator --quantization bnb-nf4

      sdvlm ask "How wide is the box?" --rgb c.png --depth d.png --intrinsics k.json --verify \\
        --region box=210,140,420,380
    """
    from sdvlm_core.cli.measure import (
        check_sensor,
        measurement_document,
        parse_regions,
        print_measured,
    )
    from sdvlm_core.geometry.measure import measure

    check_sensor(sensor)
    regions = parse_regions(region, point)
    with _refusals(as_json):
        # A library that prints must not end up in front of the JSON.
        with redirect_stdout(sys.stderr):
            frame = read_frame(rgb, depth, intrinsics, depth_scale)
            from sdvlm_core.engine import SpatialEngine
            from sdvlm_core.model.checkpoint import load

            if depth is not None and estimate_depth is not None:
                raise typer.BadParameter("give --depth or --estimate-depth, not both")
            checkpoint = load(model, device, dtype, quantization, attention)
            estimator = None
            if estimate_depth is not None:
                from sdvlm_core.model.depth_estimation import load_estimator

                estimator = load_estimator(estimate_depth, checkpoint.device)
            session = SpatialEngine(checkpoint, estimator).open(frame)
            # Before the question, which may take a minute: where this is impossible, it refuses.
            measured = measure(session.frame, regions, sensor) if regions else None
            answer = session.ask(question)
            checks: tuple[Check, ...] = ()
            if verify:
                from sdvlm_core.verification import verify as verified

                answer, checks = verified(session, answer, regions, sensor)
        if as_json:
            document = answer_document(answer)
            if verify:
                document["checks"] = _documents(checks)
            if measured is not None:
                document |= measurement_document(*measured)
            _print_json(document)
        else:
            _print_answer(answer)
            if measured is not None:
                print_measured(*measured)
            for check in checks:
                _stderr().print(f"{check.said.kind.name.lower()} {check.said.label}: {check.why}")


def _documents(checks: tuple[Check, ...]) -> list[dict[str, Any]]:
    """What verification found, as plain JSON values."""
    return [
        {
            "kind": check.said.kind.name,
            "label": check.said.label,
            "agree": check.agree,
            "why": check.why,
            "warnings": [code.value for code in check.warnings],
        }
        for check in checks
    ]


@app.command()
def measure(
    rgb: Rgb,
    depth: Annotated[Path, typer.Option(help="Depth of the same pixels: uint16 PNG, 0 = none.")],
    intrinsics: Annotated[
        Path, typer.Option(help='JSON with "fx", "fy", "cx", "cy", "width", "height".')
    ],
    region: Boxes = None,
    point: Points = None,
    depth_scale: DepthScale = 0.001,
    sensor: Sensor = "realsense",
    draw: Annotated[
        Path | None, typer.Option(help="Write the picture with everything drawn in.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure objects from depth alone: size, position, distances, each with its uncertainty.

    No model is involved. A box may be loose, as a detector's is.

    Examples:

      sdvlm measure --rgb c.png --depth d.png --intrinsics k.json --region mug=320,180,406,270

      sdvlm measure --rgb c.png --depth d.png --intrinsics k.json --point mug=365,219 \\
        --point can=270,216 --draw out.png --json | jq .pairs
    """
    from sdvlm_core.cli.measure import (
        check_sensor,
        measurement_document,
        parse_regions,
        print_measured,
        write_drawing,
    )
    from sdvlm_core.geometry.measure import measure_in, open_scene

    check_sensor(sensor)
    regions = parse_regions(region, point)
    if not regions:
        raise typer.BadParameter(
            "give at least one --region LABEL=x1,y1,x2,y2 or --point LABEL=u,v"
        )
    with _refusals(as_json):
        scene = open_scene(read_frame(rgb, depth, intrinsics, depth_scale))
        found, pairs = measure_in(scene, regions, sensor)
        if draw is not None:
            write_drawing(draw, scene, found, pairs)
        if as_json:
            _print_json(measurement_document(found, pairs))
        else:
            print_measured(found, pairs)


@app.command("replay")
def replay_recording(
    bag: Annotated[Path, typer.Argument(help="A ROS 2 bag: its directory, an .mcap or a .db3.")],
    questions: Annotated[Path, typer.Option(help="YAML, as below.")],
    out: Annotated[Path, typer.Option(help="Directory to write, or to go on with.")],
    model: Model = "nano",
    estimate_depth: Annotated[
        str | None,
        typer.Option(help="A depth estimator, directory or name, for a bag without depth."),
    ] = None,
    color: Annotated[
        str | None, typer.Option(help="Topic of the colour image, raw or compressed.")
    ] = None,
    depth: Annotated[
        str | None, typer.Option(help="Topic of the depth image, raw or compressedDepth.")
    ] = None,
    info: Annotated[str | None, typer.Option(help="Topic of the colour camera's info.")] = None,
    sync_slop: Annotated[
        float, typer.Option(min=0.0, help="Seconds that the stamps of one frame may be apart.")
    ] = 0.03,
    max_age: Annotated[
        float, typer.Option(min=0.001, help="Seconds from a moment to the image it is shown by.")
    ] = 1.0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many answers and errors in all.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = "none",
    attention: Attention = "auto",
    as_json: AsJson = False,
) -> None:
    """Ask questions about a recorded bag, without ROS; answers are those the live node gives.

    Topics that are not named are found: by their usual names (rgb/image_rect_color,
    depth_registered/image_rect, rgb/camera_info), else by what they hold, where only one does.

    Writes answers.jsonl, report.html and the bag "answers" into the directory. Run it again to go
    on after an interruption. Exit status 1 if nothing could be answered.

    The questions, with all the keys there are:

    \b
    questions:
      - question: How tall is the red mug?
        at: \\[0.5, 12]          # seconds from the bag's start, one or several
      - question: How far is the box from the lamp?
        every: 2.0             # seconds
      - question: Can you see a mug?
        every: frame           # each colour image

    Examples:

      sdvlm replay demo/table --questions q.yaml --out replayed

      sdvlm replay drive.mcap --questions q.yaml --out drive --color /camera/color/image_raw \\
        --depth /camera/aligned_depth_to_color/image_raw --model sd-vlm-7b
    """
    with _refusals(as_json):
        with redirect_stdout(sys.stderr):
            from sdvlm_core.cli.replay import Options, replay

            outcome = replay(
                Options(
                    bag=bag,
                    questions=questions,
                    out=out,
                    model=model,
                    device=device,
                    dtype=dtype,
                    quantization=quantization,
                    attention=attention,
                    estimate_depth=estimate_depth,
                    color=color,
                    depth=depth,
                    info=info,
                    sync_slop=sync_slop,
                    max_age=max_age,
                    limit=limit,
                )
            )
        if as_json:
            _print_json(outcome.document())
    if outcome.exit_status:
        raise typer.Exit(outcome.exit_status)


@app.command("download")
def download_model(
    name: Annotated[
        str | None, typer.Argument(help="A name, owner/name, or one of them @revision.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download a model into the local cache, checked, and print its directory.

    Its licence and size are said before the first byte. Run it again to go on after an
    interruption. The revision is looked up once; owner/name@commit, which is said too, stays.

    Examples:

      sdvlm download

      sdvlm download depth-anything-v2-small

      sdvlm convert $(sdvlm download sd-vlm-7b) sd-vlm-7b
    """
    from sdvlm_core.model import hub

    if name is None:
        _print_releases(as_json)
        return
    with _refusals(as_json):
        with redirect_stdout(sys.stderr):
            snapshot = hub.look_up(name)
            print(
                f"{snapshot.pinned}\nlicence: {snapshot.licence}\n"
                f"{len(snapshot.files)} files, {snapshot.size / 1e9:.2f} GB",
            )
            bars = Progress(*Progress.get_default_columns(), DownloadColumn(), console=_stderr())
            task = bars.add_task("checking", total=snapshot.size)

            def checked(size: int) -> None:
                bars.start()
                bars.advance(task, size)

            try:
                directory = hub.download(snapshot, checked)
            finally:
                bars.stop()
        if as_json:
            _print_json(
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


def _print_releases(as_json: bool) -> None:
    from sdvlm_core.model.hub import RELEASES, cached

    if as_json:
        here = {name: cached(name) for name in RELEASES}
        _print_json(
            {
                name: asdict(release) | {"directory": here[name] and str(here[name])}
                for name, release in RELEASES.items()
            }
        )
        return
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    for name, release in RELEASES.items():
        note = "\n[green]downloaded[/]" if cached(name) else ""
        table.add_row(name, f"{escape(release.use)}\n[dim]{escape(release.licence)}[/]{note}")
    Console().print(table)


@app.command("convert")
def convert_release(
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
        typer.Option(help="inverse or direct; default: what config.json's gt_depth says."),
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
    as_json: AsJson = False,
) -> None:
    """Convert a released SD-VLM checkpoint, or Depth-Anything-V2's .pth, for use with --model.

    Memory stays near the largest file. Run it again to go on after an interruption.

    Examples:

      sdvlm convert SD-VLM-7B sd-vlm-7b --dry-run

      sdvlm convert SD-VLM-7B sd-vlm-7b --vision-tower clip-vit-large-patch14-336

      sdvlm convert depth_anything_v2_vits.pth depth-anything-v2-small
    """
    with _refusals(as_json), redirect_stdout(sys.stderr):
        from sdvlm_core.model import convert

        if released.is_file():
            if dry_run or parity or vision_tower or tokenizer or orientation:
                raise typer.BadParameter(f"{released} is a file; it takes --metric-range only")
            convert.convert_depth_anything(released, out, metric_range)
            report: dict[str, Any] = {"source": str(released)}
        else:
            if orientation not in (None, "inverse", "direct"):
                raise typer.BadParameter(f"--orientation is inverse or direct, not {orientation}")
            plan = convert.plan(
                released,
                vision_tower=vision_tower,
                orientation=orientation,  # type: ignore[arg-type]
                parity=parity,
            )
            report = convert.describe(plan)
            if not dry_run:
                convert.check_out((source.path for source in plan.sources), out)
                convert.write_tokenizer(tokenizer or released, out)
                with Progress(
                    *Progress.get_default_columns(), DownloadColumn(), console=_stderr()
                ) as bar:
                    task = bar.add_task("converting", total=report["bytes"])
                    convert.write(plan, out, lambda done, _: bar.update(task, completed=done))
        report["out"] = None if dry_run else str(out)
    if as_json:
        _print_json(report)
    else:
        for key, value in report.items():
            print(f"{key}: {value}")


def _stderr() -> Console:
    return Console(stderr=True)


@app.command("bench")
def bench_model(
    model: Model = "nano",
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = "none",
    attention: Attention = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="Pictures; the times are medians.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Time a model on this machine: a picture, a question, an answer, one more answer.

    Examples:

      sdvlm bench

      sdvlm bench --model sd-vlm-7b --quantization bnb-nf4 --rounds 3 --json | jq .decode_s
    """
    with _refusals(as_json):
        with redirect_stdout(sys.stderr):
            from sdvlm_core.cli import bench
            from sdvlm_core.engine import SpatialEngine
            from sdvlm_core.model.checkpoint import load

            engine = SpatialEngine(load(model, device, dtype, quantization, attention))
            turns = track(range(rounds), "asking", console=_stderr(), transient=True)
            figures = bench.measure(engine, turns)
        if as_json:
            _print_json(figures)
        else:
            table = Table(box=None, show_header=False)
            for name, value in figures.items():
                table.add_row(name, escape(str(value)))
            Console().print(table)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what works on this machine, what is missing, and how to get it.

    Exit status 1 if something that answering needs is broken; ROS and the simulator are optional.

    Example:

      sdvlm doctor --json | jq '.checks[] | select(.state != "ok")'
    """
    from sdvlm_core.cli.doctor import State, examine

    with redirect_stdout(sys.stderr):
        checks = examine()
    healthy = all(check.state is not State.BROKEN for check in checks)
    if as_json:
        _print_json({"ok": healthy, "checks": [asdict(check) for check in checks]})
    else:
        table = Table(box=None, show_header=False)
        colours = {State.OK: "green", State.MISSING: "yellow", State.BROKEN: "red"}
        for check in checks:
            remedy = f"\n-> {check.remedy}" if check.remedy else ""
            state = f"[{colours[check.state]}]{check.state.value}[/]"
            table.add_row(state, check.name, escape(check.detail + remedy))
        Console().print(table)
        Console().print("ready to answer" if healthy else "[red]cannot answer[/], see above")
    if not healthy:
        raise typer.Exit(1)


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, allow_nan=False, ensure_ascii=False))


_STATUSES = {
    Status.NO_DEPTH: "answered from the looks of things alone; give --depth to have it measured",
    Status.DISAGREEMENT: "the depth image says something else",
}


def _print_answer(answer: SpatialAnswer) -> None:
    console = Console()
    console.print(escape(answer.text) or "[yellow](no words)[/]", style="bold")
    if answer.status in _STATUSES:
        console.print(f"  [yellow]{answer.status.name}: {_STATUSES[answer.status]}[/]")
    for measurement in answer.measurements:
        console.print("  " + escape(_in_words(measurement)))
    for point in answer.positions:
        console.print(
            f"  position in the camera's frame: {point.x:.3f} {point.y:.3f} {point.z:.3f} m"
        )
    spent = answer.timings
    console.print(
        f"[dim]{escape(answer.model_id)}, encode {spent.encode:.2f} s, "
        f"generate {spent.prefill + spent.decode:.2f} s, confidence {answer.confidence:.2f}[/]"
    )


def _in_words(measurement: Measurement) -> str:
    unit = _UNITS.get(measurement.kind, "m")
    spread = "" if math.isnan(measurement.std_dev) else f" ± {measurement.std_dev:.3g}"
    of = f" of {measurement.label}" if measurement.label else ""
    return f"{measurement.kind.name.lower()}{of}: {measurement.value:.4g}{spread} {unit}".rstrip()


@contextmanager
def _refusals(as_json: bool) -> Iterator[None]:
    """Turn a refusal, ours or the file system's, into its reason on stderr and exit status 1."""
    try:
        yield
    except (SdvlmError, OSError) as error:
        print(f"sdvlm: {error}", file=sys.stderr)
        if as_json:
            _print_json({"error": {"type": type(error).__name__, "message": str(error)}})
        raise typer.Exit(1) from error


def main() -> None:
    """Entry point of the console script `sdvlm`."""
    # As SIGINT does: unwind, so that temporary files go. 128 + 15, as shells report it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    app()
