"""A chain of thought becomes a turn whose answer can still be read, or the short answer stays."""

from __future__ import annotations

import numpy as np
import pytest

from sdvlm_core.language.question import parse
from sdvlm_core.language.reading import read
from training.data.conversations import Sample
from training.finetune.thoughts import with_thoughts

QUESTION = "The width of the wooden desk is 1.07 m, can you measure the width of the swivel chair?"
SHORT = (
    "Since the width of the wooden desk is 1.07 m, i think the width of the swivel chair is 0.53 m."
)
THOUGHT = (
    "To determine the width of the swivel chair, I should think it through step by step carefully. "
    "The wooden desk is 107.0 cm wide. The swivel chair appears to be roughly half as wide as the "
    "wooden desk. Thus, the estimated width of the swivel chair is around 53.5 cm."
)
OTHER = ("How many chairs are there in the image?", "2.")


def _sample(*thoughts: tuple[str, str]) -> Sample:
    rgb = np.zeros((4, 4, 3), np.uint8)
    return Sample(rgb, (OTHER, (QUESTION, SHORT)), (), thoughts=thoughts)


def test_a_thought_takes_the_place_of_the_short_answer():
    found = with_thoughts(_sample((QUESTION, THOUGHT)))
    assert found.turns == (OTHER, (QUESTION, THOUGHT))
    assert (found.thoughts, found.left_out) == (1, 0)


def test_the_node_reads_the_answer_of_a_turn_that_is_a_thought():
    ((_, _), (question, text)) = with_thoughts(_sample((QUESTION, THOUGHT))).turns
    (measurement,) = read(text, parse(question)).measurements
    assert measurement.value == pytest.approx(0.535)
    assert measurement.objects == ("swivel chair",)


@pytest.mark.parametrize(
    "thought",
    [
        "The wooden desk is 107.0 cm wide and nothing else can be said.",
        "Thus, the estimated width of the swivel chair is around 80 cm.",  # not the answer
        "",
    ],
)
def test_a_thought_without_a_readable_right_answer_leaves_the_short_one(thought):
    found = with_thoughts(_sample((QUESTION, thought)))
    (question, text) = found.turns[1]
    assert question == QUESTION
    (measurement,) = read(text, parse(question)).measurements
    assert measurement.value == pytest.approx(0.53)
    assert found.thoughts + found.left_out == 1


def test_a_thought_about_a_question_that_is_not_asked_is_counted_and_not_written():
    found = with_thoughts(_sample(("How wide is the door?", "It is 0.9 m wide.")))
    assert found.turns == (OTHER, (QUESTION, SHORT))
    assert (found.thoughts, found.left_out) == (0, 1)


def test_without_thoughts_a_conversation_is_as_it_was():
    found = with_thoughts(_sample())
    assert found.turns == _sample().turns
    assert (found.thoughts, found.left_out) == (0, 0)
