"""`sdvlm replay`: answers questions about a bag; writes answers.jsonl, a bag and a report.

Connects the parts, shows progress on stderr, and ends cleanly on SIGINT and SIGTERM. Does not know
how a question is scheduled or answered (`sdvlm_core.replay`).
"""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sdvlm_core.answer import AnswerBy
from sdvlm_core.camera.bag_frames import BagCamera, CameraOptions, open_camera
from sdvlm_core.camera.bag_transforms import gravity_hint
from sdvlm_core.camera.bags import open_bag
from sdvlm_core.cli import options
from sdvlm_core.cli.output import print_json, refusals
from sdvlm_core.geometry.sensor_noise import DEFAULT_SENSOR
from sdvlm_core.replay.journal import ANSWERS, open_journal
from sdvlm_core.replay.outputs import BAG, REPORT, write_outputs
from sdvlm_core.replay.run import Plan, Summary, describe, run
from sdvlm_core.replay.schedule import PlannedQuestion, read_questions

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

    from sdvlm_core.engine import SpatialEngine


# Reasons on stderr; answers.jsonl has all.
_MAX_LISTED = 10


@dataclass(frozen=True)
class ReplayOptions:
    """The values of the command's options: times in seconds, topic None = find it."""

    bag: Path
    questions: Path
    out: Path
    model: str
    device: str
    dtype: str
    quantization: str
    attention: str
    estimate_depth: str | None
    camera: CameraOptions
    sync_slop: float
    max_age: float
    limit: int | None
    answer_by: AnswerBy = AnswerBy.LANGUAGE
    sensor: str = DEFAULT_SENSOR
    server: str = ""
    served_model: str = ""


@dataclass(frozen=True)
class Outcome:
    """The result of a replay; `signal` is the signal that ended it early, 0 = none."""

    summary: Summary
    signal: int = 0

    @property
    def exit_status(self) -> int:
        """0 = at least one question was answered, 1 = none, 128 + signal = interrupted."""
        return 128 + self.signal if self.signal else int(not self.summary.answered)

    def document(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {
            "answered": self.summary.answered,
            "errors": dict(self.summary.errors),
            "cautions": dict(self.summary.cautions),
            "resumed": self.summary.resumed,
            "finished": self.summary.finished and not self.signal,
        }


class _Interrupted(Exception):
    """A signal arrived while the outputs were written."""


def replay(
    bag: Annotated[Path, typer.Argument(help="A ROS 2 bag: its directory, an .mcap or a .db3.")],
    questions: Annotated[Path, typer.Option(help="YAML file, as above.")],
    out: Annotated[Path, typer.Option(help="Directory to write, or to resume.")],
    model: options.Model = "nano",
    estimate_depth: Annotated[
        str | None,
        typer.Option(help="A depth estimator, directory or name, for a bag without depth."),
    ] = None,
    color: options.Color = None,
    depth: Annotated[
        str | None, typer.Option(help="Topic of the depth image, raw or compressedDepth.")
    ] = None,
    info: options.Info = None,
    depth_scale: options.DepthScale = None,
    sensor: options.Sensor = "realsense",
    answer_by: options.NumbersBy = None,
    rectify: options.Rectify = "auto",
    up: options.Up = None,
    gravity_frame: options.GravityFrame = "",
    sync_slop: options.SyncSlop = 0.03,
    max_age: Annotated[
        float, typer.Option(min=0.001, help="Largest time between a moment and its image, s.")
    ] = 1.0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many answers and errors in total.")
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    quantization: options.Quantization = "none",
    attention: options.Attention = "auto",
    server: options.Server = "",
    served_model: options.ServedModel = "",
    as_json: options.AsJson = False,
) -> None:
    """Ask questions about a recorded bag, without ROS; the live node gives the same answers.

    Topics that are not given are found: by their usual names (rgb/image_rect_color,
    depth_registered/image_rect, rgb/camera_info), else by their content, if only one topic fits.

    Writes answers.jsonl, report.html and the bag "answers" into the directory. Run it again to
    resume after an interruption. Exit status 1 if no question could be answered.

    The questions, with every key:

    \b
    questions:
      - question: How tall is the red mug?
        at: \\[0.5, 12]          # seconds from the bag's start, one or several
      - question: How far is the box from the lamp?
        every: 2.0             # seconds
      - question: Can you see a mug?
        every: frame           # each colour image
      - question: {quantity: GAP, objects: \\[red mug, box]}           # typed
        every: frame
      - question: {quantity: COMPARISON, objects: \\[red mug, box], relation: taller}
        at: 3

    Examples:

      sdvlm replay demo/table --questions q.yaml --out replayed

      sdvlm replay drive.mcap --questions q.yaml --out drive --color /camera/color/image_raw \\
        --depth /camera/aligned_depth_to_color/image_raw --model sd-vlm-7b
    """
    upward = options.parse_up(up)
    if upward is not None and gravity_frame:
        raise typer.BadParameter("give --up or --gravity-frame, not both")
    chosen = ReplayOptions(
        bag=bag,
        questions=questions,
        out=out,
        model=model,
        device=device,
        dtype=dtype,
        quantization=quantization,
        attention=attention,
        server=server,
        served_model=served_model,
        estimate_depth=estimate_depth,
        camera=CameraOptions(
            color=color,
            depth=depth,
            info=info,
            with_depth=estimate_depth is None,
            settings=options.camera_settings(sensor, depth_scale, rectify),
            up=upward,
            gravity_frame=gravity_frame,
        ),
        answer_by=answer_by or AnswerBy.LANGUAGE,
        sensor=sensor,
        sync_slop=sync_slop,
        max_age=max_age,
        limit=limit,
    )
    with refusals(as_json):
        with redirect_stdout(sys.stderr):
            outcome = replay_bag(chosen)
        if as_json:
            print_json(outcome.document())
    if outcome.exit_status:
        raise typer.Exit(outcome.exit_status)


def replay_bag(chosen: ReplayOptions) -> Outcome:
    """Answer the questions, then write the outputs; prints a summary on stderr.

    Raises:
        SdvlmError: the replay cannot start or continue; answers written before are kept.
    """
    questions = read_questions(chosen.questions)
    with open_bag(chosen.bag) as reader:
        camera = open_camera(reader, chosen.camera)
        if not (camera.up or camera.gravity_frame) and (hint := gravity_hint(reader)):
            print(hint, file=sys.stderr)
        plan = _plan(chosen, camera, questions)
        # Loaded before the directory is created: a wrong model name must leave no files.
        engine = _load(chosen)
        with (
            open_journal(chosen.out, describe(reader, plan)) as journal,
            _signals() as (stop, received),
            _Progress(reader) as progress,
        ):
            progress.start("answering")
            summary = run(reader, plan, journal, engine, stop, chosen.limit, progress.counted)
            written = False
            if summary.finished:
                progress.finish(summary)
                progress.start("writing")
                written = _write(reader, camera, chosen, stop, progress.at)
    _report(chosen.out, summary, written)
    return Outcome(summary, 0 if written else received[0] if received else 0)


def _plan(chosen: ReplayOptions, camera: BagCamera, questions: tuple[PlannedQuestion, ...]) -> Plan:
    return Plan(
        camera=camera,
        questions=questions,
        slop_ns=round(chosen.sync_slop * 1e9),
        max_age_ns=round(chosen.max_age * 1e9),
        model={
            "name": chosen.model,
            "dtype": chosen.dtype,
            "quantization": chosen.quantization,
            "attention": chosen.attention,
            "estimate_depth": chosen.estimate_depth,
        },
        answer_by=chosen.answer_by,
        sensor=chosen.sensor,
    )


def _load(chosen: ReplayOptions) -> SpatialEngine:
    from sdvlm_core.engine import LoadOptions, load_engine

    engine = load_engine(
        LoadOptions(
            chosen.model,
            chosen.device,
            chosen.dtype,
            chosen.quantization,
            chosen.attention,
            chosen.estimate_depth,
            chosen.server,
            chosen.served_model,
        )
    )
    engine.use_threads()
    return engine


def _write(
    reader: Reader,
    camera: BagCamera,
    chosen: ReplayOptions,
    stop: threading.Event,
    progress: Callable[[float], None],
) -> bool:
    """Write the report and the bag; False = interrupted."""

    def advance(seconds: float) -> None:
        progress(seconds)
        if stop.is_set():
            raise _Interrupted

    try:
        write_outputs(reader, camera, chosen.out, chosen.bag.resolve().name, advance)
    except _Interrupted:
        return False
    progress((reader.end_time - reader.start_time) / 1e9)
    return True


@contextmanager
def _signals() -> Iterator[tuple[threading.Event, list[int]]]:
    """An event set by the first SIGINT or SIGTERM, and its number; a second one exits at once."""
    stop, received = threading.Event(), list[int]()

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        received.append(number)
        stop.set()

    previous: dict[signal.Signals, Any] = {}
    # Python accepts handlers in the main thread only; in another thread the caller handles signals.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, handle)
    try:
        yield stop, received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Progress:
    """A progress bar on stderr over the seconds of a bag, one task at a time."""

    _task: TaskID

    def __init__(self, reader: Reader) -> None:
        self._total_s = (reader.end_time - reader.start_time) / 1e9
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.1f}" + f"/{self._total_s:.1f} s of the bag"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[counts]}"),
            console=Console(stderr=True),
        )

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, description: str) -> None:
        """Begin a task at second 0."""
        self._task = self._bar.add_task(description, total=self._total_s, counts="")

    def at(self, seconds: float) -> None:
        """The task has reached this second of the bag."""
        self._bar.update(self._task, completed=seconds)

    def counted(self, seconds: float, summary: Summary) -> None:
        """As `at`, with the counts of answers and errors."""
        failed = summary.errors.total()
        counts = f"{summary.answered} answered" + (f", {failed} errors" if failed else "")
        self._bar.update(self._task, completed=seconds, counts=counts)

    def finish(self, summary: Summary) -> None:
        """The task has reached the end of the bag."""
        self.counted(self._total_s, summary)


def print_counted(texts: Counter[str], total: int) -> None:
    """Print the most frequent texts on stderr, one line each; the text "" is not printed."""
    listed = [(text, count) for text, count in texts.most_common() if text][:_MAX_LISTED]
    for text, count in listed:
        print(f"  {count} x {text}", file=sys.stderr)
    others = total - sum(count for _, count in listed)
    if others:
        print(f"  {others} x other reasons: see {ANSWERS}", file=sys.stderr)


def _report(out: Path, summary: Summary, written: bool) -> None:
    """Print the counts with their reasons, and where the outputs are or how to resume."""
    errors = ", ".join(f"{count} {name}" for name, count in summary.errors.most_common())
    earlier = f" ({summary.resumed} of them by an earlier run)" if summary.resumed else ""
    print(
        f"{summary.answered} of {summary.entries} questions answered"
        f"{f'; no answer: {errors}' if errors else ''}{earlier}",
        file=sys.stderr,
    )
    messages = {f"{name}: {text}" * bool(text): n for (name, text), n in summary.reasons.items()}
    print_counted(Counter(messages), summary.errors.total())
    if summary.cautions:
        counts = ", ".join(f"{n} {code}" for code, n in summary.cautions.most_common())
        print(f"cautions of the answers: {counts}", file=sys.stderr)
        print_counted(summary.caution_reasons, summary.caution_reasons.total())
    if written:
        print(
            f"{out / ANSWERS}\n{out / REPORT}\n{out / BAG}/ (a bag; Foxglove opens it)",
            file=sys.stderr,
        )
    else:
        command = shlex.join(["sdvlm", *sys.argv[1:]])
        print(
            f"interrupted; the answers so far are in {out / ANSWERS}. To resume: {command}",
            file=sys.stderr,
        )
