"""Rows of Parquet, Arrow and JSON-lines files; one Parquet file written whole or not at all.

An invalid row raises an error that names the file and the row. Does not know what a column means.
Text in a cell is parsed, never evaluated.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sdvlm_core.errors import SdvlmError
from sdvlm_core.files import atomic_file

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


def read_rows(
    file: Path, columns: Sequence[str] | None = None, refusal: type[Exception] = ValueError
) -> Iterator[Row]:
    """The rows of one file, in bounded batches.

    Args:
        file: .parquet, .arrow (stream or file format), or else JSON lines.
        columns: only these, of a Parquet file; None = all.

    Raises:
        pyarrow.ArrowInvalid: a damaged Parquet or Arrow file.
        refusal: a line that is not a JSON object; names the file and the row.
    """
    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(_BATCH_ROWS, columns=columns):
                yield from batch.to_pylist()
    elif file.suffix == ".arrow":
        with pa.memory_map(str(file)) as source:
            for batch in _arrow_batches(source):
                yield from batch.to_pylist()
    else:
        yield from _json_lines(file, refusal)


def _arrow_batches(source: pa.MemoryMappedFile) -> Iterator[pa.RecordBatch]:
    try:
        stream = pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(source)
        for index in range(table.num_record_batches):
            yield table.get_batch(index)
    else:
        yield from stream


def _json_lines(file: Path, refusal: type[Exception]) -> Iterator[Row]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if line.strip():
                with row_errors(file, number, refusal):
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"expected a JSON object, found {type(row).__name__}")
                yield row


@contextmanager
def row_errors(file: Path, row: int, refusal: type[Exception] = ValueError) -> Iterator[None]:
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
