"""`sdvlm replay`: bag, questions and model in; answers.jsonl, a bag and a page out.

Puts the parts together, shows progress on stderr and ends cleanly on SIGINT and SIGTERM. Does not
know arguments' spellings beyond what its messages say (`cli` does), nor how an answer comes about.
"""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sdvlm_core.camera.bags import find_topics, open_bag
from sdvlm_core.replay.outputs import BAG, REPORT, write_outputs
from sdvlm_core.replay.run import ANSWERS, Plan, Summary, describe, open_journal, run
from sdvlm_core.replay.schedule import read_questions

if TYPE_CHECKING:
    from sdvlm_core.engine import SpatialEngine


@dataclass(frozen=True)
class Options:
    """What was asked for; times in seconds, topics None = found."""

    bag: Path
    questions: Path
    out: Path
    model: str
    device: str
    dtype: str
    quantization: str
    attention: str
    estimate_depth: str | None
    color: str | None
    depth: str | None
    info: str | None
    sync_slop: float
    max_age: float
    limit: int | None


@dataclass(frozen=True)
class Outcome:
    """How it ended: `signal` is the signal that ended it early, 0 = none."""

    summary: Summary
    signal: int = 0

    @property
    def exit_status(self) -> int:
        """0 = something was answered, 1 = nothing was, 128 + signal."""
        return 128 + self.signal if self.signal else int(not self.summary.answered)

    def document(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {
            "answered": self.summary.answered,
            "errors": dict(self.summary.errors),
            "resumed": self.summary.resumed,
            "finished": self.summary.finished and not self.signal,
        }


class _Stopped(Exception):
    """A signal came while the outputs were written."""


def replay(options: Options) -> Outcome:
    """Answer, then write the outputs; says on stderr what there is and how to go on.

    Raises:
        SdvlmError: a refusal; what was answered before it stays.
    """
    questions = read_questions(options.questions)
    with open_bag(options.bag) as reader:
        topics = find_topics(
            reader,
            options.color,
            options.depth,
            options.info,
            with_depth=options.estimate_depth is None,
        )
        plan = Plan(
            topics=topics,
            questions=questions,
            slop_ns=round(options.sync_slop * 1e9),
            max_age_ns=round(options.max_age * 1e9),
            model={
                "name": options.model,
                "dtype": options.dtype,
                "quantization": options.quantization,
                "attention": options.attention,
                "estimate_depth": options.estimate_depth,
            },
        )
        # Loaded before anything is written: a wrong name must not leave its mark in DIR.
        engine = _load(options)
        title = options.bag.resolve().name
        seconds = (reader.end_time - reader.start_time) / 1e9
        with (
            open_journal(options.out, describe(reader, plan)) as journal,
            _signals() as (stop, received),
            _progress(seconds) as bar,
        ):
            answering = bar.add_task("answering", total=seconds, counts="")

            def tell(done: float, summary: Summary) -> None:
                bar.update(answering, completed=done, counts=_counts(summary))

            def wrote(done: float) -> None:
                bar.update(writing, completed=done)
                if stop.is_set():
                    raise _Stopped

            summary = run(reader, plan, journal, engine, stop, options.limit, tell)
            written = False
            if summary.finished:
                bar.update(answering, completed=seconds, counts=_counts(summary))
                writing = bar.add_task("writing", total=seconds, counts="")
                with suppress(_Stopped):
                    write_outputs(reader, topics, options.out, title, wrote)
                    bar.update(writing, completed=seconds)
                    written = True
    _say(options, summary, written)
    return Outcome(summary, 0 if written else received[0] if received else 0)


def _load(options: Options) -> SpatialEngine:
    from sdvlm_core.engine import SpatialEngine
    from sdvlm_core.model.checkpoint import load

    checkpoint = load(
        options.model, options.device, options.dtype, options.quantization, options.attention
    )
    if options.estimate_depth is None:
        return SpatialEngine(checkpoint)
    from sdvlm_core.model.depth_estimation import load_estimator

    return SpatialEngine(checkpoint, load_estimator(options.estimate_depth, checkpoint.device))


@contextmanager
def _signals() -> Iterator[tuple[threading.Event, list[int]]]:
    """An event that the first SIGINT or SIGTERM sets, and which it was; the second one ends."""
    stop, received = threading.Event(), list[int]()

    def note(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        received.append(number)
        stop.set()

    before: dict[int, Any] = {}
    # Handlers can be set in the main thread only; elsewhere the caller has its own ways.
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop, received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(seconds: float) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f}" + f"/{seconds:.1f} s of the bag"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[counts]}"),
        console=Console(stderr=True),
    )


def _counts(summary: Summary) -> str:
    failed = summary.errors.total()
    return f"{summary.answered} answered" + (f", {failed} errors" if failed else "")


def _say(options: Options, summary: Summary, written: bool) -> None:
    errors = ", ".join(f"{count} {name}" for name, count in summary.errors.most_common())
    before = f" ({summary.resumed} of them by an earlier run)" if summary.resumed else ""
    print(
        f"{summary.answered} of {summary.entries} questions answered"
        f"{f'; no answer: {errors}' if errors else ''}{before}",
        file=sys.stderr,
    )
    if written:
        print(
            f"{options.out / ANSWERS}\n{options.out / REPORT}\n"
            f"{options.out / BAG}/ (a bag; Foxglove opens it)",
            file=sys.stderr,
        )
    else:
        again = shlex.join(["sdvlm", *sys.argv[1:]])
        print(
            f"ended early; what is answered is in {options.out / ANSWERS}. To go on: {again}",
            file=sys.stderr,
        )
