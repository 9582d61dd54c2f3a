"""Time of a measurement, stage by stage, on a 640x480 frame with five regions.

    python benchmarks/geometry.py
    python benchmarks/geometry.py --frame ../shared/realdata/ycb_realsense_1

Without --frame the frame is synthetic: a table with five boxes and noise, seen from above at 45
degrees. Prints the median of each stage and the load of the machine, then one JSON line. OpenCV and
BLAS use one thread, as in the node's worker. On a loaded machine, the processor time and the best
round are more reliable than the median.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import time
from collections import defaultdict
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from sdvlm_core.camera.image_files import read_frame
from sdvlm_core.frame import CameraIntrinsics, Region, RgbdFrame
from sdvlm_core.geometry.measure import measure_region
from sdvlm_core.geometry.pairs import measure_pair
from sdvlm_core.geometry.point_cloud import make_cloud
from sdvlm_core.geometry.scene import open_scene
from sdvlm_core.geometry.sensor_noise import sensor_noise

#: Boxes on the table: x, y of the centre of the base, half sizes x, y, height; metres.
BOXES = (
    (-0.30, -0.10, 0.06, 0.05, 0.12),
    (-0.10, 0.12, 0.05, 0.05, 0.20),
    (0.08, -0.08, 0.08, 0.04, 0.06),
    (0.26, 0.10, 0.04, 0.04, 0.15),
    (0.34, -0.14, 0.05, 0.07, 0.10),
)


def table_frame() -> tuple[RgbdFrame, list[Region]]:
    """A ray-cast table with five boxes: 640x480, 45 degrees down, 0.9 m away, with noise."""
    k = CameraIntrinsics(600.0, 600.0, 319.5, 239.5, 640, 480)
    v, u = np.mgrid[0 : k.height, 0 : k.width]
    ray = k.back_project(u, v, 1.0)
    half = np.sqrt(0.5)
    turn = np.array([[1.0, 0.0, 0.0], [0.0, -half, half], [0.0, -half, -half]])  # camera -> world
    eye, ray = np.array([0.0, -0.64, 0.64]), ray @ turn.T
    depth = np.where(ray[..., 2] < 0, -eye[2] / np.minimum(ray[..., 2], -1e-9), np.inf)
    owner = np.zeros(depth.shape, int)
    with np.errstate(divide="ignore", invalid="ignore"):
        for index, (x, y, hx, hy, height) in enumerate(BOXES, start=1):
            low, high = np.array([x - hx, y - hy, 0.0]), np.array([x + hx, y + hy, height])
            one, other = (low - eye) / ray, (high - eye) / ray
            enter = np.minimum(one, other).max(axis=-1)
            hit = (enter < np.maximum(one, other).min(axis=-1)) & (enter < depth)
            depth[hit], owner[hit] = enter[hit], index
    depth[depth > 6] = np.nan
    depth += np.random.default_rng(0).normal(0, 0.002, depth.shape)
    regions = []
    for index in range(1, len(BOXES) + 1):
        left, top, across, down = cv2.boundingRect((owner == index).astype(np.uint8))
        slack_x, slack_y = 0.08 * across, 0.08 * down
        box = (left - slack_x, top - slack_y, left + across + slack_x, top + down + slack_y)
        regions.append(Region(f"box {index}", box=box))
    rgb = np.full((k.height, k.width, 3), 128, np.uint8)
    return RgbdFrame(rgb, depth.astype(np.float32), k), regions


def real_frame(folder: Path) -> tuple[RgbdFrame, list[Region]]:
    """A folder in the format of real_frames.py, with its first five boxes."""
    known = json.loads((folder / "questions.json").read_text())
    frame = read_frame(folder / known["rgb"], folder / known["depth"], folder / "intrinsics.json")
    boxes = [(item["label"], item["bbox_xyxy"]) for item in known["objects"]][:5]
    return frame, [Region(label, box=tuple(map(float, box))) for label, box in boxes]


def main() -> None:
    """Time every stage; median over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--frame", type=Path, help="folder of a real frame")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    frame, regions = real_frame(arguments.frame) if arguments.frame else table_frame()
    noise = sensor_noise("realsense")
    spent: dict[str, list[float]] = defaultdict(list)
    for _ in range(arguments.rounds):
        marks = [time.perf_counter()]
        make_cloud(frame)
        marks.append(time.perf_counter())
        processor = time.thread_time()
        # A copy, because a frame is opened only once; it contains the time of another make_cloud.
        scene = open_scene(replace(frame))
        marks.append(time.perf_counter())
        found = [measure_region(scene, region, noise) for region in regions]
        marks.append(time.perf_counter())
        for a, b in combinations(found, 2):
            measure_pair(a, b)
        marks.append(time.perf_counter())
        cloud_s, opened_s, regions_s, pairs_s = (end - start for start, end in pairwise(marks))
        spent["back-projection"].append(1000 * cloud_s)
        spent["up and support planes"].append(1000 * (opened_s - cloud_s))
        spent["regions"].append(1000 * regions_s)
        spent["pairs"].append(1000 * pairs_s)
        spent["all"].append(1000 * (opened_s + regions_s + pairs_s))
        spent["all, processor time"].append(1000 * (time.thread_time() - processor))
    medians = {stage: statistics.median(times) for stage, times in spent.items()}
    table = Table(box=None)
    table.add_column("stage")
    table.add_column("median ms", justify="right")
    table.add_column("best ms", justify="right")
    for stage, median in medians.items():
        table.add_row(stage, f"{median:.1f}", f"{min(spent[stage]):.1f}")
    Console().print(table)
    size = f"{frame.width}x{frame.height}"
    print(f"{size}, {len(regions)} regions, 1 thread, load {os.getloadavg()[0]:.1f}")
    document = {
        stage.replace(",", "").replace("-", "_").replace(" ", "_"): round(ms, 2)
        for stage, ms in medians.items()
    }
    best = {name: round(min(spent[name]), 2) for name in ("all", "all, processor time")}
    print(
        json.dumps(
            {
                "size": size,
                "regions": len(regions),
                "median_ms": document,
                "best_ms": best["all"],
                "best_processor_ms": best["all, processor time"],
            }
        )
    )


if __name__ == "__main__":
    main()
