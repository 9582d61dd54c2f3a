"""Runs the builder on a folder of scans, and checks every row it writes against the rooms.

The builder is run as its users run it, as a command. Rows are read with pyarrow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from tests.training.scenes.sentences import Unread, read
from tests.training.scenes.solids import Thing
from tests.training.scenes.truth import View, view_of, wrong, wrong_node

#: The types of questions that are checked.
TYPES = frozenset(
    {
        "absolute_distance",
        "count",
        "existence",
        "grounding",
        "refer_obj_estimation",
        "relative_position",
        "scale_compare",
        "scale_estimation",
    }
)

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class Truth:
    """The things of a scan, and the pose of each view by the row's `view` (its last part)."""

    things: list[Thing]
    poses: dict[str, np.ndarray]


@dataclass(frozen=True)
class Built:
    """What a run left: exit status, what it printed, rows, manifest (None if there is none)."""

    status: int
    output: str
    rows: list[dict]
    manifest: dict | None


def build(out: Path, *, scannet: Path | None = None, scannetpp: Path | None = None,
          style: str = "metric", per_type: int = 12, check: bool = False) -> Built:  # fmt: skip
    """Runs `python -m training.build` in one process."""
    command = [sys.executable, "-m", "training.build", "--out", str(out), "--style", style]
    command += ["--per-type", str(per_type), "--workers", "1"]
    command += ["--scannet", str(scannet)] if scannet else []
    command += ["--scannetpp", str(scannetpp)] if scannetpp else []
    done = _run(command)
    if check and done.returncode == 0:
        done = _run([sys.executable, "-m", "training.build.check", str(out)])
    rows = [row for f in sorted(out.glob("*.parquet")) for row in pq.read_table(f).to_pylist()]
    found = out / "manifest.json"
    manifest = json.loads(found.read_text()) if found.exists() else None
    return Built(done.returncode, done.stdout + done.stderr, rows, manifest)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=1200
    )


def view_of_row(row: dict, truth: Truth) -> View:
    """The view that a row is about, with the pose of the truth and the row's intrinsics."""
    k = row["intrinsics"]
    k = json.loads(k) if isinstance(k, str) else k
    matrix = np.array([[k["fx"], 0, k["cx"]], [0, k["fy"], k["cy"]], [0, 0, 1]])
    pose = truth.poses[row["view"].split("/")[-1].split(".")[0]]
    return view_of(truth.things, pose, int(k["width"]), int(k["height"]), matrix)


def turns(row: dict) -> list[tuple[str, str, str]]:
    """Question, answer and type of every turn of a row."""
    said = row["conversations"]
    said = json.loads(said) if isinstance(said, str) else said
    kinds = row["type"]
    pairs = zip(said[::2], said[1::2], kinds, strict=True)
    return [(q["value"], a["value"], kind) for q, a, kind in pairs]


def _pixels(data) -> np.ndarray:
    data = data["bytes"] if isinstance(data, dict) else data
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def wrong_pixels(row: dict, view: View) -> list[str]:
    """Where pose, picture and depth of a row are not those of its view."""
    found = []
    pose = np.array(row["camera_to_world"]).reshape(4, 4)
    if not np.allclose(pose, view.pose, atol=2e-3):
        found.append(
            f"{row['view']}: camera_to_world differs by {np.abs(pose - view.pose).max():.3f}"
        )
    image = _pixels(row["image"])[..., ::-1].astype(float)
    if image.shape[:2] != (view.height, view.width):
        return [*found, f"image is {image.shape}, intrinsics say {view.width}x{view.height}"]
    sky = view.picture.things >= 0
    difference = np.abs(image - view.picture.colour).mean(-1)[sky]
    if np.median(difference) > 30:
        found.append(f"median colour difference {np.median(difference):.0f}")
    depth = _pixels(row["depth"]).astype(float) / 1000
    if depth.shape == view.picture.depth.shape:
        both = (depth > 0) & sky
        off = np.abs(depth - view.picture.depth)[both]
        if both.mean() < 0.2 or np.median(off) > 0.02:
            found.append(f"depth: {both.mean():.2f} valid, median off by {np.median(off):.3f} m")
    return found


def wrong_turns(row: dict, view: View, said: list[tuple[str, str, str]]) -> list[str]:
    """Every turn of `said` that is not true of the row's view, or that was not understood."""
    found = []
    for question, answer, kind in said:
        text = f"{question.replace('<image>', '').strip()} | {answer}"
        try:
            claims = read(question, answer)
        except Unread as error:
            found.append(f"{row['view']}: not understood: {text} ({error})")
            continue
        for claim in claims:
            why = wrong(claim, view, kind)
            if why:
                found.append(f"{row['view']}: {text} -- {why}")
                break
    return found


def wrong_nodes(row: dict, view: View) -> list[str]:
    """Every object of the scene graph of a row that is not a thing of the view."""
    graph = json.loads(row["scene_graph"])
    objects = [node for node in graph if node["instance"]]  # 0: surfaces without an annotation
    reasons = ((node["label"], wrong_node(node, view)) for node in objects)
    return [f"{row['view']}: object {label}: {why}" for label, why in reasons if why]


def wrong_rows(rows: list[dict], truths: dict[str, Truth], types: frozenset[str]) -> list[str]:
    """All that is wrong in the rows' pictures, scene graphs and turns of `types`."""
    found = []
    for row in rows:
        view = view_of_row(row, truths[row["scene"]])
        said = [turn for turn in turns(row) if turn[2] in types]
        texts = [*wrong_pixels(row, view), *wrong_nodes(row, view), *wrong_turns(row, view, said)]
        found += [f"{row['scene']} {text}" for text in texts]
    return found
