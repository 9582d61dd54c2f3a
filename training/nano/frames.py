"""Simulated frames -> arrays nano trains on, computed once per shard and kept beside the data.

Knows what the tower and the projector are supervised with: what each image token looks at. Does
not know questions or models.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from sdvlm_core.depth_encoding import EncodingSettings, pool
from sdvlm_core.image import SquareCanvas, square_picture
from training.simulate import read_frames, read_shard, rgbd_frame
from training.simulation.catalogue import CATEGORIES, COLOURS
from training.simulation.world import SimulatedFrame

PICTURE, CELLS, MAX_OBJECTS = 192, 12, 8
ENCODING = EncodingSettings(kind="xyz", gain=1.0, normalize_features=True)
#: A token looks at an object that covers at least this part of its cell.
COVERED = 0.12
_FINE = 96  # side of the mask the coverage is counted on
#: Per object: category, colour, centre u v, box width and height (parts of the canvas),
#: log of length, width, height as they would appear in canvas units at the centre's depth,
#: X, Y, Z of the centre in metres, log of length, width, height in metres.
OBJECT_FIELDS = 15
_names = ("picture", "coordinates", "valid", "owner", "coverage", "objects", "focal", "pixels")


@dataclass(frozen=True, eq=False)
class TrainingFrames:
    """N frames as arrays.

    picture (N, 192, 192, 3) uint8; coordinates (N, 144, 3) float32 metres; valid (N, 144) bool;
    owner (N, 144) uint8: the object most of whose cell it is, 0 = none;
    coverage (N, 8, 144) bool; objects (N, 8, 15) float32, NaN rows = none;
    focal (N,) float32: focal length over canvas side; pixels (N,) int32: of the image;
    graphs: the scene graphs.
    """

    picture: npt.NDArray[np.uint8]
    coordinates: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    owner: npt.NDArray[np.uint8]
    coverage: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.float32]
    focal: npt.NDArray[np.float32]
    pixels: npt.NDArray[np.int32]
    graphs: list[list[dict[str, Any]]]

    def __len__(self) -> int:
        return len(self.graphs)


def _coverage(frame: SimulatedFrame) -> npt.NDArray[np.float32]:
    """(8, 144): part of each cell that each object covers."""
    canvas = SquareCanvas(frame.intrinsics.width, frame.intrinsics.height)
    square = np.zeros((canvas.side, canvas.side), np.uint8)
    square[canvas.top : canvas.top + canvas.height, canvas.left : canvas.left + canvas.width] = (
        frame.instance
    )
    fine = cv2.resize(square, (_FINE, _FINE), interpolation=cv2.INTER_NEAREST)
    step = _FINE // CELLS
    blocks = fine.reshape(CELLS, step, CELLS, step)
    ids = np.arange(1, MAX_OBJECTS + 1).reshape(-1, 1, 1, 1, 1)
    return (blocks == ids).mean(axis=(2, 4)).reshape(MAX_OBJECTS, -1).astype(np.float32)


def _object_rows(frame: SimulatedFrame) -> npt.NDArray[np.float32]:
    rows = np.full((MAX_OBJECTS, OBJECT_FIELDS), np.nan, np.float32)
    k = frame.intrinsics
    side = max(k.width, k.height)
    for item in frame.objects:
        if not item["visible_pixels"]:
            continue
        x1, y1, x2, y2 = item["box_xyxy"]
        sides = [item["length_m"], item["width_m"], item["height_m"]]
        x, y, z = item["centre_camera_m"]
        z = max(z, 0.1)  # the centre of a thing that leaves the picture may be behind the camera
        rows[item["instance"] - 1] = [
            CATEGORIES.index(item["category"]),
            list(COLOURS).index(item["colour"]),
            *item["centre_uv"],
            (x2 - x1) / side,
            (y2 - y1) / side,
            *(math.log(size * k.fx / side / z) for size in sides),
            x,
            y,
            z,
            *(math.log(size) for size in sides),
        ]
    return rows


def _arrays(frame: SimulatedFrame) -> dict[str, Any]:
    camera = rgbd_frame(frame)
    assert camera.depth is not None
    k = frame.intrinsics
    grid = pool(camera.depth, k, ENCODING, CELLS)
    coverage = _coverage(frame)
    owner = np.where(coverage.max(axis=0) >= COVERED, coverage.argmax(axis=0) + 1, 0)
    covered = coverage >= COVERED
    # A thing smaller than that still has the cell it covers most.
    small = ~covered.any(axis=1) & (coverage.max(axis=1) > 0)
    covered[small, coverage.argmax(axis=1)[small]] = True
    return {
        "picture": square_picture(frame.rgb, PICTURE),
        "coordinates": grid.coordinates,
        "valid": grid.valid,
        "owner": owner.astype(np.uint8),
        "coverage": covered,
        "objects": _object_rows(frame),
        "focal": np.float32(k.fx / max(k.width, k.height)),
        "pixels": np.int32(k.width * k.height),
    }


def _prepare(shard: Path) -> Path:
    cache = shard.with_suffix(".npz")
    if cache.exists():
        return cache
    cv2.setNumThreads(1)
    frames = []
    for frame in read_shard(shard):
        # A frame whose depth has no reading at all teaches nothing about depth.
        if frame.depth_mm.any():
            frames.append(frame)
    rows = [_arrays(frame) for frame in frames]
    arrays = {name: np.stack([row[name] for row in rows]) for name in _names}
    arrays["graphs"] = np.array([json.dumps(frame.objects) for frame in frames])
    temporary = cache.with_suffix(".tmp.npz")
    np.savez(temporary, **arrays)
    temporary.replace(cache)
    return cache


def each_once(prepare: Callable[[Path], Path], shards: list[Path], suffix: str) -> list[Path]:
    """The cache of every shard, made in parallel where it is not there yet."""
    missing = [shard for shard in shards if not shard.with_suffix(suffix).exists()]
    if missing:
        context = multiprocessing.get_context("spawn")
        workers = min(os.cpu_count() or 1, len(missing))
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            list(track(pool.map(prepare, missing), "preparing shards", len(missing)))
    return [shard.with_suffix(suffix) for shard in shards]


def load(directory: Path, limit: int | None = None) -> TrainingFrames:
    """Prepare (in parallel, once) and load the frames of a `training.simulate` folder.

    `limit`: at most so many shards.
    """
    shards = sorted(directory.glob("shard-*.parquet"))[:limit]
    if not shards:
        read_frames(directory)  # raises, saying what to do
    caches = each_once(_prepare, shards, ".npz")
    parts: dict[str, list[Any]] = {name: [] for name in (*_names, "graphs")}
    for cache in caches:
        with np.load(cache, allow_pickle=False) as stored:
            for name in parts:
                parts[name].append(stored[name])
    graphs = [json.loads(text) for part in parts.pop("graphs") for text in part]
    return TrainingFrames(**{k: np.concatenate(v) for k, v in parts.items()}, graphs=graphs)
