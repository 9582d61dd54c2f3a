"""Any text: written values read back, qualified ones never do, nothing raises, linear work."""

from __future__ import annotations

import math
import sys
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core.answer import SIDES, Asked, Quantity
from sdvlm_core.language.amounts import amounts
from sdvlm_core.language.question import OBJECTS, parse, phrase
from sdvlm_core.language.reading import measured, read
from tests.core.language.hostile import HOSTILE

Q = Quantity
METRES = {
    "km": 1000.0,
    "m": 1.0,
    "meters": 1.0,
    "metres": 1.0,
    "cm": 0.01,
    "centimeters": 0.01,
    "mm": 0.001,
    "inches": 0.0254,
    "ft": 0.3048,
    "feet": 0.3048,
    "yards": 0.9144,
}
LENGTHS = st.floats(1.0, 9999.0, allow_nan=False)  # written with any digits it is not zero
UNITS = st.sampled_from(sorted(METRES))
NAMES = st.sampled_from(["mug", "red mug", "tin can", "coffee table", "tall lamp", "left chair"])
ONE = {Q.HEIGHT: ("height", "tall"), Q.WIDTH: ("width", "wide"), Q.LENGTH: ("length", "long")}
FORMS = [
    "{value}",
    "{value}.",
    "About {value}.",
    "It is {value} {adjective}.",
    "It is approximately {value}.",
    "The {name} is {value} {adjective}.",
    "The {noun} of the {name} is {value}.",
    "The {name} has a {noun} of roughly {value}.",
    "The {name}'s {noun} is {value}.",
    "**{noun}:** {value}",
    "- {noun}: {value}",
    "I would estimate that the {name} is around {value} {adjective}.",
    "The final answer is $\\boxed{{{value}}}$.",
    "Looking at the image, the {name} appears to be {value} {adjective}.",
]
#: What makes a number no value: the number with it must not be read.
QUALIFIED = [
    "not {value}",
    "more than {value}",
    "less than {value}",
    "at most {value}",
    "at least {value}",
    "no more than {value}",
    "up to {value}",
    "half of {value}",
    "twice {value}",
    "a third of {value}",
    "under {value}",
    "over {value}",
    "{value} or more",
    "{value} at most",
    "{value} {comparative} than the box",
    "{value} from the box",
    "{value} to the left of the box",
    "as {adjective} as a {value} box",
    "next to a {value} {adjective} box",
]
COMPARATIVE = {"tall": "taller", "wide": "wider", "long": "longer"}


@given(
    side=st.sampled_from(sorted(ONE)),
    name=NAMES,
    form=st.sampled_from(FORMS),
    value=LENGTHS,
    digits=st.integers(0, 4),
    unit=UNITS,
)
def test_a_side_written_in_any_form_is_read_back(
    side: Quantity, name: str, form: str, value: float, digits: int, unit: str
) -> None:
    noun, adjective = ONE[side]
    number = f"{value:.{digits}f}"
    text = form.format(value=f"{number} {unit}", name=name, noun=noun, adjective=adjective)
    (found,) = read(text, Asked(side, (name,))).measurements
    assert (found.kind, found.objects) == (side, (name,))
    assert found.value == pytest.approx(float(number) * METRES[unit])


@given(
    side=st.sampled_from(sorted(ONE)),
    name=NAMES,
    form=st.sampled_from(QUALIFIED),
    opening=st.sampled_from(["", "It is ", "The {name} is ", "I think the {name} is about "]),
    value=LENGTHS,
    unit=UNITS,
)
def test_a_qualified_number_is_never_read(
    side: Quantity, name: str, form: str, opening: str, value: float, unit: str
) -> None:
    adjective = ONE[side][1]
    text = (opening + form).format(
        value=f"{value:.2f} {unit}",
        adjective=adjective,
        comparative=COMPARATIVE[adjective],
        name=name,
    )
    reading = read(text, Asked(side, (name,)))
    assert reading.measurements == ()
    assert reading.why_none


@given(
    quantity=st.sampled_from([Q.DISTANCE, Q.GAP, Q.CAMERA_DISTANCE, Q.DIFFERENCE]),
    value=LENGTHS,
    unit=UNITS,
)
def test_the_other_lengths_are_read_back(quantity: Quantity, value: float, unit: str) -> None:
    forms = {
        Q.DISTANCE: "The distance between the mug and the box is {}.",
        Q.GAP: "The gap between the mug and the box is {}.",
        Q.CAMERA_DISTANCE: "The mug is {} away from the camera.",
        Q.DIFFERENCE: "The mug is {} taller than the box.",
    }
    objects = ("mug", "box")[: OBJECTS[quantity][0]]
    relation = "taller" if quantity is Q.DIFFERENCE else ""
    for kind, form in forms.items():
        text = form.format(f"{value:.3f} {unit}")
        found = read(text, Asked(quantity, objects, relation)).measurements
        if kind is quantity:
            assert [m.value for m in found] == pytest.approx([float(f"{value:.3f}") * METRES[unit]])
        elif {kind, quantity} != {Q.DISTANCE, Q.GAP} or kind is Q.GAP:
            assert found == ()  # a plain "distance" may answer a question for the gap


@given(
    sizes=st.tuples(LENGTHS, LENGTHS, LENGTHS),
    units=st.tuples(*[st.sampled_from(["m", "cm", "meters"])] * 3),
)
def test_a_size_is_read_in_any_mix_of_units(
    sizes: tuple[float, float, float], units: tuple[str, str, str]
) -> None:
    parts = [f"{size:.2f} {unit}" for size, unit in zip(sizes, units, strict=True)]
    found = read(" x ".join(parts), Asked(Q.SIZE, ("bed",))).measurements
    first, second, third = (amount.value for amount in amounts(" x ".join(parts)))
    assert tuple(m.kind for m in found) == SIDES
    wanted = [max(first, second), min(first, second), third]
    assert [m.value for m in found] == pytest.approx(wanted)


@given(
    order=st.permutations(["W", "H", "D"]),
    sizes=st.tuples(*[st.integers(1, 500)] * 3),
    form=st.sampled_from(["after", "bracket", "each"]),
)
def test_labelled_sides_are_read_in_any_order(
    order: list[str], sizes: tuple[int, int, int], form: str
) -> None:
    a, b, c = sizes
    text = {
        "after": f"{a} x {b} x {c} cm ({' x '.join(order)})",
        "bracket": " x ".join(f"{n} cm ({side})" for n, side in zip(sizes, order, strict=True)),
        "each": ", ".join(f"{side}: {n} cm" for n, side in zip(sizes, order, strict=True)),
    }[form]
    found = {m.kind: m.value for m in read(text, Asked(Q.SIZE, ("box",))).measurements}
    kinds = {"W": Q.WIDTH, "H": Q.HEIGHT, "D": Q.LENGTH}
    wanted = {kinds[side]: n / 100 for side, n in zip(order, sizes, strict=True)}
    assert found == pytest.approx(wanted)


@given(u=st.integers(0, 100), v=st.integers(0, 100))
def test_a_formatted_image_point_is_read_with_the_same_values(u: int, v: int) -> None:
    asked = Asked(Q.POSITION, ("mug",))
    for text in (
        f"({u / 100:g},{v / 100:g}).",
        f'<point x="{u}" y="{v}">',
        f"({u}%, {v}%)",
        f"x = {u / 100:.2f}, y = {v / 100:.2f}",
    ):
        assert read(text, asked).image_points == (pytest.approx((u / 100, v / 100)),)


WORDS = """200 hundred thousand dozen point minus
0 1 2.5 1,000 .5 1e3 m cm ft in ' " x by - to and a half of the between \u00b1 / \u00bd
one two width height is distance size since so no yes not , . ( ) chair how many can from 5'11"
| ** $ \\boxed{ } { "height_m": : <point x="3" which taller than if"""
MEASURING = st.lists(st.sampled_from([*WORDS.split(), " ", "\n"]), max_size=40)


@settings(max_examples=300)
@given(
    text=st.one_of(st.text(max_size=200), MEASURING.map(" ".join), MEASURING.map("".join)),
    quantity=st.sampled_from(Quantity),
)
def test_no_text_raises_or_gives_a_number_that_is_not_finite(text: str, quantity: Quantity) -> None:
    objects = ("chair", "can", "mug")[: OBJECTS.get(quantity, (0, 0))[0]]
    relation = "taller" if quantity in (Q.COMPARISON, Q.DIFFERENCE) else ""
    for asked in (Asked(quantity, objects, relation), parse(text)):
        for measurement in read(text, asked).measurements:
            assert math.isfinite(measurement.value)
            assert measurement.value >= 0
            assert measurement.text


def _calls(text: str) -> int:
    """Function calls, built-in ones included, that reading takes: the same on every machine."""
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        measured("What is the width of the lamp?", text)
        read(text, Asked())
        parse(text)
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


def test_a_phrased_question_states_no_answer() -> None:
    words = phrase(Asked(Q.HEIGHT, ("table",), reference="the bed is 0.81 m high"))
    assert read(words, Asked(Q.HEIGHT, ("table",))).measurements == ()
