"""`python benchmarks/prepare_pictures.py`: preparing pictures of a real size for fine-tuning.

Writes 2,000 rows of 1296x968 pixels (JPEG, depth, 28 turns) and prepares them for nano on 1 and on
2 processes of this machine. The results must have the same bytes. The pictures are parts of one
large random texture, whose JPEG files have the size of a photograph's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.own_settings import encoding_settings
from training.data.images import encode_jpeg, encode_png
from training.data.schemas import CONVERSATIONS
from training.data.tables import write_table
from training.finetune.prepare import Preparation, prepare

WIDTH, HEIGHT, TURNS = 1296, 968, 28
_PICTURES = 40


def _pictures() -> list[tuple[bytes, bytes]]:
    """Colour and depth files; rows repeat them, which saves the time of making more."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)
    texture = cv2.resize(coarse, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(-12, 12, texture.shape)
    texture = np.clip(texture + noise, 0, 255).astype(np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    found = []
    for number in range(_PICTURES):
        row, column = int(rng.integers(HEIGHT)), int(rng.integers(WIDTH))
        rgb = texture[row : row + HEIGHT, column : column + WIDTH]
        depth = (1500 + number + x // 3 + y // 2).astype(np.uint16)
        found.append((encode_jpeg(rgb, 95), encode_png(depth)))
    return found


def _rows(numbers: range, pictures: list[tuple[bytes, bytes]]) -> Iterator[list[dict[str, Any]]]:
    k = {"fx": 1170.0, "fy": 1170.0, "cx": 648.0, "cy": 484.0, "width": WIDTH, "height": HEIGHT}
    for number in numbers:
        jpeg, png = pictures[number % _PICTURES]
        turns = []
        for turn in range(TURNS):
            question = f"What is the distance between chair {turn} and the black table?"
            turns.append({"from": "human", "value": question})
            turns.append({"from": "gpt", "value": f"The distance is {number % 7}.{turn:02} m."})
        yield [
            {
                "image": {"bytes": jpeg, "path": f"{number}.jpg"},
                "conversations": turns,
                "type": ["absolute_distance"] * TURNS,
                "depth": {"bytes": png, "path": f"{number}.png"},
                "intrinsics": k,
                "camera_to_world": np.eye(4).ravel().tolist(),
                "scene_graph": "[]",
                "thoughts": [],
                "source": "benchmark",
                "scene": str(number),
                "view": "0",
            }
        ]


def _digest(out: Path) -> str:
    whole = hashlib.sha256()
    for file in sorted([*out.glob("samples-*/*"), *out.glob("pieces-*/*")]):
        whole.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()[:16]


def _gb(folder: Path) -> float:
    return round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e9, 3)


def main() -> None:
    """Print one line of JSON per preparation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--folder", type=Path, help="Where to work; default: a temporary folder.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        half, pictures = options.pictures // 2, _pictures()
        (folder / "data").mkdir()
        for file in range(2):
            rows = _rows(range(file * half, (file + 1) * half), pictures)
            write_table(folder / f"data/train-{file}.parquet", rows, CONVERSATIONS, "none")
        checkpoint = load("nano")
        for turns, processes in (("packed", 1), ("packed", 2), ("single", 2)):
            settings = encoding_settings(checkpoint.model.config)
            how = Preparation("nano", settings, "", turns, 6144, "train")
            out = folder / f"{turns}{processes}"
            start = time.perf_counter()
            prepare(folder / "data", out, how, checkpoint, processes=processes)
            seconds = time.perf_counter() - start
            figures = {
                "turns": turns,
                "processes": processes,
                "pictures": options.pictures,
                "seconds": round(seconds, 1),
                "data_gb": _gb(folder / "data"),
                "prepared_gb": _gb(out),
                "sha256": _digest(out),
                "load": round(os.getloadavg()[0], 1),
            }
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
