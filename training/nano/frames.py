"""Simulated frames -> arrays that nano trains on, computed once and stored beside the data.

Knows the supervision of the tower and the projector: the object that each image token shows. The
arrays are memory maps: any number of frames, shared by the training processes. Does not know
questions or models.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from sdvlm_core.model.backbones.clip_image import square_picture
from sdvlm_core.model.depth_encoding import pool
from sdvlm_core.model.image_tokens import SquareCanvas, square_tokens
from training.nano.architecture import CELLS, ENCODING, PICTURE
from training.simulate.catalogue import CATEGORIES, COLOURS
from training.simulate.frames import SimulatedFrame, read_frames, read_shard, rgbd_frame

MAX_OBJECTS = 8
#: A token shows an object that covers at least this share of its cell.
COVERED = 0.12
_FINE = 96  # side of the mask on which coverage is counted
#: Per object: category, colour, centre u v, box width and height (parts of the canvas),
#: log of length, width, height as they would appear in canvas units at the centre's depth,
#: X, Y, Z of the centre in metres, log of length, width, height in metres.
OBJECT_FIELDS = 15
_TOKENS = CELLS * CELLS
_MAX_GRAPH_BYTES = 8192
_FIELDS: dict[str, tuple[tuple[int, ...], Any]] = {
    "picture": ((PICTURE, PICTURE, 3), np.uint8),
    "coordinates": ((_TOKENS, 3), np.float32),
    "valid": ((_TOKENS,), np.bool_),
    "owner": ((_TOKENS,), np.uint8),
    "coverage": ((MAX_OBJECTS, _TOKENS), np.bool_),
    "objects": ((MAX_OBJECTS, OBJECT_FIELDS), np.float32),
    "focal": ((), np.float32),
    "pixels": ((), np.int32),
    "graphs": ((), f"S{_MAX_GRAPH_BYTES}"),
}
#: Folder of the arrays; `_DONE` has a 1 for every shard that is in them.
_FOLDER, _DONE = "prepared", "done.npy"


@dataclass(frozen=True, eq=False)
class TrainingFrames:
    """N frames as arrays.

    picture (N, 192, 192, 3) uint8; coordinates (N, 144, 3) float32 metres; valid (N, 144) bool;
    owner (N, 144) uint8: the object that covers most of the cell, 0 = none;
    coverage (N, 8, 144) bool; objects (N, 8, 15) float32, NaN rows = none;
    focal (N,) float32: focal length over canvas side; pixels (N,) int32: of the image;
    graphs: the scene graphs. A frame without any depth reading is valid nowhere.
    """

    picture: npt.NDArray[np.uint8]
    coordinates: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    owner: npt.NDArray[np.uint8]
    coverage: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.float32]
    focal: npt.NDArray[np.float32]
    pixels: npt.NDArray[np.int32]
    graphs: Sequence[list[dict[str, Any]]]

    def __len__(self) -> int:
        return len(self.graphs)

    def __getstate__(self) -> dict[str, Any]:
        """For another process: of a memory map the name of its file, not its content."""
        return {name: _portable(value) for name, value in vars(self).items()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _opened(value))


def _portable(value: Any) -> Any:
    """A memory map as its file; anything else as it is."""
    if not isinstance(value, np.memmap):
        return value
    file = Path(str(value.filename))
    assert np.load(file, mmap_mode="r").shape == value.shape, f"{file} is mapped in part"
    return file


def _opened(value: Any) -> Any:
    return np.load(value, mmap_mode="r") if isinstance(value, Path) else value


class _Graphs(Sequence[Any]):
    """Scene graphs (N,) stored as JSON bytes, parsed on access."""

    def __init__(self, stored: npt.NDArray[np.bytes_]) -> None:
        self._stored = stored

    def __getstate__(self) -> Any:
        return _portable(self._stored)

    def __setstate__(self, state: Any) -> None:
        self._stored = _opened(state)

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [json.loads(text) for text in self._stored[at]]
        return json.loads(self._stored[at])


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
        z = max(z, 0.1)  # the centre of a truncated object may be behind the camera
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


def _grid(frame: SimulatedFrame) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    if not frame.depth_mm.any():
        return np.zeros((_TOKENS, 3), np.float32), np.zeros(_TOKENS, bool)
    camera = rgbd_frame(frame)
    assert camera.depth is not None
    tokens = square_tokens(camera.width, camera.height, CELLS)
    grid = pool(camera.depth, frame.intrinsics, ENCODING, tokens)
    return grid.coordinates, grid.valid


def _arrays(frame: SimulatedFrame) -> dict[str, Any]:
    k = frame.intrinsics
    coordinates, valid = _grid(frame)
    coverage = _coverage(frame)
    owner = np.where(coverage.max(axis=0) >= COVERED, coverage.argmax(axis=0) + 1, 0)
    covered = coverage >= COVERED
    # A smaller object gets only the cell of which it covers the largest part.
    small = ~covered.any(axis=1) & (coverage.max(axis=1) > 0)
    covered[small, coverage.argmax(axis=1)[small]] = True
    graph = json.dumps(frame.objects, separators=(",", ":")).encode()
    if len(graph) > _MAX_GRAPH_BYTES:
        raise ValueError(f"the scene graph of frame {frame.scene} has {len(graph)} bytes")
    return {
        "picture": square_picture(frame.rgb, PICTURE),
        "coordinates": coordinates,
        "valid": valid,
        "owner": owner.astype(np.uint8),
        "coverage": covered,
        "objects": _object_rows(frame),
        "focal": np.float32(k.fx / max(k.width, k.height)),
        "pixels": np.int32(k.width * k.height),
        "graphs": graph,
    }


def _prepare(shard: Path, number: int, first: int) -> None:
    """Write shard number `number` into the arrays, from row `first` on."""
    folder = shard.parent / _FOLDER
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in _FIELDS}
    for at, frame in enumerate(read_shard(shard), start=first):
        for name, value in _arrays(frame).items():
            arrays[name][at] = value
    for array in arrays.values():
        array.flush()
    np.load(folder / _DONE, mmap_mode="r+")[number] = 1


def _allocate(folder: Path, counts: list[int]) -> None:
    """Empty arrays for shards of these sizes, unless they exist."""
    stored = folder / _DONE
    if stored.exists():
        frames = len(np.load(folder / "focal.npy", mmap_mode="r"))
        if (len(np.load(stored)), frames) == (len(counts), sum(counts)):
            return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, (shape, kind) in _FIELDS.items():
        np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", np.dtype(kind), (sum(counts), *shape)
        )
    np.save(stored, np.zeros(len(counts), np.uint8))


def prepare_shards(prepare: Callable[..., None], tasks: Sequence[tuple[Any, ...]]) -> None:
    """Call `prepare` with the arguments of each task; several tasks run in parallel processes."""
    if len(tasks) == 1:
        prepare(*tasks[0])
    elif tasks:
        context = multiprocessing.get_context("spawn")
        workers = min(os.cpu_count() or 1, len(tasks))
        # One thread each: the processes fill the cores.
        with ProcessPoolExecutor(
            workers, context, initializer=cv2.setNumThreads, initargs=(1,)
        ) as pool:
            done = pool.map(prepare, *zip(*tasks, strict=True))
            list(track(done, "preparing shards", len(tasks), console=Console(stderr=True)))


def load(directory: Path, limit: int | None = None) -> TrainingFrames:
    """Prepare (in parallel, once) and load the frames of a `training.simulate` folder.

    `limit`: maximum number of shards.
    """
    shards = sorted(directory.glob("shard-*.parquet"))[:limit]
    if not shards:
        read_frames(directory)  # raises, saying what to do
    counts = [pq.read_metadata(shard).num_rows for shard in shards]
    folder = directory / _FOLDER
    _allocate(folder, counts)
    firsts = np.cumsum([0, *counts[:-1]]).tolist()
    done = np.load(folder / _DONE)
    prepare_shards(
        _prepare,
        [
            (shard, number, first)
            for number, (shard, first) in enumerate(zip(shards, firsts, strict=True))
            if not done[number]
        ],
    )
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FIELDS}
    return TrainingFrames(**{**arrays, "graphs": _Graphs(arrays["graphs"])})
