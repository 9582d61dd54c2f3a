"""A benchmark as one Parquet table with a row per question, for harnesses that read tables.

The table holds what a question is scored by, so that another harness marks answers with the judge
and the rules of `training.evaluate`. Depth is PNG, uint16 millimetres, 0 = no reading: depth that
is stored in millimetres keeps its value, estimated depth is rounded and ends at 65.5 m. A picture
is stored once for each of its questions. Does not know models, controls or harnesses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame, depth_in_metres
from sdvlm_core.model.depth_estimation import DepthEstimator, with_estimated_depth
from training.data.images import decode_plane, decode_rgb, encode_png
from training.data.tables import write_table
from training.evaluate.items import Benchmark, Item

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TEXTS = ("key", "frame", "type", "rule", "question", "answer", "reference", "asked")
_CAMERA = ("fx", "fy", "cx", "cy", "width", "height")
#: One question. reference, asked, intrinsics and types are JSON; number is that of the picture;
#: types and divisor are those of the benchmark's mean.
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("number", pa.int64()),
        ("rgb", _IMAGE),
        ("depth", _IMAGE),
        ("depth_source", pa.string()),
        ("intrinsics", pa.string()),
        ("types", pa.string()),
        ("divisor", pa.int64()),
    ]
)
_MAX_MM = 65535


def write_flat(
    benchmark: Benchmark,
    path: Path,
    limit: int | None = None,
    estimator: DepthEstimator | None = None,
) -> int:
    """Write the table; returns its number of questions.

    Args:
        limit: maximum number of pictures.
        estimator: for pictures without depth; None = they stay without.

    Raises:
        BenchmarkError, DepthError: a picture cannot be read, or its depth not be estimated.
    """
    written = 0

    def groups() -> Iterator[list[dict[str, Any]]]:
        nonlocal written
        for number, picture in enumerate(benchmark.pictures()):
            if limit is not None and number >= limit:
                return
            frame = picture.frame
            if frame.depth is None and estimator is not None:
                frame = with_estimated_depth(frame, estimator)
            shared = _frame_cells(frame) | {
                "frame": str(picture.key),
                "number": number,
                "types": json.dumps(benchmark.types),
                "divisor": benchmark.divisor,
            }
            rows = [_item_cells(item) | shared for item in picture.items]
            written += len(rows)
            yield rows

    write_table(path, groups(), SCHEMA, "none")
    return written


def item_of(row: Mapping[str, Any]) -> Item:
    """The question of a row, as the judge and the scoring rules need it."""
    reference = json.loads(row["reference"])
    asked = tuple(
        Asked(**{**one, "quantity": Quantity[one["quantity"]], "objects": tuple(one["objects"])})
        for one in json.loads(row["asked"])
    )
    if isinstance(reference, list):
        reference = tuple(reference)
    question, answer = str(row["question"]), str(row["answer"])
    return Item(row["key"], row["type"], row["rule"], question, answer, reference, asked)


def frame_of(row: Mapping[str, Any]) -> RgbdFrame:
    """The picture of a row.

    Raises:
        ValueError: an image does not decode.
    """
    depth = None
    if row["depth"] is not None:
        depth = depth_in_metres(decode_plane(row["depth"]), 0.001)
    camera = json.loads(row["intrinsics"])
    intrinsics = CameraIntrinsics(**camera) if camera else None
    return RgbdFrame(decode_rgb(row["rgb"]), depth, intrinsics, depth_source=row["depth_source"])


def _item_cells(item: Item) -> dict[str, Any]:
    asked = [asdict(one) | {"quantity": one.quantity.name} for one in item.asked]
    return {
        "key": item.key,
        "type": item.type,
        "rule": item.rule,
        "question": item.question,
        "answer": item.answer,
        "reference": json.dumps(item.reference),
        "asked": json.dumps(asked),
    }


def _frame_cells(frame: RgbdFrame) -> dict[str, Any]:
    depth = None
    if frame.depth is not None:
        mm = np.nan_to_num(np.round(frame.depth * 1000.0), nan=0.0, posinf=0.0)
        plane = np.where(mm <= _MAX_MM, mm, 0).astype(np.uint16)
        depth = {"bytes": encode_png(plane), "path": None}
    camera = None
    if frame.intrinsics is not None:
        camera = {name: getattr(frame.intrinsics, name) for name in _CAMERA}
    return {
        "rgb": {"bytes": encode_png(frame.rgb), "path": None},
        "depth": depth,
        "depth_source": frame.depth_source,
        "intrinsics": json.dumps(camera),
    }
