"""The share of a benchmark that one process answers: by option, or by torchrun.

A benchmark's images are dealt out in turn. Every process writes a file of its own; a run without a
shard takes over the answers of all of them (`outputs.recorded_parts`), so that the processes need
a common folder at the end only. Does not know models or questions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

_OPTION = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True)
class Shard:
    """Share `number` (from 1) of `count` equal shares.

    Raises:
        ValueError: not 1 <= number <= count.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(
                f"--shard must be I/N with 1 <= I <= N, got {self.number}/{self.count}"
            )

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole benchmark."""
        return self.count == 1

    def holds(self, image: int) -> bool:
        """Whether an image of the benchmark (from 0) belongs to this share."""
        return image % self.count == self.number - 1


WHOLE = Shard(1, 1)


def parse_shard(option: str) -> Shard:
    """The value of --shard: "2/8"; "" = the whole benchmark.

    Raises:
        ValueError: of another form.
    """
    if not option:
        return WHOLE
    found = _OPTION.fullmatch(option.strip())
    if found is None:
        raise ValueError(f"--shard must be I/N, such as 2/8, got {option!r}")
    return Shard(int(found[1]), int(found[2]))


def launched(environment: Mapping[str, str] = os.environ) -> Shard:
    """This process's share under torchrun; the whole benchmark without it."""
    return Shard(int(environment.get("RANK", "0")) + 1, int(environment.get("WORLD_SIZE", "1")))
