"""`python -m training.evaluate`: ask a model about a benchmark's frames and score the answers.

Owns the run: questions made from the frames' scene graphs, one engine session a frame, a line of
JSON per answer, resumable. The rules of scoring are in `training.evaluation.score`. The controls
show a model another frame's picture and depth (`--frames shuffled`: what guessing from words
gives) or another frame's depth only (`--depth shuffled`: what depth is worth).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sdvlm_core.errors import SdvlmError
from sdvlm_core.frame import RgbdFrame
from training.evaluation.score import score
from training.msmu.questions import TYPES, Question, ask_all, make_view
from training.simulate import read_frames, rgbd_frame
from training.simulation.catalogue import CATEGORIES, COLOURS
from training.simulation.world import SimulatedFrame

#: Questions of each type asked about a frame, where it has that many.
PER_TYPE = 2
_SEED = 20251
ANSWERS, SCORES = "answers.jsonl", "scores.json"


class Control(str, Enum):
    """What a model is shown: the frame's own, or the next frame's."""

    own = "own"
    shuffled = "shuffled"


def questions_of(frame: SimulatedFrame) -> list[Question]:
    """The benchmark's questions about a frame; the same ones every time."""
    k = frame.intrinsics
    view = make_view(frame.objects, k.width * k.height, list(COLOURS), CATEGORIES)
    rng = np.random.default_rng([_SEED, frame.scene])
    return ask_all(view, rng, dict.fromkeys(TYPES, PER_TYPE))


def _with_depth_of(frame: RgbdFrame, other: RgbdFrame) -> RgbdFrame:
    """The frame with the other's depth, resized to fit where their shapes differ."""
    import cv2

    assert other.depth is not None
    size = (frame.width, frame.height)
    depth = cv2.resize(other.depth, size, interpolation=cv2.INTER_NEAREST)
    return dataclasses.replace(frame, depth=depth)


def _shown(index: int, frames: list[SimulatedFrame], whole: Control, depth: Control) -> RgbdFrame:
    own = rgbd_frame(frames[index])
    other = rgbd_frame(frames[(index + 1) % len(frames)])
    if whole is Control.shuffled:
        return other
    return _with_depth_of(own, other) if depth is Control.shuffled else own


def _row(frame: int, question: Question, answer: str, seconds: float) -> dict[str, Any]:
    outcome = score(question.question, answer, question.reference, question.names)
    return {
        "frame": frame,
        "type": question.type,
        "question": question.question,
        "answer": answer,
        "expected": question.answer,
        "reference": question.reference,
        "correct": outcome.correct,
        "error": outcome.error if np.isfinite(outcome.error) else None,
        "seconds": round(seconds, 4),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Success per type in percent with counts, and their unweighted mean (`macro`)."""
    per_type = {}
    for kind in TYPES:
        marks = [row["correct"] for row in rows if row["type"] == kind]
        if marks:
            per_type[kind] = {
                "success": round(100 * sum(marks) / len(marks), 2),
                "correct": sum(marks),
                "asked": len(marks),
            }
    macro = sum(entry["success"] for entry in per_type.values()) / len(TYPES)
    return {"macro": round(macro, 2), "per_type": per_type}


def _recorded(path: Path, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Answers of an earlier, interrupted run with the same arguments; whole frames only."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        head, *rows = [json.loads(line) for line in lines]
    except (ValueError, json.JSONDecodeError):
        # The last line of an interrupted run may be half written.
        head, *rows = [json.loads(line) for line in lines[:-1]] or [None]
    if head != run:
        raise typer.BadParameter(
            f"{path} holds the answers of another run ({head}); choose another --out"
        )
    last = max((row["frame"] for row in rows), default=None)
    # The last frame may be incomplete: ask about it again.
    return [row for row in rows if row["frame"] != last]


def _print_table(summary: dict[str, Any]) -> None:
    table = Table("type", "success %", "correct", "asked")
    for kind, entry in summary["per_type"].items():
        table.add_row(kind, f"{entry['success']:.1f}", str(entry["correct"]), str(entry["asked"]))
    table.add_row("macro", f"{summary['macro']:.1f}", "", "")
    Console(stderr=True).print(table)


def evaluate(
    benchmark: Annotated[Path, typer.Option(help="A folder of training.simulate.")],
    out: Annotated[Path, typer.Option(help="Folder for answers and scores.")],
    model: Annotated[str, typer.Option(help="nano, or a model directory.")] = "nano",
    frames: Annotated[Control, typer.Option(help="shuffled: another frame altogether.")] = (
        Control.own
    ),
    depth: Annotated[Control, typer.Option(help="shuffled: another frame's depth.")] = Control.own,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many frames.")] = None,
) -> None:
    """Score a model on simulated frames; the last line on stdout is one JSON object.

    Example: python -m training.evaluate --model nano --benchmark runs/sim7 --out runs/sim7-nano
    """
    from sdvlm_core.checkpoint import load
    from sdvlm_core.engine import SpatialEngine

    run = {
        "model": model,
        "benchmark": str(benchmark.resolve()),
        "frames": frames.value,
        "depth": depth.value,
        "limit": limit,
    }
    out.mkdir(parents=True, exist_ok=True)
    try:
        engine = SpatialEngine(load(model))
        views = list(read_frames(benchmark, limit))
    except (SdvlmError, FileNotFoundError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    rows = _recorded(out / ANSWERS, run)
    done = {row["frame"] for row in rows}
    with (out / ANSWERS).open("w", encoding="utf-8") as log:
        log.writelines(json.dumps(line) + "\n" for line in [run, *rows])
        console = Console(stderr=True)
        for index in track(range(len(views)), "asking", console=console):
            asked = questions_of(views[index])
            if views[index].scene in done or not asked:
                continue
            try:
                session = engine.open(_shown(index, views, frames, depth))
            except SdvlmError as error:
                # Counted as wrong, never dropped.
                answers = [(f"({error})", 0.0) for _ in asked]
            else:
                replies = [session.ask(question.question) for question in asked]
                answers = [(r.text, r.timings.prefill + r.timings.decode) for r in replies]
            for question, (text, seconds) in zip(asked, answers, strict=True):
                row = _row(views[index].scene, question, text, seconds)
                rows.append(row)
                log.write(json.dumps(row) + "\n")
            log.flush()
    summary = {**summarise(rows), "asked": len(rows), **run}
    temporary = out / f"{SCORES}.tmp"
    temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    temporary.replace(out / SCORES)
    _print_table(summary)
    sys.stdout.write(json.dumps(summary) + "\n")


def main() -> None:
    """Entry point of `python -m training.evaluate`."""
    typer.run(evaluate)


if __name__ == "__main__":
    main()
