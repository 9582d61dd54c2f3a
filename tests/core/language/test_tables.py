"""Answers as models write them, by the asked quantity: what may be read, and what may not.

Each line of tables/*.txt is `question | answer | wanted`; "\\n" in an answer is a new line. Wanted:
numbers in SI, in order; `none` = no number; `absent`; `point=u,v`, `verdict=...`, `chosen=...`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sdvlm_core.answer import Quantity
from sdvlm_core.language.question import parse
from sdvlm_core.language.reading import read

ROWS = [
    line.rstrip("\n")
    for table in sorted((Path(__file__).parent / "tables").glob("*.txt"))
    for line in table.read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize("row", ROWS)
def test_an_answer_is_read_as_the_table_says(row: str) -> None:
    question, _, rest = row.partition(" | ")
    answer, _, wanted = rest.rpartition(" | ")
    asked = parse(question)
    assert asked.quantity is not Quantity.FREE
    reading = read(answer.replace("\\n", "\n"), asked)
    form, _, value = wanted.partition("=")
    if form == "verdict":
        assert reading.verdict.name == value
    elif form == "chosen":
        assert reading.chosen == value
    elif form == "point":
        points = [tuple(map(float, value.split(",")))] if value else []
        assert [pytest.approx(point) for point in points] == list(reading.image_points)
    elif form == "absent":
        assert reading.absent
        assert reading.measurements == ()
    elif form == "none":
        assert reading.measurements == ()
        assert reading.why_none
    else:
        values = [float(number) for number in wanted.split(",")]
        assert [m.value for m in reading.measurements] == pytest.approx(values, abs=1e-4)
        assert all(m.objects == asked.objects for m in reading.measurements)
        assert reading.why_none == ""


def test_the_tables_cover_every_quantity() -> None:
    asked = {parse(row.partition(" | ")[0]).quantity for row in ROWS}
    assert asked == set(Quantity) - {Quantity.FREE}
    assert len(ROWS) >= 300
