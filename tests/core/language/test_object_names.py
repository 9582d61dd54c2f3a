"""A label or a name in a text is an asked object only if it can mean no other one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdvlm_core.errors import QueryError
from sdvlm_core.language.object_names import matched_labels, matched_name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("pink can", "pink can"),
        (" Pink CAN", "pink can"),
        ("the can", "pink can"),
        ("can", "pink can"),
        ("the pink can", "can"),
        ("pink_can", "pink can"),
        ("can on the table", "can"),
        ("large round can", "round large can"),
        ("★", "★"),
        ("Dose", "rote Dose"),
    ],
)
def test_a_label_is_a_name_or_a_shorter_or_longer_form_of_it(label: str, name: str) -> None:
    assert matched_labels([label], [name]) == {name: 0}
    assert matched_labels([label], ["blue book", name]) == {name: 0}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("box", "lid of the box"),
        ("lid of the box", "box"),
        ("box", "box lid"),
        ("red can", "pink can"),
        ("mug", "muggle"),
        ("can on the table", "can on the chair"),
        ("the", "can"),
        ("", "can opener of"),
        ("★", "★★"),
    ],
)
def test_a_part_or_another_object_is_no_match(label: str, name: str) -> None:
    assert matched_name(label, [name]) is None
    with pytest.raises(QueryError, match="is of no object"):
        matched_labels([label], [name, "lamp"])


def test_a_label_that_may_be_two_objects_is_refused_and_an_exact_one_is_not() -> None:
    with pytest.raises(QueryError, match=re.escape("may be of 'pink can', 'blue can'")):
        matched_labels(["can"], ["pink can", "blue can"])
    assert matched_labels(["can", "blue can"], ["pink can", "blue can"]) == {
        "pink can": 0,
        "blue can": 1,
    }
    assert matched_labels(["can"], ["can", "pink can"]) == {"can": 0}
    assert matched_name("can", ["pink can", "blue can"]) is None
    assert matched_name("the can", ["pink can", "book"]) == "pink can"


def test_two_labels_of_one_object_are_refused() -> None:
    with pytest.raises(QueryError, match="are both of 'can'"):
        matched_labels(["red can", "blue can"], ["can", "book"])


def test_one_region_of_one_object_needs_no_label() -> None:
    assert matched_labels([""], ["can"]) == {"can": 0}
    assert matched_labels([], ["can"]) == {}
    with pytest.raises(QueryError, match="objects: none"):
        matched_labels(["can"], [])


@given(st.text(max_size=40), st.lists(st.text(max_size=40), max_size=4))
def test_any_text_is_matched_as_the_name_in_a_text_is_or_refused(
    label: str, names: list[str]
) -> None:
    name = matched_name(label, names)
    if name is not None:
        assert matched_labels([label], names) == {name: 0}
    elif label:
        with pytest.raises(QueryError, match="labels: "):
            matched_labels([label], names)
