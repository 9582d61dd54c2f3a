"""Scorer parity: the official and the strict scores of MSMU-Bench answers.

Two tables. The first has judgements, which are the input of the script: every rule and every
way to fail. The second has answers and references in text, judged by `rules_judge`. If the two
scores differ, the row names the error of the script; otherwise they must be equal.
"""

from __future__ import annotations

import json

import pytest

from training.build.questions import TYPES
from training.evaluate.benchmarks import msmu_item
from training.evaluate.judges import rules_judge
from training.evaluate.official import CRASH, official
from training.evaluate.references import RULES, type_of
from training.evaluate.score import strict

CUT = "what a response has more than the answer is ignored"
NEGATIVE = "a negative ratio is below 1.25"
ZERO = "zero of zero things is a division by zero"
EVAL = "eval reads Python, not JSON: null and true are unknown names"
FENCE = "eval reads nothing around the mapping, and no mapping without braces"
TEXT = "numbers written as text fail inside lists"
ONE = "a list of one and a number are not the same"
DIES = "the mark is compared outside of the try: text ends the whole run"
LAX = "a cosine of 0.5 takes another thing for the same"
INFINITE = "an infinite mark counts"


def judged(answer: object, response: object) -> str:
    return json.dumps({"answer_in_meters": answer, "response_in_meters": response})


def marked(mark: object) -> str:
    return json.dumps({"your_mark": mark})


SCALE, COUNT, FAR, REFER = "scale_estimation", "count", "absolute_distance", "refer_obj_estimation"
WHERE, SIDE, WHICH, THERE = "grounding", "relative_position", "scale_compare", "existence"

#: type, what the judge wrote, official outcome, strict outcome, the script's mistake.
JUDGED = [
    # One number: max(p / g, g / p) < 1.25.
    (SCALE, judged(1.0, 1.0), True, True, ""),
    (SCALE, judged(1.0, 1.24), True, True, ""),
    (SCALE, judged(1.0, 1.25), False, False, ""),  # not below
    (SCALE, judged(1.25, 1.0), False, False, ""),
    (SCALE, judged(1.0, 0.81), True, True, ""),
    (SCALE, judged(1.0, 0.79), False, False, ""),  # symmetric: 1 / 0.79 is above 1.25
    (FAR, judged(2.0, 2.4), True, True, ""),
    (FAR, judged(2.0, 20.0), False, False, ""),
    (FAR, judged(2, 2), True, True, ""),
    (FAR, judged("2.0", "2.1"), True, True, ""),  # float() reads text
    (FAR, judged(2.0, "2.1 m"), False, False, ""),
    (FAR, judged(2.0, 0), False, False, ""),  # a division by zero fails
    (FAR, judged(0, 2.0), False, False, ""),
    (FAR, judged(2.0, -2.0), True, False, NEGATIVE),
    (FAR, judged(2.0, "nan"), False, False, ""),
    (FAR, judged(2.0, "inf"), False, False, ""),
    (FAR, '{"answer_in_meters": 2.0, "response_in_meters": 1e999}', False, False, ""),
    (FAR, '{"answer_in_meters": 2.0, "response_in_meters": 7 * 0.3048}', True, False,
     "eval computes: a judge that did not convert is helped"),
    (FAR, '{"answer_in_meters": 1.0, "response_in_meters": 9 ** 9 ** 9}', False, False, ""),
    # Several: the mean of the ratios, in order.
    (SCALE, judged([1.0, 0.5, 0.2], [1.0, 0.5, 0.2]), True, True, ""),
    (SCALE, judged([1.0, 0.5, 0.2], [1.0, 0.5, 0.34]), True, True, ""),  # 1, 1, 1.7: mean 1.23
    (SCALE, judged([1.0, 0.5, 0.2], [1.0, 0.5, 0.36]), False, False, ""),  # mean 1.27
    (SCALE, judged([1.0, 0.5, 0.2], [0.2, 0.5, 1.0]), False, False, ""),
    (SCALE, judged([1.0, 0.5, 0.2], [1.0, 0.5]), False, False, ""),  # IndexError
    (SCALE, judged([1.0, 0.5, 0.2], []), False, False, ""),
    (SCALE, judged([1.0, 0.5, 0.2], 1.0), False, False, ""),  # TypeError
    (SCALE, judged([1.0, 0.5, 0.2], None), False, False, ""),
    (SCALE, judged([1.0, 0.5, 0.2], [1.0, 0.5, 0.2, 3.0]), True, False, CUT),
    (SCALE, judged([1.0, 0.5, 0.2], [1.0, 0.5, 0.0]), False, False, ""),
    (SCALE, judged([1.0, 0.5, 0.2], [1.0, -0.5, 0.2]), True, False, NEGATIVE),
    (SCALE, judged([1.0, 0.5, 0.2], ["1.0", "0.5", "0.2"]), False, True, TEXT),
    (SCALE, judged([1.0, 0.5, 0.2], ["1.0", "wide", "0.2"]), False, False, ""),
    (SCALE, judged([], []), False, False, ""),
    (SCALE, '{"answer_in_meters": (1.0, 0.5), "response_in_meters": (1.0, 0.5)}', False, True,
     "a tuple is not taken for a list"),
    (REFER, judged([1.02, 0.93], [1.0, 0.9]), True, True, ""),
    (REFER, judged([1.02, 0.93], [0.6, 1.2]), False, False, ""),
    (REFER, judged(1.02, [1.0, 0.9]), False, False, ""),  # TypeError
    (REFER, judged(1.02, [1.0]), False, True, ONE),
    (REFER, judged([1.02], 1.0), False, True, ONE),
    # Things are counted by the ratio, too.
    (COUNT, judged(10, 9), True, True, ""),
    (COUNT, judged(5, 4), False, False, ""),
    (COUNT, judged(1, 1), True, True, ""),
    (COUNT, judged(3, 0), False, False, ""),
    (COUNT, judged(0, 0), False, True, ZERO),
    # Positions: the mean error is at most 0.1; names: the cosine (1 or 0 here) at least 0.5.
    (WHERE, judged([0.5, 0.5], [0.6, 0.58]), True, True, ""),
    (WHERE, judged([0.5, 0.5], [0.7, 0.5]), True, True, ""),  # 0.2 and 0: mean 0.1
    (WHERE, judged([0.5, 0.5], [0.7, 0.52]), False, False, ""),
    (WHERE, judged([0.5, 0.5], [0.5]), False, False, ""),
    (WHERE, judged([0.5, 0.5], 0.5), False, False, ""),
    (WHERE, judged([0.5, 0.5], "the middle"), False, False, ""),
    (WHERE, judged([0.5, 0.5], [0.5, 0.5, 0.9]), True, False, CUT),
    (WHERE, judged(0.5, 0.5), False, True, "a position must be a list"),
    (WHERE, '{"answer_in_meters": (0.5, 0.5), "response_in_meters": (0.5, 0.5)}', True, True, ""),
    (WHERE, judged("brown cabinet", "brown cabinet"), True, True, ""),
    (WHERE, judged("brown cabinet", "the brown cabinet."), True, True, ""),
    (WHERE, judged("brown cabinet", "dark chair"), False, False, ""),
    (WHERE, judged("brown cabinet", [0.5, 0.5]), False, False, ""),
    (WHERE, '{"answer_in_meters": "white wall", "response_in_meters": None}', False, False, ""),
    # Marks: above one half.
    (SIDE, marked(1), True, True, ""),
    (SIDE, marked(0), False, False, ""),
    (WHICH, marked(0.6), True, True, ""),
    (WHICH, marked(0.5), False, False, ""),
    (THERE, marked(True), False, True, EVAL),
    (THERE, '{"your_mark": True}', True, True, ""),
    (THERE, '{"your_mark": None}', False, False, ""),
    (THERE, marked(None), False, False, ""),
    (THERE, marked("1"), False, True, DIES),
    (THERE, marked("yes"), False, False, ""),  # this one ends the script too
    (THERE, '{"your_mark": 1e999}', True, False, INFINITE),
    (THERE, '{"mark": 1}', False, False, ""),  # KeyError
    # What a judge writes around it.
    (THERE, '```json\n{"your_mark": 1}\n```', False, True, FENCE),
    (THERE, '"your_mark": 1', False, True, FENCE),  # as the examples of its prompt have it
    (THERE, 'The mark is {"your_mark": 1}.', False, True, FENCE),
    (THERE, "  \t{'your_mark': 1}", True, True, ""),
    (THERE, "[1]", False, False, ""),
    (THERE, "1", False, False, ""),
    (THERE, "", False, False, ""),
    (THERE, "I cannot tell.", False, False, ""),
    (THERE, "{" * 3000, False, False, ""),
    (FAR, '"answer_in_meters": 2.0, "response_in_meters": 2.1', False, True, FENCE),
    (FAR, judged(2.0, None), False, False, ""),
    (FAR, '{"answer_in_meters": 2.0}', False, False, ""),
    (FAR, '{"answer_in_meters": 9.0, "answer_in_meters": 2.0, "response_in_meters": 2.0}', True,
     True, ""),
]  # fmt: skip

H, S = "What is the height of the closet?", "What is the size of the dark pillow?"
D = "What is the distance between the bed and the lamp?"
C = "How many chairs are there in the image?"
P, N = "What is the coordinate of the black TV ?", "What object is located at (0.97,0.6)?"
L = "Is the blue bed to the left of the curtain from the viewer's perspective ?"
X = "Which one is closer, the blue bed or the curtain?"
T = "Which one is lower, the white microwave or the small recycling bin?"
T3 = "What is lowest among the black tv, the navy blue pillow, or the blue bed?"
R = "The height of the bed is 0.81 m, what is the height of the table and the nightstand ?"
E = "What is the size of the pipe?"
W = "The width of the wooden desk is 1.07 m, can you measure the width of the black swivel chair?"
CHAIR = (
    "Since the width of the wooden desk is 1.07 m, i think the width of the black swivel chair is "
    "0.33 m."
)
PILLOW = "The size of the dark pillow is 3 m x 0.5 m x 0.3 m. "
BOTH = (
    "Since the height of the bed is 0.81 m,i think  the height of the table is 1.02 meters and "
    "the height of the nightstand is 93 cm."
)

#: raw type of the release, question, answer, reference, official outcome, strict, the mistake.
WORDS = [
    ("height", H, "The height of the closet is 1.2 m.", "The height of closet is 1.19 meters.",
     True, True, ""),
    ("height", H, "119 cm", "The height of closet is 1.19 meters.", True, True, ""),
    ("height", H, "about 4 feet tall", "The height of closet is 1.19 meters.", True, True, ""),
    ("height", H, "47 inches", "the closet is with the height of 1.19 m.", True, True, ""),
    ("height", H, "1.5 m", "The height of closet is 1.19 meters.", False, False, ""),
    ("height", H, "1.19", "The height of closet is 1.19 meters.", False, False, ""),
    ("height", H, "I cannot measure it.", "The height of closet is 1.19 m.", False, False, ""),
    ("height", H, "", "The height of closet is 1.19 m.", False, False, ""),
    ("height", H, "The width is 1.19 m.", "The height of closet is 1.19 m.", False, False, ""),
    ("height", H, "It is 0 m.", "The height of closet is 1.19 m.", False, False, ""),
    ("width", "What is the width of the desk?", "the desk measures 0.4 meters in width.",
     "The width  of the desk is 37.5 cm.", True, True, ""),
    ("size", S, "3.1 m x 0.5 m x 0.3 m", PILLOW, True, True, ""),
    ("size", S, "310 x 50 x 30 cm", PILLOW, True, True, ""),
    ("size", S, "The length is 3 m, the width is 0.5 m and the height is 0.3 m.", PILLOW, True,
     True, ""),
    ("size", S, "0.3 m x 0.5 m x 3 m", PILLOW, False, False, ""),
    ("size", S, "It is 3 m long.", PILLOW, False, False, ""),
    ("size", S, "3 m x 0.5 m", PILLOW, False, False, ""),
    ("distance", D, "A distance of 0.9 m exists between bed and lamp.", "The distance is 0.94 m.",
     True, True, ""),
    ("distance", D, "They are 2 m apart.", "bed and lamp are 0.7 m apart from each other.", False,
     False, ""),
    ("count", C, "There are 2 chairs.", "2.", True, True, ""),
    ("count", C, "two", "2.", True, True, ""),
    ("count", C, "3", "2.", False, False, ""),
    ("count", C, "9", "There are 10 chairs.", True, True, ""),
    ("count", C, "There are no chairs.", "1.", False, False, ""),
    ("count", C, "0", "0.", False, True, ZERO),
    ("position", P, "(0.6,0.5).", "It is located at (0.58,0.41) in the image.", True, True, ""),
    ("position", P, "(0.9,0.5).", "It is located at (0.58,0.41) in the image.", False, False, ""),
    ("position", P, "(60,50)", "It is located at (0.58,0.41) in the image.", False, False, ""),
    ("position", P, "in the middle", "(0.58,0.41).", False, False, ""),
    ("position", N, "It is the brown cabinet.", "the brown cabinet.", True, True, ""),
    ("position", N, "the dark chair", "the brown cabinet.", False, False, ""),
    ("position", N, "the cabinet", "the brown cabinet.", False, False, ""),
    ("left/right", L, "Yes.", "Indeed, the blue bed is positioned on the left side of the curtain.",
     True, True, ""),
    ("left/right", L, "The bed is to the left of the curtain.",
     "Yes, the blue bed is to the left of the curtain.", True, True, ""),
    ("left/right", L, "The bed is on the right.",
     "Yes, the blue bed is to the left of the curtain.", False, False, ""),
    ("left/right", L, "No, it is to the right.",
     "No, the blue bed is to the right of the curtain.", True, True, ""),
    ("left/right", L, "perhaps", "No, the blue bed is to the right of the curtain.", False, False,
     ""),
    ("left/right", X, "The curtain.", "the blue bed is more closer.", False, False, ""),
    ("left/right", X, "the blue bed", "the blue bed is more closer.", True, True, ""),
    ("taller_two_object", T, "The white microwave is lower.",
     "The height of the white microwave is 0.3 m and the small recycling bin is 40 cm, so the white"
     " microwave is lower.", True, True, ""),
    ("taller_two_object", T, "The height of the white microwave is 0.5 m and the small recycling "
     "bin is 40 cm, so the small recycling bin is lower.", "The white microwave is lower.", False,
     False, ""),
    # A name cut short, where only one thing can be meant.
    ("taller_two_object", T, "The bin.", "the small recycling bin is lower.", True, True, ""),
    ("taller_two_object", T, "The red bin.", "the small recycling bin is lower.", False, False, ""),
    ("taller_two_object", T, "Both.", "The white microwave is lower.", False, False, ""),
    ("tall_three_objects", T3, "The blue bed", "The lowest is the blue bed.", True, True, ""),
    ("tall_three_objects", T3, "The lowest is the black tv.", "The lowest is the blue bed.", False,
     False, ""),
    ("refer_two_objects", W, "Since the width of the wooden desk is 1.07 m, i think the width of "
     "the black swivel chair is 0.35 m.", CHAIR, True, True, ""),
    ("refer_two_objects", W, "The width of the wooden desk is 1.07 m.", CHAIR, False, False, ""),
    ("refer_two_objects", W, "13 inches", CHAIR, True, True, ""),
    ("refer_three_objects", R, "1.02 m and 0.93 m.", BOTH, True, True, ""),
    ("refer_three_objects", R, "The height of the table is 1 m and the height of the nightstand is "
     "3 ft.", BOTH, True, True, ""),
    ("refer_three_objects", R, "The table is 1.02 m.", BOTH, False, False, ""),
    ("refer_three_objects", R, "1.02 m, 0.93 m and 0.5 m.", BOTH, False, False, ""),
    ("zero", E, "There is no pipe in the image.", "No pipe in the scene.", True, True, ""),
    ("zero", E, "I can't see any pipe.", "Can not find pipes.", True, True, ""),
    ("zero", E, "0.5 m x 0.2 m x 0.1 m", "There is no pipe in the image", False, False, ""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "judgement", "theirs", "ours", "mistake"), JUDGED)
def test_the_official_and_the_strict_score_of_a_judgement(kind, judgement, theirs, ours, mistake):
    assert official(RULES[kind], judgement).correct is theirs
    assert strict(RULES[kind], judgement).correct is ours
    assert (theirs != ours) == bool(mistake)


@pytest.mark.parametrize(("raw", "question", "answer", "words", "theirs", "ours", "mistake"), WORDS)
def test_both_scores_of_an_answer_in_text(raw, question, answer, words, theirs, ours, mistake):
    kind = type_of(raw, question, words)
    item = msmu_item("0", raw, question, words)
    assert item.reference is not None
    judgement = rules_judge(item, answer)
    assert official(RULES[kind], judgement).correct is theirs
    assert strict(RULES[kind], judgement).correct is ours
    assert (theirs != ours) == bool(mistake)
    assert type_of("", question, words) == kind  # as where no type is stored


def test_only_the_official_rules_use_the_similarity_of_names():
    judgement = judged("white wall", "white window")
    for cosine, theirs in ((0.62, True), (0.5, True), (0.49, False)):
        assert official("position", judgement, lambda *_, c=cosine: c).correct is theirs
        assert not strict("position", judgement).correct, LAX


def test_the_tables_cover_every_type_and_are_long_enough():
    assert len(JUDGED) + len(WORDS) >= 120
    assert {kind for kind, *_ in JUDGED} == set(TYPES)
    assert {type_of(raw, "", "") for raw, *_ in WORDS} == set(TYPES)


def test_a_row_that_stops_the_official_script_counts_as_wrong_with_a_reason():
    assert official("mark", marked("yes")).why == CRASH
    assert official("mark", marked([1])).why == CRASH


def test_code_in_a_judgement_is_never_run(tmp_path):
    file = tmp_path / "ran"
    code = f"{{'your_mark': 1 if open({str(file)!r}, 'w') else 0}}"
    assert not official("mark", code).correct
    assert not strict("mark", code).correct
    assert not official("mark", "__import__('os').abort()").correct
    assert not file.exists()
