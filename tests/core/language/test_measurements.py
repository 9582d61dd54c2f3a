"""Answers read together with their question: recorded MSMU forms and free text."""

from __future__ import annotations

import math

import pytest

from sdvlm_core.answer import Quantity
from sdvlm_core.language.reading import measurements, parse

W, H, L, D, C = Quantity.WIDTH, Quantity.HEIGHT, Quantity.LENGTH, Quantity.DISTANCE, Quantity.COUNT


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
    question: str, answer: str, expected: list[tuple[Quantity, float, str]]
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
    question: str, answer: str, expected: list[tuple[Quantity, float, str]]
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
