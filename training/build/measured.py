"""Shards of a build -> what they teach besides looking: repeated facts, words, usual sizes.

Reads conversations and scene graphs, never pictures. Independent of the generator, as `check` is.
The page that shows the figures is `statistics`.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdvlm_core.language.amounts import amounts
from sdvlm_core.language.question import parse
from training.build.guessing import Turn, guesses
from training.build.priors import Number, priors
from training.build.repeats import repeats
from training.data.tables import count_rows, read_rows

_COLUMNS = ("conversations", "type", "scene_graph", "source", "scene", "view")
#: Guesser and priors use about this many rows; repeats are counted in all.
_MAX_ROWS = 4000


def measure(shards: Sequence[Path]) -> dict[str, Any]:
    """Figures of a build, as JSON.

    repeated: type -> {turns, repeated: those whose answer an earlier turn states, unread: those in
    unknown words, the first of a row}; guesses: group -> `guessing.Guess`; priors: kind ->
    `priors.Prior`.
    """
    every = max(1, (count_rows(shards) or 0) // _MAX_ROWS)
    turns: list[Turn] = []
    numbers: list[Number] = []
    repeated: dict[str, Counter[str]] = {}
    for shard in shards:
        for row in read_rows(shard, columns=_COLUMNS):
            _count_repeats(row, repeated)
            if zlib.crc32(f"{row['scene']} {row['view']}".encode()) % every == 0:
                found = list(_turns(row))
                turns += found
                entries = {e["name"]: e for e in json.loads(row["scene_graph"]) if e["name"]}
                numbers += [one for turn in found for one in _numbers(turn, entries)]
    return {
        "repeated": {kind: dict(found) for kind, found in sorted(repeated.items())},
        "guesses": {name: asdict(guess) for name, guess in guesses(turns).items()},
        "priors": {kind: asdict(prior) for kind, prior in priors(numbers).items()},
    }


def _pairs(row: dict[str, Any]) -> list[tuple[str, str]]:
    """(question, answer) of a row."""
    said = [turn["value"].removeprefix("<image>").strip() for turn in row["conversations"]]
    return list(zip(said[::2], said[1::2], strict=True))


def _count_repeats(row: dict[str, Any], repeated: dict[str, Counter[str]]) -> None:
    found = repeats(json.loads(row["scene_graph"]), row["type"], _pairs(row))
    for kind in row["type"]:
        counts = repeated.setdefault(kind, Counter(turns=0, repeated=0, unread=0))
        counts["turns"] += 1
        try:
            counts["repeated"] += next(found, False)
        except ValueError:  # the generator ends here: the rest of the row is not read
            counts["unread"] += 1


def _turns(row: dict[str, Any]) -> Iterator[Turn]:
    named = [entry["name"] for entry in json.loads(row["scene_graph"]) if entry["name"]]
    pattern = "|".join(map(re.escape, sorted(named, key=len, reverse=True))) or "(?!)"
    names = re.compile(rf"\b[Tt]he ({pattern})\b")  # "can" may be a name
    for kind, (question, answer) in zip(row["type"], _pairs(row), strict=True):
        mentions, answered = (tuple(names.findall(text)) for text in (question, answer))
        yield Turn(f"{row['source']}/{row['scene']}", kind, question, answer, mentions, answered)


def _numbers(turn: Turn, entries: dict[str, dict[str, Any]]) -> Iterator[Number]:
    """The numbers that are asked for; of several objects, each."""
    asked = turn.question
    if turn.type == "count":
        number = re.search(r"\d+", turn.answer)
        things = parse(turn.question).objects
        if number is not None and things:
            yield Number("count", things[0], (float(number[0]),))
        return
    if turn.type == "refer_obj_estimation":
        asked = asked.partition(",")[2]
    elif turn.type not in ("scale_estimation", "absolute_distance"):
        return
    names = [name for name in turn.mentions if f"the {name}" in asked]
    if "distance" in asked or "far" in asked:
        length = [one.value for one in amounts(turn.answer) if one.dimension == "length"]
        pair = " ".join(sorted(entries[name]["category"] for name in names))
        yield Number(f"{turn.type}: distance", pair, (length[-1],))
        return
    sides: tuple[str, ...] = ("length", "width", "height")
    if not ("height" in asked and "width" in asked):
        sides = ("height",) if re.search("height|tall", asked) else sides
        sides = ("width",) if re.search("width|wide", asked) else sides
    kind = "size" if len(sides) > 1 else sides[0]
    for name in dict.fromkeys(names):
        values = tuple(float(entries[name][f"{side}_m"]) for side in sides)
        yield Number(f"{turn.type}: {kind}", entries[name]["category"], values)
