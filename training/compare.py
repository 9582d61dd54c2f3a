"""`python -m training.compare ONE OTHER`: two evaluations of the same questions, paired by frame.

Prints the score of each and their difference with 95 % intervals, for all types and for those whose
answers are lengths. Does not know models, controls or seeds (`ablate`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from training.ablate.paired import METRIC, Interval, Marks, difference, score
from training.build.questions import TYPES

#: What `training.evaluate` writes into its folder.
_JUDGED = "judged.jsonl"


def _lines(folder: Path) -> list[dict[str, Any]]:
    """The judged answers of an evaluation; BadParameter if there are none."""
    file = folder / _JUDGED
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(
            f"{file}: {error.strerror}; it is the --out of training.evaluate"
        ) from error
    return [line for line in map(json.loads, text.splitlines()) if line["type"] in TYPES]


def compared(
    one: list[dict[str, Any]], other: list[dict[str, Any]]
) -> dict[str, tuple[Interval, Interval, Interval]]:
    """ "all" and "metric" -> the score of `one`, that of `other`, and their difference, percent.

    Raises:
        ValueError: they did not answer the same questions.
    """
    keys = [sorted(line["key"] for line in lines) for lines in (one, other)]
    if keys[0] != keys[1] or not one:
        raise ValueError(
            f"the evaluations have {len(one)} and {len(other)} answers, and not to the same "
            "questions: run both with the same --benchmark and --limit"
        )
    frames = sorted({line["frame"] for line in one})
    first, second = Marks.of([one], frames), Marks.of([other], frames)
    return {
        name: (score(first, types), score(second, types), difference(first, second, types))
        for name, types in (("all", TYPES), ("metric", METRIC))
    }


def compare(
    one: Annotated[Path, typer.Argument(help="Folder that training.evaluate wrote.")],
    other: Annotated[Path, typer.Argument(help="Another one, of the same questions.")],
) -> None:
    """Compare two evaluations of the same questions, paired by frame.

    Example: python -m training.compare runs/scores/depth runs/scores/nodepth
    """
    try:
        found = compared(_lines(one), _lines(other))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    for name, intervals in found.items():
        texts = [f"{one.value:.1f} ({one.low:.1f} to {one.high:.1f})" for one in intervals]
        typer.echo(f"{name}: {texts[0]} and {texts[1]}; difference {texts[2]}", err=True)
    print(json.dumps({k: [one.to_mapping() for one in v] for k, v in found.items()}))


if __name__ == "__main__":
    typer.run(compare)
