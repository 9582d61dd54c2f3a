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
from training.data.sources import DataFile, SourceError, files_of
from training.data.tables import Row, parse_text, read_rows, row_errors

_SPLITS = ("train", "val", "test")
_SUFFIXES = (".parquet", ".arrow")
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
        encoded: the file (JPEG, PNG) that `rgb` was decoded from; b"" = it was none.
    """

    rgb: Rgb
    turns: tuple[tuple[str, str], ...]
    types: tuple[str, ...]
    depth_mm: npt.NDArray[np.uint16] | None = None
    intrinsics: CameraIntrinsics | None = None
    scene_graph: tuple[dict[str, Any], ...] = ()
    thoughts: tuple[tuple[str, str], ...] = ()
    encoded: bytes = b""


def load(place: str | Path, split: str = "") -> Iterator[Sample]:
    """Samples of a folder or file, one at a time.

    Args:
        place: a .parquet or .arrow file, or a folder that holds such files at any depth; a local
            path, or a URL (`training.data.sources`).
        split: only files whose name, or the name of a folder between `place` and the file, contains
            it (train, test); "" = all files.

    Raises:
        ValueError: no file to read, or a row of unknown form; names the file and the row.
    """
    for file in split_files(place, split):
        for number, row in enumerate(read_rows(file)):
            with row_errors(file, number):
                sample = sample_of(row)
            yield sample


def split_files(place: str | Path, split: str) -> list[DataFile]:
    """The files that `load` reads, in its order.

    Raises:
        SourceError: there are none, or the place cannot be read.
    """
    files = [file for file in files_of(place, _SUFFIXES) if _of_split(file.name, split)]
    if not files:
        hint = f" of split {split} (use the split '' to read all files)" if split else ""
        raise SourceError(f"{place} holds no .parquet or .arrow files{hint}")
    return files


def _of_split(name: str, split: str) -> bool:
    """Whether the innermost part of a file's name that contains a split contains this one.

    The innermost, because msmu_train may hold test files. The place itself does not count, because
    it may hold every split.
    """
    named = [part for part in name.split("/") if any(one in part for one in (*_SPLITS, split))]
    return bool(named) and split in named[-1]


def sample_of(row: Row) -> Sample:
    """The sample of one row of any known form.

    Raises:
        KeyError, ValueError, TypeError: a row of unknown form, or a damaged image.
    """
    turns = _turns(row["conversations"])
    kinds = row.get("type") or ()
    types = tuple([kinds] * len(turns) if isinstance(kinds, str) else kinds)
    if "image_base64" in row:
        rgb, encoded = _from_base64(row)
        return Sample(rgb, turns, types, encoded=encoded)
    image = row["image"]
    rgb = decode_rgb(image)
    encoded = image if isinstance(image, bytes) else image["bytes"]
    if "scene_graph" not in row:
        return Sample(rgb, turns, types, encoded=encoded)
    depth = row.get("depth")
    return Sample(
        rgb,
        turns,
        types,
        decode_plane(depth) if depth else None,
        CameraIntrinsics.from_mapping(row["intrinsics"]),
        tuple(json.loads(row["scene_graph"])),
        tuple((item["question"], item["text"]) for item in row["thoughts"] if item["accepted"]),
        encoded,
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


def _from_base64(row: Row) -> tuple[Rgb, bytes]:
    """A base64 image: an encoded file, or raw pixels described by image_size and image_mode.

    Returns:
        The pixels, and the encoded file; b"" for raw pixels.
    """
    data = base64.b64decode(row["image_base64"], validate=True)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is not None:
        return np.ascontiguousarray(image[..., ::-1]), data
    width, height = (int(side) for side in row["image_size"])
    channels = _CHANNELS[row["image_mode"]]
    pixels = np.frombuffer(data, np.uint8).reshape(height, width, channels)
    return np.ascontiguousarray(np.repeat(pixels, 3, 2) if channels == 1 else pixels[..., :3]), b""
