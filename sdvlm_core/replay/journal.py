"""answers.jsonl and replay.json: the files that let an interrupted replay resume.

DIR/replay.json describes the replay. DIR/answers.jsonl has one entry per line:
    {"entry", "question", "asked": {"quantity", "objects", ...} | null, "frame", "stamp_ns",
     "bag_time_s", "asked_at_s", "frame_id", "answer": as `sdvlm ask --json` | null,
     "reasons": [text], "error": {"code", "name", "message"} | null}
`asked` is the typed question, null for a question in words; `answer.asked` is how either was
understood. `reasons` explain the answer's cautions, in words. `entry` and `frame` (on the colour
topic) count from 0, times are seconds from the bag's start, and `asked_at_s` is null for a question
about every frame. Does not know how entries are produced.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sdvlm_core.answer import answer_from_document
from sdvlm_core.errors import ReplayError, shown
from sdvlm_core.files import read_json, write_json

ANSWERS = "answers.jsonl"
DESCRIPTION = "replay.json"
_BLOCK_BYTES = 65536

Entry = dict[str, Any]


@contextmanager
def open_journal(directory: Path, description: dict[str, Any]) -> Iterator[BinaryIO]:
    """Open answers.jsonl for reading and appending, locked; an incomplete last line is removed.

    Args:
        description: everything that must be equal for the replay to resume.

    Raises:
        ReplayError: the directory contains another replay, another process is writing to it, or it
            cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReplayError(
            f"the directory {directory} cannot be created ({error}); give another --out"
        ) from error
    path, described = directory / ANSWERS, directory / DESCRIPTION
    with open(path, "a+b") as journal:
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ReplayError(f"another sdvlm replay is writing into {directory}") from error
        if described.exists():
            _check_same(directory, described, description)
        elif path.stat().st_size:
            raise ReplayError(f"{path} exists without its {DESCRIPTION}; give another --out")
        else:
            write_json(described, description)
        _remove_incomplete_line(journal)
        yield journal


def _check_same(directory: Path, described: Path, description: dict[str, Any]) -> None:
    try:
        existing = read_json(described, ReplayError)
    except ReplayError as error:
        raise ReplayError(f"{error}; give another --out") from error
    different = list(_differences(existing, description))
    if different:
        raise ReplayError(
            f"{directory} contains a replay with other settings: {'; '.join(different)} (see "
            f"{described.name}); give the same settings to resume it, or another --out"
        )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Each setting that differs, with both values: "camera.settings.rectify was auto, is never"."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in new:
            yield from _differences(old.get(key), new[key], f"{name}.{key}" if name else key)
    elif old != new:
        yield f"{name} was {shown(str(old), 100)}, is {shown(str(new), 100)}"


def _remove_incomplete_line(journal: BinaryIO) -> None:
    """Truncate after the last newline: a killed process may leave part of a line."""
    end = journal.seek(0, os.SEEK_END)
    complete = 0
    for start in range(max(0, end - 1) // _BLOCK_BYTES * _BLOCK_BYTES, -1, -_BLOCK_BYTES):
        journal.seek(start)
        newline = journal.read(min(_BLOCK_BYTES, end - start)).rfind(b"\n")
        if newline >= 0:
            complete = start + newline + 1
            break
    journal.truncate(complete)
    journal.seek(0)


def append(journal: BinaryIO, entry: Entry) -> None:
    """Append one line; on return it is on the disk and survives a power failure."""
    journal.write(json.dumps(entry, allow_nan=False, ensure_ascii=False).encode() + b"\n")
    journal.flush()
    os.fsync(journal.fileno())


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries of answers.jsonl in order.

    Raises:
        ReplayError: a line is not the expected entry; names the line.
    """
    with open(path, "rb") as lines:
        yield from parse_entries(lines, path)


def parse_entries(lines: BinaryIO, path: Path) -> Iterator[Entry]:
    """As `read_entries`, from an open file."""
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            _check_outcome(entry)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            reason = shown(f"{type(error).__name__}: {error}")
            raise ReplayError(f"{path}, line {number} is damaged ({reason})") from error
        if entry.get("entry") != number - 1:
            raise ReplayError(f"{path}, line {number} is not entry {number - 1}")
        yield entry


def _check_outcome(entry: Entry) -> None:
    """Raise KeyError, TypeError, ValueError or AttributeError for anything but one outcome."""
    if (entry["answer"] is None) == (entry["error"] is None):
        raise ValueError("needs an answer or an error, not both")
    if entry["error"] is None:
        answer_from_document(entry["answer"])
    elif not all(isinstance(entry["error"][key], str) for key in ("name", "message")):
        raise TypeError("the error has no name or message")
