"""Time to rectify one 640x480 RGB-D frame, for every supported distortion model.

    python benchmarks/rectification.py
    python benchmarks/rectification.py --width 1280 --height 720

Prints the first frame, which computes the maps, and of the following frames the median, the median
of the processor time, and the best; then one JSON line. OpenCV uses one thread, as in the node's
worker. On a loaded machine the best round is more reliable than the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from sdvlm_core.camera.calibration import Calibration
from sdvlm_core.camera.rectification import rectify
from sdvlm_core.camera.settings import DEFAULT_SETTINGS
from sdvlm_core.frame import CameraIntrinsics

#: Limit of a frame after the first one, milliseconds.
LIMIT_MS = 4.0
ROUNDS = 100
#: Model and coefficients: a wide webcam, an Azure Kinect, a thin prism, a tilted sensor, a fisheye.
LENSES = {
    "no distortion": ("plumb_bob", (0.0,) * 5),
    "plumb_bob 5": ("plumb_bob", (-0.30, 0.10, 0.001, -0.0005, 0.0)),
    "rational_polynomial 8": (
        "rational_polynomial",
        (0.5285, -2.6227, 0.00077, -0.00026, 1.5226, 0.4076, -2.4436, 1.4469),
    ),
    "rational_polynomial 12": (
        "rational_polynomial",
        (-0.25, 0.06, 0.001, -0.001, 0.0, 0.01, 0.0, 0.0, 0.003, -0.001, -0.002, 0.001),
    ),
    "plumb_bob 14": (
        "plumb_bob",
        (-0.2, 0.05, 0.001, -0.001, 0.01, 0.01, 0, 0, 0.001, 0.0, -0.001, 0.0, 0.02, -0.015),
    ),
    "equidistant 4": ("equidistant", (-0.02, 0.03, -0.015, 0.002)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    arguments = parser.parse_args()
    width, height = arguments.width, arguments.height
    cv2.setNumThreads(1)
    random = np.random.default_rng(0)
    rgb = random.integers(0, 256, (height, width, 3), np.uint8)
    depth = np.linspace(0.6, 2.0, height, dtype=np.float32)[:, None].repeat(width, axis=1)
    depth[random.random(depth.shape) < 0.1] = np.nan
    focal = 0.75 * width
    k = CameraIntrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)
    found = {}
    for name, (model, coefficients) in LENSES.items():
        calibration = Calibration(k=k, model=model, coefficients=coefficients)
        walls, processor = [], []
        for _ in range(ROUNDS + 1):
            start, busy = time.perf_counter(), time.thread_time()
            rectify(rgb, depth, calibration, DEFAULT_SETTINGS)
            walls.append(1000 * (time.perf_counter() - start))
            processor.append(1000 * (time.thread_time() - busy))
        first, *others = walls
        found[name] = (
            first,
            statistics.median(others),
            statistics.median(processor[1:]),
            min(others),
        )
    table = Table(title=f"{width}x{height} RGB-D, load {os.getloadavg()[0]:.1f}", box=None)
    for title in ("lens", "first ms", "median ms", "processor ms", "best ms"):
        table.add_column(title)
    for name, values in found.items():
        table.add_row(name, *(f"{value:.2f}" for value in values))
    Console().print(table)
    worst = max(best for *_, best in found.values())
    names = ("first_ms", "median_ms", "processor_ms", "best_ms")
    lenses = {name: dict(zip(names, values, strict=True)) for name, values in found.items()}
    print(json.dumps({"limit_ms": LIMIT_MS, "worst_best_ms": worst, "lenses": lenses}))


if __name__ == "__main__":
    main()
