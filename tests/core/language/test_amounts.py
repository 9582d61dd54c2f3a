"""Quantities read from text, without a question: spellings, compounds, ranges."""

from __future__ import annotations

import math

import pytest

from sdvlm_core.language.amounts import amounts


def values(text: str, dimension: str = "length") -> list[float]:
    return [amount.value for amount in amounts(text) if amount.dimension == dimension]


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        ("99.2 cm", [0.992]),
        ("0.37 meters", [0.37]),
        ("0.5metres.", [0.5]),
        (".5 m", [0.5]),
        ("1,25 m", [1.25]),
        ("0,250 m", [0.25]),
        ("1,200 mm", [1.2]),
        ("12,345.5 mm", [12.3455]),
        ("1.2e3 mm", [1.2]),
        ("-0.5 m", [-0.5]),
        ("\u22120.5 m", [-0.5]),
        ("2 km", [2000.0]),
        ("5'11\"", [1.8034]),
        ("5'11", [1.8034]),
        ("5\u2032 11\u2033", [1.8034]),
        ("5 ft 11 in", [1.8034]),
        ("5 feet and 11 inches", [1.8034]),
        ("five foot eleven", [1.8034]),
        ("5 feet 3 chairs", [1.524]),
        ("1 m 50.", [1.5]),
        ("1 m 50 chairs", [1.0]),
        ("6' tall", [1.8288]),
        ('12" wide', [0.3048]),
        ("3 yards", [2.7432]),
        ("1 m 20 cm", [1.2]),
        ("1 m and 20 cm", [1.2]),
        ("1.5 m and 20 cm", [1.5, 0.2]),
        ("6 ft 8 in", [2.032]),
        ("5 feet, 11 inches", [1.8034]),
        ("2ft6in", [0.762]),
        ("1m80", [1.8]),
        ("5'-11\"", [1.8034]),
        ("3-1/2 inches", [0.0889]),
        ("2 and 1/2 feet", [0.762]),
        ("1.2\u7c73", [1.2]),
        ("0,3 Meter", [0.3]),
        ("0.3 metros", [0.3]),
        ("0,3 m\u00e8tres", [0.3]),
        ("0.85 m - 0.75 m = 0.10 m", [0.1]),
        ("half a metre", [0.5]),
        ("half an inch", [0.0127]),
        ("a metre and a half", [1.5]),
        ("one meter and a half", [1.5]),
        ("two and a half feet", [0.762]),
        ("2 and a half feet", [0.762]),
        ("a quarter of a meter", [0.25]),
        ("three quarters of a meter", [0.75]),
        ("two-thirds of a metre", [2 / 3]),
        ("2 1/2 feet", [0.762]),
        ("3\u00bd inches", [0.0889]),
        ("1/2 m", [0.5]),
        ("twenty centimeters", [0.2]),
        ("twenty-one cm", [0.21]),
        ("two hundred and fifty mm", [0.25]),
        ("a 3-meter wall", [3.0]),
        ("12 in x 10 in", [0.3048, 0.254]),
        ("12 in in width", [0.3048]),
        ("3.09 m x 0.13 m x 0.34 m", [3.09, 0.13, 0.34]),
        ("3.09 x 0.13 x 0.34 m", [3.09, 0.13, 0.34]),
        ("3.09m\u00d70.13m\u00d734cm", [3.09, 0.13, 0.34]),
        ("3x4x5 cm", [0.03, 0.04, 0.05]),
        ("3 by 4 by 5 feet", [0.9144, 1.2192, 1.524]),
        ("0.5, 0.6 and 0.7 m", [0.5, 0.6, 0.7]),
        ("0.5 m, 60 cm and 0.7 meters", [0.5, 0.6, 0.7]),
        ("1 200 mm", [1.2]),
        ("10 000 mm", [10.0]),
        ("1 200.5 mm wide", [1.2005]),
        ("1 200 x 600 x 400 mm", [1.2, 0.6, 0.4]),
        ("1 200 to 1 400 mm", [1.3]),
        ("1'200 mm", [1.2]),
        ("1\u2019200\u2019000 mm", [1200.0]),
        ("1\u202f200,5 mm", [1.2005]),
        ("1.200,5 mm", [1.2005]),
        ("zero point five meters", [0.5]),
        ("one point zero five m", [1.05]),
        ("one point twenty-five m", [1.25]),
        ("one point is 5 m away", [5.0]),
        ("at this point five meters away", [5.0]),
        ("one thousand two hundred millimeters", [1.2]),
        ("a hundred and fifty mm", [0.15]),
        ("two hundred and fifty thousand mm", [250.0]),
        ("1.5 thousand mm", [1.5]),
        ("between one hundred and two hundred mm", [0.15]),
        ("0.5 of a meter", [0.5]),
        ("three tenths of a metre", [0.3]),
        ("minus 0.5 m", [-0.5]),
        ("1 m minus 20 cm", [1.0, -0.2]),
    ],
)
def test_lengths_are_read_in_metres(text: str, metres: list[float]) -> None:
    assert values(text) == pytest.approx(metres)


@pytest.mark.parametrize(
    "text",
    [
        "0.5",
        "the width is 3",
        "3 in the image",
        "There are 2 in total",
        "half of the height",
        "a foot stool",
        "3 m\u00b2",
        "3 m^2",
        "two square meters",
        "0.5 m/s",
        "20 %",
        "20 \u00b0C",
        "NaN m",
        "inf m",
        "1e999 m",
        "object1 m",
        "1.2.3 m",
        "2nd",
        "1.2x larger",
        "the answer is '5'",
        '"5"',
        "",
        "2 300 mm boxes",
        "2 300 mm wide boxes",
        "100 200 300 mm",
        "about point five meters",
    ],
)
def test_text_that_states_no_length_is_never_read_as_one(text: str) -> None:
    assert values(text) == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2.", [2.0]),
        ("three", [3.0]),
        ("There is only 1 bed in the image.", [1.0]),
        ("There is one chair.", [1.0]),
        ("the white one is smaller", []),
        ("1. first\n2. second", []),
        ("3D model2 of A4", []),
        ("1,2,3", [1.0, 2.0, 3.0]),
        ("1 2 3", [1.0, 2.0, 3.0]),
        ("100 200 300", [100.0, 200.0, 300.0]),
        ("1 200 books", []),
        ("two dozen books", [24.0]),
        ("a dozen", [12.0]),
        ("half a dozen", [6.0]),
        ("one thousand books", [1000.0]),
    ],
)
def test_bare_numbers_stay_plain_numbers(text: str, numbers: list[float]) -> None:
    assert values(text, "number") == numbers


@pytest.mark.parametrize(
    ("text", "value", "std_dev"),
    [
        ("1.2 to 1.5 m", 1.35, 0.3 / math.sqrt(12)),
        ("1.2-1.5 m", 1.35, 0.3 / math.sqrt(12)),
        ("1.2 m \u2013 1.5 m", 1.35, 0.3 / math.sqrt(12)),
        ("between 1.2 and 1.5 m", 1.35, 0.3 / math.sqrt(12)),
        ("90 cm to 1.1 m", 1.0, 0.2 / math.sqrt(12)),
        ("1.2 m \u00b1 0.1", 1.2, 0.1),
        ("1.2 \u00b1 0.1 m", 1.2, 0.1),
        ("1.2 m +/- 10 cm", 1.2, 0.1),
    ],
)
def test_ranges_and_tolerances_become_a_value_with_its_deviation(
    text: str, value: float, std_dev: float
) -> None:
    (quantity,) = amounts(text)
    assert (quantity.value, quantity.std_dev) == pytest.approx((value, std_dev))
    assert quantity.text == text


def test_a_single_number_has_an_unknown_deviation_not_a_zero_one() -> None:
    assert math.isnan(amounts("1.2 m")[0].std_dev)
