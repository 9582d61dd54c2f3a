"""`python -m training.build.check OUT`: re-derive every number of a built data set.

Independent of the generator: it parses the text of a turn with its own expressions and
`sdvlm_core.language.reading`, finds the objects in the row's scene graph, and computes the right
answer. What a label names, and what may be denied or counted, it derives from its own table
(`check_labels.yaml`). Imports neither `questions` nor `phrasing`, nor the builder's labels.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sdvlm_core.language.amounts import Amount, amounts
from training.build.check_existence import count, existence
from training.build.check_graph import Graph, Mismatch
from training.build.check_labels import Entry
from training.data.tables import read_rows

_COORDINATE = re.compile(r"\((\d\.?\d*),(\d\.?\d*)\)")
_COLUMNS = ("conversations", "type", "scene_graph", "source", "scene")
_MAX_PRINTED = 12  # mismatches


def _sides(entry: Entry) -> list[float]:
    return [entry["length_m"], entry["width_m"], entry["height_m"]]


def _distance_m(a: Entry, b: Entry) -> float:
    return math.dist(a["centre_world_m"], b["centre_world_m"])


def _lengths(text: str) -> list[Amount]:
    return [q for q in amounts(text) if q.dimension == "length"]


def _equal(stated: list[Amount], expected: list[float]) -> None:
    """Every stated number is the expected one, up to the rounding of its unit."""
    if len(stated) != len(expected):
        raise Mismatch(f"the text states {[q.text for q in stated]}, expected {expected}")
    for quantity, value in zip(stated, expected, strict=True):
        rounding = 0.00005 if "cm" in quantity.text else 0.005
        if abs(quantity.value - value) > rounding * 1.001:
            raise Mismatch(f"the text states {quantity.text}, expected {value:.4f} m")


def _measure(text: str) -> str:
    """The measure that a question asks for: height, width or size."""
    text = text.lower()
    if "size" in text or "how big" in text or "length, width and height" in text:
        return "size"
    if "height" in text or "tall" in text:
        return "height"
    if "width" in text or "wide" in text:
        return "width"
    raise Mismatch("the question asks for no known measure")


def _values(what: str, entry: Entry) -> list[float]:
    return _sides(entry) if what == "size" else [entry[f"{what}_m"]]


def _scale(question: str, answer: str, graph: Graph) -> None:
    (entry,) = graph.objects(question, 1)
    _equal(_lengths(answer), _values(_measure(question), entry))


def _grounding(question: str, answer: str, graph: Graph) -> None:
    asked, stated = _COORDINATE.search(question), _COORDINATE.search(answer)
    if stated is not None:
        (entry,) = graph.objects(question, 1)
        place = stated
    elif asked is not None:
        (entry,) = graph.objects(answer, 1)
        place = asked
    else:
        raise Mismatch("the turn states no coordinate")
    for stated_part, part in zip(place.groups(), entry["centre_uv"], strict=True):
        if abs(float(stated_part) - part) > 0.00501:
            raise Mismatch(f"the text states {place.group()}, expected {entry['centre_uv']}")


def _relative(question: str, answer: str, graph: Graph) -> None:
    a, b = graph.objects(question, 2)
    words = question.lower()
    relations: dict[str, Callable[[Entry], float]] = {
        "left": lambda e: -e["centre_uv"][0],
        "right": lambda e: e["centre_uv"][0],
        "closer": lambda e: -math.hypot(*e["centre_camera_m"]),
        "higher": lambda e: e["centre_world_m"][2],
    }
    (relation,) = [word for word in relations if re.search(rf"\b{word}\b", words)]
    first = relations[relation](a) > relations[relation](b)
    if re.match(r"which|between", words):
        if graph.mentions(answer) != [(a if first else b)["name"]]:
            raise Mismatch(f"expected the other object than {graph.mentions(answer)}")
        return
    yes = re.match(r"(yes|indeed)\b", answer.lower()) is not None
    if yes != first:
        raise Mismatch(f"expected {'yes' if first else 'no'}")
    opposite = {"left": "right", "right": "left", "closer": "farther", "higher": "lower"}
    stated = relation if yes else opposite[relation]
    if len(answer.split()) > 1 and not re.search(rf"\b{stated}\b", answer):
        raise Mismatch(f"the answer does not state {stated}")


def _distance(question: str, answer: str, graph: Graph) -> None:
    a, b = graph.objects(question, 2)
    _equal(_lengths(answer), [_distance_m(a, b)])


_WORDS = {"tall": ("height", 1), "low": ("height", -1), "wid": ("width", 1), "long": ("length", 1)}
_WORDS |= {"larg": ("size", 1), "small": ("size", -1)}


def _compare(question: str, answer: str, graph: Graph) -> None:
    names = graph.mentions(question)
    objects = [graph.named[name] for name in names]
    if len(objects) not in (2, 3):
        raise Mismatch(f"the question compares {names}, expected two or three objects")
    # A name may contain such a word ("large box").
    rest = question.lower()
    for name in names:
        rest = rest.replace(name, "")
    found = re.search(r"\b(tall|low|wid|long|larg|small)(?:er|est|r|st)\b", rest)
    if found is None:
        raise Mismatch("the question compares no known measure")
    what, sign = _WORDS[found.group(1)]
    amounts = [sign * math.prod(_values(what, item)) for item in objects]
    winner = objects[amounts.index(max(amounts))]["name"]
    if graph.mentions(answer)[-1:] != [winner]:
        raise Mismatch(f"expected {winner}")
    stated = _lengths(answer)
    if stated:
        _equal(stated, [value for item in objects for value in _values(what, item)])


def _refer(question: str, answer: str, graph: Graph) -> None:
    fact, _, asked = question.partition(",")
    if fact.lower().startswith("the distance"):
        a, b = graph.objects(fact, 2)
        _equal(_lengths(fact), [_distance_m(a, b)])
        c, d = graph.objects(asked, 2)
        _equal(_lengths(answer), [_lengths(fact)[0].value, _distance_m(c, d)])
        return
    (reference,) = graph.objects(fact, 1)
    given = _values(_measure(fact), reference)
    _equal(_lengths(fact), given)
    objects = graph.objects(asked, len(graph.mentions(asked)))
    expected = [value for item in objects for value in _values(_measure(asked), item)]
    stated = _lengths(answer)
    _equal(stated[-len(expected) :], expected)
    if len(stated) > len(expected):  # the answer repeats the given measure
        _equal(stated[:1], given)


_CHECKS = {
    "existence": existence,
    "count": count,
    "scale_estimation": _scale,
    "grounding": _grounding,
    "relative_position": _relative,
    "absolute_distance": _distance,
    "scale_compare": _compare,
    "refer_obj_estimation": _refer,
}


def check_row(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(type, reason why it is wrong, or "") of every turn of a row."""
    turns = row["conversations"]
    try:
        graph = Graph(json.loads(row["scene_graph"]))
    except Mismatch as error:
        yield from ((kind, f"{row['source']}/{row['scene']}: {error}") for kind in row["type"])
        return
    if len(turns) != 2 * len(row["type"]) or not turns[0]["value"].startswith("<image>"):
        raise Mismatch("the numbers of turns and types differ, or the image marker is missing")
    for kind, human, model in zip(row["type"], turns[::2], turns[1::2], strict=True):
        question = human["value"].removeprefix("<image>").strip()
        try:
            _CHECKS[kind](question, model["value"], graph)
        except (Mismatch, ValueError, KeyError, IndexError) as error:
            yield kind, f"{question} -> {model['value']}: {error!r}"
        else:
            yield kind, ""


def check(out: Annotated[Path, typer.Argument(help="A folder of training.build.")]) -> None:
    """Derive every answer again from the scene graphs; exit 1 if one differs.

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
                    if sum(wrong.values()) <= _MAX_PRINTED:
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
