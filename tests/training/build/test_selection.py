"""Which objects are asked about, their names, and the sizes of their boxes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.build.boxes import upright_box
from training.build.selection import Rules, select


@given(
    st.tuples(*[st.floats(0.05, 3)] * 3),
    st.floats(-4, 4),
    st.tuples(*[st.floats(-5, 5)] * 3),
    st.integers(0, 10**6),
)
def test_the_upright_box_around_a_rotated_box_is_that_box(sides, yaw, centre, seed):
    rng = np.random.default_rng(seed)
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T
    inside = rng.uniform(-0.5, 0.5, (50, 3))
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    box = upright_box((np.concatenate([corners, inside]) * sides) @ turn.T + centre)
    length, width = sorted(sides[:2], reverse=True)
    assert (box.length, box.width, box.height) == pytest.approx((length, width, sides[2]), abs=1e-6)
    np.testing.assert_allclose(box.centre, centre, atol=1e-6)


def _entry(label: str, colour: str, **more) -> dict:
    return {
        "label": label,
        "colour": colour,
        "visible_pixels": 900,
        "visible_fraction": 1.0,
        "truncated": False,
        "box_xyxy": [0, 0, 8, 8],
        **more,
    }


def _names(*entries: dict) -> list[str]:
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[:4, :4], rgb[:4, 4:], rgb[4:, :4] = (255, 0, 0), (0, 255, 0), 255  # no majority colour
    return [entry["name"] for entry in select(list(entries), rgb, Rules(), Counter())]


def test_a_name_is_the_label_unless_it_fits_another_object():
    assert _names(_entry("lamp", "red"), _entry("chair", "red")) == ["lamp", "chair"]
    assert _names(_entry("chair", "red"), _entry("chair", "blue")) == ["red chair", "blue chair"]
    assert _names(_entry("chair", "red"), _entry("chair", "red")) == ["", ""]
    assert _names(_entry("chair", "red"), _entry("chair", "")) == ["", ""]
    assert _names(_entry("chair", "red"), _entry("office chair", "black")) == [
        "red chair",
        "black office chair",
    ]
    assert _names(_entry("office chair", "red"), _entry("armchair", "red")) == [
        "office chair",
        "armchair",
    ]


def test_an_occluded_object_still_makes_a_name_ambiguous():
    hidden = _entry("chair", "red", visible_fraction=0.1)
    assert _names(_entry("chair", "red"), hidden) == ["", ""]


def test_several_chairs_in_one_annotation_make_the_name_of_each_chair_ambiguous():
    pile = _entry("stack of chairs", "blue")
    assert _names(_entry("chair", "red"), pile) == ["", ""]
    assert _names(_entry("office chair", "red"), _entry("chairs", "blue")) == ["", ""]
    assert _names(_entry("lamp", "red"), pile) == ["lamp", ""]


def test_objects_without_a_category_keep_their_reason():
    dropped: Counter[str] = Counter()
    labels = ("wall", "chairs", "seat", "gizmo", "")
    entries = [_entry(label, "red") for label in labels]
    found = select(entries, np.zeros((8, 8, 3), np.uint8), Rules(), dropped)
    assert [entry["unnamed"] for entry in found] == [
        "category: part of the building",
        "category: several",
        "category: vague",
        "category: unmapped",
        "unlabelled",
    ]
    assert dropped == {entry["unnamed"]: 1 for entry in found[:-1]}
