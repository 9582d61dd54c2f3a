"""Rows of Parquet, Arrow and JSON-lines files; one Parquet file written whole or not at all.

An invalid row raises an error that names the file and the row. Does not know what a column means.
Text in a cell is parsed, never evaluated.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sdvlm_core.errors import SdvlmError
from sdvlm_core.files import atomic_file
from training.data.sources import DataFile

#: Column name -> value, as pyarrow converts it.
Row = dict[str, Any]

_BATCH_ROWS = 16
_MAX_CELL_CHARACTERS = 1 << 20
_INVALID_ROW = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    SyntaxError,
    AttributeError,
    OSError,
    SdvlmError,
)


def table_files(path: Path) -> list[Path]:
    """The Parquet and Arrow files of a folder, in order of their paths; of a file, that file."""
    if path.is_file():
        return [path] if path.suffix in (".parquet", ".arrow") else []
    return sorted([*path.rglob("*.parquet"), *path.rglob("*.arrow")])


def files_of_test_split(path: Path) -> list[Path]:
    """`table_files`; of a folder with a test split, only the files of that split."""
    files = table_files(path)
    if path.is_file():
        return files
    return [file for file in files if "test" in str(file.relative_to(path))] or files


def count_rows(files: Sequence[Path]) -> int | None:
    """The number of rows, from Parquet metadata; None if a file is of another format."""
    if any(file.suffix != ".parquet" for file in files):
        return None
    return sum(pq.read_metadata(file).num_rows for file in files)


def rows_in(file: DataFile) -> int:
    """The number of rows of one file: from the metadata of Parquet, else by reading it.

    Raises:
        pyarrow.ArrowInvalid: a damaged Parquet or Arrow file.
        ValueError: a line that is not a JSON object; names the file and the row.
    """
    if file.suffix == ".parquet":
        with _opened(file) as stored:
            return int(pq.read_metadata(stored).num_rows)
    if file.suffix == ".arrow":
        with _arrow_source(file) as source:
            return sum(batch.num_rows for batch in _arrow_batches(source))
    return sum(1 for _ in _json_lines(file, ValueError))


class RowReader:
    """Rows of one file by number. Reading forward is one pass; reading backward opens it again."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._rows: Iterator[Row] = iter(())
        self._next = -1

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """The rows from `start` to `stop`, exclusive."""
        # A jump may be over whole row groups, which a new pass does not read.
        if start != self._next:
            self._rows = read_rows(self._file, start=start)
            self._next = start
        for row in islice(self._rows, stop - start):
            self._next += 1
            yield row


def read_rows(
    file: Path | DataFile,
    columns: Sequence[str] | None = None,
    refusal: type[Exception] = ValueError,
    start: int = 0,
) -> Iterator[Row]:
    """The rows of one file, in bounded batches; those of a store are streamed.

    Args:
        file: .parquet, .arrow (stream or file format), or else JSON lines.
        columns: only these, of a Parquet file; None = all.
        start: number of the first row; row groups before it are not read.

    Raises:
        pyarrow.ArrowInvalid: a damaged Parquet or Arrow file.
        refusal: a line that is not a JSON object; names the file and the row.
    """
    if file.suffix == ".parquet":
        with _opened(file) as stored, pq.ParquetFile(stored) as table:
            groups, skipped = _groups_from(table.metadata, start)
            # One group at a time: a list of groups would be read ahead.
            for group in groups:
                batches = table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns)
                yield from _rows_of(batches, start - skipped)
                skipped = start
    elif file.suffix == ".arrow":
        with _arrow_source(file) as source:
            yield from _rows_of(_arrow_batches(source), start)
    else:
        yield from islice(_json_lines(file, refusal), start, None)


def _opened(file: Path | DataFile) -> IO[bytes]:
    return file.open() if isinstance(file, DataFile) else file.open("rb")


def _groups_from(metadata: pq.FileMetaData, start: int) -> tuple[list[int], int]:
    """The row groups from the one that holds row `start` on, and the rows before them."""
    before = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if before + rows > start:
            return list(range(group, metadata.num_row_groups)), before
        before += rows
    return [], start


def _rows_of(batches: Iterable[pa.RecordBatch], skipped: int) -> Iterator[Row]:
    """The rows of record batches without the first `skipped`; few are Python objects at a time."""
    for batch in batches:
        for first in range(min(skipped, batch.num_rows), batch.num_rows, _BATCH_ROWS):
            yield from batch.slice(first, _BATCH_ROWS).to_pylist()
        skipped = max(0, skipped - batch.num_rows)


def _arrow_source(file: Path | DataFile) -> pa.NativeFile:
    if isinstance(file, DataFile) and not file.local:
        return pa.PythonFile(file.open(), mode="r")
    return pa.memory_map(file.url if isinstance(file, DataFile) else str(file))


def _arrow_batches(source: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    try:
        stream = pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(source)
        for index in range(table.num_record_batches):
            yield table.get_batch(index)
    else:
        yield from stream


def _json_lines(file: Path | DataFile, refusal: type[Exception]) -> Iterator[Row]:
    with _opened(file) as lines:
        for number, line in enumerate(lines):
            if line.strip():
                with row_errors(file, number, refusal):
                    row = json.loads(line.decode("utf-8"))
                    if not isinstance(row, dict):
                        raise ValueError(f"expected a JSON object, found {type(row).__name__}")
                yield row


@contextmanager
def row_errors(
    file: Path | DataFile, row: int, refusal: type[Exception] = ValueError
) -> Iterator[None]:
    """Raises `refusal`, which names the file and the row, where the block finds an invalid row."""
    try:
        yield
    except _INVALID_ROW as error:
        raise refusal(f"{file}, row {row}: {error!r}") from error


def parse_text(text: str) -> Any:
    """A nested value stored as text of JSON or of Python literals.

    Raises:
        ValueError, SyntaxError: the text is neither, or longer than a cell may be.
    """
    if len(text) > _MAX_CELL_CHARACTERS:
        raise ValueError(
            f"a cell of {len(text)} characters; at most {_MAX_CELL_CHARACTERS} are parsed"
        )
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        # numpy prints a list of mappings without commas between them.
        return ast.literal_eval(text.replace("}\n {", "}, {"))


def parse_nested(value: Any) -> Any:
    """A cell; text that starts as a mapping or a list does is parsed by `parse_text`."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        return parse_text(value)
    return value


def write_table(
    path: Path,
    row_groups: Iterable[Sequence[Row]],
    schema: pa.Schema,
    compression: str,
    before_replace: Callable[[Path], None] | None = None,
) -> None:
    """Write one Parquet file; it appears under its name when it is complete.

    Args:
        row_groups: each sequence of rows becomes one row group; one is held in memory at a time.
        compression: zstd, or none for columns that are compressed already.
        before_replace: called with the complete temporary file before it gets its name; what it
            writes exists whenever the file does.
    """
    with atomic_file(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression=compression) as writer:
            for rows in row_groups:
                writer.write_table(pa.Table.from_pylist(list(rows), schema=schema))
        if before_replace is not None:
            before_replace(temporary)
