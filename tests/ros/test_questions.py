"""The questions of a request: in words or typed, one of the two, complete and bounded."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("rclpy")

from sdvlm.msg import Asked as AskedMsg
from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.errors import QueryError
from sdvlm_ros.questions import MAX_QUESTIONS, read_questions, stated

HEIGHT = AskedMsg(quantity=AskedMsg.HEIGHT, objects=["red mug"])
GAP = AskedMsg(quantity=AskedMsg.GAP, objects=["red mug", "blue box"])
WORDS = "How tall is the red mug?"


def test_a_request_states_a_typed_question_if_it_has_a_quantity_or_objects() -> None:
    assert stated(AskedMsg()) == []
    assert stated(HEIGHT) == [HEIGHT]
    forgotten = AskedMsg(objects=["red mug"])
    with pytest.raises(QueryError, match="needs a quantity"):
        read_questions([], stated(forgotten), [])


def test_words_and_typed_questions_are_read() -> None:
    assert read_questions([f" {WORDS} "], [], []) == (WORDS,)
    assert read_questions([], [HEIGHT, GAP], []) == (
        Asked(Quantity.HEIGHT, ("red mug",)),
        Asked(Quantity.GAP, ("red mug", "blue box")),
    )


@pytest.mark.parametrize(
    ("words", "typed", "reason"),
    [
        ([WORDS], [HEIGHT], "a question in words ('How tall is the red mug?') and a typed one (HE"),
        ([""], [], "the question is empty, and no typed question is given"),
        ([WORDS, " "], [], "the question is empty"),
        ([], [], "0 questions; 1 to 64"),
        ([WORDS] * (MAX_QUESTIONS + 1), [], "65 questions"),
        ([], [HEIGHT] * (MAX_QUESTIONS + 1), "65 questions"),
        ([], [AskedMsg(quantity=99)], "asked.quantity is 99; known are 0 FREE"),
        ([WORDS], [AskedMsg(quantity=99)], "a typed one (quantity 99)"),
        ([], [AskedMsg(quantity=AskedMsg.GAP, objects=["mug"])], "GAP needs 2 objects, got 1"),
        ([], [HEIGHT, AskedMsg(quantity=AskedMsg.GAP)], "asked[1]: GAP needs 2 objects, got 0"),
        ([], [AskedMsg(quantity=AskedMsg.COUNT, objects=["x"] * 10**5)], "got 100000"),
        ([], [AskedMsg(quantity=AskedMsg.COUNT, objects=["x" * 10**6])], "has 1000000 characters"),
        (
            [],
            [AskedMsg(quantity=AskedMsg.COMPARISON, objects=["mug", "box"], relation="nicer")],
            "the relation 'nicer'; known are taller",
        ),
    ],
)
def test_a_request_that_cannot_be_asked_is_refused_with_what_to_do(
    words: list[str], typed: list[AskedMsg], reason: str
) -> None:
    with pytest.raises(QueryError, match=re.escape(reason)) as refused:
        read_questions(words, typed, [])
    assert len(str(refused.value)) < 400


def test_a_comparison_of_ten_long_names_is_refused_because_it_is_too_long_to_ask() -> None:
    names = [f"{number}" * 199 for number in range(10)]
    which = AskedMsg(quantity=AskedMsg.COMPARISON, objects=names, relation="taller", which=True)
    with pytest.raises(QueryError, match="at most 2000 are allowed"):
        read_questions([], [which], [])


@pytest.mark.parametrize(
    ("words", "typed", "labels"),
    [
        ([], [HEIGHT], ["Red Mug"]),
        ([], [HEIGHT, GAP], ["blue box", "red mug"]),
        ([WORDS], [], ["red mug"]),
        (["What can you see?"], [], ["anything"]),
    ],
)
def test_labels_of_asked_objects_are_accepted(
    words: list[str], typed: list[AskedMsg], labels: list[str]
) -> None:
    assert len(read_questions(words, typed, labels)) == len(words) + len(typed)


@pytest.mark.parametrize(("words", "typed"), [([], [HEIGHT]), ([WORDS], [])])
def test_a_region_of_nothing_that_is_asked_is_refused_with_labels_and_objects(
    words: list[str], typed: list[AskedMsg]
) -> None:
    with pytest.raises(QueryError, match="labels: 'lamp'; objects: 'red mug'"):
        read_questions(words, typed, ["lamp"])
