"""MSMU conversations in any released form, or in our own shards -> samples.

Reads our shards (`schemas.CONVERSATIONS`) and the three schemas of the release: Parquet with base64
images; Arrow of `save_to_disk` with conversations as text; Parquet with conversations as lists and
a type column. Does not know what a question or an answer means.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics
from training.data.images import Rgb, decode_plane, decode_rgb
from training.data.tables import Row, parse_text, read_rows, row_errors, table_files

_SPLITS = ("train", "val", "test")
_CHANNELS = {"RGB": 3, "RGBA": 4, "L": 1}


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its conversation.

    Attributes:
        rgb: (H, W, 3) uint8.
        turns: (question, answer) pairs, without the marker <image> and surrounding white space.
        types: one per turn; () where the source has none.
        depth_mm: (H, W) uint16, 0 = no reading; None = the source has none.
        intrinsics: None = unknown.
        scene_graph: entries of `training.build.graph`; () = none.
        thoughts: (question, reasoning that ends in the answer); only accepted ones.
    """

    rgb: Rgb
    turns: tuple[tuple[str, str], ...]
    types: tuple[str, ...]
    depth_mm: npt.NDArray[np.uint16] | None = None
    intrinsics: CameraIntrinsics | None = None
    scene_graph: tuple[dict[str, Any], ...] = ()
    thoughts: tuple[tuple[str, str], ...] = ()


def load(path: Path, split: str = "") -> Iterator[Sample]:
    """Samples of a folder or file, one at a time.

    Args:
        path: a .parquet or .arrow file, or a folder that holds such files at any depth.
        split: only files whose name, or the name of a folder between `path` and the file, contains
            it (train, test); "" = all files.

    Raises:
        ValueError: no file to read, or a row of unknown form; names the file and the row.
    """
    files = [path] if path.is_file() else table_files(path)
    files = [file for file in files if _of_split(file, path, split)]
    if not files:
        hint = f" of split {split} (use the split '' to read all files)" if split else ""
        raise ValueError(f"{path} holds no .parquet or .arrow files{hint}")
    for file in files:
        for number, row in enumerate(read_rows(file)):
            with row_errors(file, number):
                sample = _sample(row)
            yield sample


def _of_split(file: Path, path: Path, split: str) -> bool:
    """Whether the innermost name that contains a split contains this one.

    The innermost, because msmu_train may hold test files. `path` itself does not count, because it
    may hold every split.
    """
    parts = file.relative_to(path).parts or (file.name,)
    named = [part for part in parts if any(name in part for name in (*_SPLITS, split))]
    return bool(named) and split in named[-1]


def _sample(row: Row) -> Sample:
    turns = _turns(row["conversations"])
    kinds = row.get("type") or ()
    types = tuple([kinds] * len(turns) if isinstance(kinds, str) else kinds)
    if "image_base64" in row:
        return Sample(_from_base64(row), turns, types)
    rgb = decode_rgb(row["image"])
    if "scene_graph" not in row:
        return Sample(rgb, turns, types)
    depth = row.get("depth")
    return Sample(
        rgb,
        turns,
        types,
        decode_plane(depth) if depth else None,
        CameraIntrinsics.from_mapping(row["intrinsics"]),
        tuple(json.loads(row["scene_graph"])),
        tuple((item["question"], item["text"]) for item in row["thoughts"] if item["accepted"]),
    )


def _turns(stored: Any) -> tuple[tuple[str, str], ...]:
    """Question-answer pairs of a list of turns, of columns {from, value}, or of text of either."""
    if isinstance(stored, str):
        stored = parse_text(stored)
    if isinstance(stored, dict):
        pairs = zip(stored["from"], stored["value"], strict=True)
        stored = [{"from": speaker, "value": value} for speaker, value in pairs]
    turns = [(str(turn["from"]), str(turn["value"])) for turn in stored]
    if len(turns) % 2 or any(
        (first[0], second[0]) != ("human", "gpt")
        for first, second in zip(turns[::2], turns[1::2], strict=True)
    ):
        raise ValueError(f"turns must alternate human, gpt; found {[name for name, _ in turns]}")
    return tuple(
        (question.replace("<image>", "").strip(), answer)
        for (_, question), (_, answer) in zip(turns[::2], turns[1::2], strict=True)
    )


def _from_base64(row: Row) -> Rgb:
    """A base64 image: an encoded file, or raw pixels described by image_size and image_mode."""
    data = base64.b64decode(row["image_base64"], validate=True)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is not None:
        return np.ascontiguousarray(image[..., ::-1])
    width, height = (int(side) for side in row["image_size"])
    channels = _CHANNELS[row["image_mode"]]
    pixels = np.frombuffer(data, np.uint8).reshape(height, width, channels)
    return np.ascontiguousarray(np.repeat(pixels, 3, 2) if channels == 1 else pixels[..., :3])
