"""Frames of a `training.simulate` folder -> arrays of every row, computed once, stored beside them.

Knows files; the inputs of a row are computed in `rows`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionModel

from sdvlm_core.files import atomic_file
from training.ablate.rows import ROWS, Row, inputs_of
from training.loop.checkpoints import write_tensors
from training.nano.frames import TrainingFrames, load, prepare_shards
from training.nano.tower import tower_features
from training.simulate.frames import read_shard, rgbd_frame


@dataclass(frozen=True, eq=False)
class RowData:
    """The training data of one row.

    frames: with the row's own coordinates and validity; features (N, 144, D) float16 of the colour
    images; pictures (N, 144, D) float16 of the depth images of `image`; metres (N, 16) of
    `prompt`.
    """

    frames: TrainingFrames
    features: torch.Tensor
    pictures: torch.Tensor | None
    metres: npt.NDArray[np.float32] | None


def _cache(shard: Path) -> Path:
    return shard.with_suffix(".rows.npz")


def _prepare(shard: Path) -> None:
    frames = [rgbd_frame(frame) for frame in read_shard(shard)]
    arrays: dict[str, list[npt.NDArray[np.generic]]] = {}
    for row in ROWS.values():
        for frame in frames:
            for key, value in vars(inputs_of(row, frame)).items():
                if value is not None:
                    arrays.setdefault(f"{row.name}.{key}", []).append(value)
    stacked = {key: np.stack(values) for key, values in arrays.items()}
    with atomic_file(_cache(shard)) as temporary, temporary.open("wb") as sink:
        np.savez(sink, allow_pickle=False, **stacked)


def prepare(directory: Path, tower: CLIPVisionModel) -> None:
    """Write the caches that `row_data` reads, unless they exist."""
    shards = sorted(directory.glob("shard-*.parquet"))
    prepare_shards(_prepare, [(shard,) for shard in shards if not _cache(shard).exists()])
    frames = load(directory)
    _features(directory / "colour.safetensors", tower, frames.picture)
    _features(directory / "depth.safetensors", tower, _stacked(directory, "image.picture"))


def _features(cache: Path, tower: CLIPVisionModel, pictures: npt.NDArray[np.uint8]) -> None:
    if not cache.exists():
        write_tensors(cache, {"features": tower_features(tower, pictures)})


def _stacked(directory: Path, key: str) -> npt.NDArray[Any]:
    """One array of all shards; its type is that of the key."""
    parts = []
    for cache in sorted(directory.glob("shard-*.rows.npz")):
        with np.load(cache, allow_pickle=False) as stored:
            parts.append(stored[key])
    return np.concatenate(parts)


def row_data(directory: Path, row: Row) -> RowData:
    """The data of a row, from the caches of `prepare`."""
    frames = load(directory)
    frames = replace(
        frames,
        coordinates=_stacked(directory, f"{row.name}.coordinates"),
        valid=_stacked(directory, f"{row.name}.valid"),
    )
    image, prompt = row.extra == "image", row.extra == "prompt"
    return RowData(
        frames,
        load_file(directory / "colour.safetensors")["features"],
        load_file(directory / "depth.safetensors")["features"] if image else None,
        _stacked(directory, f"{row.name}.metres") if prompt else None,
    )
