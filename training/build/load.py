"""MSMU data in any of the forms it exists in -> samples.

Knows our own shards and the three schemas of the release: parquet with base64 pictures; Arrow of
`save_to_disk` with conversations as text; parquet with conversations as lists and a type column.
Does not know what the words mean.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sdvlm_core.frame import CameraIntrinsics

#: No conversation of the release is longer; a longer text is not parsed.
_MAX_TEXT = 1 << 20
_SPLITS = ("train", "val", "test")
_MODES = {"RGB": 3, "RGBA": 4, "L": 1}


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture with its conversation.

    Attributes:
        rgb: (H, W, 3) uint8.
        turns: (question, answer) pairs; the mark <image> and white space around it are taken off.
        types: of every turn; () where the source has none.
        depth_mm: (H, W) uint16, 0 = no reading; None = the source has none.
        intrinsics: None = unknown.
        scene_graph: entries of `graph`; () = none.
        thoughts: (question, reasoning that ends in the answer), only those that were accepted.
    """

    rgb: npt.NDArray[np.uint8]
    turns: tuple[tuple[str, str], ...]
    types: tuple[str, ...]
    depth_mm: npt.NDArray[np.uint16] | None = None
    intrinsics: CameraIntrinsics | None = None
    scene_graph: tuple[dict[str, Any], ...] = ()
    thoughts: tuple[tuple[str, str], ...] = ()


def load(path: Path, split: str = "") -> Iterator[Sample]:
    """Samples of a folder or file, one at a time.

    Args:
        path: a .parquet or .arrow file, or a folder with such (also in folders below).
        split: only files that say so (train, test) in their name, or in that of a folder between
            them and `path`; "" = all.

    Raises:
        ValueError: nothing to read, or a row of no known form; names the file and the row.
    """
    files = [path] if path.is_file() else sorted([*path.rglob("*.parquet"), *path.rglob("*.arrow")])
    files = [file for file in files if _of_split(file, path, split)]
    if not files:
        hint = f" of split {split} (with the split '' all files count)" if split else ""
        raise ValueError(f"{path} holds no .parquet or .arrow files{hint}")
    for file in files:
        for number, row in enumerate(_rows(file)):
            try:
                yield _sample(row)
            except (KeyError, TypeError, ValueError, SyntaxError, binascii.Error) as error:
                raise ValueError(f"{file}, row {number}: {error!r}") from error


def _of_split(file: Path, path: Path, split: str) -> bool:
    """Whether the innermost name that tells a split tells this one: msmu_train may hold test files.

    `path` itself does not count, for it holds whatever is in it.
    """
    parts = file.relative_to(path).parts or (file.name,)
    telling = [part for part in parts if any(name in part for name in (*_SPLITS, split))]
    return bool(telling) and split in telling[-1]


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".parquet":
        for batch in pq.ParquetFile(file).iter_batches(16):
            yield from batch.to_pylist()
        return
    with pa.memory_map(str(file)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            whole = pa.ipc.open_file(source)
            for index in range(whole.num_record_batches):
                yield from whole.get_batch(index).to_pylist()
            return
        for batch in reader:
            yield from batch.to_pylist()


def _sample(row: dict[str, Any]) -> Sample:
    turns = _turns(row["conversations"])
    kinds = row.get("type") or ()
    types = tuple([kinds] * len(turns) if isinstance(kinds, str) else kinds)
    if "image_base64" in row:
        return Sample(_from_base64(row), turns, types)
    rgb = _decoded(row["image"], cv2.IMREAD_COLOR)[..., ::-1]
    if "scene_graph" not in row:
        return Sample(np.ascontiguousarray(rgb), turns, types)
    depth = row.get("depth")
    return Sample(
        np.ascontiguousarray(rgb),
        turns,
        types,
        _decoded(depth, cv2.IMREAD_UNCHANGED) if depth else None,
        CameraIntrinsics.from_mapping(row["intrinsics"]),
        tuple(json.loads(row["scene_graph"])),
        tuple((said["question"], said["text"]) for said in row["thoughts"] if said["accepted"]),
    )


def _turns(stored: Any) -> tuple[tuple[str, str], ...]:
    """Conversations as a list of turns, as columns {from: [...], value: [...]}, or as text of one.

    Text is read as JSON or as Python literals, never evaluated.
    """
    if isinstance(stored, str):
        if len(stored) > _MAX_TEXT:
            raise ValueError(f"a conversation of {len(stored)} characters")
        try:
            stored = json.loads(stored)
        except json.JSONDecodeError:
            # As numpy and Python print it, with or without commas between the turns.
            stored = ast.literal_eval(stored.replace("}\n {", "}, {"))
    if isinstance(stored, dict):
        pairs = zip(stored["from"], stored["value"], strict=True)
        stored = [{"from": who, "value": value} for who, value in pairs]
    turns = [(str(turn["from"]), str(turn["value"])) for turn in stored]
    if len(turns) % 2 or any(
        (first[0], second[0]) != ("human", "gpt")
        for first, second in zip(turns[::2], turns[1::2], strict=True)
    ):
        raise ValueError(f"turns of {[who for who, _ in turns]}, not of human and gpt in turn")
    return tuple(
        (question.replace("<image>", "").strip(), answer)
        for (_, question), (_, answer) in zip(turns[::2], turns[1::2], strict=True)
    )


def _decoded(stored: Any, flags: int) -> Any:
    data = stored["bytes"] if isinstance(stored, dict) else stored
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError("a picture that does not decode")
    return image


def _from_base64(row: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """A base64 picture: a file of any format, or the bare pixels of image_size and image_mode."""
    data = base64.b64decode(row["image_base64"], validate=True)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is not None:
        return np.ascontiguousarray(image[..., ::-1])
    width, height = (int(side) for side in row["image_size"])
    channels = _MODES[row["image_mode"]]
    pixels = np.frombuffer(data, np.uint8).reshape(height, width, channels)
    return np.ascontiguousarray(np.repeat(pixels, 3, 2) if channels == 1 else pixels[..., :3])
