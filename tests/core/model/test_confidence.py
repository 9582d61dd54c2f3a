"""Raw confidence: the tokens that decide an answer; calibrated confidence: the curves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.errors import CheckpointError
from sdvlm_core.language.question import parse
from sdvlm_core.language.reading import read
from sdvlm_core.model.confidence import Calibration, kind_of, raw

LINE = Calibration.from_mapping({"distance": {"raw": [0.2, 0.6], "right": [0.1, 0.9]}})


@pytest.mark.parametrize(
    ("question", "answer", "kind"),
    [
        ("How tall is the mug?", "The height of the mug is 0.1 m.", "side"),
        ("What is the size of the mug?", "The size of the mug is 0.1 m x 0.1 m x 0.2 m.", "sides"),
        ("How far is the mug from the box?", "The distance is 0.4 m.", "distance"),
        ("What is the gap between the mug and the box?", "The gap is 0.1 m.", "gap"),
        ("How far is the mug from the camera?", "It is 1.2 m away.", "camera_distance"),
        ("How tall is the mug?", "I cannot answer that.", "none"),
        ("Who made the mug?", "I cannot answer that.", "none"),
        ("How many mugs are there?", "There are 2 mugs.", "count"),
        ("What is the coordinate of the mug?", "It is located at (0.3,0.4).", "place"),
        ("How tall is the mug?", "There is no mug in the image.", "absent"),
        ("Is the mug left of the box?", "Yes, it is.", "words"),
    ],
)
def test_each_answer_has_the_kind_of_its_content(question, answer, kind):
    reading = read(answer, parse(question))
    assert kind_of(reading, reading.measurements) == kind


def test_two_significant_digits_of_each_number_decide():
    pieces = ["The", " is", " ", "0", ".", "3", "7", "2", " m", " x ", "1", "2", "5"]
    sure = dict.fromkeys(range(len(pieces)), 0.01)  # any value for tokens that are not decisive
    sure |= {3: 0.9, 5: 0.8, 6: 0.7, 10: 0.6, 11: 0.5}
    wanted = math.prod([0.9, 0.8, 0.7, 0.6, 0.5]) ** (1 / 5)
    assert raw(pieces, list(sure.values())) == pytest.approx(wanted)


def test_without_a_number_all_tokens_decide_and_without_tokens_it_is_nan():
    assert raw(["Yes", "."], [0.9, 0.4]) == pytest.approx(0.6)
    assert math.isnan(raw([], []))


def test_a_calibration_curve_is_piecewise_linear_and_constant_beyond_its_ends():
    assert [LINE("distance", at) for at in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx(
        [0.1, 0.1, 0.5, 0.9, 0.9]
    )
    assert LINE("count", 0.4) == 0.4
    assert math.isnan(LINE("distance", math.nan))


@given(st.floats(0, 1), st.floats(0, 1))
def test_calibrated_confidence_never_decreases_with_the_raw_value(one, other):
    assert LINE("distance", min(one, other)) <= LINE("distance", max(one, other))


@pytest.mark.parametrize(
    "stored",
    [
        {"distance": {"raw": [0.5, 0.5], "right": [0.1, 0.2]}},
        {"distance": {"raw": [0.5], "right": [0.1, 0.2]}},
        {"distance": {"raw": [0.5], "right": [1.2]}},
        {"distance": {"raw": []}},
        {"colour": {"raw": [0.5], "right": [0.5]}},
        [1],
        "0.5",
    ],
)
def test_a_malformed_calibration_is_refused(stored):
    with pytest.raises(CheckpointError, match=r"calibration in config\.json"):
        Calibration.from_mapping(stored)
