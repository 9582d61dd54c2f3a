"""Conversations about images -> prepared samples on disk, computed once before training.

The work is cut into pieces of 64 images. A piece is named by what it is made of: the content of its
file, its first row, and the settings. It has the same bytes whoever makes it (up to the rounding of
a depth estimator's device), and appears whole.
Any number of processes and machines may therefore prepare one data set at once: those that share
the folder share the pieces (`training.data.claims`), the others make all of them. The data may have
moved, or have got further files: pieces that exist are used.

Knows templates, image tokens and rows; does not know how a piece is stored (`samples`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import track

from sdvlm_core.errors import DepthError
from sdvlm_core.files import write_json
from sdvlm_core.model.backbones.contract import Backbone
from sdvlm_core.model.checkpoint import Checkpoint
from sdvlm_core.model.depth_encoding import EncodingSettings, pool
from sdvlm_core.model.prompt import Template
from training.data.claims import write_all, write_once
from training.data.content import contents_of
from training.data.conversations import Sample, sample_of, split_files
from training.data.images import encode_png
from training.data.sources import DataFile
from training.data.tables import RowReader, row_errors
from training.finetune.depth_choice import Depth, DepthChoice
from training.finetune.samples import INDEX, summary_of, tokens_of, write_piece
from training.finetune.thoughts import with_thoughts
from training.processes import spawned_pool, terminate_workers

_PIECE_IMAGES = 64
_FORMAT = 4  # of the files; part of the digests
#: Pieces that a further process must have to do, because its start takes seconds.
_WORTH_A_PROCESS = 8
#: Of a piece: samples; turns and images left out; thoughts that became turns, and those left out;
#: images by the depth that they have.
_COUNTS = (
    *("samples", "turns_left_out", "pictures_left_out", "thoughts", "thoughts_left_out"),
    *("sensor", "estimated_relative", "estimated_metric"),
)


@dataclass(frozen=True)
class Preparation:
    """The settings of a preparation; their digest is part of the names of files."""

    model: str
    encoding: EncodingSettings
    estimator: str
    turns: Literal["packed", "single"]
    max_length: int
    split: str
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    depth: Depth = "sensor"
    thoughts: bool = False

    def digest(self, data: str | Path, out: Path) -> str:
        """Digest of the settings and of the content of the data's files, in order.

        Not of their names or places: the data may move.
        """
        contents = contents_of(split_files(data, self.split), out / _CONTENT)
        return _digest(
            [asdict(self), self.settings_digest(), [content.sha256 for content in contents]]
        )

    def settings_digest(self) -> str:
        """Digest of the settings that a piece depends on: not of the split, which selects files."""
        settings = {key: value for key, value in asdict(self).items() if key != "split"}
        return _digest([settings, _PIECE_IMAGES, _FORMAT])


_CONTENT = "content"


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]


def prepared_folder(out: Path, digest: str) -> Path:
    """The folder of the data set with a `Preparation.digest`; its INDEX exists when it is done."""
    return out / f"samples-{digest}"


@dataclass(frozen=True)
class _Piece:
    """Rows start to stop of a file -> the file `path`."""

    file: DataFile
    start: int
    stop: int
    path: Path


@dataclass(frozen=True, eq=False)
class _Maker:
    """What makes pieces: of a checkpoint all but the weights; it can be sent to a process."""

    how: Preparation
    tokenizer: Any
    template: Template
    backbone: Backbone
    image_id: int
    depth: DepthChoice
    readers: dict[str, RowReader] = field(default_factory=dict)

    def make(self, piece: _Piece) -> None:
        """Write a piece."""
        if piece.file.url not in self.readers:
            self.readers.clear()  # one open file is enough: pieces come in order
            self.readers[piece.file.url] = RowReader(piece.file)
        counts = dict.fromkeys(_COUNTS, 0)
        rows: list[dict[str, Any]] = []
        stored = self.readers[piece.file.url].rows(piece.start, piece.stop)
        for number, row in enumerate(stored, start=piece.start):
            with row_errors(piece.file, number):
                sample = sample_of(row)
            rows += self._samples(sample, f"image {number} of {piece.file}", counts)
        write_piece(piece.path, rows, counts)

    def _samples(
        self, sample: Sample, name: str, counts: dict[str, int]
    ) -> Iterator[dict[str, Any]]:
        """The samples of one image; the first of them has the image and its depth."""
        grid, source = None, ""
        if self.how.encoding.kind != "none":
            frame = self.depth.frame(sample, name)
            assert frame.depth is not None
            pixels = self.backbone.token_pixels(frame.height, frame.width)
            try:
                grid = pool(
                    frame.depth, frame.intrinsics, self.how.encoding, pixels, frame.depth_source
                )
            except DepthError:
                # An image without any depth reading cannot train the use of the depth code.
                counts["pictures_left_out"] += 1
                return
            source = frame.depth_source
            counts[source] += 1
        pieces = self.backbone.image_pieces(*sample.rgb.shape[:2])
        conversation = sample.turns
        if self.how.thoughts:
            told = with_thoughts(sample)
            conversation = told.turns
            counts["thoughts"] += told.thoughts
            counts["thoughts_left_out"] += told.left_out
        packed = self.how.turns == "packed"
        first = None
        for turns in [conversation] if packed else [(turn,) for turn in conversation]:
            ids, labels, lost = tokens_of(
                self.tokenizer, self.template, turns, self.image_id, pieces, self.how.max_length
            )
            counts["turns_left_out"] += lost
            if lost == len(turns):
                continue
            holds = first is None
            first = counts["samples"] if first is None else first
            counts["samples"] += 1
            yield {
                "ids": ids,
                "labels": labels,
                "image_of": first,
                "depth_source": source,
                "picture": (sample.encoded or encode_png(sample.rgb)) if holds else b"",
                "coordinates": grid.coordinates.tobytes() if grid and holds else b"",
                "valid": grid.valid.tobytes() if grid and holds else b"",
            }


def prepare(
    data: str | Path,
    out: Path,
    how: Preparation,
    checkpoint: Checkpoint,
    estimator: Any = None,
    processes: int | None = None,
) -> Path:
    """Write the samples of a data set under `out`, unless they exist; return their folder.

    Processes that call it at once with one `out` share the work. An interrupted preparation resumes
    after the last complete piece.

    Args:
        data: local path or URL (`training.data.sources`).
        estimator: of depth; it runs in this process.
        processes: how many of this machine work for this call; None = those of its share of the
            processors that have enough to do. With an estimator always one.

    Raises:
        DepthError: an image has no depth and there is no estimator (the message names the image),
            or the encoding needs metric depth and the estimator is relative.
        ValueError: the data has no conversation to train on, or cannot be read.
    """
    folder = prepared_folder(out, how.digest(data, out))
    if (folder / INDEX).exists():
        return folder
    _require_metres(how, estimator)
    maker = _Maker(
        how,
        checkpoint.tokenizer,
        checkpoint.prompt_template,
        checkpoint.backbone,
        checkpoint.model.config.image_token_id,
        DepthChoice(how.depth, estimator),
    )
    pieces = _pieces(data, out, how)
    missing = [piece for piece in pieces if not piece.path.exists()]
    workers = _workers(len(missing)) if processes is None else processes
    shown = partial(
        track, console=Console(stderr=True), disable=os.environ.get("LOCAL_RANK", "0") != "0"
    )
    if workers > 1 and estimator is None:
        made = _made_by_workers(missing, maker, workers)
        for _ in shown(made, "preparing", len(missing)):
            pass
    # After the workers only what another call has claimed is left.
    for _ in shown(_made(pieces, maker), "prepared", len(pieces)):
        pass
    folder.mkdir(exist_ok=True)
    index = _index(pieces, how, data)
    write_once(folder / INDEX, partial(write_json, folder / INDEX, index, None), wait=True)
    return folder


def _require_metres(how: Preparation, estimator: Any) -> None:
    metres = how.encoding.kind in ("metric", "xyz")
    if metres and estimator is not None and estimator.source == "estimated_relative":
        raise DepthError(
            f"{how.encoding.kind} encoding needs metres, but the estimator {how.estimator} gives "
            "relative depth: set a metric estimator or the relative encoding"
        )


def _pieces(data: str | Path, out: Path, how: Preparation) -> list[_Piece]:
    """The pieces of a data set, in order."""
    files = split_files(data, how.split)
    contents = contents_of(files, out / _CONTENT)
    folder = out / f"pieces-{how.settings_digest()}"
    folder.mkdir(parents=True, exist_ok=True)
    pieces = []
    for file, content in zip(files, contents, strict=True):
        for start in range(0, content.rows, _PIECE_IMAGES):
            stop = min(content.rows, start + _PIECE_IMAGES)
            name = _digest([content.sha256, start])
            pieces.append(_Piece(file, start, stop, folder / f"{name}.arrow"))
    return pieces


def _workers(missing: int) -> int:
    """Processes for so many pieces: this process's share of the machine, if they have work."""
    share = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(share, missing // _WORTH_A_PROCESS))


def _made(pieces: Sequence[_Piece], maker: _Maker) -> Iterator[Path]:
    return write_all([(piece.path, partial(maker.make, piece)) for piece in pieces])


_maker: _Maker


def _start_worker(maker: _Maker) -> None:
    global _maker
    _maker = maker


def _make_in_worker(piece: _Piece) -> Path:
    write_once(piece.path, partial(_maker.make, piece), wait=False)
    return piece.path


def _made_by_workers(pieces: Sequence[_Piece], maker: _Maker, workers: int) -> Iterator[Path]:
    """Make the pieces that nobody has claimed, in new processes."""
    pool = spawned_pool(workers, _start_worker, (maker,))
    try:
        tasks = [pool.submit(_make_in_worker, piece) for piece in pieces]
        for task in as_completed(tasks):
            yield task.result()
        pool.shutdown()
    except BaseException:
        terminate_workers(pool)
        raise


def _index(pieces: Sequence[_Piece], how: Preparation, data: str | Path) -> dict[str, Any]:
    summaries = [summary_of(piece.path) for piece in pieces]
    total = {key: sum(summary[key] for summary in summaries) for key in _COUNTS}
    if not total["samples"]:
        raise ValueError(f"{data} has no conversation to train on: {total}")
    return {
        "how": asdict(how),
        **total,
        "pieces": [f"{piece.path.parent.name}/{piece.path.name}" for piece in pieces],
        "lengths": [summary["lengths"] for summary in summaries],
    }
