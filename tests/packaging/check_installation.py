"""Does an installed sdvlm measure? `make test-wheel` runs this file in an empty environment.

Renders the simulated table, measures it with the installed `sdvlm`, and compares the heights with
the truth. Uses no module of the checkout: it runs isolated (`python -I`), in another directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

import sdvlm_core
from sdvlm_core import tabletop

_TOLERANCE_M = 0.005


def write_frame(folder: Path) -> list[str]:
    """Write colour, depth and intrinsics; the options of `sdvlm measure` that name them."""
    rgb, depth, _ = tabletop.render()
    cv2.imwrite(str(folder / "rgb.png"), rgb[..., ::-1])
    stored = tabletop.sensor_depth_mm(depth, np.random.default_rng(0))
    cv2.imwrite(str(folder / "depth.png"), stored)
    (folder / "k.json").write_text(json.dumps(asdict(tabletop.INTRINSICS)), encoding="utf-8")
    files = {"--rgb": "rgb.png", "--depth": "depth.png", "--intrinsics": "k.json"}
    return [text for option, name in files.items() for text in (option, str(folder / name))]


def main() -> int:
    """Measure once; exit status 0 if every height is right."""
    with tempfile.TemporaryDirectory() as name:
        command = [str(Path(sys.executable).with_name("sdvlm")), "measure", "--json"]
        command += ["--sensor", "simulated", *write_frame(Path(name))]
        for label, box in tabletop.boxes().items():
            command += ["--region", f"{label}={','.join(map(str, box))}"]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured = {region["label"]: region["height_m"] for region in json.loads(run.stdout)["regions"]}
    wrong = 0
    for thing in tabletop.TABLE:
        height, truth = measured[thing.name], thing.size[2]
        print(f"{thing.name}: {height:.3f} m, true height {truth:.3f} m")
        wrong += not abs(height - truth) <= _TOLERANCE_M
    print(f"sdvlm {sdvlm_core.__version__} in {Path(sdvlm_core.__file__).parent}: {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
