"""Answers read for a question in words: the forms of MSMU, several objects, free questions."""

from __future__ import annotations

import pytest

from sdvlm_core.answer import Asked, Quantity, Verdict
from sdvlm_core.language.question import parse
from sdvlm_core.language.reading import measured, read

Q = Quantity
W, H, L, D, C = Q.WIDTH, Q.HEIGHT, Q.LENGTH, Q.DISTANCE, Q.COUNT


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
    ("What is lowest among the tv, the pillow, or the bed?", "The lowest is the bed.", []),
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
    found = measured(question, answer)
    assert [(m.kind, m.name) for m in found] == [(kind, name) for kind, _, name in expected]
    assert [m.value for m in found] == pytest.approx([value for _, value, _ in expected])


TWO = "The height of the bed is 0.81 m, what is the height of the table and of the nightstand?"


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ("1.02 m and 0.93 m.", {"table": 1.02, "nightstand": 0.93}),
        ("1 m and 93 cm", {"table": 1.0, "nightstand": 0.93}),
        ("The nightstand is 0.93 m and the table is 1.02 m high.",
         {"table": 1.02, "nightstand": 0.93}),
        ("The heights of the nightstand and the table are 0.93 m and 1.02 m, respectively.",
         {"table": 1.02, "nightstand": 0.93}),
        ("- Table: 1.02 m\n- Nightstand: 0.93 m", {"table": 1.02, "nightstand": 0.93}),
        ("| Object | Height |\n|---|---|\n| Nightstand | 0.93 m |\n| Table | 1.02 m |",
         {"table": 1.02, "nightstand": 0.93}),
        ("1.02 m", {}),
        ("1.02 m, 0.93 m and 0.5 m", {}),
        ("at least 1.02 m and 0.93 m", {}),
        ("The chair is 1.02 m and the sofa is 0.93 m.", {}),
    ],
)  # fmt: skip
def test_the_numbers_of_two_objects_are_dealt_by_name_then_by_order(
    answer: str, values: dict[str, float]
) -> None:
    found = measured(TWO, answer)
    assert {m.name: m.value for m in found} == pytest.approx(values)
    assert all(m.kind is Q.HEIGHT for m in found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The height of the mug is 10 cm.", [(H, 0.1, ("mug",))]),
        ("The mug is 10 cm tall and the box is 20 cm wide.",
         [(H, 0.1, ("mug",)), (W, 0.2, ("box",))]),
        ("The distance between the mug and the box is 0.3 m.", [(D, 0.3, ("mug", "box"))]),
        ("The gap between the mug and the box is 5 cm.", [(Q.GAP, 0.05, ("mug", "box"))]),
        ("The mug is 1.2 m away from the camera.", [(Q.CAMERA_DISTANCE, 1.2, ("mug",))]),
        ("10 cm", []),
        ("It is 10 cm tall.", []),
        ("The mug is 10 cm.", []),
        ("The mug is at least 10 cm tall.", []),
    ],
)  # fmt: skip
def test_a_free_question_gives_only_what_the_text_states_itself(
    text: str, found: list[tuple[Quantity, float, tuple[str, ...]]]
) -> None:
    reading = read(text, Asked())
    assert [(m.kind, m.value, m.objects) for m in reading.measurements] == found
    assert reading.why_none == ""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("The mug isn't 12 cm tall.", "negated"),
        ("No more than 10 cm.", "negated"),
        ("Up to 10 cm.", "bound"),
        ("The mug is 5 cm taller than the box.", "difference"),
        ("The box is 20 cm tall.", "box"),
        ("The mug is 8 cm wide.", "width"),
        ("10", "no unit"),
        ("8 cm or 12 cm", "several values: 8 cm, 12 cm"),
        ("I cannot tell.", "states no number"),
    ],
)
def test_the_reason_for_no_number_is_kept(answer: str, reason: str) -> None:
    reading = read(answer, Asked(H, ("mug",)))
    assert reading.measurements == ()
    assert reason in reading.why_none


@pytest.mark.parametrize(
    ("answer", "absent"),
    [
        ("There is no sofa in the image", True),
        (". There is no sofas.", True),
        ("No sofa in the scene.", True),
        ("Can not find sofas.", True),
        ("I cannot find a sofa.", True),
        ("I don't see any sofa.", True),
        ("The sofa is not visible.", True),
        ("There isn\u2019t a sofa.", True),
        ("The sofa does not exist in the scene.", True),
        ("There is no such object.", True),
        ("There is no chair in the image.", False),
        ("There is only 1 bed in the image.", False),
        ("No, it is not to the left.", False),
        ("There isn't enough light, but roughly 0.5 m.", False),
        ("There is no doubt: the width is 0.5 m.", False),
        ("The sofa is not taller than the lamp.", False),
        ("I cannot answer that.", False),
    ],
)
def test_absence_is_denial_of_the_asked_object(answer: str, absent: bool) -> None:
    assert read(answer, Asked(W, ("sofa",))).absent is absent


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Yes, the A is to the right of the B.", Verdict.HOLDS),
        ("The answer is yes.", Verdict.HOLDS),
        ("No the A is to the right of the B.", Verdict.DOES_NOT_HOLD),
        ("The answer is: no.", Verdict.DOES_NOT_HOLD),
        ("No sofa in the scene.", Verdict.UNDECIDED),
        ("The A is to the left.", Verdict.UNDECIDED),
        ("I know a yes when I see one", Verdict.UNDECIDED),
        ("", Verdict.UNDECIDED),
    ],
)
def test_a_free_question_knows_yes_and_no(text: str, verdict: Verdict) -> None:
    assert read(text, Asked()).verdict is verdict


def test_a_refusal_is_no_answer_to_any_question() -> None:
    for question in ("What do you see?", "How tall is the mug?", "Where is the mug?"):
        assert read("I cannot answer that.", parse(question)).why_none


def test_the_corners_that_explain_a_scale_are_no_image_points():
    text = "With (0, 0) at the top left and (1, 1) at the bottom right, the bell is at (0.2, 0.6)."
    assert read(text, Asked(Quantity.POSITION, ("bell",))).image_points == ((0.2, 0.6),)
    assert read("(0, 0)", Asked(Quantity.POSITION, ("bell",))).image_points == ((0.0, 0.0),)


def test_a_model_that_writes_pixels_is_read_in_the_pixels_of_its_picture() -> None:
    asked = Asked(Quantity.POSITION, ("red apple",))
    text = '{"point_2d": [420, 210], "label": "red apple"}'
    assert read(text, asked).image_points == ((0.42, 0.21),)
    assert read(text, asked, (840, 420)).image_points == ((0.5, 0.5),)
    beyond = read(text, asked, (400, 400))
    assert beyond.image_points == ()
    assert beyond.why_none == "the text gives pixels, not fractions of the image"
