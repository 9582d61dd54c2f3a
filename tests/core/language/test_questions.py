"""Questions: words become a typed question only where all of them are understood."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.language.question import OBJECTS, RELATIONS, Dialect, parse, parse_each, phrase

Q = Quantity
MUG, BOX = "mug", "box"

PLAIN = [
    ("How tall is the mug?", Asked(Q.HEIGHT, (MUG,))),
    ("HOW TALL IS THE MUG?", Asked(Q.HEIGHT, (MUG,))),
    ("how high is the mug", Asked(Q.HEIGHT, (MUG,))),
    ("Please measure the height of the mug.", Asked(Q.HEIGHT, (MUG,))),
    ("Give me the height of the mug, please.", Asked(Q.HEIGHT, (MUG,))),
    ("Can you tell me the height of the mug?", Asked(Q.HEIGHT, (MUG,))),
    ("Could you please tell me how tall the mug is?", Asked(Q.HEIGHT, (MUG,))),
    ("What is the mug's height?", Asked(Q.HEIGHT, (MUG,))),
    ("In the image, how tall is the red mug?", Asked(Q.HEIGHT, ("red mug",))),
    ("What's the estimated height of this mug?", Asked(Q.HEIGHT, (MUG,))),
    ("What is the height of the mug in cm?", Asked(Q.HEIGHT, (MUG,), unit="cm")),
    ("How many centimeters tall is the mug?", Asked(Q.HEIGHT, (MUG,), unit="cm")),
    ("How tall is the mug? Please answer in inches.", Asked(Q.HEIGHT, (MUG,), unit="in")),
    ("Give me the height of the mug. Use feet for the answer.",
     Asked(Q.HEIGHT, (MUG,), unit="ft")),
    ("How tall is the mug? Answer in cm or in inches.", Asked(Q.HEIGHT, (MUG,))),
    ("How tall is the mug? Answer in feet and inches.", Asked(Q.HEIGHT, (MUG,))),
    ("How tall is the mug in feet? Answer in inches.", Asked(Q.HEIGHT, (MUG,))),
    ("How tall is the mug? Answer in one word.", Asked(Q.HEIGHT, (MUG,))),
    ("Give me the height of the mug. Please be precise.", Asked(Q.FREE)),
    ("How tall is the mug? The blue one, not the red one.", Asked(Q.FREE)),
    ("How wide is the box, in inches?", Asked(Q.WIDTH, (BOX,), unit="in")),
    ("How long is the bench?", Asked(Q.LENGTH, ("bench",))),
    ("How big is the box?", Asked(Q.SIZE, (BOX,))),
    ("What are the dimensions of the box?", Asked(Q.SIZE, (BOX,))),
    ("Please give the length, width and height of the box.", Asked(Q.SIZE, (BOX,))),
    ("How far is the mug from the box?", Asked(Q.DISTANCE, (MUG, BOX))),
    ("How far apart are the mug and the box?", Asked(Q.DISTANCE, (MUG, BOX))),
    ("What is the distance from the mug to the box?", Asked(Q.DISTANCE, (MUG, BOX))),
    ("How many meters apart are the mug and the box?", Asked(Q.DISTANCE, (MUG, BOX), unit="m")),
    ("How far is the mug from the camera?", Asked(Q.CAMERA_DISTANCE, (MUG,))),
    ("How far is the mug from you?", Asked(Q.CAMERA_DISTANCE, (MUG,))),
    ("How far away is the mug?", Asked(Q.CAMERA_DISTANCE, (MUG,))),
    ("What is the distance between the viewer and the mug?", Asked(Q.CAMERA_DISTANCE, (MUG,))),
    ("What is the distance from the camera to the mug?", Asked(Q.CAMERA_DISTANCE, (MUG,))),
    ("How far from the camera is the mug?", Asked(Q.CAMERA_DISTANCE, (MUG,))),
    ("How far am I from the mug?", Asked(Q.CAMERA_DISTANCE, (MUG,))),
    ("What is the gap between the mug and the box?", Asked(Q.GAP, (MUG, BOX))),
    ("What is the clearance between the mug and the box?", Asked(Q.GAP, (MUG, BOX))),
    ("How close are the surfaces of the mug and the box?", Asked(Q.GAP, (MUG, BOX))),
    ("How much space is there between the mug and the box?", Asked(Q.GAP, (MUG, BOX))),
    ("What is the surface-to-surface distance between the mug and the box?",
     Asked(Q.GAP, (MUG, BOX))),
    ("Where is the mug?", Asked(Q.POSITION, (MUG,))),
    ("What is the coordinate of the black TV ?", Asked(Q.POSITION, ("black TV",))),
    ("How many chairs are there in the image ?", Asked(Q.COUNT, ("chairs",))),
    ("what's the total number of beds in the image?", Asked(Q.COUNT, ("beds",))),
    ("Is there a mug in the image?", Asked(Q.EXISTS, (MUG,))),
    ("Can you see a red mug?", Asked(Q.EXISTS, ("red mug",))),
    ("Is the mug taller than the box?", Asked(Q.COMPARISON, (MUG, BOX), "taller")),
    ("Is the mug higher than the box?", Asked(Q.COMPARISON, (MUG, BOX), "higher")),
    ("Is the mug bigger than the box?", Asked(Q.COMPARISON, (MUG, BOX), "larger")),
    ("Is the mug nearer to the camera than the box?", Asked(Q.COMPARISON, (MUG, BOX), "closer")),
    ("Is the mug to the left of the box?", Asked(Q.COMPARISON, (MUG, BOX), "left")),
    ("Is the mug below the box?", Asked(Q.COMPARISON, (MUG, BOX), "below")),
    ("Which one is lower, the mug or the box?",
     Asked(Q.COMPARISON, (MUG, BOX), "lower", which=True)),
    ("Of the two, the mug and the box, which is farther?",
     Asked(Q.COMPARISON, ("mug", "box"), "farther", which=True)),
    ("Of these three objects: the mug, the box and the can, which is the tallest?",
     Asked(Q.COMPARISON, ("mug", "box", "can"), "taller", which=True)),
    ("How tall is the two?", Asked(Q.FREE)),
    ("How long would you say the box is?", Asked(Q.LENGTH, (BOX,))),
    ("What would you say is the height of the box?", Asked(Q.HEIGHT, (BOX,))),
    ("Would you say the mug is taller than the box?", Asked(Q.COMPARISON, (MUG, BOX), "taller")),
    ("Do you think that there is a mug?", Asked(Q.EXISTS, (MUG,))),
    ("How tall should you be?", Asked(Q.FREE)),
    ("Between the mug and the box, which one is smaller?",
     Asked(Q.COMPARISON, (MUG, BOX), "smaller", which=True)),
    ("What is the tallest among the mug, the box, or the can?",
     Asked(Q.COMPARISON, (MUG, BOX, "can"), "taller", which=True)),
    ("How much taller is the mug than the box?", Asked(Q.DIFFERENCE, (MUG, BOX), "taller")),
    ("How many cm taller is the mug than the box?",
     Asked(Q.DIFFERENCE, (MUG, BOX), "taller", unit="cm")),
    ("The height of the bed is 0.81 m, what is the height of the table?",
     Asked(Q.HEIGHT, ("table",), reference="the height of the bed is 0.81 m")),
    ("Given that the bed is 0.81 m high, how tall is the table?",
     Asked(Q.HEIGHT, ("table",), reference="the bed is 0.81 m high")),
    ("How tall is the table if the bed is 0.81 m high?",
     Asked(Q.HEIGHT, ("table",), reference="the bed is 0.81 m high")),
    # A part of an object is not the object, and what follows a name is not the name.
    ("How far is it from the left side of the mug to its right side?", Asked(Q.FREE)),
    ("How far is it from one end of the bench to the other?", Asked(Q.FREE)),
    ("How far is the top of the box from the mug?", Asked(Q.FREE)),
    ("How far away is the corner of the box?", Asked(Q.FREE)),
    ("How large is the box in reality?", Asked(Q.SIZE, (BOX,))),
    ("Is there a red mug anywhere in view?", Asked(Q.EXISTS, ("red mug",))),
    ("How many mugs appear in the picture?", Asked(Q.COUNT, ("mugs",))),
    ("Count the mugs in view.", Asked(Q.COUNT, ("mugs",))),
    ("Estimate the total number of mugs in view.", Asked(Q.COUNT, ("mugs",))),
    ("What's the height of the mug from bottom to top?", Asked(Q.HEIGHT, (MUG,))),
    ("How high does the mug stand from its base to its top?", Asked(Q.HEIGHT, (MUG,))),
    ("How high does the lamp stand?", Asked(Q.FREE)),
    ("How high is the shelf above the floor?", Asked(Q.FREE)),
    ("How many books can fit on the shelf?", Asked(Q.FREE)),
    ("Which is closer to the door, the chair or the table?", Asked(Q.FREE)),
    ("How much does the box measure from side to side?", Asked(Q.WIDTH, (BOX,))),
    ("How long is the bench from end to end?", Asked(Q.LENGTH, ("bench",))),
    ("How big is the bench from end to end?", Asked(Q.FREE)),
    ("What width does the box have?", Asked(Q.WIDTH, (BOX,))),
    ("What size is the box?", Asked(Q.SIZE, (BOX,))),
    ("What is the vertical extent of the mug?", Asked(Q.HEIGHT, (MUG,))),
    # A distance is that of the centres, said or not.
    ("How far is the centre of the mug from the centre of the box?", Asked(Q.DISTANCE, (MUG, BOX))),
    ("How far is it from the middle of the mug to the middle of the box?",
     Asked(Q.DISTANCE, (MUG, BOX))),
    ("What distance separates the centres of the mug and the box?", Asked(Q.DISTANCE, (MUG, BOX))),
    ("What is the spacing between the mug and the box?", Asked(Q.DISTANCE, (MUG, BOX))),
    ("How much room is left between the nearest surfaces of the mug and the box?",
     Asked(Q.GAP, (MUG, BOX))),
    ("What clearance do I have between the mug and the box?", Asked(Q.GAP, (MUG, BOX))),
    ("At what distance from the camera is the mug?", Asked(Q.CAMERA_DISTANCE, (MUG,))),
    ("How far away from the camera does the mug sit?", Asked(Q.CAMERA_DISTANCE, (MUG,))),
    ("At what position in the picture does the mug appear?", Asked(Q.POSITION, (MUG,))),
    ("Is it true that the mug is taller than the box?", Asked(Q.COMPARISON, (MUG, BOX), "taller")),
    ("Can you confirm whether the mug is to the left of the box?",
     Asked(Q.COMPARISON, (MUG, BOX), "left")),
    ("Looking at the mug and the box, which of the two is taller?",
     Asked(Q.COMPARISON, (MUG, BOX), "taller", which=True)),
    ("Compare the mug, the box and the can: which is the widest?",
     Asked(Q.COMPARISON, (MUG, BOX, "can"), "wider", which=True)),
    ("Pick the tallest of these three: the mug, the box and the can.",
     Asked(Q.COMPARISON, (MUG, BOX, "can"), "taller", which=True)),
    ("Could you work out how far the mug is from the box?", Asked(Q.DISTANCE, (MUG, BOX))),
    ("I'd like you to find the width of the box.", Asked(Q.WIDTH, (BOX,))),
    ("The bed is 0.81 m high, what would the height of the table be?",
     Asked(Q.HEIGHT, ("table",), reference="the bed is 0.81 m high")),
]  # fmt: skip


@pytest.mark.parametrize(("words", "asked"), PLAIN)
def test_words_become_a_typed_question(words: str, asked: Asked) -> None:
    assert parse(words) == asked


@pytest.mark.parametrize(
    "words",
    [
        "",
        "What do you see?",
        "Describe the scene.",
        "What object is located at (0.97,0.6)?",
        "How far is it?",
        "How tall are they?",
        "How close is the mug to the box?",
        "Is the mug within 2 m of the camera?",
        "Is the mug taller than 10 cm?",
        "Isn't the mug taller than the box?",
        "How heavy is the mug?",
        "What is the distance between the can, the book and the plate?",
        "How tall is the mug and what is the width of the box?",
        "What is the height of the salt and pepper shaker?",
        "Is the mug shorter or taller than the box?",
        "Will the mug fit into the box?",
        "x" * 5000,
    ],
)
def test_a_question_that_is_not_understood_for_certain_is_free(words: str) -> None:
    assert parse(words).quantity is Quantity.FREE


def test_a_question_about_several_objects_is_one_question_for_each() -> None:
    words = (
        "The height of the bed is 0.81 m, what is the height of the table and of the nightstand?"
    )
    fact = "the height of the bed is 0.81 m"
    assert parse_each(words) == (
        Asked(Q.HEIGHT, ("table",), reference=fact),
        Asked(Q.HEIGHT, ("nightstand",), reference=fact),
    )
    assert parse(words) == Asked(Q.FREE, ("table", "nightstand"), reference=fact)
    sides = parse_each("How tall and wide is the mug?")
    assert [one.quantity for one in sides] == [Q.HEIGHT, Q.WIDTH]


# Without vowels no word of the grammar can appear in a name.
WORD = st.text("bcdfghjklmnpqrtvwxz", min_size=3, max_size=9).filter(lambda word: word != "mm")
NAME = st.lists(WORD, min_size=1, max_size=3).map(" ".join)
LENGTHS = (Q.HEIGHT, Q.WIDTH, Q.LENGTH, Q.SIZE, Q.DISTANCE, Q.GAP, Q.CAMERA_DISTANCE, Q.DIFFERENCE)


@given(
    quantity=st.sampled_from([one for one in Quantity if one is not Q.FREE]),
    names=st.lists(NAME, min_size=4, max_size=4, unique=True),
    relation=st.sampled_from(sorted(RELATIONS)),
    which=st.booleans(),
    unit=st.sampled_from(["", "m", "cm", "mm", "in", "ft"]),
    reference=st.sampled_from(["", "the bed is 0.81 m high"]),
    dialect=st.sampled_from(Dialect),
)
def test_every_phrased_question_is_parsed_back(
    quantity: Quantity,
    names: list[str],
    relation: str,
    which: bool,
    unit: str,
    reference: str,
    dialect: Dialect,
) -> None:
    compares = quantity in (Q.COMPARISON, Q.DIFFERENCE)
    which = which and quantity is Q.COMPARISON
    assume(quantity is not Q.DIFFERENCE or RELATIONS[relation] is not Q.POSITION)
    count = 4 if which else 2 if quantity is Q.COMPARISON else OBJECTS[quantity][0]
    asked = Asked(
        quantity,
        tuple(names[:count]),
        relation if compares else "",
        which,
        unit if quantity in LENGTHS else "",
        reference,
    )
    assert parse(phrase(asked, dialect)) == asked


@given(st.text(max_size=300))
def test_no_question_raises(words: str) -> None:
    assert isinstance(parse(words), Asked)
