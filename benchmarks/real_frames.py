"""Accuracy of `sdvlm measure` on real RGB-D frames with known answers.

    python benchmarks/real_frames.py ../shared/realdata ../shared/realdata2 --up
    python benchmarks/real_frames.py DIR --each             # prints every question too
    python benchmarks/real_frames.py DIR --split both       # both splits beside each other

A DIR holds folders, each with a colour image, a uint16 depth PNG, intrinsics.json and
questions.json: `objects[]` with `label` and `bbox_xyxy`, `questions[]` with `type`, `answer_m`,
`tolerance_m`, `targets`, `basis` and, where there is no box, `points_px`; optionally `depth_scale`
(metres per unit, else 0.001), `camera`, `situation` and `upright_in_camera`. Regions are those
boxes and points; measuring uses nothing else from these files, except the up vector with `--up`.

Prints the tables of `scoring` and one line of JSON. Reads the files; `sdvlm_core.geometry` does all
measuring. Frames that nothing was tuned on are in the held-out split.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # `benchmarks`

from rich.console import Console

from benchmarks.scoring import Answer, document, print_scores
from sdvlm_core.answer import without_nan
from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.frame import Region, RgbdFrame
from sdvlm_core.geometry.measure import measure_region
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.pairs import measure_pair
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.geometry.sensor_noise import sensor_noise
from sdvlm_core.geometry.uncertainty import UNKNOWN, Spread

#: Frames set aside on 2026-11-26, before anything was tuned on their batch. Every situation of the
#: batch is in both splits. Only their totals may be looked at.
HELD_OUT = frozenset(
    {
        "anygrasp_clutter",
        "arc_bin_scissors",
        "d435_ycb_clutter",
        "iphone_stool_portrait",
        "linemod_toys",
        "osd_test47",
        "primesense_overhead",
    }
)
#: The splits that each choice of `--split` prints.
SPLITS = {
    "develop": ("develop",),
    "held-out": ("held-out",),
    "both": ("develop", "held-out"),
    "all": ("all",),
}
QUESTIONS = ("height", "size", "width", "distance", "gap", "camera_distance")
#: Sources of true values that are those of the visible surface: the true centre lies up to half an
#: object deeper, so they do not show whether an error is within its std_dev.
VISIBLE_SURFACE = frozenset(
    {"mask_median_depth", "mask_points", "depth_points", "human_mask+depth", "opaque_twin_depth"}
)
#: Words of a camera's name, and the sensor preset of such a camera; the first match counts.
_CAMERAS = (
    ("azure", "azure_kinect"),
    ("d405", "d405"),
    ("l515", "l515"),
    ("kinect", "kinect"),
    ("xtion", "kinect"),
    ("primesense", "kinect"),
    ("carmine", "kinect"),
    ("nyu", "kinect"),
)
#: A frame is turned if up is farther than this from the top of the image, radians.
_TURNED = math.radians(45)


def sensor_of(known: dict[str, Any]) -> str:
    """The sensor preset of a frame, from its camera, or else from its source."""
    names = known.get("camera") or " ".join(
        str(known.get(key, "")) for key in ("source", "frame", "license")
    )
    return next((preset for word, preset in _CAMERAS if word in names.lower()), "realsense")


def regions_of(known: dict[str, Any]) -> dict[str, Region]:
    """A region per target: the object's box, or the first point in a question about it."""
    found = {
        item["label"]: Region(item["label"], box=tuple(map(float, item["bbox_xyxy"])))
        for item in known["objects"]
        if "bbox_xyxy" in item
    }
    for question in known["questions"]:
        for target, (u, v) in zip(question["targets"], question.get("points_px", []), strict=False):
            found.setdefault(target, Region(target, point=(float(u), float(v))))
    return found


def frame_of(folder: Path, known: dict[str, Any]) -> RgbdFrame:
    """The frame of a folder, without its up vector."""
    return read_frame(
        folder / known["rgb"],
        folder / known["depth"],
        folder / "intrinsics.json",
        known.get("depth_scale", 0.001),
    )


def up_of(known: dict[str, Any], only_turned: bool = False) -> tuple[float, float, float] | None:
    """The unit vector up of a folder; None if it is not known, or not wanted."""
    if "upright_in_camera" not in known:
        return None
    x, y, z = known["upright_in_camera"]
    size = math.hypot(x, y, z)
    if only_turned and -y > size * math.cos(_TURNED):
        return None
    return x / size, y / size, z / size


def measured_frame(folder: Path, known: dict[str, Any], up: str | None) -> dict[str, Measured]:
    """Measure every target of a folder, by label. `up`: None, "turned" or "all"."""
    vector = up_of(known, up == "turned") if up else None
    scene = open_scene(replace(frame_of(folder, known), up=vector))
    noise = sensor_noise(sensor_of(known))
    return {
        label: measure_region(scene, region, noise) for label, region in regions_of(known).items()
    }


def answers(known: dict[str, Any], found: dict[str, Measured]) -> Iterator[Answer]:
    """The questions of one folder that a measurement can answer."""
    for question in known["questions"]:
        kind, basis, targets = question["type"], question["basis"], question["targets"]
        if kind not in QUESTIONS or not all(target in found for target in targets):
            continue
        chosen = [found[target] for target in targets]
        distance = kind == "camera_distance"
        warnings = chosen[0].distance_warnings if distance else chosen[0].warnings
        if kind in ("distance", "gap"):
            pair = measure_pair(*chosen)
            warnings = pair.distance_warnings if kind == "distance" else pair.warnings
            value, spread = (
                (pair.distance_m, pair.distance_spread)
                if kind == "distance"
                else (pair.gap_m, pair.gap_spread)
            )
        else:
            value, spread = _single(kind, basis, chosen[0])
        yield Answer(
            type=kind,
            situations=tuple(question.get("situation") or ("plain",)),
            truth=question["answer_m"],
            value=value,
            spread=spread,
            tolerance=question.get("tolerance_m", math.nan),
            warnings=frozenset(warnings),
            independent=basis not in VISIBLE_SURFACE,
            frame=known["frame"],
            about=f"{' - '.join(targets)} ({basis})",
        )


def read_answers(
    directories: Sequence[Path], split: str, up: str | None = None
) -> Iterator[Answer]:
    """The answers of every folder of one split; `up` as for `measured_frame`.

    Raises:
        ValueError: a directory holds no folder with a questions.json.
    """
    for directory in directories:
        folders = sorted(path.parent for path in directory.glob("*/questions.json"))
        if not folders:
            raise ValueError(f"{directory} holds no folder with a questions.json")
        for folder in folders:
            if split != "all" and (folder.name in HELD_OUT) != (split == "held-out"):
                continue
            known = json.loads((folder / "questions.json").read_text())
            yield from answers(known, measured_frame(folder, known, up))


def _single(kind: str, basis: str, one: Measured) -> tuple[float, Spread]:
    """The measured value for a question about one object, and its error."""
    # "size" is the longest side of a product, but the longest horizontal side of a drawn box.
    taller = one.height_m > one.length_m and basis != "sunrgbd_3dbox"
    key = {
        # The true height of a stacked object in these frames starts at the table.
        "height": "top_above_support_m" if basis.endswith("+table_plane") else "height_m",
        "width": "width_m",
        "camera_distance": "camera_distance_m",
        "size": "height_m" if taller else "length_m",
    }[kind]
    value = getattr(one, key)
    if kind == "camera_distance" and basis == "mask_median_depth":
        value = one.position_m[2]  # this basis is along the optical axis
    return value, one.spreads.get("height_m" if kind == "height" else key, UNKNOWN)


def _line(answer: Answer) -> str:
    low, high = answer.spread.interval_90(answer.value)
    mark = " " if answer.right else "w" if answer.warnings else "x"
    inside = " " if answer.covered else "*" if answer.covered_90 else "!"
    codes = " ".join(sorted(code.value for code in answer.warnings))
    return (
        f"{mark}{inside} {answer.type} {answer.frame} {answer.about}: {answer.value:.4f} "
        f"± {answer.spread.std_dev:.4f} [{low:.3f} {high:.3f}], true {answer.truth:.4f} {codes}"
    )


def main() -> None:
    """Score every folder of the directories."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--split", choices=SPLITS, default="develop")
    parser.add_argument(
        "--up",
        nargs="?",
        const="turned",
        choices=("turned", "all"),
        help="use upright_in_camera where the frame is turned by more than 45 degrees, or in all",
    )
    parser.add_argument(
        "--each",
        action="store_true",
        help="print every question: x = silently wrong, w = wrong with a warning; the true value "
        "is outside one std_dev (*) or outside the 90 %% interval (!)",
    )
    arguments = parser.parse_args()
    if arguments.each and arguments.split != "develop":
        parser.error(f"--each prints single answers, and --split {arguments.split} holds some back")
    console = Console(width=150)
    splits: dict[str, Sequence[Answer]] = {}
    for split in SPLITS[arguments.split]:
        try:
            splits[split] = list(read_answers(arguments.directories, split, arguments.up))
        except ValueError as error:
            parser.error(str(error))
    if arguments.each:
        for answer in splits["develop"]:
            console.print(_line(answer), markup=False, highlight=False, soft_wrap=True)
    print_scores(splits, console)
    print(json.dumps(without_nan(document(splits)), allow_nan=False))


if __name__ == "__main__":
    main()
