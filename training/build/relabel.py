"""Ambiguous objects -> unambiguous names ("white table", "wooden desk"), proposed by a model.

The model sees the object; its answer is accepted only if it passes the checks below. An object
whose answer is refused keeps no name, and the reason is counted. Does not know which model answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

import cv2
import numpy as np

from sdvlm_core.language.amounts import amounts
from training.build.endpoint import Ask, EndpointError, read_object
from training.build.labels import meaning
from training.build.scene import Entry
from training.data.images import Rgb

PROMPT = Path(__file__).with_name("prompts") / "relabel.txt"

#: Margin around the cropped object, as a fraction of its box.
_CROP_MARGIN = 0.25
_MAX_WORDS, _MAX_CHARACTERS = 5, 60
_NAME = re.compile(r"[a-z]+(?:-[a-z]+)*(?: [a-z]+(?:-[a-z]+)*)*")
# A question adds its own article, and "and" separates two names.
_EXCLUDED_WORDS = frozenset(("a", "an", "the", "and", "or"))


def relabel(entries: Sequence[Entry], rgb: Rgb, ask: Ask, refused: Counter[str]) -> list[Entry]:
    """The entries of `selection.select`, with names for ambiguous ones where the model finds any.

    A name consists of lower-case words, ends in the label or the category, adds to it, and fits no
    other visible object. `refused` counts refused names by reason.
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
        if any(_same(name, other) for index, other in proposed.items() if index != at):
            refused["relabel: same name"] += 1
        else:
            relabelled[at] |= {"name": name, "unnamed": ""}
    return relabelled


def _propose(
    entry: Entry,
    others: Sequence[Entry],
    rgb: Rgb,
    ask: Ask,
    template: Template,
) -> tuple[str, str]:
    """(the name that the model gives to an object, "") or (..., the reason for refusing it)."""
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


def _unfit(name: str, entry: Entry, others: Sequence[Entry]) -> str:
    """The reason for refusing a name; "" = none."""
    if not name:
        return "no name"
    words = name.split()
    wrong = len(name) > _MAX_CHARACTERS or len(words) > _MAX_WORDS or not _NAME.fullmatch(name)
    # "two seat sofa" would put a number into every question.
    if wrong or not _EXCLUDED_WORDS.isdisjoint(words) or amounts(name):
        return "not a name"
    kinds = (entry["label"], entry["category"])
    if name in kinds:
        return "nothing added"
    if not any(name.endswith(f" {kind}") for kind in kinds):
        return "another thing"
    if any(_taken(name, other) or _among(entry, other) for other in others):
        return "taken"
    return ""


def _taken(name: str, other: Entry) -> bool:
    """Whether a name fits another object too, or the name of that object fits this one."""
    if other["name"] and _same(name, other["name"]):
        return True
    return any(text == name or text.endswith(f" {name}") for text in _descriptions(other))


def _among(entry: Entry, other: Entry) -> bool:
    """Whether the other one is several objects of this category: any name may fit one of them."""
    return meaning(other["label"]).several == entry["category"]


def _descriptions(entry: Entry) -> Iterator[str]:
    """Names that fit an object: its label and category, with and without its colour."""
    for kind in {entry["label"], entry["category"]}:
        yield kind
        if entry["colour"]:
            yield f"{entry['colour']} {kind}"


def _same(one: str, other: str) -> bool:
    """Whether one name includes the other, as "black office chair" includes "office chair"."""
    return one == other or one.endswith(f" {other}") or other.endswith(f" {one}")


def _crop(entry: Entry, rgb: Rgb) -> Rgb:
    """The object, with a margin around its box."""
    x1, y1, x2, y2 = entry["box_xyxy"]
    dx, dy = round((x2 - x1) * _CROP_MARGIN), round((y2 - y1) * _CROP_MARGIN)
    return rgb[max(0, y1 - dy) : y2 + dy, max(0, x1 - dx) : x2 + dx]


def _marked(entry: Entry, rgb: Rgb) -> Rgb:
    """The whole image with a red box around the object."""
    x1, y1, x2, y2 = entry["box_xyxy"]
    marked = np.ascontiguousarray(rgb).copy()
    thickness = max(2, rgb.shape[1] // 300)
    cv2.rectangle(marked, (x1, y1), (x2 - 1, y2 - 1), (255, 0, 0), thickness)
    return marked
