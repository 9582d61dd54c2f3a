"""Objects that cannot be told apart -> names that tell them apart ("white table", "wooden desk").

Asks a model that sees the object, and believes it only as far as the rules below go. Does not know
who answers. An object whose answer is refused stays without a name, and is counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np

from sdvlm_core.language.reading import parse
from training.build.endpoint import Ask, EndpointError, Picture, read_object

PROMPT = Path(__file__).with_name("prompts") / "relabel.txt"

_MARGIN = 0.25
_MOST_WORDS, _MOST_LETTERS = 5, 60
_NAME = re.compile(r"[a-z]+(?:-[a-z]+)*(?: [a-z]+(?:-[a-z]+)*)*")
# A question puts its own article before a name, and reads "and" as the end of it.
_NOT_IN_NAMES = frozenset(("a", "an", "the", "and", "or"))


def relabel(
    entries: Sequence[dict[str, Any]], rgb: Picture, ask: Ask, refused: Counter[str]
) -> list[dict[str, Any]]:
    """The entries of `selection.select`; those that were only ambiguous get a name if one is found.

    A name is lower-case words that end in the label or the category, says more than that, and
    could be meant for nothing else shown. `refused` counts why names were.
    """
    template = Template(PROMPT.read_text(encoding="utf-8"))
    proposed: dict[int, str] = {}
    for at, entry in enumerate(entries):
        if entry.get("unnamed") != "ambiguous":
            continue
        others = [other for other in entries if other is not entry]
        name, reason = _propose(entry, others, rgb, ask, template)
        if reason:
            refused[f"relabel: {reason}"] += 1
        else:
            proposed[at] = name
    relabelled = [dict(entry) for entry in entries]
    for at, name in proposed.items():
        if any(_same(name, other) for i, other in proposed.items() if i != at):
            refused["relabel: same name"] += 1
        else:
            relabelled[at] |= {"name": name, "unnamed": ""}
    return relabelled


def _propose(
    entry: dict[str, Any],
    others: Sequence[dict[str, Any]],
    rgb: Picture,
    ask: Ask,
    template: Template,
) -> tuple[str, str]:
    """(the model's name for an object, "") or ("", why there is none)."""
    label, category = entry["label"], entry["category"]
    similar = [o["label"] for o in others if o["category"] == category or _same(o["label"], label)]
    prompt = template.substitute(
        label=label, category=category, others=", ".join(similar) or "nothing in particular"
    )
    try:
        answer = ask(prompt, (_crop(entry, rgb), _marked(entry, rgb)))
    except EndpointError:
        return "", "endpoint"
    name = (read_object(answer) or {}).get("name")
    if not isinstance(name, str):
        return "", "malformed"
    return name, _unfit(name, entry, others)


def _unfit(name: str, entry: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """Why a name will not do; "" = it will."""
    if not name:
        return "no name"
    words = name.split()
    wrong = len(name) > _MOST_LETTERS or len(words) > _MOST_WORDS or not _NAME.fullmatch(name)
    # "two seat sofa" would put a number into every question.
    if wrong or not _NOT_IN_NAMES.isdisjoint(words) or parse(name).quantities:
        return "not a name"
    kinds = (entry["label"], entry["category"])
    if name in kinds:
        return "nothing added"
    if not any(name.endswith(f" {kind}") for kind in kinds):
        return "another thing"
    if any(_taken(name, other) for other in others):
        return "taken"
    return ""


def _taken(name: str, other: dict[str, Any]) -> bool:
    """Whether a name could be meant for another object, or that one's name for this object."""
    if other["name"] and _same(name, other["name"]):
        return True
    return any(said == name or said.endswith(f" {name}") for said in _descriptions(other))


def _descriptions(entry: dict[str, Any]) -> Iterator[str]:
    """What an object may be called by someone who sees it."""
    for kind in {entry["label"], entry["category"]}:
        yield kind
        if entry["colour"]:
            yield f"{entry['colour']} {kind}"


def _same(one: str, other: str) -> bool:
    """Whether one name may stand for the other, as "office chair" does for "black office chair"."""
    return one == other or one.endswith(f" {other}") or other.endswith(f" {one}")


def _crop(entry: dict[str, Any], rgb: Picture) -> Picture:
    """The object with a quarter of its width and height around it."""
    x1, y1, x2, y2 = entry["box_xyxy"]
    dx, dy = round((x2 - x1) * _MARGIN), round((y2 - y1) * _MARGIN)
    return rgb[max(0, y1 - dy) : y2 + dy, max(0, x1 - dx) : x2 + dx]


def _marked(entry: dict[str, Any], rgb: Picture) -> Picture:
    """The whole picture with a red box around the object."""
    x1, y1, x2, y2 = entry["box_xyxy"]
    marked = np.ascontiguousarray(rgb).copy()
    thickness = max(2, rgb.shape[1] // 300)
    return cv2.rectangle(marked, (x1, y1), (x2 - 1, y2 - 1), (255, 0, 0), thickness)
