"""Prepared samples on disk: their form, and reading them by number.

A sample has everything that a training step needs: token ids with their labels, the image, and the
depth of each image token. A step therefore does not tokenise, pool depth or run an estimator.

The image is the data's own file (JPEG or PNG), stored once for all of its conversations, so that
nothing is lost and little space is taken. A step decodes it and resizes it on the model's device
(`Backbone.prepare`, the code of the engine). The result instead would take up to 20 times the space
(tiles in float32, Qwen's patches twice), and rounding it to bytes needs the pixel layout of each
family. For nano decoding and resizing 640x480 pixels is 1 % of a step on one core
(docs/training.md); for a large model a GPU resizes.

Knows templates and files; does not know data sets (`prepare`) or optimisers.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sdvlm_core.files import atomic_file, read_json
from sdvlm_core.model.prompt import Template, further_ids, prefix_ids, question_ids, reply_ids

#: Label of a token that has no loss.
IGNORED = -100
#: In the folder of a prepared data set; written last.
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
        depth_source: of the depth, as in RgbdFrame; "" = none.
    """

    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    rgb: npt.NDArray[np.uint8]
    coordinates: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    depth_source: str = ""


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


_SCHEMA = pa.schema(
    [
        ("ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("depth_source", pa.string()),  # of RgbdFrame; "" without a depth encoding
        ("image_of", pa.int32()),  # the row with the image and its depth; rows of one share it
        ("picture", pa.binary()),
        ("coordinates", pa.binary()),
        ("valid", pa.binary()),
    ]
)


#: Metadata key of a piece, for its counts and the length of each sample. Stored as "told".
_SUMMARY = b"told"


def write_piece(path: Path, rows: Sequence[dict[str, Any]], counts: dict[str, int]) -> None:
    """Write the samples of some images in one step.

    Args:
        rows: with the keys of the schema; image_of is a number of a row of this piece.
        counts: kept with them (`summary_of`).
    """
    summary = {**counts, "lengths": [len(row["ids"]) for row in rows]}
    schema = _SCHEMA.with_metadata({_SUMMARY: json.dumps(summary)})
    with (
        atomic_file(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for row in rows:
            writer.write_batch(pa.RecordBatch.from_pylist([row], schema=schema))


def summary_of(path: Path) -> dict[str, Any]:
    """The counts of a piece, and `lengths`: the tokens of each sample."""
    with pa.memory_map(str(path)) as source:
        stored = pa.ipc.open_file(source).schema.metadata[_SUMMARY]
    return cast("dict[str, Any]", json.loads(stored))


class Samples:
    """Prepared samples by number; the files are memory-mapped, so only used samples are read.

    Args:
        folder: what `prepare.prepare` returns.
    """

    def __init__(self, folder: Path) -> None:
        document = read_json(folder / INDEX)
        parts: list[list[int]] = document["lengths"]
        self.lengths = [length for part in parts for length in part]
        self._starts = [0, *accumulate(map(len, parts))]
        self._folder = folder
        self._paths = [folder.parent / name for name in document["pieces"]]
        self._parts: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Prepared:
        part = bisect_right(self._starts, number) - 1
        if part not in self._parts:
            self._parts[part] = pa.ipc.open_file(pa.memory_map(str(self._paths[part])))
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
            own["depth_source"],
        )

    def _row(self, part: int, row: int) -> dict[str, Any]:
        stored: dict[str, Any] = self._parts[part].get_batch(row).to_pylist()[0]
        return stored
