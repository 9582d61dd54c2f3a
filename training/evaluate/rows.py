"""A file of rows with answers -> which of them the strict judge takes for right.

Each line is a JSON object with `type`, `question`, `reference` and `answer`, all text; other keys
are ignored. Does not know models or benchmarks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.evaluate.benchmarks import msmu_item
from training.evaluate.items import Item
from training.evaluate.judges import judged

_KEYS = ("type", "question", "reference", "answer")


class RowError(ValueError):
    """A line is no row; names the file, the line and what is wrong."""


@dataclass(frozen=True)
class Judged:
    """One row with its mark.

    Attributes:
        line: number in the file, from 1.
        why: why the row cannot be right whatever the answer is; "" = it can.
    """

    line: int
    item: Item
    answer: str
    correct: bool
    why: str = ""


def judge_rows(path: Path) -> list[Judged]:
    """Every row of a file by the strict rules; blank lines are skipped.

    Raises:
        RowError: a line is malformed.
        OSError: the file cannot be read.
    """
    return [_judged(path, number, row) for number, row in _rows(path)]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _row(path, number, line)
        except UnicodeDecodeError as error:
            raise RowError(f"{path} is not UTF-8 text: {error}") from error


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{path}, line {number}: no JSON: {error}") from error
    if not isinstance(row, dict):
        raise RowError(f"{path}, line {number}: must be an object, is {type(row).__name__}")
    for key in _KEYS:
        if not isinstance(row.get(key), str):
            raise RowError(f"{path}, line {number}: {key!r} must be text, is {row.get(key)!r}")
    return row


def _judged(path: Path, number: int, row: dict[str, Any]) -> Judged:
    try:
        item = msmu_item(str(number), row["type"], row["question"], row["reference"])
    except ValueError as error:
        raise RowError(f"{path}, line {number}: {error}") from error
    why = f"reference not read: {row['reference']!r}" if item.reference is None else ""
    return Judged(number, item, row["answer"], judged(item, row["answer"]).correct, why)
