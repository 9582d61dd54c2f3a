"""`python -m training.build.check OUT`: re-derive every number of a built data set.

Independent of the generator on purpose: it reads the words of a turn with expressions of its own
and `sdvlm_core.language.reading`, looks objects up in the row's scene graph, and computes the
right answer. Imports neither `questions` nor `phrasing`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sdvlm_core.language.reading import Quantity, parse
from training.data.tables import read_rows

Entry = dict[str, Any]
_AT = re.compile(r"\((\d\.?\d*),(\d\.?\d*)\)")
_COLUMNS = ("conversations", "type", "scene_graph", "source", "scene")
_SHOWN = 12  # mismatches printed in full


class Mismatch(ValueError):
    """A turn whose answer does not follow from the scene graph; says why."""


class Graph:
    """A row's scene graph, looked up by the names used in words."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.named = {entry["name"]: entry for entry in entries if entry["name"]}
        if len(self.named) != sum(bool(entry["name"]) for entry in entries):
            raise Mismatch("two objects have one name")
        longest = sorted(self.named, key=len, reverse=True)
        alternatives = "|".join(re.escape(name) for name in longest) or "(?!)"
        self._pattern = re.compile(rf"\b(?:{alternatives})\b")

    def mentions(self, text: str) -> list[str]:
        """The names in a text, in order."""
        return self._pattern.findall(text)

    def objects(self, text: str, count: int) -> list[Entry]:
        """Exactly `count` objects named in a text, in order."""
        names = self.mentions(text)
        if len(names) != count:
            raise Mismatch(f"{names} are named, {count} expected")
        return [self.named[name] for name in names]


def _sides(entry: Entry) -> list[float]:
    return [entry["length_m"], entry["width_m"], entry["height_m"]]


def _apart(a: Entry, b: Entry) -> float:
    return math.dist(a["centre_world_m"], b["centre_world_m"])


def _lengths(text: str) -> list[Quantity]:
    return [q for q in parse(text).quantities if q.dimension == "length"]


def _equal(said: list[Quantity], expected: list[float]) -> None:
    """Every number as written, up to the rounding of its own unit."""
    if len(said) != len(expected):
        raise Mismatch(f"{[q.text for q in said]} are said, {expected} expected")
    for quantity, value in zip(said, expected, strict=True):
        rounding = 0.00005 if "cm" in quantity.text else 0.005
        if abs(quantity.value - value) > rounding * 1.001:
            raise Mismatch(f"{quantity.text} is said, {value:.4f} m is true")


def _measure(text: str) -> str:
    """height, width or size: what a question asks for."""
    words = text.lower()
    if "size" in words or "how big" in words or "length, width and height" in words:
        return "size"
    if "height" in words or "tall" in words:
        return "height"
    if "width" in words or "wide" in words:
        return "width"
    raise Mismatch("nobody knows what is asked")


def _values(what: str, entry: Entry) -> list[float]:
    return _sides(entry) if what == "size" else [entry[f"{what}_m"]]


_THING = re.compile(r"\bthe ([a-z ]+?)(?= and the\b| from the\b| to the\b|[?.,]| are\b)")
_SEEN = re.compile(r"(?:is there|can you see) an? ([a-z ]+?)(?: in the image)?\?")


def _existence(question: str, answer: str, graph: Graph) -> None:
    shown = {word for e in graph.entries for word in (e["category"], e["label"], e["name"])}
    seen = _SEEN.fullmatch(question.lower())
    if seen is not None:
        if parse(answer).yes is not (seen.group(1) in shown):
            raise Mismatch(f"{seen.group(1)} is {'' if seen.group(1) in shown else 'not '}there")
        return
    if not parse(answer).absent:
        raise Mismatch("the answer does not say that something is absent")
    asked = _THING.findall(question)
    if all(thing in shown for thing in asked):
        raise Mismatch(f"all of {asked} are there")


def _count(question: str, answer: str, graph: Graph) -> None:
    words = question.lower()
    asked = []
    for category in {entry["category"] for entry in graph.entries} - {""}:
        stem = re.sub(r"(f|fe|use|y)$", "", category)  # shelves, knives, mice
        if re.search(rf"(?<![a-z]){re.escape(stem)}[a-z]*", words):
            asked.append(category)
    if not asked:
        raise Mismatch("no category of the scene graph is asked about")
    category = max(asked, key=len)
    said = int(re.findall(r"\d+", answer)[0])
    true = sum(entry["category"] == category for entry in graph.entries)
    if said != true:
        raise Mismatch(f"{said} is said, {true} {category} are there")


def _scale(question: str, answer: str, graph: Graph) -> None:
    (entry,) = graph.objects(question, 1)
    _equal(_lengths(answer), _values(_measure(question), entry))


def _grounding(question: str, answer: str, graph: Graph) -> None:
    asked, said = _AT.search(question), _AT.search(answer)
    if said is not None:
        (entry,) = graph.objects(question, 1)
        place = said
    elif asked is not None:
        (entry,) = graph.objects(answer, 1)
        place = asked
    else:
        raise Mismatch("no image position")
    for written, true in zip(place.groups(), entry["centre_uv"], strict=True):
        if abs(float(written) - true) > 0.00501:
            raise Mismatch(f"{place.group()} is said, {entry['centre_uv']} is true")


def _relative(question: str, answer: str, graph: Graph) -> None:
    a, b = graph.objects(question, 2)
    words = question.lower()
    relations = {
        "left": lambda e: -e["centre_uv"][0],
        "right": lambda e: e["centre_uv"][0],
        "closer": lambda e: -math.hypot(*e["centre_camera_m"]),
        "higher": lambda e: e["centre_world_m"][2],
    }
    (relation,) = [word for word in relations if re.search(rf"\b{word}\b", words)]
    first = relations[relation](a) > relations[relation](b)
    if re.match(r"which|between", words):
        if graph.mentions(answer) != [(a if first else b)["name"]]:
            raise Mismatch("another one is")
        return
    yes = re.match(r"(yes|indeed)\b", answer.lower()) is not None
    if yes != first:
        raise Mismatch(f"{'yes' if yes else 'no'} is said")
    opposite = {"left": "right", "right": "left", "closer": "farther", "higher": "lower"}
    stated = relation if yes else opposite[relation]
    if len(answer.split()) > 1 and not re.search(rf"\b{stated}\b", answer):
        raise Mismatch(f"the answer does not say {stated}")


def _distance(question: str, answer: str, graph: Graph) -> None:
    a, b = graph.objects(question, 2)
    _equal(_lengths(answer), [_apart(a, b)])


_WORDS = {"tall": ("height", 1), "low": ("height", -1), "wid": ("width", 1), "long": ("length", 1)}
_WORDS |= {"larg": ("size", 1), "small": ("size", -1)}


def _compare(question: str, answer: str, graph: Graph) -> None:
    names = graph.mentions(question)
    things = [graph.named[name] for name in names]
    if len(things) not in (2, 3):
        raise Mismatch(f"{names} are compared")
    # Names may hold such words themselves ("large box").
    rest = question.lower()
    for name in names:
        rest = rest.replace(name, "")
    found = re.search(r"\b(tall|low|wid|long|larg|small)(?:er|est|r|st)\b", rest)
    if found is None:
        raise Mismatch("nobody knows what is compared")
    what, sign = _WORDS[found.group(1)]
    amounts = [sign * math.prod(_values(what, thing)) for thing in things]
    winner = things[amounts.index(max(amounts))]["name"]
    if graph.mentions(answer)[-1:] != [winner]:
        raise Mismatch(f"{winner} is")
    said = _lengths(answer)
    if said:
        _equal(said, [value for thing in things for value in _values(what, thing)])


def _refer(question: str, answer: str, graph: Graph) -> None:
    fact, _, asked = question.partition(",")
    if fact.lower().startswith("the distance"):
        a, b = graph.objects(fact, 2)
        _equal(_lengths(fact), [_apart(a, b)])
        c, d = graph.objects(asked, 2)
        _equal(_lengths(answer), [_lengths(fact)[0].value, _apart(c, d)])
        return
    (reference,) = graph.objects(fact, 1)
    given = _values(_measure(fact), reference)
    _equal(_lengths(fact), given)
    things = graph.objects(asked, len(graph.mentions(asked)))
    expected = [value for thing in things for value in _values(_measure(asked), thing)]
    said = _lengths(answer)
    _equal(said[-len(expected) :], expected)
    if len(said) > len(expected):  # the answer repeats what was given
        _equal(said[:1], given)


_CHECKS = {
    "existence": _existence,
    "count": _count,
    "scale_estimation": _scale,
    "grounding": _grounding,
    "relative_position": _relative,
    "absolute_distance": _distance,
    "scale_compare": _compare,
    "refer_obj_estimation": _refer,
}


def check_row(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(type, why it is wrong or "") of every turn of a row."""
    graph = Graph(json.loads(row["scene_graph"]))
    turns = row["conversations"]
    if len(turns) != 2 * len(row["type"]) or not turns[0]["value"].startswith("<image>"):
        raise Mismatch("turns and types do not fit, or the picture is missing")
    for kind, human, model in zip(row["type"], turns[::2], turns[1::2], strict=True):
        question = human["value"].removeprefix("<image>").strip()
        try:
            _CHECKS[kind](question, model["value"], graph)
        except (Mismatch, ValueError, KeyError, IndexError) as error:
            yield kind, f"{question} -> {model['value']}: {error!r}"
        else:
            yield kind, ""


def check(out: Annotated[Path, typer.Argument(help="A folder of training.build.")]) -> None:
    """Re-derive every answer from the scene graphs; exit 1 if one does not follow.

    Example: python -m training.build.check msmu
    """
    shards = sorted(out.glob("*.parquet"))
    if not shards:
        raise typer.BadParameter(f"{out} holds no shards of training.build")
    asked: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    places: dict[str, set[str]] = {"train": set(), "test": set()}
    console = Console(stderr=True)
    for shard in track(shards, "checking", console=console):
        for row in read_rows(shard, columns=_COLUMNS):
            places[shard.name.partition("-")[0]].add(f"{row['source']}/{row['scene']}")
            for kind, reason in check_row(row):
                asked[kind] += 1
                if reason:
                    wrong[kind] += 1
                    if sum(wrong.values()) <= _SHOWN:
                        console.print(f"[red]{kind}[/] {reason}", highlight=False)
    both = sorted(places["train"] & places["test"])
    table = Table("type", "questions", "share %", "mismatches")
    total = sum(asked.values())
    for kind in _CHECKS:
        share = 100 * asked[kind] / total if total else 0.0
        table.add_row(kind, str(asked[kind]), f"{share:.1f}", str(wrong[kind]))
    console.print(table)
    result = {
        "questions": total,
        "mismatches": sum(wrong.values()),
        "types": {kind: asked[kind] for kind in _CHECKS},
        "scenes_in_train_and_test": both,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    if wrong or both or not total:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(check)
