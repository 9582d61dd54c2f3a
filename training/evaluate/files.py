"""Rows and pictures of a benchmark's files; what is bad is refused with the file and the row.

Knows formats (parquet, Arrow, JSON lines, pictures); does not know what a row means. Nothing that
is stored as text is ever evaluated.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdvlm_core.errors import SdvlmError
from training.evaluate.items import BenchmarkError

_MAX_CELL = 1 << 20


def tables(path: Path) -> list[Path]:
    """Parquet and Arrow files; of a folder with a test split, only that."""
    if path.is_file():
        return [path] if path.suffix in (".parquet", ".arrow") else []
    files = sorted([*path.rglob("*.parquet"), *path.rglob("*.arrow")])
    return [f for f in files if "test" in str(f.relative_to(path))] or files


def rows_in(files: list[Path]) -> int | None:
    if any(file.suffix != ".parquet" for file in files):
        return None
    return sum(pq.ParquetFile(file).metadata.num_rows for file in files)


class naming:
    """Turns what a bad row raises into a refusal that names it."""

    def __init__(self, file: Path, row: int) -> None:
        self._where = f"{file}, row {row}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        bad = (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError, SdvlmError)
        if isinstance(error, bad) and not isinstance(error, BenchmarkError):
            raise BenchmarkError(f"{self._where}: {error!r}") from error


def table_rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".parquet":
        for batch in pq.ParquetFile(file).iter_batches(16):
            yield from batch.to_pylist()
    elif file.suffix == ".arrow":
        with pa.memory_map(str(file)) as source:
            try:
                reader = pa.ipc.open_stream(source)
            except pa.ArrowInvalid:
                whole = pa.ipc.open_file(source)
                reader = (whole.get_batch(at) for at in range(whole.num_record_batches))
            for batch in reader:
                yield from batch.to_pylist()
    else:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if line.strip():
                    with naming(file, number):
                        row = json.loads(line)
                        if not isinstance(row, dict):
                            raise ValueError("no JSON object")
                    yield row


def nested(value: Any) -> Any:
    """A nested cell that was stored as text of JSON or of Python literals; never evaluated."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    if len(value) > _MAX_CELL:
        raise ValueError(f"a cell of {len(value)} characters")
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return ast.literal_eval(value)


def read_picture(stored: Any, path: str, root: Path) -> Any:
    """(H, W, 3) uint8 of stored bytes, else of a file below `root`."""
    data = stored.get("bytes") if isinstance(stored, dict) else stored
    if data is None and path:
        file = (root / path).resolve()
        if not file.is_relative_to(root.resolve()):
            raise ValueError(f"{path} leads out of {root}")
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; put the benchmark's pictures below {root}")
        data = file.read_bytes()
    image = cv2.imdecode(np.frombuffer(data or b"", np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise ValueError("no picture, or one that does not decode")
    return np.ascontiguousarray(image[..., ::-1])
