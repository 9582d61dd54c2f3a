"""Does verification tell right answers from wrong ones, and compare like with like only?

    python -m training.simulate --kind geometry --scenes 150 --seed 919 --width 640 --out DIR
    python benchmarks/verification.py DIR

No model: texts that answer questions of all kinds are made from the exact values of simulated
frames, multiplied by known factors (`FACTORS`; verdicts and choices are random), and read. Depth
comes from the simulated sensor; the direction of gravity is given. The regions are the visible
boxes, each side moved out by up to a tenth of the box. Objects with fewer than 100 visible pixels,
and gaps under 10 mm, are left out.

A number is right by MSMU's rule (`numbers.MAX_RATIO`), a verdict or choice if the exact values say
so ("above": the centre is higher). A comparison of unlike kinds is a check of a number whose kind
was not asked for, or whose measurement is not the value that `measure` gives for the kind and the
objects of the claim. Prints a table by kind of claim and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # `training` is used from the checkout

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from sdvlm_core.answer import SIDES, Asked, Quantity, SpatialAnswer, Verdict
from sdvlm_core.cautions import UNFIT
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.measure import measure
from sdvlm_core.language.question import RELATIONS, phrase
from sdvlm_core.language.reading import read
from sdvlm_core.verification import Check, StatedVerdict, verify
from sdvlm_core.verification.numbers import GREATER, MAX_RATIO
from training.simulate.frames import (
    SimulatedFrame,
    read_frames,
    rgbd_frame,
    stored_gaps,
    up_in_camera,
)

FACTORS = (0.5, 0.75, 0.9, 1.0, 1.0, 1.15, 1.35, 2.0)
#: What is asked in turn: (quantity, relation, which).
KINDS = (
    *((quantity, "", False) for quantity in (*SIDES, Quantity.SIZE, Quantity.CAMERA_DISTANCE)),
    *((quantity, "", False) for quantity in (Quantity.DISTANCE, Quantity.GAP)),
    *((Quantity.DIFFERENCE, relation, False) for relation in ("taller", "narrower", "farther")),
    *((Quantity.COMPARISON, one, False) for one, kind in RELATIONS.items() if kind),
    *((Quantity.COMPARISON, relation, True) for relation in ("taller", "smaller", "closer")),
    *((quantity, "", False) for quantity in (Quantity.COUNT, Quantity.EXISTS)),
    *((quantity, "", False) for quantity in (Quantity.POSITION, Quantity.FREE)),
)
_KEYS = {kind: f"{kind.name.lower()}_m" for kind in (*SIDES, Quantity.CAMERA_DISTANCE)}
_MIN_PIXELS, _MIN_GAP_M = 100, 0.01
_Entry = dict[str, Any]


@dataclass(frozen=True)
class Things:
    """The objects of one frame that can be asked about: their exact values and regions, by name."""

    entries: dict[str, _Entry]
    regions: dict[str, Region]
    gaps: dict[tuple[int, int], float]

    def truth(self, kind: Quantity, names: Sequence[str], relation: str = "") -> float:
        """The exact value of a number; metres."""
        first = self.entries[names[0]]
        if kind in SIDES:
            return float(first[_KEYS[kind]])
        if kind is Quantity.CAMERA_DISTANCE:
            return float(np.linalg.norm(first["centre_camera_m"]))
        second = self.entries[names[1]]
        if kind is Quantity.DISTANCE:
            return float(
                np.linalg.norm(np.subtract(first["centre_camera_m"], second["centre_camera_m"]))
            )
        if kind is Quantity.GAP:
            a, b = sorted((first["instance"], second["instance"]))
            return self.gaps[a, b]
        assert kind is Quantity.DIFFERENCE
        a, b = (self.truth(RELATIONS[relation], [name]) for name in names)
        return a - b if relation in GREATER else b - a

    def holds(self, relation: str, names: Sequence[str]) -> bool:
        """Whether a relation holds between the first object and every other."""
        first, *others = (_rank(relation, self.entries[name]) for name in names)
        return all(first > other for other in others)


def _rank(relation: str, entry: _Entry) -> float:
    """What is greater for the object of which the relation holds."""
    values: dict[str, Callable[[], float]] = {
        "taller": lambda: entry["height_m"],
        "wider": lambda: entry["width_m"],
        "longer": lambda: entry["length_m"],
        "larger": lambda: entry["length_m"] * entry["width_m"] * entry["height_m"],
        "farther": lambda: float(np.linalg.norm(entry["centre_camera_m"])),
        "right": lambda: entry["centre_uv"][0],
        "above": lambda: entry["centre_world_m"][2],
    }
    opposite = {"shorter": "taller", "narrower": "wider", "smaller": "larger", "left": "right"}
    opposite |= {"closer": "farther", "below": "above"}
    if relation in opposite:
        return -values[opposite[relation]]()
    return values[relation]()


def things_of(frame: SimulatedFrame, rng: np.random.Generator) -> Things:
    """The objects with a name of their own and enough visible pixels."""
    names = Counter(_name(entry) for entry in frame.objects)
    entries, regions = {}, {}
    for entry in frame.objects:
        name = _name(entry)
        if names[name] > 1 or entry["visible_pixels"] < _MIN_PIXELS:
            continue
        x1, y1, x2, y2 = entry["box_xyxy"]
        out = rng.uniform(0, 0.1, 4) * [x2 - x1, y2 - y1, x2 - x1, y2 - y1]
        entries[name] = entry
        regions[name] = Region(name, box=(x1 - out[0], y1 - out[1], x2 + out[2], y2 + out[3]))
    return Things(entries, regions, stored_gaps(frame) or {})


def _name(entry: _Entry) -> str:
    return f"{entry['colour']} {entry['category']}"


def answer_of(
    things: Things, kind: tuple[Quantity, str, bool], rng: np.random.Generator
) -> SpatialAnswer | None:
    """An answer of that kind, right or wrong; None if the frame has nothing to ask it about."""
    quantity, relation, which = kind
    count = 3 if which else 2 if quantity in _OF_TWO else 1
    if len(things.entries) < count:
        return None
    names = tuple(str(name) for name in rng.permutation(list(things.entries))[:count])
    asked = Asked(quantity, () if quantity is Quantity.FREE else names, relation, which)
    question = "Describe it." if quantity is Quantity.FREE else phrase(asked)
    text = _text(asked, names, things, rng)
    if text is None:
        return None
    reading = read(text, asked)
    return SpatialAnswer(
        question=question,
        text=text,
        asked=asked,
        measurements=reading.measurements,
        image_points=reading.image_points,
        verdict=reading.verdict,
        chosen=reading.chosen,
        why_none=reading.why_none,
    )


def _text(
    asked: Asked, names: tuple[str, ...], things: Things, rng: np.random.Generator
) -> str | None:
    """A sentence that answers, with its numbers multiplied by factors; None = leave it out."""
    quantity = asked.quantity
    if asked.which:
        return f"The {rng.choice(names)}."
    if quantity in (Quantity.COMPARISON, Quantity.EXISTS):
        return "Yes." if rng.random() < 0.5 else "No."
    if quantity not in _SENTENCES:
        return "2" if quantity is Quantity.COUNT else "(0.5, 0.5)"
    measured = Quantity.HEIGHT if quantity is Quantity.FREE else quantity
    sides = SIDES if quantity is Quantity.SIZE else (measured,)
    truths = [things.truth(side, names, asked.relation) for side in sides]
    if quantity is Quantity.GAP and truths[0] <= _MIN_GAP_M:
        return None
    if quantity is Quantity.SIZE and rng.random() < 0.5:  # the order is the answerer's
        truths = [truths[1], truths[0], truths[2]]
    # A negative difference is stated as if it were positive: a wrong answer.
    values = [f"{abs(truth) * rng.choice(FACTORS):.4f}" for truth in truths]
    return _SENTENCES[quantity].format(*names, value=" x ".join(values), relation=asked.relation)


_SENTENCES = {
    Quantity.HEIGHT: "The {} is {value} m tall.",
    Quantity.WIDTH: "The {} is {value} m wide.",
    Quantity.LENGTH: "The {} is {value} m long.",
    Quantity.SIZE: "The size of the {} is {value} m.",
    Quantity.CAMERA_DISTANCE: "The {} is {value} m from the camera.",
    Quantity.DISTANCE: "The distance between the {} and the {} is {value} m.",
    Quantity.GAP: "The gap between the {} and the {} is {value} m.",
    Quantity.DIFFERENCE: "The {} is {value} m {relation} than the {}.",
    Quantity.FREE: "The {} is {value} m tall.",
}
_OF_TWO = frozenset((Quantity.DISTANCE, Quantity.GAP, Quantity.DIFFERENCE, Quantity.COMPARISON))


def is_right(check: Check, asked: Asked, things: Things) -> bool:
    """Whether the claim of a check is right by the exact values."""
    claim = check.claim
    if isinstance(claim, StatedVerdict):
        if asked.which:
            others = [name for name in asked.objects if name != claim.chosen]
            return things.holds(asked.relation, [claim.chosen, *others])
        return things.holds(asked.relation, asked.objects) is (claim.verdict is Verdict.HOLDS)
    truth = things.truth(claim.kind, claim.objects, asked.relation)
    return truth * claim.value > 0 and 1 / MAX_RATIO < claim.value / truth < MAX_RATIO


def is_unlike(check: Check, asked: Asked, frame: RgbdFrame, things: Things, sensor: str) -> bool:
    """Whether a number was compared with a value of another kind or of other objects."""
    claim, found = check.claim, check.measurement
    if found is None:
        return False
    if isinstance(claim, StatedVerdict) or (claim.kind, claim.objects) != (
        found.kind,
        found.objects,
    ):
        return True
    measured, pairs = measure(frame, [things.regions[name] for name in claim.objects], sensor)
    if claim.kind is Quantity.DIFFERENCE:
        a, b = (getattr(one, _KEYS[RELATIONS[asked.relation]]) for one in measured)
        expected = a - b if asked.relation in GREATER else b - a
    elif claim.kind in (Quantity.DISTANCE, Quantity.GAP):
        expected = getattr(pairs[0], f"{claim.kind.name.lower()}_m")
    else:
        expected = getattr(measured[0], _KEYS[claim.kind])
    return not np.isclose(found.value, expected, rtol=1e-9)


def results(directory: Path, questions: int) -> Iterator[tuple[str, str, bool]]:
    """(kind, outcome, unlike) of every check of so many questions."""
    frames = list(read_frames(directory))
    order = np.random.default_rng(0)
    asked_count, turn = 0, 0
    rounds = range(-(-questions // len(frames)))
    for _, frame in track(
        [(number, frame) for number in rounds for frame in frames],
        "verifying",
        console=Console(stderr=True),
    ):
        rgbd = replace(rgbd_frame(frame), up=up_in_camera(frame))
        rng = np.random.default_rng(int(order.integers(2**31)))
        things = things_of(frame, rng)
        sensor = next((one["sensor"] for one in frame.objects if "sensor" in one), "simulated")
        for _ in range(2):
            answer = answer_of(things, KINDS[turn % len(KINDS)], rng)
            if answer is None:
                continue
            turn, asked_count = turn + 1, asked_count + 1
            named = [name for one in answer.measurements for name in one.objects]
            names = dict.fromkeys((*answer.asked.objects, *named))
            regions = [things.regions[name] for name in names]
            session: Any = SimpleNamespace(frame=rgbd)
            _, checks = verify(session, answer, regions, sensor)
            for check in checks:
                unlike = is_unlike(check, answer.asked, rgbd, things, sensor)
                yield _label(check, answer.asked), _outcome(check, answer.asked, things), unlike
            if asked_count == questions:
                return


def _label(check: Check, asked: Asked) -> str:
    which = "which " if asked.which else ""
    kind = check.claim.kind if asked.quantity is Quantity.SIZE else asked.quantity
    of = "SIZE: " if asked.quantity is Quantity.SIZE else ""
    return f"{of}{kind.name} {which}{asked.relation}".strip()


def _outcome(check: Check, asked: Asked, things: Things) -> str:
    """One of OUTCOMES."""
    if check.agrees is not None:
        word = "agree" if check.agrees else "disagree"
        return (
            f"{word}_right" if is_right(check, asked, things) is check.agrees else f"{word}_wrong"
        )
    if not check.objects:
        return "not_judged"
    return "unfit" if UNFIT.intersection(check.warnings) else "within_error"


OUTCOMES = {
    "agree_right": "AGREE right",
    "agree_wrong": "wrong",
    "disagree_right": "DISAGREE right",
    "disagree_wrong": "wrong",
    "within_error": "within error",
    "unfit": "unfit",
    "not_judged": "not judged",
}


def main() -> None:
    """Verify and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, help="output of training.simulate")
    parser.add_argument("--questions", type=int, default=500)
    options = parser.parse_args()
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for label, outcome, unlike in results(options.directory, options.questions):
        rows[label].update([outcome, *["unlike"] * unlike])
    total = sum(rows.values(), Counter[str]())
    table = Table(Column("claim", no_wrap=True), *OUTCOMES.values(), "unlike")
    for name, row in (*rows.items(), ("all", total)):
        table.add_row(name, *(str(row[key]) for key in (*OUTCOMES, "unlike")))
    Console(width=130).print(table)
    right = total["agree_right"] + total["disagree_right"]
    judged = right + total["agree_wrong"] + total["disagree_wrong"]
    figures = {
        "questions": options.questions,
        "judged": judged,
        "undecided": total["within_error"] + total["unfit"] + total["not_judged"],
        "right": right,
        "right_fraction": round(right / max(1, judged), 4),
        "unlike": total["unlike"],
        "by_kind": {name: dict(row) for name, row in rows.items()},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
