"""A typed question is complete and bounded, and every region belongs to an asked object."""

from __future__ import annotations

import re

import pytest

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.errors import QueryError
from sdvlm_core.language import object_names
from sdvlm_core.language.question import (
    MAX_NAME_CHARS,
    OBJECTS,
    RELATIONS,
    check,
    check_labels,
)

NAMES = tuple(f"object {number}" for number in range(12))
HEIGHT = Asked(Quantity.HEIGHT, ("red mug",))
GAP = Asked(Quantity.GAP, ("red mug", "blue box"))


def complete(quantity: Quantity) -> Asked:
    """A complete question with the fewest objects."""
    relation = "taller" if quantity in (Quantity.COMPARISON, Quantity.DIFFERENCE) else ""
    return Asked(quantity, NAMES[: OBJECTS[quantity][0]], relation)


@pytest.mark.parametrize("quantity", OBJECTS)
def test_a_complete_question_of_every_quantity_is_accepted(quantity: Quantity) -> None:
    check(complete(quantity))


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_can_be_asked_of_two_and_chosen_among_several(relation: str) -> None:
    check(Asked(Quantity.COMPARISON, NAMES[:2], relation))
    check(Asked(Quantity.COMPARISON, NAMES[:10], relation, which=True))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (Asked(), "needs a quantity"),
        (Asked(Quantity.HEIGHT), "HEIGHT needs 1 object, got 0"),
        (Asked(Quantity.HEIGHT, NAMES[:2]), "HEIGHT needs 1 object, got 2"),
        (Asked(Quantity.DISTANCE, NAMES[:1]), "DISTANCE needs 2 objects, got 1"),
        (Asked(Quantity.COMPARISON, NAMES[:3], "taller"), "COMPARISON needs 2 objects, got 3"),
        (
            Asked(Quantity.COMPARISON, NAMES[:11], "taller", which=True),
            "COMPARISON needs 2 to 10 objects, got 11",
        ),
        (Asked(Quantity.HEIGHT, ("  ",)), "the name of an object is empty"),
        (Asked(Quantity.GAP, ("Mug", "mug ")), "the names must differ, got 'Mug', 'mug '"),
        (Asked(Quantity.HEIGHT, ("x" * 201,)), "has 201 characters; at most 200"),
        (Asked(Quantity.HEIGHT, ("mug\n[ERROR] forged",)), r"mug\\n[ERROR] forged"),
        (Asked(Quantity.HEIGHT, ("mug",), unit="c" * 300), "has 300 characters"),
        (Asked(Quantity.HEIGHT, ("mug",), "taller"), "HEIGHT has no relation, got 'taller'"),
        (Asked(Quantity.HEIGHT, ("mug",), which=True), "`which` is for a COMPARISON"),
        (Asked(Quantity.COMPARISON, NAMES[:2], "nicer"), "the relation 'nicer'; known are taller"),
        (Asked(Quantity.DIFFERENCE, NAMES[:2]), "the relation ''; known are taller"),
    ],
)
def test_an_incomplete_question_is_refused_with_what_is_needed(asked: Asked, reason: str) -> None:
    with pytest.raises(QueryError, match=re.escape(reason)):
        check(asked)


def test_the_longest_name_is_accepted_and_the_text_of_a_refusal_is_short() -> None:
    check(Asked(Quantity.HEIGHT, ("x" * MAX_NAME_CHARS,)))
    with pytest.raises(QueryError) as refused:
        check(Asked(Quantity.HEIGHT, ("x" * 10**6,)))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("labels", "questions"),
    [
        ([], [HEIGHT]),
        (["Red Mug"], [HEIGHT]),
        (["blue box", " red mug"], [GAP]),
        (["red mug"], [GAP]),
        ([""], [HEIGHT]),
        (["the mug"], [HEIGHT]),
        (["blue box", "red mug"], [HEIGHT, Asked(Quantity.WIDTH, ("blue box",))]),
        (["anything"], [HEIGHT, Asked()]),
    ],
)
def test_regions_of_asked_objects_are_accepted(labels: list[str], questions: list[Asked]) -> None:
    check_labels(labels, *questions)


@pytest.mark.parametrize(
    ("labels", "question", "reason"),
    [
        (["cup"], HEIGHT, "'cup' is of no object of the question or the answer"),
        (["red mug", "lamp"], GAP, "labels: 'red mug', 'lamp'; objects: 'red mug', 'blue box'"),
        ([""], GAP, "labels: ''; objects: 'red mug', 'blue box'"),
        (["", "red mug"], HEIGHT, "labels: '', 'red mug'; objects: 'red mug'"),
        (["red mug", "Red mug"], HEIGHT, "'Red mug' and another label are both of 'red mug'"),
    ],
)
def test_a_region_of_nothing_that_is_asked_is_refused_with_labels_and_objects(
    labels: list[str], question: Asked, reason: str
) -> None:
    with pytest.raises(QueryError, match=re.escape(reason)):
        check_labels(labels, question)


def test_many_labels_and_objects_are_matched_without_parsing_each_pair() -> None:
    names = [f"{'long ' * 30}name of number {number}" for number in range(64)]
    asked = [Asked(Quantity.HEIGHT, (name,)) for name in names]
    object_names._parts.cache_clear()
    check_labels(names, *asked)
    assert object_names._parts.cache_info().misses <= len(names)


@pytest.mark.parametrize("relation", ["left", "right", "above", "below"])
def test_a_difference_of_places_is_refused(relation):
    with pytest.raises(QueryError, match="ask for a COMPARISON"):
        check(Asked(Quantity.DIFFERENCE, ("mug", "box"), relation))
