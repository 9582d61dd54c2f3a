"""The strict judge of rows in text: what a fair reader takes for right, and nothing else."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.training.evaluate.test_evaluate import COMMAND
from training.evaluate.benchmarks import msmu_item
from training.evaluate.judges import judged
from training.evaluate.rows import RowError, judge_rows

CLOSER = ("relative_position", "Which one is closer, the desk or the plant?", "The desk.")
FARTHER = ("relative_position", "Which one is farther, the desk or the plant?", "The plant.")
LEFT = (
    "relative_position",
    "Is the red chair to the left of the door from the viewer's perspective?",
    "Yes, the red chair is to the left of the door.",
)
NOT_LEFT = (
    "relative_position",
    "Is the red chair to the left of the door?",
    "No, the red chair is to the right of the door.",
)
LOWER = (
    "scale_compare",
    "Which one is lower, the grey fridge or the waste basket?",
    "The waste basket.",
)
TALLER = ("scale_compare", "Which one is taller, the grey fridge or the bench?", "The grey fridge.")
TALLEST = (
    "scale_compare",
    "What is the tallest among the sink, the stove and the door?",
    "The door.",
)
LOWEST = ("scale_compare", "Which is the lowest: the sink, the stove or the door?", "The sink.")
WIDER = ("scale_compare", "Which one is wider, the sofa or the bed?", "The bed.")
ABSENT = ("existence", "What is the size of the piano?", "There is no piano in the image.")
PAIR_ABSENT = (
    "existence",
    "What is the distance between the piano and the sofa?",
    "There is no piano in the image.",
)
WHERE = ("grounding", "What is the coordinate of the white TV?", "(0.72,0.28).")
WHAT = ("grounding", "What object is located at (0.4,0.3)?", "The brown cabinet.")
COUNT = ("count", "How many windows are there in the image?", "3.")
SIZE = ("scale_estimation", "What is the size of the dark rug?", "1.80 m x 1.20 m x 0.02 m.")
HEIGHT = ("scale_estimation", "What is the height of the stove?", "0.90 m.")
TWO = (
    "refer_obj_estimation",
    "The height of the bed is 0.60 m, what is the height of the table and the shelf?",
    "0.75 m and 1.80 m.",
)
APART = ("absolute_distance", "How far apart are the desk and the plant?", "1.5 m.")

#: (row, answer, whether a fair reader takes it for right); kinds as in the cases that failed.
ROWS = [
    # Comparatives, both ways round and with another verb.
    (CLOSER, "The desk is closer to the viewer than the plant.", True),
    (CLOSER, "The plant is closer to the viewer than the desk.", False),
    (CLOSER, "The plant is farther away than the desk.", True),
    (CLOSER, "The desk is farther away than the plant.", False),
    (CLOSER, "Compared to the plant, the desk is closer.", True),
    (CLOSER, "The desk.", True),
    (CLOSER, "plant", False),
    (CLOSER, "Not the desk.", False),
    (CLOSER, "I am not sure.", False),
    (FARTHER, "The plant is farther from the camera than the desk.", True),
    (FARTHER, "The desk is farther from the camera than the plant.", False),
    (FARTHER, "The desk is closer than the plant.", True),
    (LOWER, "The waste basket is lower than the grey fridge.", True),
    (LOWER, "The grey fridge is lower than the waste basket.", False),
    (LOWER, "The grey fridge is taller than the waste basket.", True),
    (LOWER, "The waste basket is shorter.", True),
    (TALLER, "The bench is shorter than the grey fridge.", True),
    (TALLER, "The grey fridge is taller than the bench.", True),
    (TALLER, "The bench is taller than the grey fridge.", False),
    (TALLER, "Both are equally tall.", False),
    (TALLEST, "The door is taller than the sink and the stove.", True),
    (TALLEST, "The stove is taller than the sink and the door.", False),
    (TALLEST, "The tallest is the door.", True),
    (TALLEST, "The tallest among them is the stove.", False),
    (LOWEST, "The lowest is the sink.", True),
    (LOWEST, "The sink is lower than the stove and the door.", True),
    (LOWEST, "The door is the lowest.", False),
    (WIDER, "The bed is wider than the sofa.", True),
    (WIDER, "The sofa is wider than the bed.", False),
    (WIDER, "The width of the sofa is 1.6 m and the bed is 2.0 m, so the bed is wider.", True),
    (WIDER, "The width of the sofa is 2.6 m and the bed is 2.0 m, so the sofa is wider.", False),
    # Left and right with the arguments exchanged.
    (LEFT, "The door is to the right of the red chair.", True),
    (LEFT, "The door is to the left of the red chair.", False),
    (LEFT, "The red chair is to the left of the door.", True),
    (LEFT, "The red chair is to the right of the door.", False),
    (LEFT, "Yes.", True),
    (LEFT, "No, it is not.", False),
    (NOT_LEFT, "The red chair is to the right of the door.", True),
    (NOT_LEFT, "The door is to the left of the red chair.", True),
    (NOT_LEFT, "The red chair is to the left of the door.", False),
    (NOT_LEFT, "The red chair is not to the left of the door.", True),
    # Denials, of the asked object and of others.
    (ABSENT, "There is no piano in the image.", True),
    (ABSENT, "No piano is visible.", True),
    (ABSENT, "I cannot see a piano in the picture.", True),
    (ABSENT, "The piano is not visible in the image.", True),
    (ABSENT, "There is no lamp in the image.", False),
    (ABSENT, "The lamp is not visible in the image.", False),
    (ABSENT, "There is no way to tell.", False),
    (ABSENT, "1.5 m x 0.6 m x 1.2 m.", False),
    (PAIR_ABSENT, "There is no piano in the image.", True),
    (PAIR_ABSENT, "There is no sofa in the image.", False),
    # Coordinates in any form.
    (WHERE, "x = 0.72, y = 0.28", True),
    (WHERE, "(0.70, 0.30)", True),
    (WHERE, "[0.72, 0.28]", True),
    (WHERE, "The white TV is at (0.71,0.27).", True),
    (WHERE, "x = 0.28, y = 0.72", False),
    (WHERE, "in the corner", False),
    (WHAT, "It is the brown cabinet.", True),
    (WHAT, "The brown cabinet.", True),
    (WHAT, "It is not the brown cabinet.", False),
    (WHAT, "The white lamp next to the brown cabinet.", False),
    # Counts with several nouns.
    (COUNT, "There are three windows and one door.", True),
    (COUNT, "There is one door and there are three windows.", True),
    (COUNT, "There are two windows and three doors.", False),
    (COUNT, "I can see 3 windows.", True),
    # Sizes with letters, in any order.
    (SIZE, "Height: 0.02 m, Width: 1.2 m, Length: 1.8 m", True),
    (SIZE, "It is 1.8 m long, 1.2 m wide and 0.02 m high.", True),
    (SIZE, "1.8 m x 1.2 m x 0.02 m", True),
    (SIZE, "Length: 0.02 m, Width: 1.2 m, Height: 1.8 m", False),
    (SIZE, "1.8 m x 1.2 m", False),
    # Two values, in another order, with names.
    (TWO, "The shelf is 1.80 m and the table is 0.75 m high.", True),
    (TWO, "The height of the table is 0.75 m and the height of the shelf is 1.80 m.", True),
    (TWO, "0.75 m and 1.80 m.", True),
    (TWO, "1.80 m and 0.75 m.", False),
    (TWO, "The shelf is 0.75 m and the table is 1.80 m high.", False),
    (TWO, "0.75 m.", False),
    # Numbers.
    (HEIGHT, "The stove is 90 cm tall.", True),
    (HEIGHT, "It is 90 cm tall, not 120 cm.", True),
    (HEIGHT, "The stove is 90 cm taller than the sink.", False),
    (HEIGHT, "The width is 0.9 m.", False),
    (APART, "They are 1.6 m apart.", True),
    (APART, "2.0 m.", False),
]


@pytest.mark.parametrize(("row", "answer", "right"), ROWS, ids=lambda value: str(value)[-60:])
def test_a_fair_reader_s_mark_is_the_judge_s(row, answer, right):
    item = msmu_item("0", *row)
    assert item.reference is not None
    assert judged(item, answer).correct is right


def test_there_are_rows_of_every_kind_of_question():
    assert len(ROWS) >= 60
    assert {row[0] for row, *_ in ROWS} == {
        "absolute_distance", "count", "existence", "grounding", "refer_obj_estimation",
        "relative_position", "scale_compare", "scale_estimation",
    }  # fmt: skip


def line(row, answer):
    keys = ("type", "question", "reference", "answer")
    return json.dumps(dict(zip(keys, (*row, answer), strict=True)))


def test_the_command_prints_every_row_and_one_line_of_json(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join([line(HEIGHT, "0.9 m"), "", line(COUNT, "There are 5 windows.")]))
    done = CliRunner().invoke(COMMAND, ["--score", str(file)])
    assert done.exit_code == 0, done.stderr
    *rows, last = done.stdout.splitlines()
    assert [row.split()[:2] for row in rows] == [["1", "right"], ["3", "wrong"]]
    assert json.loads(last) == {"n": 2, "correct": [True, False]}


def test_a_reference_that_cannot_be_read_makes_no_answer_right_and_is_reported(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(line((*HEIGHT[:2], "rather tall"), "rather tall"))
    (row,) = judge_rows(file)
    assert not row.correct
    assert "reference not read" in row.why


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "line 2: no JSON"),
        ("[1]", "line 2: must be an object, is list"),
        ('{"type": "count"}', "line 2: 'question' must be text, is None"),
        (line(("weight", "How heavy is it?", "3 kg"), "3 kg"), "line 2: unknown type 'weight'"),
    ],
)
def test_a_malformed_row_is_refused_with_file_and_line(tmp_path, text, reason):
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{line(HEIGHT, '0.9 m')}\n{text}\n")
    with pytest.raises(RowError, match=rf"rows\.jsonl, {reason}"):
        judge_rows(file)
    done = CliRunner().invoke(COMMAND, ["--score", str(file)])
    assert done.exit_code == 1
    assert "rows.jsonl, line 2" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--score", "a", "--benchmark", "b"]])
def test_a_benchmark_or_rows_must_be_given_and_not_both(arguments):
    done = CliRunner().invoke(COMMAND, arguments)
    assert done.exit_code == 2
    assert "--score" in done.stderr
