"""Scores of a report: coverage of the intervals, recomputed published rows."""

from __future__ import annotations

import numpy as np
import pytest

from training.build.questions import TYPES
from training.evaluate.report import markdown, others, published, summarise, wilson

ROWS = {row.name: row for row in published()}


def test_the_published_macro_of_sd_vlm_is_recomputed_from_its_counts():
    row = ROWS["SD-VLM"]
    assert row.correct == (41, 46, 133, 37, 121, 16, 59, 88)
    assert sum(row.asked) == 987
    assert row.recomputed == pytest.approx(55.74, abs=0.005)
    assert row.printed == 56.31
    assert 100 * sum(row.correct) / sum(row.asked) == pytest.approx(54.9, abs=0.1)


@pytest.mark.parametrize(
    ("name", "recomputed"),
    [("GPT-4-Turbo (text)", 15.66), ("DeepSeek-V3 (text)", 6.87), ("GPT-4o", 32.71),
     ("Qwen2.5-VL-32B", 27.58), ("InternVL3-78B", 34.24), ("InternVL3-8B", 27.63),
     ("LLaVA-1.5-7B", 18.85), ("SD-VLM + MSMU-CoT", 59.19)],
)  # fmt: skip
def test_every_published_row_is_recomputed(name, recomputed):
    assert ROWS[name].recomputed == pytest.approx(recomputed, abs=0.01)


def test_a_percentage_that_no_count_gives_is_marked():
    assert ROWS["SD-VLM + MSMU-CoT"].correct[-1] is None
    assert sum(correct is None for correct in ROWS["InternVL3-78B"].correct) == 7


def _rows(row):
    """One question to a frame, as MSMU-Bench has them."""
    rows = []
    for kind, correct, asked in zip(TYPES, row.correct, row.asked, strict=True):
        rows += [
            {"frame": len(rows) + n, "type": kind, "correct": n < correct} for n in range(asked)
        ]
    return rows


def test_the_interval_of_the_macro_is_as_wide_as_the_rates_say():
    summary = summarise(_rows(ROWS["SD-VLM"]))
    assert summary["macro"] == 55.74
    low, high = summary["intervals"]["macro"]
    assert low == pytest.approx(55.74 - 3.4, abs=0.5)
    assert high == pytest.approx(55.74 + 3.4, abs=0.5)


def test_answers_about_one_frame_do_not_count_as_independent():
    rng = np.random.default_rng(0)
    rows = []
    for frame in range(60):
        known = bool(rng.random() < 0.5)  # all of a frame, or nothing
        rows += [{"frame": frame, "type": TYPES[0], "correct": known} for _ in range(10)]
    alone = [row | {"frame": number} for number, row in enumerate(rows)]
    together, apart = (summarise(r, TYPES[:1], 1)["intervals"]["macro"] for r in (rows, alone))
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])


@pytest.mark.parametrize(
    ("correct", "asked", "interval"),
    [(0, 10, (0.0, 27.75)), (10, 10, (72.25, 100.0)), (16, 40, (26.35, 55.40)), (0, 0, (0, 100))],
)
def test_wilsons_interval(correct, asked, interval):
    assert wilson(correct, asked) == pytest.approx(interval, abs=0.01)


def test_the_mean_is_divided_by_eight_however_many_types_were_asked():
    rows = [{"frame": n, "type": TYPES[0], "correct": True} for n in range(4)]
    assert summarise(rows)["macro"] == 12.5
    assert summarise(rows, TYPES, 0)["macro"] == 100.0


def test_a_report_has_the_run_and_the_published_rows():
    ours = summarise(_rows(ROWS["SD-VLM"]))
    text = markdown(
        {**ours, "official": ours, "failures": {"no answer": 3}},
        TYPES,
        with_published=True,
        name="nano",
    )
    assert (
        "| SD-VLM | 87.23 | 47.92 | 51.35 | 42.53 | 75.16 | 40.00 | 55.66 | 46.07 | 56.31 | 55.74 |"
        in text
    )
    assert "| nano, official rules | 87.23 |" in text
    assert "- 3 x no answer" in text
    assert "47.62 (*)" in text
    own, others_part = text.split("Other parties' runs")
    assert "SpatialLadder" not in own
    assert "| RoboBrain2.5-8B-NV | 38.34 | re-run by" in others_part
    assert "| RoboBrain2.5-8B-NV | 64.17 | RoboBrain 2.5's own report" in others_part


def test_every_run_of_another_party_names_its_source_and_revision():
    for row in others():
        assert "056da59" in row.source or "same commit" in row.source
        assert 0 < row.macro < 100
