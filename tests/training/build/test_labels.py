"""What the labels of scans name: reviewed by name, with plurals, and nothing guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.build.labels import categories, category_of, meaning, table
from training.simulate.catalogue import CATEGORIES as SIMULATED


@pytest.mark.parametrize(
    ("label", "category"),
    [
        ("chair", "chair"),
        ("office chair", "chair"),
        ("Coffee Table", "table"),
        ("trash_can", "trash can"),
        ("couch", "sofa"),
        ("kitchen cabinet", "cabinet"),
        ("painting", "picture"),
    ],
)
def test_a_reviewed_label_names_one_object_of_its_category(label, category):
    assert category_of(label) == category
    assert meaning(label).reason == ""


@pytest.mark.parametrize(
    ("label", "like"),
    [
        ("hair dryer", "washing machine"),
        ("hand dryer", "washing machine"),
        ("clothes dryer", "washing machine"),
        ("projector screen", "monitor"),
        ("toilet seat", "chair"),
        ("tissue box", "box"),
        ("fuse box", "box"),
        ("exercise bike", "bicycle"),
        ("coat rack", "shelf"),
        ("water heater", "radiator"),
        ("pool table", "table"),
        ("paper towel", "towel"),
    ],
)
def test_a_label_that_only_ends_like_a_category_names_none_of_it(label, like):
    assert category_of(label) != like


@pytest.mark.parametrize(
    ("label", "category"),
    [
        ("books", "book"),
        ("cabinets", "cabinet"),
        ("kitchen cabinets", "cabinet"),
        ("boxes", "box"),
        ("curtains", "curtain"),
        ("pillows", "pillow"),
        ("couch cushions", "pillow"),
        ("bookshelves", "shelf"),
        ("shelves", "shelf"),
        ("shoes", "shoe"),
        ("washing machines", "washing machine"),
        ("stack of chairs", "chair"),
        ("computer mice", "mouse"),
        ("benches", "bench"),
    ],
)
def test_a_plural_names_several_of_a_known_category_and_no_single_one(label, category):
    found = meaning(label)
    assert (found.category, found.several, found.reason) == ("", category, "several")


@pytest.mark.parametrize("label", ["wall", "floor", "doors", "dumbbell", "pipes", "person"])
def test_what_is_never_asked_about_is_nothing_else_either(label):
    found = meaning(label)
    assert (found.category, found.several) == ("", "")
    assert not found.also
    assert not found.anything
    assert found.reason


def test_an_unreviewed_label_may_be_anything_and_names_nothing():
    for label in ("gizmo", "chair leg protector", ""):
        found = meaning(label)
        assert found.anything
        assert not found.category
    assert meaning("").reason == "unlabelled"
    assert meaning("gizmo").reason == "unmapped"


@given(st.sampled_from([label for kept in table().values() for label in kept.labels]))
def test_every_listed_label_has_its_category_in_any_spelling(label):
    assert category_of(f" {label.upper()} ") == category_of(label)
    assert category_of(label) in categories()


def test_confusion_goes_both_ways_and_no_category_is_confused_with_itself():
    for name, kept in table().items():
        assert name not in kept.confused | kept.holds
        assert all(name in table()[other].confused for other in kept.confused)


def test_every_label_of_the_simulated_rooms_is_known():
    assert [label for label in SIMULATED if meaning(label).anything] == []
    named = {label for label in SIMULATED if category_of(label)}
    assert set(SIMULATED) - named == {"can", "cone"}
