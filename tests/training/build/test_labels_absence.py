"""Nothing is denied, and nothing counted, that something in view could contradict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.build.labels import categories, meaning, table
from training.build.labels_absence import absent, could_be, countable
from training.build.phrasing import plural

NAMES = [label for kept in table().values() for label in kept.labels]
LABELS = st.sampled_from(
    [*NAMES, *map(plural, NAMES), "wall", "object", "seat", "rack", "gizmo", "", "jacket", "doors"]
)
SIZES = st.floats(0.01, 4)


def _entry(label: str, size: float = 1.0) -> dict:
    if not label:
        return {"label": "", "disc_m": size, "floor_disc_m": 0.0}
    return {"label": label, "length_m": size, "height_m": size / 2}


OBJECTS = st.lists(st.builds(_entry, LABELS, SIZES), max_size=8)


@given(OBJECTS)
def test_what_a_label_names_alone_or_in_the_plural_is_never_absent(objects):
    denied = absent(objects)
    for entry in objects:
        found = meaning(entry["label"])
        assert found.category not in denied
        assert found.several not in denied
        assert not found.also & set(denied)


@given(OBJECTS, st.builds(_entry, LABELS, SIZES))
def test_one_more_object_never_makes_anything_absent_or_countable(objects, another):
    before, after = absent(objects), absent([*objects, another])
    assert set(after) <= set(before)
    for category in categories():
        if meaning(another["label"]).category != category:
            assert countable(objects, category) or not countable([*objects, another], category)


@given(OBJECTS, st.randoms(use_true_random=False))
def test_the_order_of_the_objects_changes_nothing(objects, random):
    shuffled = objects[:]
    random.shuffle(shuffled)
    assert absent(shuffled) == absent(objects)


@given(LABELS, SIZES, SIZES)
def test_a_larger_thing_could_be_all_that_a_smaller_one_could_be(label, one, other):
    small, large = sorted((one, other))
    assert set(absent([_entry(label, large)])) <= set(absent([_entry(label, small)]))


@given(st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_of_two_things_that_are_confused_neither_is_denied_beside_the_other(one, other):
    a, b = meaning(one).category, meaning(other).category
    if b in table()[a].confused:
        assert could_be(_entry(one), b)
        assert could_be(_entry(other), a)


@pytest.mark.parametrize(
    ("visible", "asked"),
    [
        ("desk", "table"),
        ("table", "desk"),
        ("stool", "chair"),
        ("wardrobe", "cabinet"),
        ("shelf", "cabinet"),
        ("dresser", "nightstand"),
        ("books", "book"),
        ("kitchen cabinets", "cabinet"),
        ("armchair", "sofa"),
        ("bookshelf", "book"),
        ("bed", "pillow"),
        ("counter", "sink"),
        ("seat", "chair"),
        ("hair dryer", "clothes dryer"),
        ("object", "chair"),
        ("gizmo", "chair"),
        ("", "chair"),
    ],
)
def test_a_thing_is_not_denied_beside_what_could_be_one(visible, asked):
    assert asked not in absent([_entry(visible)])


@pytest.mark.parametrize("asked", ["bed", "toilet", "washing machine", "bicycle", "piano"])
def test_a_thing_is_denied_where_everything_in_view_is_known_to_be_something_else(asked):
    seen = [_entry(label) for label in ("wall", "floor", "chair", "trash can", "window")]
    assert asked in absent(seen)


def test_an_unknown_thing_that_is_too_small_blocks_no_denial():
    assert "bed" in absent([_entry("gizmo", 0.3)])
    assert "bed" not in absent([_entry("gizmo", 0.6)])  # partly scanned
    assert "bed" in absent([_entry("", 0.2)])
    assert "bed" not in absent([_entry("", 0.3)])


def test_an_unlabelled_floor_hides_flat_things_only():
    floor = {"label": "", "disc_m": 0.0, "floor_disc_m": 2.0}
    denied = absent([floor])
    assert "chair" in denied
    assert "book" not in denied


def test_a_number_is_stated_only_where_nothing_else_could_be_one_more():
    chairs = [_entry("chair"), _entry("office chair")]
    assert countable([*chairs, _entry("wall"), _entry("monitor")], "chair")
    for label in ("chairs", "stack of chairs", "stool", "sofa chair", "gizmo", "seat", ""):
        assert not countable([*chairs, _entry(label)], "chair"), label


def test_only_the_given_categories_are_considered():
    assert absent([], ("table", "bed")) == ("bed", "table")
    assert absent([]) == categories()
