"""Accepted chains of thought -> turns of a conversation.

A thought takes the place of the short answer to its question: asked again, the question would have
its answer already in the conversation, and copying it would be learnt. A turn is written only if
the answer can still be read from it (`sdvlm_core.language`), by the node and by the judge: as the
thought stands, or with the short answer as its last sentence. Otherwise the short answer stays, and
is counted. Knows text; does not know tokens or files.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.data.conversations import Sample
from training.evaluate.stated import asked_in, numbers

#: A thought rounds its numbers: `training.build.thought` accepts so much of an error.
_RELATIVE, _METRES = 0.05, 0.01

Turns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ThoughtTurns:
    """The turns of one image, with how many are thoughts, and how many thoughts were left out."""

    turns: Turns
    thoughts: int = 0
    left_out: int = 0


def with_thoughts(sample: Sample) -> ThoughtTurns:
    """The conversation of a sample with its accepted thoughts in it."""
    by_question = dict(sample.thoughts)
    turns, used = [], 0
    for question, answer in sample.turns:
        told = _readable(question, answer, by_question.pop(question, ""))
        used += told is not None
        turns.append((question, told if told is not None else answer))
    return ThoughtTurns(tuple(turns), used, len(sample.thoughts) - used)


def _readable(question: str, answer: str, thought: str) -> str | None:
    """The thought as an answer from which the numbers of the short one can be read; None = none."""
    asked = asked_in(question)
    wanted = numbers(answer, asked) if asked and thought else ()
    if not wanted:
        return None
    for text in (thought, f"{thought} {answer}"):
        found = numbers(text, asked)
        if len(found) == len(wanted) and all(map(_agree, found, wanted)):
            return text
    return None


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= max(_METRES, _RELATIVE * abs(other))
