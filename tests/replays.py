"""Replays for tests: a real replay whose engine answers from the pixels alone, without a model."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from sdvlm_core.answer import (
    AnswerBy,
    Asked,
    Measurement,
    Position,
    Quantity,
    SpatialAnswer,
    Timings,
)
from sdvlm_core.camera.bag_frames import CameraOptions, open_camera
from sdvlm_core.camera.bags import open_bag
from sdvlm_core.language.question import Dialect, phrase
from sdvlm_core.replay.journal import ANSWERS, open_journal, read_entries
from sdvlm_core.replay.outputs import write_outputs
from sdvlm_core.replay.run import Plan, Summary, describe, run
from sdvlm_core.replay.schedule import PlannedQuestion
from tests import bags

NO_OPTIONS = CameraOptions()
SLOP_NS = 30_000_000
SECOND_NS = 1_000_000_000

HEIGHT = PlannedQuestion("How tall is the wall?")
PLACE = PlannedQuestion("Where is it?")
GAP = Asked(Quantity.GAP, ("wall", "box"))
TYPED = PlannedQuestion(phrase(GAP, Dialect.CHAT), asked=GAP)


class PixelEngine:
    """Answers with numbers that depend on the frame and the question; records what it opened."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.opened: list[int] = []

    def open(self, frame: Any) -> Any:
        self.opened.append(frame.stamp_ns)
        return SimpleNamespace(
            frame=frame,
            ask=lambda question, options: self._answer(frame, question),
            # Where an object is: it finds none.
            ask_many=lambda queries: [SpatialAnswer("", "[]") for _ in queries],
            boxes_form="thousand",
            picture_size=(frame.width, frame.height),
        )

    def _answer(self, frame: Any, question: str | Asked) -> SpatialAnswer:
        time.sleep(self.seconds)
        metres = float(np.nanmean(frame.depth))
        red = int(frame.rgb[..., 0].astype(int).sum())
        return SpatialAnswer(
            question=question if isinstance(question, str) else phrase(question),
            asked=Asked() if isinstance(question, str) else question,
            text=f"{metres:.4f} m, {red}",
            measurements=(Measurement(Quantity.HEIGHT, metres, objects=("wall <b>$x$",)),),
            image_points=((0.25, 0.5),),
            positions=(Position("it", 0.1, -0.2, metres),),
            model_id="pixels",
            depth_source="sensor",
            cautions=frame.cautions,
            timings=Timings(decode=time.perf_counter() % 1),
        )


def replay(
    bag: Path,
    out: Path,
    *questions: PlannedQuestion,
    engine: Any = None,
    camera: CameraOptions = NO_OPTIONS,
    limit: int | None = None,
    max_age: float = 1.0,
    outputs: bool = False,
    stop: threading.Event | None = None,
    answer_by: AnswerBy = AnswerBy.LANGUAGE,
) -> Summary:
    """As the command `sdvlm replay` does, but with a test engine; `stop` ends it early."""
    with open_bag(bag) as reader:
        chosen = open_camera(reader, camera)
        age_ns = round(max_age * SECOND_NS)
        plan = Plan(chosen, questions or (HEIGHT,), SLOP_NS, age_ns, {"name": "p"}, answer_by)
        with open_journal(out, describe(reader, plan)) as journal:
            summary = run(
                reader, plan, journal, engine or PixelEngine(), stop or threading.Event(), limit
            )
            if outputs:
                write_outputs(reader, chosen, out, bag.name)
    return summary


def entries(out: Path) -> list[dict[str, Any]]:
    return [*read_entries(out / ANSWERS)]


def without_timings(out: Path) -> list[dict[str, Any]]:
    """The entries without their timings, which differ from run to run."""
    found = entries(out)
    for entry in found:
        if entry["answer"] is not None:
            del entry["answer"]["timings"]
    return found


def bag_of(path: Path, count: int, form: str = "raw", **options: str) -> Path:
    records = [record for number in range(count) for record in bags.frame(number, form)]
    return bags.write_bag(path, records, **options)


def write_questions(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
