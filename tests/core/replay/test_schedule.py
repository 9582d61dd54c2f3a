"""questions.yaml is read strictly, and each question is asked about the right frames."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.cli.app import app
from sdvlm_core.errors import QueryError
from sdvlm_core.replay.schedule import EXAMPLE, PlannedQuestion, read_questions
from tests import bags
from tests.bags import START_NS
from tests.replays import (
    HEIGHT,
    SECOND_NS,
    bag_of,
    entries,
    replay,
    write_questions,
)

runner = CliRunner()


def typed(mapping: str) -> str:
    """A file with one typed question."""
    return f"questions:\n- question: {mapping}\n  every: frame\n"


def test_questions_are_asked_at_times_periodically_and_on_every_frame(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 10)  # one frame each 0.1 s
    at = PlannedQuestion("at?", at_ns=(0, 250_000_000))
    every = PlannedQuestion("every?", every_ns=300_000_000)
    replay(bag, tmp_path / "out", at, every, HEIGHT)
    asked = [(e["question"], e["frame"]) for e in entries(tmp_path / "out")]
    assert [frame for question, frame in asked if question == "at?"] == [0, 2]
    assert [frame for question, frame in asked if question == "every?"] == [0, 3, 6, 9]
    assert [frame for question, frame in asked if question == HEIGHT.text] == [*range(10)]
    assert [frame for _, frame in asked] == sorted(frame for _, frame in asked)


def test_a_moment_without_a_fresh_image_is_an_error_not_an_old_answer(
    tmp_path: Path,
) -> None:
    records = [r for number in (0, 1, 30, 31) for r in bags.frame(number)]  # no image for 2.9 s
    bag = bags.write_bag(tmp_path / "bag", records)
    at = PlannedQuestion("at?", at_ns=(SECOND_NS, 2 * SECOND_NS, 99 * SECOND_NS))
    every = PlannedQuestion("every?", every_ns=SECOND_NS // 4)
    replay(bag, tmp_path / "out", at, every)
    found = entries(tmp_path / "out")
    outcomes = [(e["question"], e["frame"], e["error"] and e["error"]["name"]) for e in found]
    assert outcomes == [
        ("every?", 0, None),
        ("at?", 1, None),
        ("at?", 1, "STALE_IMAGE"),
        ("every?", 1, None),
        ("every?", 1, "STALE_IMAGE"),  # once for the whole gap
        ("every?", 2, None),
        ("at?", None, "NO_IMAGE"),
    ]
    assert "1.900 s old (--max-age is 1 s)" in found[2]["error"]["message"]
    assert "the bag ends 3.100 s after its start" in found[-1]["error"]["message"]
    assert found[-1]["asked_at_s"] == 99.0


def test_moments_before_the_first_image_use_the_first_image_if_it_is_fresh(
    tmp_path: Path,
) -> None:
    early = bags.record("/imu", "std_msgs/msg/String", bags.make("std_msgs/msg/String", data=""), 0)
    for lead, expected in ((50_000_000, [None]), (3 * SECOND_NS, ["STALE_IMAGE", None])):
        first = bags.Record(early.topic, early.kind, START_NS + bags.LATENCY_NS - lead, early.data)
        bag = bags.write_bag(tmp_path / f"bag{lead}", [first, *bags.frame(0)])
        every = PlannedQuestion("every?", every_ns=SECOND_NS)
        replay(bag, tmp_path / f"out{lead}", every)
        found = entries(tmp_path / f"out{lead}")
        assert [e["error"] and e["error"]["name"] for e in found] == expected


def test_the_example_is_valid(tmp_path: Path) -> None:
    questions = read_questions(write_questions(tmp_path / "q.yaml", EXAMPLE))
    assert [(q.at_ns, q.every_ns) for q in questions] == [
        ((500_000_000, 12 * SECOND_NS), 0),
        ((), 2 * SECOND_NS),
        ((), 0),
        ((), 0),
        ((3 * SECOND_NS,), 0),
    ]
    assert [q.asked for q in questions] == [
        None,
        None,
        None,
        Asked(Quantity.GAP, ("red mug", "box")),
        Asked(Quantity.COMPARISON, ("red mug", "box"), "taller"),
    ]
    shown = runner.invoke(app, ["replay", "--help"], env={"COLUMNS": "120"}).stdout
    lines = {line.strip(" │") for line in shown.splitlines()}
    assert {line.strip() for line in EXAMPLE.splitlines()} <= lines


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be a mapping with questions"),
        ("- question: How?\n", "must be a mapping with questions"),
        ("questions: []\n", "at least one question"),
        ("questions:\n- question: a\n  every: frame\nmodel: nano\n", "unknown key 'model'"),
        (
            "questions:\n- question: a\n  evry: 1\n",
            "question 1: unknown key 'evry'; the keys are at",
        ),
        ("questions:\n- question: a\n  every: frame\n- question: b\n", "question 2: needs `at` or"),
        ("questions:\n- question: a\n  at: 1\n  every: 1\n", "not both"),
        ("questions:\n- question: '  '\n  at: 1\n", "question 1: the question is empty"),
        ("questions:\n- question: 7\n  at: 1\n", "must be text or a mapping with"),
        ("questions:\n- every: 1\n", "quantity, relation, unit, which, found None"),
        ("questions:\n- question: a\n  at: [1, -2]\n", "`at` must be seconds, found -2"),
        ("questions:\n- question: a\n  at: []\n", "`at` is empty"),
        ("questions:\n- question: a\n  every: 0\n", "more than 0 s"),
        ("questions:\n- question: a\n  every: true\n", "seconds or the word frame, found True"),
        ("questions:\n- question: a\n  every: .nan\n", "seconds or the word frame, found nan"),
        ("questions: [", "q.yaml: while parsing"),
        (typed("{}"), "q.yaml, question 1: `question`: `quantity` must be one of HEIGHT, WIDTH"),
        (typed("{quantity: TALLNESS, objects: [mug]}"), "DIFFERENCE, found 'TALLNESS'"),
        (typed("{quantity: FREE, objects: [mug]}"), "found 'FREE'"),
        (typed("{quantity: HEIGHT, object: mug}"), "unknown key 'object'; the keys are objects"),
        (typed("{quantity: HEIGHT}"), "`objects` must be a list of names, found None"),
        (typed("{quantity: HEIGHT, objects: [mug, 7]}"), "list of names, found ['mug', 7]"),
        (typed("{quantity: HEIGHT, objects: []}"), "question 1: HEIGHT needs 1 object, got 0"),
        (typed("{quantity: GAP, objects: [mug]}"), "question 1: GAP needs 2 objects, got 1"),
        (
            typed("{quantity: COMPARISON, objects: [a, b], relation: nicer}"),
            "the relation 'nicer'; known are taller",
        ),
        (typed("{quantity: DIFFERENCE, objects: [a, b], relation: 3}"), "`relation` must be text"),
        (
            typed("{quantity: COMPARISON, objects: [a, b], relation: left, which: 3}"),
            "`which` must be true or false, found 3",
        ),
    ],
)
def test_invalid_questions_are_refused_with_their_number(
    tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(QueryError, match=re.escape(reason)):
        read_questions(write_questions(tmp_path / "q.yaml", text))
