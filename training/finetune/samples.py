"""Conversations about images -> prepared samples on disk, computed once before training.

A sample has everything that a training step needs: token ids with their labels, the image, and the
depth of each image token. A step therefore does not tokenise, pool depth or run an estimator.

The image is the frame's own, compressed without loss and stored once for all of its conversations.
A step resizes it on the model's device (`Backbone.prepare`, the code of the engine). The result
instead would take up to 20 times the space (tiles in float32, Qwen's patches twice), and rounding
it to bytes needs the pixel layout of each family. For nano decoding and resizing 640x480 pixels is
1 % of a step on one core (docs/training.md); for a large model a GPU resizes.

Knows templates, image tokens and files; does not know optimisers.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.progress import track

from sdvlm_core.errors import DepthError
from sdvlm_core.files import atomic_file, read_json, write_json
from sdvlm_core.frame import RgbdFrame, depth_in_metres
from sdvlm_core.model.checkpoint import Checkpoint
from sdvlm_core.model.depth_encoding import EncodingSettings, pool
from sdvlm_core.model.prompt import Template, further_ids, prefix_ids, question_ids, reply_ids
from training.data.conversations import Sample, load

#: Label of a token that has no loss.
IGNORED = -100
_PART = 64  # images per file
_FORMAT = 2  # of the files; part of the digest
INDEX = "index.json"


@dataclass(frozen=True, eq=False)
class Prepared:
    """One sample: a conversation (or one of its turns) about one image.

    Attributes:
        ids: (T,) token ids.
        labels: (T,) the ids of answers and their end tokens; IGNORED elsewhere.
        rgb: (H, W, 3) uint8, the image.
        coordinates: (N, K) float32 of the N image tokens (`TokenDepth`).
        valid: (N,) whether a token has depth; N is 0 without a depth encoding.
    """

    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    rgb: npt.NDArray[np.uint8]
    coordinates: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]


def tokens_of(
    tokenizer: Any,
    form: Template,
    turns: tuple[tuple[str, str], ...],
    image_id: int,
    image_pieces: Sequence[str | int],
    max_length: int,
) -> tuple[list[int], list[int], int]:
    """(ids, labels, number of omitted turns) of a conversation.

    The first turn that exceeds `max_length`, and all turns after it, are omitted. The first
    question is tokenised exactly as in `FrameSession.ask`. Each further question follows the end
    token of the previous answer, as in the model's chat template.
    """
    ids = prefix_ids(tokenizer, form, image_id, image_pieces)
    labels = [IGNORED] * len(ids)
    for number, (question, answer) in enumerate(turns):
        ask = further_ids if number else question_ids
        asked = ask(tokenizer, form, question, image_id)
        reply = reply_ids(tokenizer, form, answer)
        if len(ids) + len(asked) + len(reply) > max_length:
            return ids, labels, len(turns) - number
        ids += [*asked, *reply]
        labels += [*([IGNORED] * len(asked)), *reply]
    return ids, labels, 0


@dataclass(frozen=True)
class Preparation:
    """The settings of a preparation.

    The digest of the settings and of the data is part of the folder name.
    """

    model: str
    encoding: EncodingSettings
    estimator: str
    turns: Literal["packed", "single"]
    max_length: int
    split: str
    preprocessor: Mapping[str, Any] = field(default_factory=dict)

    def digest(self, data: Path) -> str:
        """Digest of the settings and of the data's files (names, sizes)."""
        if data.is_file():
            files = [data]
        else:
            files = sorted([*data.rglob("*.parquet"), *data.rglob("*.arrow")])
        listed = [[file.name, file.stat().st_size] for file in files]
        whole = json.dumps([asdict(self), str(data.resolve()), listed, _PART, _FORMAT])
        return hashlib.sha256(whole.encode()).hexdigest()[:16]


def prepare(
    data: Path, out: Path, how: Preparation, checkpoint: Checkpoint, estimator: Any = None
) -> Path:
    """Write the samples of a data set under `out`, unless they exist; return their folder.

    Each file has the samples of 64 images and is written atomically. An interrupted preparation
    therefore resumes after the last complete file.

    Raises:
        DepthError: an image has no depth and there is no estimator (the message has the number of
            the image), or the encoding needs metric depth and the estimator is relative.
        ValueError: the data has no conversation to train on.
    """
    folder = out / f"samples-{how.digest(data)}"
    if (folder / INDEX).exists():
        return folder
    metres = how.encoding.kind in ("metric", "xyz")
    if metres and estimator is not None and estimator.source == "estimated_relative":
        raise DepthError(
            f"{how.encoding.kind} encoding needs metres, but the estimator {how.estimator} gives "
            "relative depth: set a metric estimator or the relative encoding"
        )
    folder.mkdir(parents=True, exist_ok=True)
    total = {"samples": 0, "turns_left_out": 0, "pictures_left_out": 0}
    lengths: list[list[int]] = []
    pictures = track(enumerate(load(data, how.split)), "preparing", console=Console(stderr=True))
    for part, members in groupby(pictures, lambda numbered: numbered[0] // _PART):
        path = _path(folder, part)
        if not path.exists():
            counts = dict.fromkeys(total, 0)
            rows = list(_rows(members, data, how, checkpoint, estimator, counts))
            _write(path, rows, counts)
        with pa.memory_map(str(path)) as source:
            stored = json.loads(pa.ipc.open_file(source).schema.metadata[_SUMMARY])
        lengths.append(stored["lengths"])
        total = {key: total[key] + stored[key] for key in total}
    if not total["samples"]:
        raise ValueError(f"{data} has no conversation to train on: {total}")
    write_json(folder / INDEX, {"how": asdict(how), **total, "lengths": lengths}, indent=None)
    return folder


def _rows(
    pictures: Iterable[tuple[int, Sample]],
    data: Path,
    how: Preparation,
    checkpoint: Checkpoint,
    estimator: Any,
    counts: dict[str, int],
) -> Iterator[dict[str, Any]]:
    model, backbone = checkpoint.model, checkpoint.backbone
    for number, sample in pictures:
        grid = None
        if how.encoding.kind != "none":
            frame = _frame(sample, number, data, estimator)
            assert frame.depth is not None
            try:
                pixels = backbone.token_pixels(frame.height, frame.width)
                grid = pool(frame.depth, frame.intrinsics, how.encoding, pixels, frame.depth_source)
            except DepthError:
                # An image without any depth reading cannot train the use of the depth code.
                counts["pictures_left_out"] += 1
                continue
        picture = _compressed(sample.rgb)
        groups = [sample.turns] if how.turns == "packed" else [(turn,) for turn in sample.turns]
        first = None  # the sample of this part that has the image
        for turns in groups:
            ids, labels, lost = tokens_of(
                checkpoint.tokenizer,
                checkpoint.prompt_template,
                turns,
                model.config.image_token_id,
                backbone.image_pieces(*sample.rgb.shape[:2]),
                how.max_length,
            )
            counts["turns_left_out"] += lost
            if lost == len(turns):
                continue
            first = counts["samples"] if first is None else first
            alone = first == counts["samples"]
            counts["samples"] += 1
            yield {
                "ids": ids,
                "labels": labels,
                "image_of": first,
                "picture": picture if alone else b"",
                "coordinates": grid.coordinates.tobytes() if grid and alone else b"",
                "valid": grid.valid.tobytes() if grid and alone else b"",
            }


def _frame(sample: Sample, number: int, data: Path, estimator: Any) -> RgbdFrame:
    if sample.depth_mm is not None:
        depth = depth_in_metres(sample.depth_mm, 0.001)
        return RgbdFrame(sample.rgb, depth, sample.intrinsics)
    if estimator is None:
        raise DepthError(
            f"image {number} of {data} has no depth (the released MSMU has none): set the key "
            "`estimator` to the directory of a depth estimator"
        )
    from sdvlm_core.model.depth_estimation import with_estimated_depth

    return with_estimated_depth(RgbdFrame(sample.rgb, None, sample.intrinsics), estimator)


def _compressed(rgb: npt.NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()


_SCHEMA = pa.schema(
    [
        ("ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("image_of", pa.int32()),  # the row with the image and its depth; rows of one share it
        ("picture", pa.binary()),
        ("coordinates", pa.binary()),
        ("valid", pa.binary()),
    ]
)


#: Metadata key of a file, for its counts and the length of each sample. Stored as "told".
_SUMMARY = b"told"


def _path(folder: Path, part: int) -> Path:
    return folder / f"part-{part:06d}.arrow"


def _write(path: Path, rows: list[dict[str, Any]], counts: dict[str, int]) -> None:
    summary = {**counts, "lengths": [len(row["ids"]) for row in rows]}
    schema = _SCHEMA.with_metadata({_SUMMARY: json.dumps(summary)})
    with (
        atomic_file(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for row in rows:
            writer.write_batch(pa.RecordBatch.from_pylist([row], schema=schema))


class Samples:
    """Prepared samples by number; the files are memory-mapped, so only used samples are read."""

    def __init__(self, folder: Path) -> None:
        document = read_json(folder / INDEX)
        parts: list[list[int]] = document["lengths"]
        self.lengths = [length for part in parts for length in part]
        self._starts = [0, *accumulate(map(len, parts))]
        self._folder = folder
        self._parts: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Prepared:
        part = bisect_right(self._starts, number) - 1
        if part not in self._parts:
            self._parts[part] = pa.ipc.open_file(pa.memory_map(str(_path(self._folder, part))))
        own = self._row(part, number - self._starts[part])
        image = self._row(part, own["image_of"])
        picture = cv2.imdecode(np.frombuffer(image["picture"], np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None, f"sample {number} of {self._folder} is damaged"
        valid = np.frombuffer(image["valid"], np.bool_)
        coordinates = np.frombuffer(image["coordinates"], np.float32)
        return Prepared(
            np.array(own["ids"], np.int64),
            np.array(own["labels"], np.int64),
            np.ascontiguousarray(picture[..., ::-1]),
            coordinates.reshape(len(valid), -1) if len(valid) else np.zeros((0, 1), np.float32),
            valid,
        )

    def _row(self, part: int, row: int) -> dict[str, Any]:
        stored: dict[str, Any] = self._parts[part].get_batch(row).to_pylist()[0]
        return stored
