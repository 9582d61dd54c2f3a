"""Marks of answers about the same frames -> scores, and differences with paired intervals.

Two rows answer the same questions about the same frames. Their difference is taken on whole frames,
drawn with replacement, together for both rows and for all seeds: what makes a frame hard cancels.
Knows counts; does not know rows, files or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.build.questions import TYPES

#: Types whose answers are lengths in metres: those that the depth of the image should help.
METRIC = ("scale_estimation", "absolute_distance", "refer_obj_estimation")
_DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Marks:
    """Counts of answers.

    Attributes:
        right, asked: (seeds, frames, types) in the order of `TYPES`.
    """

    right: npt.NDArray[np.float64]
    asked: npt.NDArray[np.float64]

    @classmethod
    def of(cls, seeds: Sequence[Iterable[dict[str, Any]]], frames: Sequence[int]) -> Marks:
        """From lines with `frame`, `type` and `correct`, by seed.

        Args:
            frames: keys of all frames; theirs is the order.
        """
        place = {frame: number for number, frame in enumerate(frames)}
        right, asked = np.zeros((2, len(seeds), len(frames), len(TYPES)))
        for seed, lines in enumerate(seeds):
            for line in lines:
                at = seed, place[line["frame"]], TYPES.index(line["type"])
                right[at] += bool(line["correct"])
                asked[at] += 1
        return cls(right, asked)

    def scores(
        self, types: Sequence[str] = TYPES, weights: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """(draws,) mean over the types, percent, each over all seeds and frames.

        Args:
            weights: (draws, frames): how often each frame counts; None = one draw, each once.
        """
        columns = [TYPES.index(kind) for kind in types]
        if weights is None:
            weights = np.ones((1, self.right.shape[1]))
        right = weights @ self.right[..., columns].sum(0)
        asked = weights @ self.asked[..., columns].sum(0)
        share = np.where(asked > 0, right / np.maximum(asked, 1), np.nan)
        mean: npt.NDArray[np.float64] = 100 * np.nanmean(share, axis=1)
        return mean

    def seed(self, number: int) -> Marks:
        """One seed's marks."""
        one = slice(number, number + 1)
        return Marks(self.right[one], self.asked[one])


@dataclass(frozen=True)
class Interval:
    """A value, percent or points, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside."""
        return not self.low <= 0 <= self.high

    def to_mapping(self) -> dict[str, float]:
        """For JSON."""
        return {key: round(value, 3) for key, value in vars(self).items()}


def score(marks: Marks, types: Sequence[str] = TYPES) -> Interval:
    """The score with a bootstrap over frames."""
    return _interval(marks.scores(types), marks.scores(types, _draws(marks)))


def difference(one: Marks, other: Marks, types: Sequence[str] = TYPES) -> Interval:
    """`one` minus `other`, paired by frame."""
    draws = _draws(one)
    value = one.scores(types) - other.scores(types)
    return _interval(value, one.scores(types, draws) - other.scores(types, draws))


def _draws(marks: Marks) -> npt.NDArray[np.float64]:
    """(draws, frames): how often each frame is drawn; the same for rows of the same frames."""
    frames = marks.right.shape[1]
    rng = np.random.default_rng(0)
    return rng.multinomial(frames, np.full(frames, 1 / frames), _DRAWS).astype(np.float64)


def _interval(value: npt.NDArray[np.float64], draws: npt.NDArray[np.float64]) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(float(value[0]), float(low), float(high))
