"""Numbers read from text: recorded answer forms, human spellings, hostile text."""

from __future__ import annotations

import math
import sys
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core.answer import Kind
from sdvlm_core.language.reading import Reading, measurements, parse

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


def values(text: str, dimension: str = "length") -> list[float]:
    return [q.value for q in parse(text).quantities if q.dimension == dimension]


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
        ("1 m and 20 cm", [1.0, 0.2]),
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
    (quantity,) = parse(text).quantities
    assert (quantity.value, quantity.std_dev) == pytest.approx((value, std_dev))
    assert quantity.text == text


def test_a_single_number_has_an_unknown_deviation_not_a_zero_one() -> None:
    assert math.isnan(parse("1.2 m").quantities[0].std_dev)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("(0.72,0.28).", ((0.72, 0.28),)),
        ("It is located at (0.58, 0.41) in the image.", ((0.58, 0.41),)),
        ("[0.1; .5] and (0,1)", ((0.1, 0.5), (0.0, 1.0))),
        ("(320, 240)", ()),
        ("(1.2 m, 0.5 m)", ()),
        ("0.72, 0.28", ()),
    ],
)
def test_image_points_are_pairs_within_the_unit_square(
    text: str, points: tuple[tuple[float, float], ...]
) -> None:
    assert parse(text).image_points == points


def test_the_numbers_of_an_image_point_are_not_quantities() -> None:
    assert parse("It is located at (0.58,0.41).").quantities == ()


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("Yes, the A is to the right of the B.", True),
        ("Indeed, the A is positioned on the left side of the B.", True),
        ("yes", True),
        ("The answer is yes.", True),
        ("No, the A is to the right of the B.", False),
        ("No the A is to the right of the B.", False),
        ("The answer is: no.", False),
        ("No sofa in the scene.", None),
        ("The A is to the left.", None),
        ("I know a yes when I see one", None),
        ("", None),
    ],
)
def test_yes_and_no_are_distinguished_from_determiners(text: str, yes: bool | None) -> None:
    assert parse(text).yes is yes


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("There is no sofa in the image", True),
        (". There is no washing machines.", True),
        ("No sofa in the scene.", True),
        ("Can not find sofas.", True),
        ("I cannot find a sofa.", True),
        ("I don't see any sofa.", True),
        ("The sofa is not visible.", True),
        ("There isn\u2019t a sofa.", True),
        ("There are no chairs.", True),
        ("The sofa does not exist in the scene.", True),
        ("There is only 1 bed in the image.", False),
        ("No, the A is to the right of the B.", False),
        ("No, it is not to the left.", False),
        ("There isn't enough light, but roughly 0.5 m.", False),
        ("There is no doubt: the width is 0.5 m.", False),
        ("The width of the sofa is 0.5 m.", False),
        ("The sofa is not taller than the lamp.", False),
    ],
)
def test_absence_is_distinguished_from_a_plain_no(text: str, absent: bool) -> None:
    assert parse(text).absent is absent


W, H, L, D, C = Kind.WIDTH, Kind.HEIGHT, Kind.LENGTH, Kind.DISTANCE, Kind.COUNT
MSMU_ANSWERS = [  # question, answer, expected (kind, SI value, label); forms as in the data set
    (
        "What is the width of the wall shelves?",
        "The width  of the wall shelves is 99.2 cm.",
        [(W, 0.992, "wall shelves")],
    ),
    (
        "What is the width of the wall shelves?",
        "the wall shelves measures 0.37 meters in width.",
        [(W, 0.37, "wall shelves")],
    ),
    (
        "What is the width of the bin?",
        "the bin is with the width of 0.26 meters.",
        [(W, 0.26, "bin")],
    ),
    ("What is the height of the closet?", "The height of closet is 1.19 m.", [(H, 1.19, "closet")]),
    (
        "What is the height of the closet?",
        "the closet is with the height of 0.2 m.",
        [(H, 0.2, "closet")],
    ),
    (
        "What is the size of the dark pillow?",
        "The size of the dark pillow is 3.09 m x 0.13 m x 0.34 m. ",
        [(L, 3.09, "dark pillow"), (W, 0.13, "dark pillow"), (H, 0.34, "dark pillow")],
    ),
    (
        "What is the size of the rug?",
        "the rug is with the length of 3 m, width of 20 cm, and height of 0.5 meters.",
        [(L, 3.0, "rug"), (W, 0.2, "rug"), (H, 0.5, "rug")],
    ),
    (
        "What is the distance between the cup and the red lamp?",
        "The distance is 0.94 m.",
        [(D, 0.94, "cup and red lamp")],
    ),
    (
        "What is the distance between the cup and the red lamp?",
        "A distance of 0.78 m exists between cup and red lamp.",
        [(D, 0.78, "cup and red lamp")],
    ),
    (
        "What is the distance between the cup and the lamp?",
        "cup and lamp are 0.7 m apart from each other.",
        [(D, 0.7, "cup and lamp")],
    ),
    ("How many chairs are there in the image ?", "2.", [(C, 2.0, "chairs")]),
    (
        "what's the total number of beds in the image?",
        "There is only 1 bed in the image.",
        [(C, 1.0, "beds")],
    ),
    ("What is the coordinate of the black TV ?", "It is located at (0.58,0.41) in the image.", []),
    ("What object is located at (0.97,0.6)?", "It is the dark chair.", []),
    (
        "Is the bed to the left of the curtain from the viewer's perspective ?",
        "No, the bed is to the right of the curtain.",
        [],
    ),
    (
        "Which one is lower, the white microwave or the bin?",
        "The height of white microwave is 0.3 m and bin is 40 cm, so white microwave is lower.",
        [(H, 0.3, "white microwave"), (H, 0.4, "bin")],
    ),
    (
        "Between the toilet and the tub, which one is smaller?",
        "The size of toilet is 0.5 m x 0.4 m x 0.8 m and tub is 1.5 m x 0.7 m x 60 cm, "
        "so toilet is smaller.",
        [
            *((L, 0.5, "toilet"), (W, 0.4, "toilet"), (H, 0.8, "toilet")),
            *((L, 1.5, "tub"), (W, 0.7, "tub"), (H, 0.6, "tub")),
        ],
    ),
    ("What is lowest among the tv, the pillow, or the bed?", "The lowest is the bed.", []),
    (
        "What is lowest among the tv, the pillow, or the bed?",
        "The height of the tv, the pillow and the bed are 0.5 m, 60 cm and 0.7 meters, "
        "so the lowest is the tv.",
        [(H, 0.5, "tv"), (H, 0.6, "pillow"), (H, 0.7, "bed")],
    ),
    (
        "The width of the desk is 1.07 m, can you measure the width of the swivel chair?",
        "Since the width of desk is 1.07 meters, i think the width of swivel chair is 0.33 m.",
        [(W, 0.33, "swivel chair")],
    ),
    (
        "The height of the desk is 1.07 m, what is the size of the chair?",
        "Since the height of desk is 1.07 m, i think the size of chair is 1.2 m x 0.3 m x 50 cm.",
        [(L, 1.2, "chair"), (W, 0.3, "chair"), (H, 0.5, "chair")],
    ),
    (
        "The height of the desk is 1.07 m, what is the height of the chair?",
        "Since the height of desk is 1.07 m, i think chair is 0.38 m in height.",
        [(H, 0.38, "chair")],
    ),
    (
        "The distance between cup and lamp is 0.5 m, what is the distance between lamp and can?",
        "Since the distance between cup and lamp is 0.5 m, "
        "i think the distance between lamp and can is 70 cm.",
        [(D, 0.7, "lamp and can")],
    ),
    (
        "The height of the bed is 0.81 m, what is the height of the table and the nightstand ?",
        "Since the height of bed is 0.81 m,i think  the height of table is 0.7 m "
        "and the height of nightstand is 55 cm.",
        [(H, 0.7, "table"), (H, 0.55, "nightstand")],
    ),
    ("What is the size of the pipe?", "There is no pipe in the image", []),
    (
        "The width of the desk is 1.07 m, what is the width of the chair?",
        "To determine the width of the chair, I should think it through step by step. "
        "The desk is 1.07 m wide. The chair appears to be roughly half of it. "
        "Thus, the estimated width is around 53.5 cm.",
        [(W, 0.535, "chair")],
    ),
]


@pytest.mark.parametrize(("question", "answer", "expected"), MSMU_ANSWERS)
def test_recorded_answer_forms_give_the_asked_measurements(
    question: str, answer: str, expected: list[tuple[Kind, float, str]]
) -> None:
    found = measurements(question, parse(answer))
    assert [(m.kind, m.label) for m in found] == [(kind, label) for kind, _, label in expected]
    assert [m.value for m in found] == pytest.approx([value for _, value, _ in expected])


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("How tall is the red ball?", "About half a metre.", [(H, 0.5, "red ball")]),
        ("How far is the cup from the can?", "It is 2 m away.", [(D, 2.0, "cup and can")]),
        ("How far apart are the cup and the can?", "30 cm", [(D, 0.3, "cup and can")]),
        ("How far is the cup from the can?", "The cup is 2 m away.", [(D, 2.0, "cup and can")]),
        (
            "How far are the cup and the can?",
            "The cup is 2 m away and the can is 3 m away.",
            [(D, 2.0, "cup"), (D, 3.0, "can")],
        ),
        ("How far am I from the can?", "30 cm", [(D, 0.3, "can")]),
        ("How wide is the lamp in meters?", "0.3 m", [(W, 0.3, "lamp")]),
        ("What is the height of the lamp?", "It is 0.5 m wide and 0.3 m tall.", [(H, 0.3, "lamp")]),
        ("How many cups are there?", "I see 2 cans and three cups.", [(C, 3.0, "cups")]),
        (
            "The height of the bed is 0.8 m, what is the height of the mug and the tin can?",
            "0.50 m and 60 cm.",
            [(H, 0.5, "mug"), (H, 0.6, "tin can")],
        ),
        ("What is the height of the can and the mug?", "1 m", [(H, 1.0, "can and the mug")]),
        ("How tall is the mug?", "About 1.5 m (4.9 ft).", [(H, 1.5, "mug")]),
        ("How wide is the gap?", "1.2 m", [(W, 1.2, "gap")]),
        ("How tall is the mug?", "It is 0.5 m. No, it is 0.6 m.", [(H, 0.6, "mug")]),
        ("How big is the can?", "1 m x 2 m x 3 m.", [(L, 1, "can"), (W, 2, "can"), (H, 3, "can")]),
        ("How many cups are there?", "There are no cups.", [(C, 0.0, "cups")]),
        ("What is the width of the tall lamp?", "The lamp's width is 0.3 m.", [(W, 0.3, "lamp")]),
    ],
)
def test_free_answers_are_read_together_with_the_question(
    question: str, answer: str, expected: list[tuple[Kind, float, str]]
) -> None:
    found = measurements(question, parse(answer))
    assert [(m.kind, m.value, m.label) for m in found] == expected


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the width of the lamp?", "0.5"),
        ("What is the width of the lamp?", "-0.5 m"),
        ("What is the width of the lamp?", "It is minus 0.5 m wide."),
        ("How many books are there?", "There are 1 200 books."),
        ("What is the width of the lamp?", "The height of the lamp is 0.5 m."),
        ("What is the width of the lamp?", "It is 0.5 m thick."),
        ("What is the size of the lamp?", "It is 0.5 m."),
        ("What is the size of the lamp?", "0.5 m x 0.2 m"),
        ("What do you see?", "0.5 m"),
        ("How many lamps are there?", "0.5 m"),
        ("", ""),
    ],
)
def test_a_number_whose_meaning_is_not_stated_is_left_out(question: str, answer: str) -> None:
    assert measurements(question, parse(answer)) == ()


def test_the_deviation_of_a_stated_range_is_in_the_measurement() -> None:
    (width,) = measurements("How wide is the lamp?", parse("1.2 to 1.5 m"))
    assert (width.value, width.std_dev) == pytest.approx((1.35, 0.3 / math.sqrt(12)))
    assert width.text == "1.2 to 1.5 m"


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
    assert _calls(text[:4800]) < 5 * _calls(text[:1200]) + 1000


def test_the_work_grows_linearly_with_a_long_answer() -> None:
    unit = "the height of the lamp and the cup are 1.2 m and 3 ft, so (0.1,0.2) no "
    assert _calls(unit * 64) < 9 * _calls(unit * 8)
