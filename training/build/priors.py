"""What is scored without an image for answers that are numbers: by a constant, or by the category.

Both are scored by MSMU's rule (docs/definitions.md): right if the ratio to the truth is below 1.25;
of three sides, the mean of the ratios. A prior that scores high makes a benchmark measure
knowledge of usual sizes. Does not know words or images.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Ratio to the truth from which an answer is wrong.
MAX_RATIO = 1.25
_QUANTILES = 200


@dataclass(frozen=True)
class Number:
    """One asked number, or the three sides of a size.

    Attributes:
        kind: what is asked, such as "scale_estimation: height".
        category: of the objects; the best that words alone can tell.
        values: metres, or a count.
    """

    kind: str
    category: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Prior:
    """Shares of right answers, in [0, 1], of a constant and of the median of the category."""

    turns: int
    constant: float
    category: float


def priors(numbers: Iterable[Number]) -> dict[str, Prior]:
    """Kind -> its priors. The median of a category excludes the number that is scored."""
    by_kind: dict[str, list[Number]] = defaultdict(list)
    for number in numbers:
        by_kind[number.kind].append(number)
    return {kind: _prior(found) for kind, found in sorted(by_kind.items())}


def _prior(found: Sequence[Number]) -> Prior:
    values = [number.values for number in found]
    sides = [sorted(side) for side in zip(*values, strict=True)]
    middle = tuple(side[(len(side) - 1) // 2] for side in sides)
    # Of one number a quantile is the best constant; of three sides, a multiple of their medians.
    constants = [tuple(1.05**step * side for side in middle) for step in range(-50, 51)]
    if len(sides) == 1:
        constants = [(sides[0][len(values) * at // _QUANTILES],) for at in range(_QUANTILES)]
    best = max(sum(is_right(one, value) for value in values) for one in set(constants))
    by_category: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for number in found:
        by_category[number.category].append(number.values)
    medians = {
        category: [sorted(side) for side in zip(*own, strict=True)]
        for category, own in by_category.items()
    }
    right = 0
    for number in found:
        own = medians[number.category]
        guess = [_median_without(s, v) for s, v in zip(own, number.values, strict=True)]
        right += is_right(guess if len(own[0]) > 1 else middle, number.values)
    return Prior(len(found), round(best / len(found), 4), round(right / len(found), 4))


def _median_without(ordered: Sequence[float], value: float) -> float:
    """The low median of sorted values without one of them; one that occurs: counts are whole."""
    middle = max(0, len(ordered) - 2) // 2
    return ordered[min(middle + (bisect_left(ordered, value) <= middle), len(ordered) - 1)]


def is_right(guess: Sequence[float], truth: Sequence[float]) -> bool:
    """Whether a guess is right by MSMU's rule."""
    ratios = [max(a / b, b / a) for a, b in zip(guess, truth, strict=True)]
    return sum(ratios) / len(ratios) < MAX_RATIO
