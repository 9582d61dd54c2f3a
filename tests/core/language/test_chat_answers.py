"""1,000 answers as chat models write them: none may be read wrongly, and most must be read.

chat/*.jsonl: {"asked", "answer", "want"}. Each set was written by someone who had not seen the
reader; what it got wrong was corrected afterwards, so these are regression tests, not a score. Sets
c and d are full of traps; e has the natural mix.

want: `value`; `measures` of a size; `none`: no number may be taken; `verdict`; `chosen`; `absent`;
`image_point`. `may_abstain`: no reading is right too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.language.reading import Reading, read

SETS = sorted((Path(__file__).parent / "chat").glob("*.jsonl"))
#: Of the 200 answers of a set, the number that may stay unread.
MAY_MISS = {"a": 10, "b": 10, "c": 20, "d": 20, "e": 6}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked_of(stored: dict[str, Any]) -> Asked:
    rest = {key: stored[key] for key in ("relation", "which", "unit") if key in stored}
    return Asked(Quantity[stored["quantity"]], tuple(stored["objects"]), **rest)


def is_wrong(reading: Reading, asked: Asked, want: dict[str, Any]) -> bool:
    """Whether a reading states what the answer does not say."""
    numbers = {one.kind.name: one.value for one in reading.measurements}
    if "value" in want:
        wrong = {kind for kind in numbers if kind != want.get("kind", asked.quantity.name)}
        return bool(wrong) or any(not close(one, want["value"]) for one in numbers.values())
    if "measures" in want:
        sides = want["measures"]
        return any(kind not in sides or not close(numbers[kind], sides[kind]) for kind in numbers)
    if "verdict" in want:
        stated = reading.verdict.name
        return stated not in (want["verdict"], "UNDECIDED") or bool(
            want["verdict"] == "UNDECIDED" and reading.chosen
        )
    if "chosen" in want:
        return reading.chosen not in ("", want["chosen"])
    if "image_point" in want:
        pairs = zip(reading.image_points, [want["image_point"]], strict=False)
        return len(reading.image_points) > 1 or any(
            abs(a - b) > 0.011 for one, other in pairs for a, b in zip(one, other, strict=True)
        )
    if "absent" in want:
        return any(numbers.values())  # a count of 0 says the same
    points = reading.image_points if asked.quantity is Quantity.POSITION else ()
    return bool(numbers) or bool(points)


def is_read(reading: Reading, want: dict[str, Any]) -> bool:
    """Whether a reading that is not wrong states all that the answer says."""
    if want.get("may_abstain") or "none" in want:
        return True
    if "value" in want:
        return bool(reading.measurements)
    if "measures" in want:
        return len(reading.measurements) == len(want["measures"])
    if "verdict" in want:
        return reading.verdict.name == want["verdict"]
    if "chosen" in want:
        return bool(reading.chosen)
    if "image_point" in want:
        return bool(reading.image_points)
    return reading.absent or bool(reading.measurements)


def close(one: float, other: float) -> bool:
    return abs(one - other) <= 0.021 * abs(other) + 1e-9


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)
def test_no_answer_is_read_wrongly_and_most_are_read(path: Path) -> None:
    wrong, missed = [], 0
    stored = rows(path)
    for row in stored:
        asked = asked_of(row["asked"])
        reading = read(row["answer"], asked)
        if is_wrong(reading, asked, row["want"]):
            wrong.append((row, reading))
        elif not is_read(reading, row["want"]):
            missed += 1
    assert wrong == []
    assert len(stored) == 200
    assert missed <= MAY_MISS[path.stem]
