"""Accuracy of `sdvlm measure` on simulated frames, whose true values are exact.

    python -m training.simulate --scenes 500 --seed 606 --width 640 --out runs/sim606
    python benchmarks/simulated_geometry.py runs/sim606
    python benchmarks/simulated_geometry.py runs/sim606 --held-out runs/sim707

    python -m training.simulate --kind geometry --scenes 150 --seed 1701 --width 640 --out develop
    python -m training.simulate --kind geometry --scenes 150 --seed 2702 --width 640 --out held-out
    python benchmarks/simulated_geometry.py develop --held-out held-out --up

Depth comes from the simulated sensor: noise, quantisation, holes, lost edges. The regions are the
visible boxes, loose like a detector's: each side is moved out by up to a tenth of the box. The
situations of an object are those of the scene graph, and its visibility: `clear` (more than 90 % of
the silhouette), `part` (60 to 90 %), `heavy` (20 to 60 %), `cut` by the image's border. Objects
with fewer than 100 pixels are left out. A pair has the situations of both objects, and the lesser
visibility; gaps under 10 mm are left out.

Prints the tables of `scoring` and one line of JSON. The seed of a held-out folder must be one that
nothing was tuned on: for geometry scenes 1701 is the seed to develop with and 2702 is held out, of
which only the totals may be looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # `training` and `benchmarks`

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.real_frames import up_of
from benchmarks.scoring import Answer, document, print_scores
from sdvlm_core.answer import without_nan
from sdvlm_core.frame import Region
from sdvlm_core.geometry.measure import measure_region
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import measure_pair
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.geometry.sensor_noise import sensor_noise
from sdvlm_core.geometry.uncertainty import UNKNOWN
from training.simulate.frames import (
    SimulatedFrame,
    read_frames,
    rgbd_frame,
    stored_gaps,
    up_in_camera,
)

VISIBILITIES = ("clear", "part", "heavy", "cut")
#: Smaller gaps are left out: touching things have no gap to measure.
_MIN_GAP_M = 0.01
#: A gap under 0.06 m is right within this, or within a quarter of it; metres.
_GAP_TOLERANCE_M, _GAP_TOLERANCE_FRACTION = 0.01, 0.25
#: Objects with fewer pixels or a smaller visible fraction are left out.
_MIN_PIXELS, _MIN_VISIBLE_FRACTION = 100, 0.2


def visibility(entry: dict[str, Any]) -> str:
    """The visibility group of an object of the scene graph: one of VISIBILITIES."""
    if entry["truncated"]:
        return "cut"
    visible = entry["visible_fraction"]
    return "clear" if visible > 0.9 else "part" if visible > 0.6 else "heavy"


def read_answers(directory: Path, limit: int, up: str | None = None) -> Iterator[Answer]:
    """Measure every object and pair of the first frames of a folder.

    up: the frames whose up vector is known: None, "turned" (by more than 45 degrees) or "all".
    """
    frames = read_frames(directory, limit)
    for frame in track(frames, str(directory), total=limit, console=Console(stderr=True)):
        found, name = list(_measured(frame, up)), f"{directory.name}/{frame.scene}"
        for entry, one in found:
            yield from _object_answers(entry, one, name)
        gaps = stored_gaps(frame)
        for a, b in combinations(found, 2):
            yield from _pair_answers(a, b, gaps[a[0]["instance"], b[0]["instance"]], name)


def _measured(frame: SimulatedFrame, up: str | None) -> Iterator[tuple[dict[str, Any], Measured]]:
    """Every object of a frame that has enough pixels, with its measurement."""
    rng = np.random.default_rng(frame.scene)
    known = {"upright_in_camera": up_in_camera(frame)}
    vector = up_of(known, up == "turned") if up else None
    scene = open_scene(replace(rgbd_frame(frame), up=vector))
    for entry in frame.objects:
        if (
            entry["visible_pixels"] < _MIN_PIXELS
            or entry["visible_fraction"] < _MIN_VISIBLE_FRACTION
        ):
            continue
        x1, y1, x2, y2 = entry["box_xyxy"]
        out = rng.uniform(0, 0.1, 4) * [x2 - x1, y2 - y1, x2 - x1, y2 - y1]
        box = (x1 - out[0], y1 - out[1], x2 + out[2], y2 + out[3])
        noise = sensor_noise(entry.get("sensor", "simulated"))
        yield entry, measure_region(scene, Region(entry["category"], box=box), noise)


def _situations(*entries: dict[str, Any]) -> tuple[str, ...]:
    worst = max(map(visibility, entries), key=VISIBILITIES.index)
    named = [name for entry in entries for name in entry.get("situation", ())]
    return tuple(dict.fromkeys((worst, *named)))


def _object_answers(entry: dict[str, Any], one: Measured, frame: str) -> Iterator[Answer]:
    longest = "length_m" if one.length_m >= one.height_m else "height_m"
    for kind, truth, key in (
        ("height", entry["height_m"], "height_m"),
        ("length", entry["length_m"], "length_m"),
        ("width", entry["width_m"], "width_m"),
        ("size", max(entry["length_m"], entry["height_m"]), longest),
        ("camera_distance", float(np.linalg.norm(entry["centre_camera_m"])), "camera_distance_m"),
    ):
        yield Answer(
            type=kind,
            situations=_situations(entry),
            truth=truth,
            value=getattr(one, key),
            spread=one.spreads.get(key, UNKNOWN),
            tolerance=0.0,
            warnings=frozenset(
                one.distance_warnings if kind == "camera_distance" else one.warnings
            ),
            frame=frame,
            about=entry["category"],
        )


def _pair_answers(
    first: tuple[dict[str, Any], Measured],
    second: tuple[dict[str, Any], Measured],
    gap: float,
    frame: str,
) -> Iterator[Answer]:
    """The answers of two objects with their true gap, metres."""
    (entry_a, a), (entry_b, b) = first, second
    pair = measure_pair(a, b)
    apart = np.subtract(entry_a["centre_camera_m"], entry_b["centre_camera_m"])
    for kind, truth in (("distance", float(np.linalg.norm(apart))), ("gap", gap)):
        if kind == "gap" and gap <= _MIN_GAP_M:
            continue
        yield Answer(
            type=kind,
            situations=_situations(entry_a, entry_b),
            truth=truth,
            value=getattr(pair, f"{kind}_m"),
            spread=getattr(pair, f"{kind}_spread"),
            tolerance=max(_GAP_TOLERANCE_M, _GAP_TOLERANCE_FRACTION * truth),
            warnings=frozenset(pair.distance_warnings if kind == "distance" else pair.warnings),
            frame=frame,
            about=f"{entry_a['category']} - {entry_b['category']}",
        )


def main() -> None:
    """Measure the frames of the folders."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "directories", type=Path, nargs="+", metavar="DIR", help="output of training.simulate"
    )
    parser.add_argument("--held-out", type=Path, nargs="+", default=[], metavar="DIR")
    parser.add_argument(
        "--up",
        nargs="?",
        const="turned",
        choices=("turned", "all"),
        help="give up where the frame is turned by more than 45 degrees, or in all",
    )
    parser.add_argument("--frames", type=int, default=500, help="maximum of each folder")
    arguments = parser.parse_args()
    splits: dict[str, Sequence[Answer]] = {
        name: [
            one
            for folder in folders
            for one in read_answers(folder, arguments.frames, arguments.up)
        ]
        for name, folders in (
            ("develop", arguments.directories),
            ("held-out", arguments.held_out),
        )
        if folders
    }
    print_scores(splits, Console(width=150))
    print(json.dumps(without_nan(document(splits)), allow_nan=False))


if __name__ == "__main__":
    main()
