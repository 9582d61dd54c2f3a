"""What the files of a data set contain, whatever they are called and wherever they are.

The identity of a file is the SHA-256 of its bytes. Reading a data set for it takes a part of the
time of preparing it; the result is kept, so that each file is read once. Does not know what
rows mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from sdvlm_core.files import read_json, write_json
from training.data.claims import write_all
from training.data.sources import DataFile
from training.data.tables import rows_in


@dataclass(frozen=True)
class Content:
    """The SHA-256 of a file, hexadecimal, and its number of rows."""

    sha256: str
    rows: int


def contents_of(files: Sequence[DataFile], cache: Path) -> list[Content]:
    """The content of every file.

    Args:
        cache: folder in which the results are kept, by address, size and stamp of the files;
            processes that share it share the work.

    Raises:
        OSError, ValueError: a file cannot be read, or is damaged.
    """
    cache.mkdir(parents=True, exist_ok=True)
    records = {file.url: cache / f"{_key(file)}.json" for file in files if file.stamp}
    parts = [
        (records[file.url], partial(_write, records[file.url], file))
        for file in files
        if file.url in records
    ]
    for _ in write_all(parts):
        pass
    return [_read(records[file.url]) if file.url in records else _measured(file) for file in files]


def _key(file: DataFile) -> str:
    return hashlib.sha256(f"{file.url}\n{file.size}\n{file.stamp}".encode()).hexdigest()[:32]


def _measured(file: DataFile) -> Content:
    return Content(file.sha256(), rows_in(file))


def _write(path: Path, file: DataFile) -> None:
    write_json(path, {"file": file.url, **asdict(_measured(file))}, indent=None)


def _read(path: Path) -> Content:
    document = read_json(path)
    return Content(str(document["sha256"]), int(document["rows"]))
