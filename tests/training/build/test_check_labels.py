"""The checker reads labels by itself, and proves from a scene graph what is absent and how many."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.build.check import check_row
from training.build.check_labels import is_one, may_be, named, things
from training.build.labels import categories, meaning, table
from training.build.labels_absence import could_be
from training.build.phrasing import plural

NAMES = [label for kept in table().values() for label in kept.labels]
LABELS = [*NAMES, *(label for kept in table().values() for label in kept.several)]


@pytest.mark.parametrize(
    ("label", "reading"),
    [
        ("office chair", ("chair", True)),
        ("chairs", ("chair", False)),
        ("stack of folded chairs", ("chair", False)),
        ("chest of drawers", ("dresser", True)),
        ("bag of coffee beans", ("bag", True)),
        ("bookshelves", ("shelf", False)),
        ("work table", ("desk", True)),
        ("pool table", ("", False)),
        ("hair dryer", ("", False)),
        ("projector screen", ("", False)),
        ("tissue box", ("", False)),
        ("toilet seat", ("", False)),
        ("wall", ("", False)),
    ],
)
def test_a_label_is_read_by_its_longest_known_ending(label, reading):
    assert named(label) == reading


@pytest.mark.parametrize("label", LABELS)
def test_the_two_tables_name_the_same_thing_by_each_label(label):
    found = meaning(label)
    for text in (label, f"{label.split()[0]} {label}", plural(label)):
        assert not named(text)[1] or named(text)[0] == (found.category or found.several)
    assert is_one(label, found.category) == bool(found.category)


def test_both_tables_have_the_same_things():
    assert sorted(things()) == list(categories())


@given(
    st.sampled_from([*LABELS, *map(plural, NAMES), "seat", "rack", "counter", "jacket", "gizmo"]),
    st.floats(0.02, 3),
)
def test_the_builder_denies_nothing_that_the_checker_cannot_prove(label, size):
    entry = {"label": label, "length_m": size, "height_m": size / 2}
    for thing in categories():
        assert could_be(entry, thing) or not may_be(entry, thing), thing


def _entry(label: str, **more: Any) -> dict[str, Any]:
    return {"label": label, "name": "", "category": "", "length_m": 1.0, "height_m": 1.0, **more}


def _reason(kind: str, question: str, answer: str, *entries: dict[str, Any]) -> str:
    turns = [{"value": f"<image>\n{question}"}, {"value": answer}]
    row = {"scene_graph": json.dumps(entries), "conversations": turns, "type": [kind]}
    ((_, reason),) = check_row(row | {"source": "scannet", "scene": "scene0000_00"})
    return reason


TALL, NO_SOFA = "How tall is the sofa?", "There is no sofa in the image."


@pytest.mark.parametrize(
    "label", ["couch", "sofas", "sofa chair", "armchair", "bench", "seat", "gizmo", "object", ""]
)
def test_a_denial_beside_what_may_be_one_is_a_mismatch(label):
    reason = _reason("existence", TALL, NO_SOFA, _entry(label))
    assert "may be in view" in reason or "are visible" in reason


def test_a_denial_that_the_scene_graph_proves_is_right_in_any_colour():
    seen = [_entry("wall"), _entry("toilet"), _entry("", disc_m=0.1, floor_disc_m=3.0)]
    assert _reason("existence", TALL, NO_SOFA, *seen) == ""
    asked, answer = "How tall is the red sofa?", "There is no red sofa in the image."
    assert _reason("existence", asked, answer, *seen) == ""
    assert _reason("existence", "Is there a red sofa in the image?", "No.", *seen) == ""
    assert "in view" in _reason(
        "existence", "Is there a red sofa in the image?", "No.", _entry("couch")
    )


def test_books_in_the_plural_are_no_absent_book():
    denied = "There is no book in the image."
    assert "books" in _reason("existence", "How tall is the book?", denied, _entry("books"))


def test_a_number_beside_a_group_or_something_unknown_is_a_mismatch():
    chairs = [_entry("chair"), _entry("office chair"), _entry("wall")]
    asked = "Can you count the chairs in this picture?"
    assert _reason("count", asked, "2.", *chairs) == ""
    assert "expected 2" in _reason("count", asked, "3.", *chairs)
    for label in ("chairs", "stack of chairs", "stool", "gizmo", ""):
        assert "in view" in _reason("count", asked, "2.", *chairs, _entry(label)), label


def test_a_name_of_several_things_or_of_an_unread_label_is_a_mismatch():
    for label in ("chairs", "hair dryer"):
        entry = _entry(label, name=label, category="chair")
        assert "is read as" in _reason("scale_estimation", "How tall is it?", "1 m.", entry)
    one = _entry("chair", name="chair", category="chair")
    assert "one of" in _reason("scale_estimation", "?", "1 m.", one, _entry("stack of chairs"))
