"""Accuracy of `sdvlm measure` on simulated frames, whose true values are exact.

    python -m training.simulate --scenes 500 --seed 606 --width 640 --out runs/sim606
    python benchmarks/simulated_geometry.py runs/sim606

Depth comes from the simulated sensor: noise, quantisation, holes, lost edges. The regions are the
visible boxes, loose like a detector's: each side is moved out by up to a tenth of the box. Objects
are grouped by their visible fraction: `clear` (more than 90 % of the silhouette), `part` (60 to 90
%), `heavy` (20 to 60 %), `cut` by the image's border. Objects with fewer than 100 pixels are left
out. A pair belongs to the group of its less visible object; gaps under 10 mm are left out.

Prints the fraction within ratio 1.25 with the coverage of 1 std_dev, by visibility and by category
(`clear` objects), and one JSON line: the same by type for `clear` and for all but `cut`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # `training` is used from the checkout

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sdvlm_core.frame import Region
from sdvlm_core.geometry.measure import measure_pair, measure_region
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.geometry.sensor_noise import sensor_noise
from training.simulate.frames import MANIFEST, SimulatedFrame, read_frames, rgbd_frame
from training.simulate.gaps import true_gaps

VISIBILITIES = ("clear", "part", "heavy", "cut")
TYPES = ("height", "size", "length", "width", "camera_distance", "distance", "gap")
#: Smaller gaps are left out: the ratio of two values near zero has no meaning.
_MIN_GAP_M = 0.01
#: Objects with fewer pixels or a smaller visible fraction are left out.
_MIN_PIXELS, _MIN_VISIBLE_FRACTION = 100, 0.2


@dataclass(frozen=True)
class Answer:
    """One length of one object or pair; metres."""

    type: str
    category: str
    visibility: str
    truth: float
    value: float
    std_dev: float

    @property
    def within(self) -> bool:
        """Correct by the rule of MSMU-Bench; an object without a measurement counts as wrong."""
        return self.value > 0 and max(self.value / self.truth, self.truth / self.value) < 1.25

    @property
    def covered(self) -> bool:
        """The true value is within one std_dev."""
        return abs(self.value - self.truth) <= self.std_dev


def visibility(entry: dict[str, Any]) -> str:
    """The visibility group of an object of the scene graph: one of VISIBILITIES."""
    if entry["truncated"]:
        return "cut"
    visible = entry["visible_fraction"]
    return "clear" if visible > 0.9 else "part" if visible > 0.6 else "heavy"


def measured(frame: SimulatedFrame, seed: int) -> list[Answer]:
    """Measure every object and pair of one frame of a seed."""
    rng = np.random.default_rng(frame.scene)
    scene, noise = open_scene(rgbd_frame(frame)), sensor_noise("simulated")
    found, answers = [], []
    for entry in frame.objects:
        if (
            entry["visible_pixels"] < _MIN_PIXELS
            or entry["visible_fraction"] < _MIN_VISIBLE_FRACTION
        ):
            continue
        x1, y1, x2, y2 = entry["box_xyxy"]
        out = rng.uniform(0, 0.1, 4) * [x2 - x1, y2 - y1, x2 - x1, y2 - y1]
        box = (x1 - out[0], y1 - out[1], x2 + out[2], y2 + out[3])
        one = measure_region(scene, Region(entry["category"], box=box), noise)
        found.append((entry, one))
        longest = "length_m" if one.length_m >= one.height_m else "height_m"
        truths = {
            "height": (entry["height_m"], one.height_m, "height_m"),
            "length": (entry["length_m"], one.length_m, "length_m"),
            "width": (entry["width_m"], one.width_m, "width_m"),
            "size": (max(entry["length_m"], entry["height_m"]), getattr(one, longest), longest),
            "camera_distance": (
                float(np.linalg.norm(entry["centre_camera_m"])),
                one.camera_distance_m,
                "camera_distance_m",
            ),
        }
        answers += [
            Answer(kind, entry["category"], visibility(entry), truth, value, one.std_dev[key])
            for kind, (truth, value, key) in truths.items()
        ]
    gaps = true_gaps(seed, frame.scene)
    for (entry_a, a), (entry_b, b) in combinations(found, 2):
        worse = max(visibility(entry_a), visibility(entry_b), key=VISIBILITIES.index)
        apart = np.subtract(entry_a["centre_camera_m"], entry_b["centre_camera_m"])
        pair = measure_pair(a, b)
        truth = float(np.linalg.norm(apart))
        answers.append(
            Answer("distance", "pair", worse, truth, pair.distance_m, pair.distance_std_dev_m)
        )
        gap = gaps[entry_a["instance"], entry_b["instance"]]
        if gap > _MIN_GAP_M:
            answers.append(Answer("gap", "pair", worse, gap, pair.gap_m, pair.gap_std_dev_m))
    return answers


def summary(some: list[Answer]) -> dict[str, float]:
    """Fraction within the ratio, median error and coverage of some answers."""
    errors = [abs(one.value - one.truth) for one in some]
    return {
        "n": len(some),
        "within_1.25": round(float(np.mean([one.within for one in some])), 4),
        "median_abs_m": round(float(np.nanmedian(errors)), 5),
        "coverage_1sd": round(float(np.mean([one.covered for one in some])), 4),
    }


def _table(title: str, groups: dict[tuple[str, str], list[Answer]]) -> Table:
    table = Table(title=title, box=None, title_justify="left")
    rows = sorted({row for row, _ in groups}, key=lambda row: (row not in VISIBILITIES, row))
    for name in ("", *TYPES):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        cells = []
        for kind in TYPES:
            some = groups.get((row, kind))
            if not some:
                cells.append("")
                continue
            s = summary(some)
            cells.append(f"{100 * s['within_1.25']:.1f} % ({s['n']}) {100 * s['coverage_1sd']:.0f}")
        table.add_row(row, *cells)
    return table


def main() -> None:
    """Measure the frames of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, help="output of training.simulate")
    parser.add_argument("--frames", type=int, default=500, help="maximum number of frames")
    arguments = parser.parse_args()
    seed = json.loads((arguments.directory / MANIFEST).read_text())["seed"]
    frames = read_frames(arguments.directory, arguments.frames)
    console = Console(stderr=True)
    answers: list[Answer] = []
    for frame in track(frames, "frames", total=arguments.frames, console=console):
        answers += measured(frame, seed)
    by_visibility: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    by_category: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for one in answers:
        by_visibility[one.visibility, one.type].append(one)
        if one.visibility == "clear":
            by_category[one.category, one.type].append(one)
    out = Console(width=140)
    out.print("fraction within 1.25 (number) coverage of 1 std_dev in %")
    out.print(_table("by visibility", by_visibility))
    out.print(_table("by category, clear objects", by_category))
    sums: dict[str, Any] = {}
    for name, chosen in (("clear", ("clear",)), ("not_cut", ("clear", "part", "heavy"))):
        sums[name] = {
            kind: summary([one for one in answers if one.type == kind and one.visibility in chosen])
            for kind in TYPES
        }
    uncut = [one for one in answers if one.visibility != "cut"]
    sums["coverage_1sd"] = summary(uncut)["coverage_1sd"]
    print(json.dumps(sums))


if __name__ == "__main__":
    main()
