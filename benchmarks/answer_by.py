"""How good are geometry's answers if a model gives the boxes, in each form and if they are off?

    python -m training.simulate --kind geometry --scenes 80 --seed 2020 --width 640 --out DIR
    python benchmarks/answer_by.py DIR --real ../shared/realdata

No model: a stub session (`tests/locators.py`) writes the boxes of the simulated objects as a family
of models does, exact or with each side moved by a fraction of the box, inwards or outwards at
random. Heights, distances and gaps are asked with `answer_by: geometry` and compared with the exact
values; the direction of gravity is known. `regions` are the same boxes given by the caller. Objects
with fewer than 100 visible pixels, and gaps under 10 mm, are left out. `--real` asks the questions
of real frames in the same way, with their own boxes. A model's own number (source LANGUAGE) is not
part of this: the stub has none.

- right: max(a / b, b / a) < 1.25, of all questions;
- unfit: no value, or one with a caution that makes it unfit to act on;
- right, fit: of the others;
- 1 sd: true values within one `std_dev`, of the fit ones.

Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # `training`, `benchmarks` and `tests`

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from benchmarks.real_frames import HELD_OUT, frame_of, sensor_of, up_of
from benchmarks.verification import things_of
from sdvlm_core.answer import AnswerBy, Asked, Quantity, SpatialAnswer
from sdvlm_core.cautions import UNFIT
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.verification import verify
from sdvlm_core.verification.numbers import MAX_RATIO
from tests.locators import WITH_BOXES, Corners, Locator, moved
from training.simulate.frames import read_frames, rgbd_frame, up_in_camera

KINDS = (Quantity.HEIGHT, Quantity.DISTANCE, Quantity.GAP)
OFFS = (0.0, 0.05, 0.15)
_REGIONS = "regions"
_MIN_GAP_M = 0.01


@dataclass(frozen=True)
class Question:
    """A question with its true value, metres, and the exact boxes of the frame's objects."""

    frame: RgbdFrame
    asked: Asked
    truth: float
    boxes: Mapping[str, Corners]
    sensor: str


@dataclass(frozen=True)
class Outcome:
    """A measured value, metres; NaN = none. `unfit`: it must not be acted on."""

    truth: float
    value: float
    std_dev: float
    unfit: bool

    @property
    def right(self) -> bool:
        """Whether the ratio to the true value is below MSMU's limit."""
        return self.value > 0 and 1 / MAX_RATIO < self.value / self.truth < MAX_RATIO


def simulated(directory: Path, count: int) -> Iterator[Question]:
    """So many questions about simulated frames, of each kind in turn."""
    rng = np.random.default_rng(0)
    made = 0
    frames = list(read_frames(directory))
    for _ in range(1 + 2 * count // len(frames)):  # some are left out
        for one in frames:
            things = things_of(one, rng)
            kind = KINDS[made % len(KINDS)]
            names = [str(name) for name in rng.permutation(list(things.entries))]
            names = names[: 1 if kind is Quantity.HEIGHT else 2]
            if len(names) < (1 if kind is Quantity.HEIGHT else 2):
                continue
            truth = things.truth(kind, names)
            if kind is Quantity.GAP and truth <= _MIN_GAP_M:
                continue
            boxes = {name: tuple(entry["box_xyxy"]) for name, entry in things.entries.items()}
            sensor = next((x["sensor"] for x in one.objects if "sensor" in x), "simulated")
            frame = replace(rgbd_frame(one), up=up_in_camera(one))
            yield Question(frame, Asked(kind, tuple(names)), truth, boxes, sensor)
            made += 1
            if made == count:
                return


def real(directory: Path) -> Iterator[Question]:
    """The questions about heights, distances and gaps of things with a box in real frames."""
    for folder in sorted(path.parent for path in directory.glob("*/questions.json")):
        known: dict[str, Any] = json.loads((folder / "questions.json").read_text())
        boxes = {
            one["label"]: tuple(one["bbox_xyxy"]) for one in known["objects"] if "bbox_xyxy" in one
        }
        frame = replace(frame_of(folder, known), up=up_of(known, only_turned=True))
        for one in known["questions"]:
            kind = Quantity.__members__.get(one["type"].upper())
            # A true height above the table is not the object's own.
            other = one["basis"].endswith("+table_plane") or folder.name in HELD_OUT
            if kind not in KINDS or other or not set(one["targets"]) <= {*boxes}:
                continue
            asked = Asked(kind, tuple(one["targets"]))
            yield Question(frame, asked, one["answer_m"], boxes, sensor_of(known))


def outcome(question: Question, form: str, off: float, rng: np.random.Generator) -> Outcome:
    """What geometry answers, with the boxes in a form, or given as regions."""
    boxes = {name: moved(question.boxes[name], off, rng) for name in question.asked.objects}
    answer = SpatialAnswer("?", "", question.asked)
    regions: list[Region] = []
    session: Any = SimpleNamespace(frame=question.frame)
    if form == _REGIONS:
        regions = [Region(name, box=box) for name, box in boxes.items()]
    else:
        session = Locator(question.frame, boxes, next(one for one in WITH_BOXES if one == form))
    answer, _ = verify(session, answer, regions, question.sensor, answer_by=AnswerBy.GEOMETRY)
    value = std_dev = math.nan
    for one in answer.measurements:
        value, std_dev = one.value, one.std_dev
    unfit = math.isnan(value) or bool(UNFIT.intersection(answer.cautions))
    return Outcome(question.truth, value, std_dev, unfit)


def figures(outcomes: list[Outcome]) -> dict[str, float]:
    """The numbers of one row."""
    errors = [abs(one.value - one.truth) for one in outcomes if not math.isnan(one.value)]
    fit = [one for one in outcomes if not one.unfit]
    within = [abs(one.value - one.truth) <= one.std_dev for one in fit]
    return {
        "n": len(outcomes),
        "median_mm": 1e3 * float(np.median(errors)) if errors else math.nan,
        "p90_mm": 1e3 * float(np.quantile(errors, 0.9)) if errors else math.nan,
        "right": _percent([one.right for one in outcomes]),
        "unfit": _percent([one.unfit for one in outcomes]),
        "right_fit": _percent([one.right for one in fit]),
        "sd_1": _percent(within),
    }


def _percent(flags: list[bool]) -> float:
    return 100 * sum(flags) / len(flags) if flags else math.nan


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, help="output of training.simulate")
    parser.add_argument("--real", type=Path, help="folder of real frames")
    parser.add_argument("--questions", type=int, default=300)
    options = parser.parse_args()
    sources = {"simulated": list(simulated(options.directory, options.questions))}
    if options.real:
        sources["real"] = list(real(options.real))
    rows: dict[tuple[str, str, float, str], list[Outcome]] = defaultdict(list)
    forms = [_REGIONS, *(form.value for form in WITH_BOXES)]
    for source, questions in sources.items():
        for off in OFFS if source == "simulated" else OFFS[:1]:
            for form in forms:
                rng = np.random.default_rng(1)  # the same moves for each form
                for one in questions:
                    key = (source, one.asked.quantity.name, off, form)
                    rows[key].append(outcome(one, form, off, rng))
    names = ("frames", "quantity", "off %", "boxes")
    shown = ("n", "median mm", "p90 mm", "right %", "unfit %", "right, fit %", "1 sd %")
    table = Table(*names, *(Column(name, justify="right") for name in shown), box=None)
    found = {key: figures(rows[key]) for key in sorted(rows, key=lambda key: (key[0], key[1:3]))}
    for (source, kind, off, form), row in found.items():
        cells = (f"{value:.0f}" for value in row.values())
        table.add_row(source, kind, f"{100 * off:.0f}", form, *cells)
    Console(width=130).print(table)
    print(json.dumps({" ".join(map(str, key)): row for key, row in found.items()}))


if __name__ == "__main__":
    main()
