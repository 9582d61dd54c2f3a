"""Write the frame of the tutorial and its pictures: `python docs/table/make.py`.

Renders the simulated table of `sdvlm_core.tabletop` and reads its depth with the noise of the
sensor preset `simulated` (seed 0). Writes rgb.png, depth.png and intrinsics.json, a picture of the
depth, and what `sdvlm measure --draw` draws. Knows nothing of how things are measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[2]))  # the checkout may not be installed

from sdvlm_core import tabletop

HERE = Path(__file__).parent


def depth_picture(millimetres: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Depth (H, W) in false colours (H, W, 3): red is near, blue is far."""
    near, far = np.percentile(millimetres, [1, 93])
    scaled = np.clip((far - millimetres.astype(float)) / (far - near), 0, 1)
    coloured = cv2.applyColorMap((255 * scaled).astype(np.uint8), cv2.COLORMAP_TURBO)
    return coloured.astype(np.uint8)


def main() -> None:
    """Write everything into this folder."""
    rgb, depth, _ = tabletop.render()
    millimetres = tabletop.sensor_depth_mm(depth, np.random.default_rng(0))
    cv2.imwrite(str(HERE / "rgb.png"), rgb[..., ::-1])
    cv2.imwrite(str(HERE / "depth.png"), millimetres)
    cv2.imwrite(str(HERE / "depth_coloured.jpg"), depth_picture(millimetres))
    intrinsics = json.dumps(asdict(tabletop.INTRINSICS))
    (HERE / "intrinsics.json").write_text(intrinsics + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "sdvlm_core.cli", "measure", "--sensor", "simulated"]
    for option, name in (("rgb", "rgb.png"), ("depth", "depth.png"), ("draw", "measured.jpg")):
        command += [f"--{option}", str(HERE / name)]
    command += ["--intrinsics", str(HERE / "intrinsics.json")]
    for label, box in tabletop.boxes().items():
        command += ["--region", f"{label}={','.join(map(str, box))}"]
    print(" ".join(command[3:]))
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
