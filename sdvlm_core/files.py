"""Atomic writes of files and directories, bounded reading of JSON and YAML, and content hashes.

A reader never finds an incomplete file: content is written under a temporary name next to the
target, which then replaces the target in one step. Does not know what the files mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdvlm_core.errors import shown

_CHUNK_BYTES = 1 << 24
#: Largest JSON file that `read_json` reads; the index of a sharded model has 0.1 MB.
MAX_JSON_BYTES = 1 << 26
# A YAML file of a few bytes can expand to gigabytes by aliases; nesting is limited by the stack.
_MAX_YAML_BYTES = 8 << 20
_MAX_YAML_NODES = 500_000
_MAX_YAML_DEPTH = 50


def read_json(
    path: Path, refusal: type[Exception] = ValueError, max_bytes: int = MAX_JSON_BYTES
) -> dict[str, Any]:
    """Read one JSON object from a file.

    Raises:
        refusal: the file is unreadable, larger than `max_bytes`, not JSON, nested too deeply, or
            not an object. The message names the file.
    """
    try:
        with path.open("rb") as stored:  # its size on disk may be 0 (a pipe)
            content = stored.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ValueError(f"it has more than {max_bytes} bytes")
        values = json.loads(content.decode("utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise refusal(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise refusal(f"{path} must hold one JSON object, found {type(values).__name__}")
    return values


def read_yaml(path: Path, refusal: type[Exception] = ValueError) -> Any:
    """Read one YAML document of at most 8 MiB, 50 levels, and 500,000 values with aliases expanded.

    Raises:
        refusal: the file is unreadable, not YAML, or too large. The message names the file.
    """
    try:
        if path.stat().st_size > _MAX_YAML_BYTES:
            raise ValueError(
                f"{path.stat().st_size} bytes, more than the limit of {_MAX_YAML_BYTES}"
            )
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise refusal(f"cannot read {path}: {error.strerror or error}") from error
    # PyYAML raises any type of error for a value that does not fit its tag, e.g. `!!int x`.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise refusal(f"cannot read {path}: {shown(reason)}") from error


def parse_yaml(text: str) -> Any:
    """The YAML document in a text; bounded as `read_yaml`.

    Raises:
        Exception: the text is not YAML, or too large. PyYAML does not limit the types.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    sizes: dict[str | None, int] = {}  # anchor -> its number of values, with aliases expanded
    outer: list[tuple[str | None, int]] = []  # of each open collection: anchor, count before it
    count = 0
    # The events come without recursion and without expansion, so they can be counted first.
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            outer.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = outer.pop()
            sizes[anchor] = count - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias {event.anchor!r} has no value before it")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = 1
            count += 1
        if len(outer) > _MAX_YAML_DEPTH:
            raise ValueError(f"nested more than {_MAX_YAML_DEPTH} levels deep")
        if count > _MAX_YAML_NODES:
            raise ValueError(f"more than {_MAX_YAML_NODES} values")
    return yaml.load(text, Loader=loader)


def temporary_path(path: Path) -> Path:
    """A new name beside `path` to write it under: `.NAME.PID-RANDOM.tmp`.

    Random, because processes of several machines or containers may have one number and one folder.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def remove_temporary_files(directory: Path) -> None:
    """Remove the temporary files that interrupted processes left in a folder, not below it."""
    for leftover in directory.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it replaces `path` when the block ends without an error."""
    temporary = temporary_path(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A new empty directory; it replaces `path` when the block ends without an error.

    It has the name of `path` already while it is written, in a temporary parent: a bag's files are
    named after their directory.
    """
    parent = temporary_path(path)
    shutil.rmtree(parent, ignore_errors=True)
    temporary = parent / path.name
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def remove_temporaries(path: Path) -> None:
    """Remove temporary files of killed processes next to `path`; no process may be writing it."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file in one step."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace the file in one step; UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any, indent: int | None = 2) -> None:
    """Replace the file in one step by a JSON document and a newline.

    Raises:
        ValueError: the document contains NaN or infinity, which JSON cannot express.
    """
    write_text(path, json.dumps(document, indent=indent, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content, read in bounded chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stored:
        while chunk := stored.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
