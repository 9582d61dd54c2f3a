"""The MSMU rules, case by case."""

import pytest

from training.evaluate.items import Item
from training.evaluate.judges import judged
from training.evaluate.references import RULES

HEIGHT = "What is the height of the red mug?"
SIZE = "What is the size of the red mug?"
WHERE = "What is the coordinate of the red mug?"
WHICH = "Which one is taller, the red mug or the blue box?"
PAIR = "The height of the bin is 0.50 m, what is the height of the red mug and the blue box?"


@pytest.mark.parametrize(
    ("question", "answer", "reference", "correct"),
    [
        (HEIGHT, "0.12 m.", 0.12, True),
        (HEIGHT, "12 cm", 0.12, True),
        (HEIGHT, "The height of the red mug is 0.149 m.", 0.12, True),
        (HEIGHT, "0.15 m.", 0.12, False),  # 1.25 is not below 1.25
        (HEIGHT, "0.12", 0.12, False),  # no unit, no metres
        (HEIGHT, "", 0.12, False),
        (HEIGHT, "0 m", 0.12, False),
        (SIZE, "0.3 m x 0.2 m x 0.1 m", (0.3, 0.2, 0.1), True),
        (SIZE, "0.3 m x 0.2 m", (0.3, 0.2, 0.1), False),
        (SIZE, "0.3 m x 0.2 m x 0.2 m", (0.3, 0.2, 0.1), False),
        (PAIR, "0.12 m and 0.30 m.", (0.12, 0.30), True),
        (PAIR, "0.30 m and 0.12 m.", (0.12, 0.30), False),
        (WHERE, "(0.48,0.62).", (0.5, 0.5), True),
        (WHERE, "(0.70,0.62).", (0.5, 0.5), False),
        (WHERE, "in the middle", (0.5, 0.5), False),
        ("Where is the red mug in the image?", "(0.48,0.52).", (0.5, 0.5), True),
        ("How many mugs are there in the image?", "3.", 3.0, True),
        ("How many mugs are there in the image?", "There are 4 mugs.", 3.0, False),
        ("How many mugs are there in the image?", "There is only 1 mug.", 1.0, True),
        ("Is there a red mug in the image?", "Yes.", "yes", True),
        ("Is there a red mug in the image?", "No.", "yes", False),
        ("Is there a red mug in the image?", "perhaps", "no", False),
        (HEIGHT, "There is no red mug in the image.", "absent", True),
        (HEIGHT, "0.12 m.", "absent", False),
        (WHICH, "The red mug.", "red mug", True),
        (WHICH, "The red mug is 0.1 m and the blue box 0.2 m, so the blue box.", "blue box", True),
        (WHICH, "Both.", "red mug", False),
        ("What object is located at (0.2,0.3)?", "The red mug.", "red mug", True),
        ("What object is located at (0.2,0.3)?", "The red box.", "red mug", False),
    ],
)
def test_an_answer_is_judged_by_the_rule_of_its_type(question, answer, reference, correct):
    kind = kind_of(question, reference)
    true = "There is no red mug in the image." if reference == "absent" else ""
    item = Item("0", kind, RULES[kind], question, true, reference)
    assert judged(item, answer).correct is correct


def kind_of(question, reference):
    """The type of a question of the table."""
    if "How many" in question:
        return "count"
    if question == WHICH:
        return "scale_compare"
    if reference in ("yes", "no", "absent"):
        return "existence"
    return "scale_estimation" if question in (HEIGHT, SIZE, PAIR) else "grounding"
