"""Any text: formatted values are read back, nothing raises, and the work grows linearly."""

from __future__ import annotations

import math
import sys
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core.answer import Quantity
from sdvlm_core.language.reading import Reading, measurements, parse
from tests.core.language.test_reading import LENGTH_UNITS, values

W, H, L, D, C = Quantity.WIDTH, Quantity.HEIGHT, Quantity.LENGTH, Quantity.DISTANCE, Quantity.COUNT


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


@given(
    sizes=st.tuples(LENGTHS, LENGTHS, LENGTHS),
    units=st.tuples(*[st.sampled_from(["m", "cm", "meters"])] * 3),
)
def test_a_size_is_read_in_order_in_any_mix_of_units(
    sizes: tuple[float, float, float], units: tuple[str, str, str]
) -> None:
    parts = [f"{size:.2f} {unit}" for size, unit in zip(sizes, units, strict=True)]
    found = measurements("What is the size of the bed?", parse(" x ".join(parts)))
    assert [m.kind for m in found] == [L, W, H]
    expected = [
        float(f"{size:.2f}") * LENGTH_UNITS[unit] for size, unit in zip(sizes, units, strict=True)
    ]
    assert [m.value for m in found] == pytest.approx(expected)


@given(u=st.integers(0, 100), v=st.integers(0, 100))
def test_a_formatted_image_point_is_read_with_the_same_values(u: int, v: int) -> None:
    assert parse(f"({u / 100:g},{v / 100:g}).").image_points == ((u / 100, v / 100),)


WORDS = """200 hundred thousand dozen point minus
0 1 2.5 1,000 .5 1e3 m cm ft in ' " x by - to and a half of the between \u00b1 / \u00bd
one two width height is distance size since so no yes not , . ( ) chair how many can from 5'11" """


MEASURING = st.lists(st.sampled_from([*WORDS.split(), " ", "\n"]), max_size=40)


@settings(max_examples=400)
@given(text=st.one_of(st.text(max_size=200), MEASURING.map(" ".join), MEASURING.map("".join)))
def test_no_text_raises_or_gives_a_number_that_is_not_finite(text: str) -> None:
    reading = parse(text)
    for quantity in reading.quantities:
        assert math.isfinite(quantity.value)
        assert not math.isinf(quantity.std_dev)
        assert text[slice(*quantity.span)] == quantity.text != ""
    starts = [quantity.span for quantity in reading.quantities]
    assert starts == sorted(starts)
    for measurement in measurements(text, reading):
        assert math.isfinite(measurement.value)


HOSTILE = [
    "1" * 10_000,
    "1," * 5_000,
    "1.1" * 3_333,
    "1 m, " * 2_000,
    "1 x " * 2_500,
    "1 m x " * 1_666,
    "(" * 10_000,
    "(0.1,0.1)" * 1_111,
    "the " * 2_500,
    "and a half " * 909,
    "height of a, b and c are 1 m, " * 333,
    "width of the ? " * 666,
    "the distance between " * 476,
    "since no not is one " * 500,
    "'" * 10_000,
    "5'" * 5_000,
    "-" * 10_000,
    " " * 10_000,
    "\n1. a" * 2_000,
    "how many " * 1_111,
    "a" * 10_000,
    "twenty " * 1_428,
    "one hundred and " * 625,
    "thousand two " * 769,
    "one" + " thousand" * 1_111,
    "200 " * 2_500,
    "1 200 200 200 " * 714,
    "1'200" * 2_000,
    "zero point five " * 625,
]


def _calls(text: str) -> int:
    """Function calls, built-in ones included, that reading takes: the same on every machine."""
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        measurements("What is the width of the lamp?", parse(text))
        measurements(text, Reading(""))
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
def test_the_work_grows_linearly_with_hostile_text(text: str) -> None:
    # benchmarks/reading.py measures the time, which a regular expression could still waste.
    assert _calls(text[:2400]) < 3 * _calls(text[:1200]) + 1000


def test_the_work_grows_linearly_with_a_long_answer() -> None:
    unit = "the height of the lamp and the cup are 1.2 m and 3 ft, so (0.1,0.2) no "
    assert _calls(unit * 64) < 9 * _calls(unit * 8)
