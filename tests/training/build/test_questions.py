"""Every generated question is answerable from the scene graph, and its answer is right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.build.questions import (
    MIN_AREA,
    TYPES,
    ask_all,
    make_view,
)
from training.evaluate.benchmarks import question_item
from training.evaluate.judges import judged
from training.simulate.catalogue import CATEGORIES, COLOURS

PIXELS = 320 * 240


def scene_graph(seed: int) -> list[dict[str, Any]]:
    """A scene graph of random objects, as `training.simulate.world` writes them."""
    rng = np.random.default_rng(seed)
    objects = []
    for instance in range(1, int(rng.integers(2, 9))):
        centre = rng.uniform([-1, -0.6, 0.5], [1, 0.6, 3])
        length, width = sorted(rng.uniform(0.05, 1, 2))[::-1]
        objects.append(
            {
                "instance": instance,
                "category": CATEGORIES[rng.integers(len(CATEGORIES))],
                "colour": list(COLOURS)[rng.integers(len(COLOURS))],
                "length_m": length,
                "width_m": width,
                "height_m": rng.uniform(0.05, 1.5),
                "centre_camera_m": centre.tolist(),
                "centre_world_m": rng.uniform(0, 1, 3).tolist(),
                "centre_uv": rng.uniform(0.05, 0.95, 2).tolist(),
                "visible_pixels": int(rng.integers(0, 4000)),
                "visible_fraction": rng.uniform(0.3, 1),
                "truncated": bool(rng.random() < 0.2),
            }
        )
    return objects


def _asked(seed: int):
    objects = scene_graph(seed)
    view = make_view(objects, PIXELS, list(COLOURS), CATEGORIES)
    return objects, ask_all(view, np.random.default_rng(seed), dict.fromkeys(TYPES, 3))


@given(st.integers(0, 10**6))
def test_the_text_of_an_answer_scores_as_correct(seed):
    for question in _asked(seed)[1]:
        assert judged(question_item("", question), question.answer).correct, question


@given(st.integers(0, 10**6))
def test_only_visible_objects_with_a_unique_name_are_asked_about(seed):
    objects, questions = _asked(seed)
    by_instance = {item["instance"]: item for item in objects}
    visible = [f"{o['colour']} {o['category']}" for o in objects if o["visible_pixels"]]
    for question in questions:
        for name, instance in zip(question.names, question.instances, strict=True):
            if instance:
                item = by_instance[instance]
                assert visible.count(name) == 1
                assert item["visible_pixels"] >= MIN_AREA * PIXELS
                assert item["visible_fraction"] >= 0.7
                assert not item["truncated"]
            elif question.type == "existence":
                assert name not in visible


def test_every_type_is_asked_and_yes_is_as_frequent_as_no():
    words = {"yes": 0, "no": 0, "absent": 0}
    seen = dict.fromkeys(TYPES, 0)
    for seed in range(400):
        for question in _asked(seed)[1]:
            seen[question.type] += 1
            if question.reference in words:
                words[question.reference] += 1
    assert min(seen.values()) > 0.05 * sum(seen.values())
    assert words["yes"] / words["no"] == pytest.approx(1, abs=0.2)


def test_a_category_with_a_barely_visible_object_is_not_counted():
    objects = scene_graph(4)
    for item in objects:
        item.update(category="mug", visible_pixels=2000)
    objects[0]["visible_pixels"] = 3
    view = make_view(objects, PIXELS, list(COLOURS), CATEGORIES)
    assert "mug" not in view.counts


def test_the_same_seed_asks_the_same_questions():
    assert _asked(11)[1] == _asked(11)[1]


def test_distances_are_between_box_centres():
    objects, questions = _asked(3)
    by_instance = {item["instance"]: item for item in objects}
    asked = [q for q in questions if q.type == "absolute_distance"]
    assert asked
    for question in asked:
        a, b = (by_instance[i]["centre_camera_m"] for i in question.instances)
        assert question.reference == pytest.approx(math.dist(a, b))
