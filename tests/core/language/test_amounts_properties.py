"""Any written number of a length is read with its value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.language.amounts import amounts

LENGTH_UNITS = {
    "km": 1000.0,
    "m": 1.0,
    "meter": 1.0,
    "metres": 1.0,
    "meters": 1.0,
    "cm": 0.01,
    "centimeters": 0.01,
    "mm": 0.001,
    "in": 0.0254,
    "inch": 0.0254,
    "inches": 0.0254,
    '"': 0.0254,
    "ft": 0.3048,
    "foot": 0.3048,
    "feet": 0.3048,
    "'": 0.3048,
    "yards": 0.9144,
}


def values(text: str) -> list[float]:
    return [amount.value for amount in amounts(text) if amount.dimension == "length"]


LENGTHS = st.floats(0.001, 9999.0, allow_nan=False)


UNITS = st.sampled_from(sorted(LENGTH_UNITS))


@given(value=LENGTHS, unit=UNITS, digits=st.integers(0, 6), space=st.booleans())
def test_a_formatted_length_is_read_with_the_same_value(
    value: float, unit: str, digits: int, space: bool
) -> None:
    number = f"{value:.{digits}f}"
    gap = " " if space and unit not in ("'", '"') else ""
    assert values(f"It is {number}{gap}{unit}.") == pytest.approx(
        [float(number) * LENGTH_UNITS[unit]]
    )


@given(value=LENGTHS, digits=st.integers(1, 2))
def test_a_decimal_comma_is_read_as_a_decimal_point(value: float, digits: int) -> None:
    number = f"{value:.{digits}f}"
    assert values(number.replace(".", ",") + " m") == values(number + " m") == [float(number)]


@given(value=st.integers(1000, 10**9), mark=st.sampled_from(",'\u2019\u00a0\u2009\u202f"))
def test_thousands_marks_do_not_change_the_number(value: int, mark: str) -> None:
    assert values(f"{value:,} mm".replace(",", mark)) == pytest.approx([value / 1000])


@given(value=st.integers(1000, 10**9))
def test_thousands_separated_by_a_space_are_the_number_or_nothing(value: int) -> None:
    found = values(f"It is {value:,} mm wide.".replace(",", " "))
    assert found == pytest.approx([value / 1000]) or (found == [] and value >= 100_000)


LINE = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"""


ONES, TENS = LINE.split()[:20], LINE.split()[20:]


def spelled(value: int, joint: str) -> str:
    """A number below a million in words; `joint` follows "hundred" and "thousand"."""
    for scale, name in ((1000, "thousand"), (100, "hundred")):
        if value >= scale:
            rest = joint + spelled(value % scale, joint) if value % scale else ""
            return f"{spelled(value // scale, joint)} {name}{rest}"
    if value < 20:
        return ONES[value]
    return TENS[value // 10 - 2] + (f"-{ONES[value % 10]}" if value % 10 else "")


@given(value=st.integers(0, 999_999), digits=st.text("0123456789", max_size=6), joint=...)
def test_a_spelled_number_is_read_with_the_same_value(value: int, digits: str, joint: bool) -> None:
    words = spelled(value, " and " if joint else " ")
    decimals = "".join(f" {ONES[int(digit)]}" for digit in digits)
    metres = float(f"{value}.{digits or 0}")
    assert values(f"{words}{' point' * bool(digits)}{decimals} m") == pytest.approx([metres])


@given(value=st.floats(0.01, 100), small=UNITS, large=UNITS)
def test_the_same_length_in_two_units_is_the_same_length(
    value: float, small: str, large: str
) -> None:
    spelled = [f"{value / LENGTH_UNITS[unit]:.12f}{unit}" for unit in (small, large)]
    first, second = (values(text)[0] for text in spelled)
    assert first == pytest.approx(second, rel=1e-6)
