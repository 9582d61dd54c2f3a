"""The data of a benchmark: images with questions, and the scoring rule of each answer.

Knows no files, no models and no judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sdvlm_core.answer import Asked
from sdvlm_core.frame import RgbdFrame
from training.evaluate.score import Reference, Rule


class BenchmarkError(ValueError):
    """Data that does not match the benchmark; names the file and the row."""


@dataclass(frozen=True)
class Item:
    """One question with the reference of its answer.

    Attributes:
        key: unique within the benchmark.
        type: what it is counted under.
        rule: scoring rule of the answer.
        question: text for the model.
        answer: the reference in words.
        reference: the reference as a value; None = unreadable, so that no answer is right.
        asked: what is asked, if it is known; () = as the words are understood.
    """

    key: str
    type: str
    rule: Rule
    question: str
    answer: str
    reference: Reference | None
    asked: tuple[Asked, ...] = ()


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame with all of its questions; `key` is unique within the benchmark."""

    key: int | str
    frame: RgbdFrame
    items: tuple[Item, ...]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A benchmark that can be asked.

    Attributes:
        name: name of the benchmark; "folder" = a local folder.
        types: question types of the macro mean, in the order of its tables.
        divisor: divisor of the macro mean; 0 = the number of types that were asked.
        pictures: streams the frames; deterministic.
        size: the number of images; None = unknown before the end.
        more: types that have a row of their own and are not in the mean.
    """

    name: str
    types: tuple[str, ...]
    divisor: int
    pictures: Callable[[], Iterator[Picture]]
    size: int | None = None
    more: tuple[str, ...] = ()
