"""Words -> SI quantities: what a sentence says, as numbers with units, and nothing more.

Knows units and how people and models write numbers. Does not know frames, models or truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """What a measurement measures; the numbers are those of msg/Measurement."""

    DISTANCE = 0
    WIDTH = 1
    HEIGHT = 2
    LENGTH = 3
    DEPTH = 4
    ANGLE = 5
    COUNT = 6


class Source(IntEnum):
    """Who says so; the numbers are those of msg/Measurement."""

    LANGUAGE = 0
    GEOMETRY = 1
    FUSED = 2


@dataclass(frozen=True)
class Measurement:
    """One number with its meaning: metres, radians, or a plain count.

    `std_dev` is in the unit of `value`; NaN = unknown, never 0. `text` is the words it came from.
    """

    kind: Kind
    value: float
    std_dev: float = math.nan
    source: Source = Source.LANGUAGE
    label: str = ""
    text: str = ""
