"""Writes a small data set in the project's own form, for tests that do not need a scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.data.images import encode_jpeg, encode_png
from training.data.schemas import CONVERSATIONS
from training.data.tables import write_table


def row(number: int, turns: int = 3, width: int = 64, height: int = 48) -> dict:
    """One row: an image of noise, its depth, and `turns` questions."""
    rng = np.random.default_rng(number)
    rgb = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    depth = rng.integers(500, 4000, (height, width)).astype(np.uint16)
    words = []
    for turn in range(turns):
        words.append({"from": "human", "value": f"How tall is mug {turn}?"})
        words.append({"from": "gpt", "value": f"0.{number % 90 + 10} m."})
    k = {"fx": 60.0, "fy": 60.0, "cx": width / 2, "cy": height / 2}
    return {
        "image": {"bytes": encode_jpeg(rgb, 95), "path": f"{number}.jpg"},
        "conversations": words,
        "type": ["scale_estimation"] * turns,
        "depth": {"bytes": encode_png(depth), "path": f"{number}.png"},
        "intrinsics": {**k, "width": width, "height": height},
        "camera_to_world": np.eye(4).ravel().tolist(),
        "scene_graph": "[]",
        "thoughts": [],
        "source": "test",
        "scene": str(number),
        "view": "0",
    }


def write_data(folder: Path, rows: int, files: int = 2, start: int = 0, **options: int) -> Path:
    """Files train-00000.parquet, ... with `rows` rows each, in row groups of seven."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(files):
        numbers = range(start + file * rows, start + (file + 1) * rows)
        groups = (
            [row(number, **options) for number in numbers[at : at + 7]] for at in range(0, rows, 7)
        )
        write_table(folder / f"train-{start + file:05d}.parquet", groups, CONVERSATIONS, "zstd")
    return folder
