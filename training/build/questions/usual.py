"""How often usual sizes and counts answer the questions of a shard; keeps that share bounded.

A constant, or the median of the category, is a guess without an image. `Usual` makes both from the
accepted questions so far and refuses further ones that they answer, where they answer too many
already. `training.build.priors` measures the result on whole builds. Does not know words.
"""

from __future__ import annotations

import statistics
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field

from training.build.questions.question import Question

#: A guess may be right of this share of the questions of a kind: below 60 % in the whole build,
#: where the guesses are somewhat better than those of one shard.
_MAX_SHARE = 0.55
_FEW = 8  # questions of a kind that are not counted
_MAX_RATIO = 1.25  # of a right answer, as in MSMU


@dataclass(eq=False)
class Usual:
    """Accepted answers by kind of question, and by kind and category.

    Attributes:
        values: (kind,) or (kind, category) -> sorted answers.
        right: (kind, "constant" or "category") -> number that the guess answered.
    """

    values: dict[tuple[str, ...], list[float]] = field(default_factory=dict)
    right: Counter[tuple[str, str]] = field(default_factory=Counter)

    def expects(self, question: Question, category: str) -> bool:
        """Whether a guess has been right too often, and is right again."""
        found = _number(question)
        if found is None:
            return False
        kind, number = found
        asked = len(self.values.get((kind,), ()))
        return any(
            self.right[kind, guess] + 1 > _MAX_SHARE * (asked + 1) + _FEW
            for guess in self._guessed(kind, category, number)
        )

    def add(self, question: Question, category: str) -> None:
        """Count an accepted question."""
        found = _number(question)
        if found is not None:
            kind, number = found
            self.right.update((kind, guess) for guess in self._guessed(kind, category, number))
            for key in ((kind,), (kind, category)):
                insort(self.values.setdefault(key, []), number)

    def _guessed(self, kind: str, category: str, number: float) -> list[str]:
        """The guesses that are right."""
        right = []
        for guess, key in (("constant", (kind,)), ("category", (kind, category))):
            known = self.values.get(key)
            if known:
                # Counts are whole: the most frequent one is the best guess.
                value = statistics.mode(known) if kind == "COUNT" else known[len(known) // 2]
                if max(value / number, number / value) < _MAX_RATIO:
                    right.append(guess)
        return right


def _number(question: Question) -> tuple[str, float] | None:
    """(kind, answer) of a count or a scale; a size is the side of a cube of that volume."""
    if question.type not in ("count", "scale_estimation"):
        return None
    value = question.reference
    if isinstance(value, tuple):
        number = 1.0
        for side in value:
            number *= side
        value = number ** (1 / len(value))
    assert isinstance(value, float)
    return question.asked[0].quantity.name, value
