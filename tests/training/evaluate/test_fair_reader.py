"""More rows for the strict judge: other things, other words, and MSMU's own answer forms.

`fair_reader.jsonl` has the keys of `--score` and `correct`: what a fair reader takes for right.
"""

from __future__ import annotations

import json
from pathlib import Path

from training.evaluate.rows import judge_rows

ROWS = Path(__file__).with_name("fair_reader.jsonl")


def test_the_judge_marks_other_words_as_a_fair_reader_does():
    judged = judge_rows(ROWS)
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    wrong = [row for row, own in zip(rows, judged, strict=True) if own.correct != row["correct"]]
    assert wrong == []
    assert [own.why for own in judged if own.why] == []
    assert len(rows) >= 150
    assert {row["correct"] for row in rows} == {True, False}
