"""No turn of a conversation states what an earlier one states, whatever the objects are."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvlm_core.answer import Asked, Quantity
from tests.training.build.test_questions import scene_graph
from training.build.guessing import Turn, guesses
from training.build.labels import categories, meaning
from training.build.phrasing import METRIC, MSMU, Style
from training.build.priors import Number, priors
from training.build.questions import TYPES, Balance, Question, View, converse, named_view
from training.build.questions.facts import Known, Order, Presence, Value, answer_facts, given_facts
from training.build.questions.usual import Usual
from training.build.repeats import repeats

STYLES = pytest.mark.parametrize("style", [MSMU, METRIC], ids=lambda style: style.name)


def view_of(seed: int) -> View:
    """Objects of a built scene: named by category, or by colour and category where several are."""
    objects = [
        item
        for item in scene_graph(seed)
        if item["visible_pixels"] and meaning(item["category"]).category == item["category"]
    ]
    kinds = [item["category"] for item in objects]
    for item in objects:
        item["label"] = item["category"]
        alone = kinds.count(item["category"]) == 1
        item["name"] = item["label"] if alone else f"{item['colour']} {item['label']}"
    names = [item["name"] for item in objects]
    for item in objects:
        item["name"] = item["name"] if names.count(item["name"]) == 1 else ""
    return named_view(objects, 50, [*categories()])


def conversation(seed: int, style: Style, balance: Balance | None = None) -> list[Question]:
    rng = np.random.default_rng(seed)
    return converse(view_of(seed), rng, 4, style, balance or Balance())


@STYLES
@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_no_answer_follows_from_an_earlier_turn(style, seed):
    view, known = view_of(seed), Known()
    for question in conversation(seed, style):
        for fact in answer_facts(question, view):
            assert not known.implies(fact), question
        for fact in (*given_facts(question, view), *answer_facts(question, view)):
            known.add(fact)


@STYLES
@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_the_independent_reading_finds_no_repeated_fact(style, seed):
    found = conversation(seed, style)
    turns = [(question.question, question.answer) for question in found]
    kinds = [question.type for question in found]
    assert not any(repeats(view_of(seed).objects, kinds, turns))


NAMES = st.sampled_from("abcdef")
HEIGHTS = st.fixed_dictionaries({name: st.floats(0.1, 3) for name in "abcdef"})


@given(HEIGHTS, st.lists(st.tuples(NAMES, NAMES)), st.sets(NAMES))
def test_an_order_follows_exactly_if_a_chain_leads_there(heights, told, valued):
    known = Known()
    below = {name: set() for name in heights}
    for one, other in told:
        if heights[one] > heights[other]:
            known.add(Order("height", one, other))
            below[one].add(other)
    for name in valued:
        known.add(Value("height", (name,), heights[name]))
        below[name] |= {other for other in valued if heights[other] < heights[name]}
    for _ in heights:  # the closure, by repetition
        for name in below:
            below[name] |= set().union(*(below[other] for other in below[name]))
    for one, other in itertools.permutations(heights, 2):
        assert known.implies(Order("height", one, other)) == (other in below[one])
        assert not known.implies(Order("width", one, other))


def test_a_size_states_its_sides_and_the_larger_of_two_boxes():
    known = Known()
    for name, sides in (("bed", (2, 1.6, 0.5)), ("box", (0.4, 0.3, 0.3))):
        for side, metres in zip(("length", "width", "height"), sides, strict=True):
            assert not known.implies(Order("volume", "bed", "box"))
            known.add(Value(side, (name,), metres))
    assert known.implies(Value("height", ("bed",), 0.5))
    assert known.implies(Order("height", "bed", "box"))
    assert known.implies(Order("volume", "bed", "box"))
    assert not known.implies(Value("distance", ("bed", "box"), 1.0))


def test_an_absent_thing_is_absent_in_every_colour_and_a_named_one_is_there():
    known = Known()
    known.add(Presence("chair", False))
    known.add(Presence("red mug", False))
    known.add(Presence("blue lamp", True))
    assert known.implies(Presence("red chair", False))
    assert not known.implies(Presence("mug", False))
    assert not known.implies(Presence("armchair", False))
    assert known.implies(Presence("lamp", True))
    assert not known.implies(Presence("red lamp", True))


def test_the_reading_counts_a_repeated_number_an_inverse_and_a_part():
    objects = [
        {"name": name, "category": name, "length_m": 2.0, "width_m": 1.0, "height_m": height,
         "centre_uv": [u, 0.5]}
        for name, height, u in (("bed", 0.5, 0.2), ("lamp", 1.5, 0.6))
    ]  # fmt: skip
    turns = [
        ("The height of the bed is 0.5 m, what is the height of the lamp?", "1.5 m."),
        ("Is the bed to the left of the lamp?", "Yes."),
        ("What is the height of the bed?", "0.5 m."),
        ("Is the lamp to the right of the bed?", "Yes."),
        ("Which one is taller, the bed or the lamp?", "The lamp."),
        ("What is the size of the lamp?", "2 m x 1 m x 1.5 m."),
        ("What is the width of the lamp?", "1 m."),
        ("How many lamps are there in the image?", "1."),
        ("What is the width of the bed?", "1 m."),
    ]
    kinds = ["refer_obj_estimation", "relative_position", "scale_estimation", "relative_position"]
    kinds += ["scale_compare", *["scale_estimation"] * 2, "count", "scale_estimation"]
    expected = [False, False, True, True, True, True, True, True, False]
    assert list(repeats(objects, kinds, turns)) == expected


@STYLES
def test_no_type_vanishes_and_yes_is_as_frequent_as_no(style):
    balance, types, words = Balance(), Counter(), Counter()
    for seed in range(150):
        for question in conversation(seed, style, balance):
            types[question.type] += 1
            words[question.type, question.reference] += 1
    assert set(types) == set(TYPES)
    # Counts are the rarest: only where nothing else in view could be one.
    assert min(types.values()) > 0.04 * types.total()
    if style.yes_no:
        yes, no = words["existence", "yes"], words["existence", "no"]
        assert yes == pytest.approx(no, abs=2)


@STYLES
def test_an_absent_thing_is_named_and_asked_for_as_present_ones_are(style):
    balance = Balance()
    for seed in range(300):
        conversation(seed, style, balance)
    for uses in (balance.measured, balance.forms, *([balance.there] if style.yes_no else [])):
        absent, present = uses.absent.total(), uses.present.total()
        assert absent > 100
        for word, number in uses.present.items():
            assert uses.absent[word] / absent == pytest.approx(number / present, abs=0.02), word


@STYLES
def test_wider_is_asked_where_the_longer_side_agrees(style):
    asked = 0
    for seed in range(150):
        named = dict(view_of(seed).named)
        for question in conversation(seed, style):
            if question.type == "scale_compare" and question.asked[0].relation == "wider":
                winner = named[str(question.reference)]
                for name in question.names:
                    assert winner["length_m"] >= named[name]["length_m"]
                    assert winner["width_m"] >= named[name]["width_m"]
                asked += 1
    assert asked > 10


def test_the_same_seed_gives_the_same_conversation():
    assert conversation(5, MSMU) == conversation(5, MSMU)


def test_facts_are_numbers_of_the_scene_graph():
    view = view_of(8)
    named = dict(view.named)
    facts = [f for q in conversation(8, MSMU) for f in answer_facts(q, view)]
    distances = [f for f in facts if isinstance(f, Value) and f.quantity == "distance"]
    for fact in distances:
        a, b = (named[name]["centre_camera_m"] for name in fact.objects)
        assert fact.number == pytest.approx(math.dist(a, b))


def test_usual_sizes_are_refused_where_they_answer_too_many_questions():
    """Nine of ten chairs are 0.8 m high: the median of the category would answer 90 %."""
    rng, usual, asked = np.random.default_rng(1), Usual(), Counter()
    for _ in range(2000):
        height = 0.8 if rng.random() < 0.9 else float(rng.uniform(1.1, 2))
        asks = (Asked(Quantity.HEIGHT, ("chair",)),)
        question = Question("scale_estimation", "", "", height, ("chair",), (1,), asks)
        if not usual.expects(question, "chair"):
            usual.add(question, "chair")
            asked[height == 0.8] += 1
    assert asked[False] > 150
    assert asked[True] / asked.total() < 0.6


def test_a_constant_and_the_median_of_the_category_are_scored_by_the_rule_of_msmu():
    numbers = [Number("height", "chair", (0.8 + 0.01 * n,)) for n in range(10)]
    numbers += [Number("height", "lamp", (3.0,))] * 5 + [Number("height", "door", (9.0,))]
    numbers += [Number("size", "box", (1.0, 0.5, 0.25)), Number("size", "box", (1.1, 0.5, 0.3))]
    found = priors(numbers)
    assert found["height"].constant == pytest.approx(10 / 16, abs=1e-3)
    assert found["height"].category == pytest.approx(15 / 16, abs=1e-3)
    assert found["size"].category == 1


def _turns(absent: str) -> list[Turn]:
    """Questions about lamps that are there, and about something that is not."""
    ask = "What is the height of the {}?"
    turns = []
    for scene in range(100):
        name = ("red lamp", "blue lamp", "green lamp")[scene % 3]
        turns.append(Turn(str(scene), "scale_estimation", ask.format(name), "1 m.", (name,), ()))
        no = absent.format(("red", "blue", "green")[(scene // 2) % 3])
        turns.append(Turn(str(scene), "existence", ask.format(no), f"No {no}.", (), ()))
    return turns


def test_the_guesser_finds_what_words_tell_and_nothing_where_they_tell_nothing():
    (told,) = guesses(_turns("umbrella")).values()
    (untold,) = guesses(_turns("{} lamp")).values()
    assert told.majority == untold.majority == 0.5
    assert told.words == 1
    assert untold.words < 0.6
