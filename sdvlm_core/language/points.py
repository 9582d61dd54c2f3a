"""Text -> image points, as fractions of the image, and the text without them.

Forms: "(0.72, 0.28)", "x = 0.72, y = 0.28", "(72%, 28%)", `<point x="72" y="28">` (percent, as
Molmo writes), `<|box_start|>(a,b),(c,d)<|box_end|>` and JSON `bbox_2d` (parts of 1000, as Qwen
writes; the centre of the box), `box_2d` (the same with y first, as Gemini writes), `point_2d`.
Pixels are no fractions: a point with coordinates that fit none of these scales is not read, except
of a model that writes the pixels of a known picture. Does not know objects or frames.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: A number without a sign, in a pattern.
NUMBER = r"\s{0,4}(\d{1,6}(?:\.\d{1,17})?|\.\d{1,17})"
_TAG = re.compile(
    rf"<point\s{{1,4}}x\d?=[\"']?{NUMBER}[\"']?\s{{1,4}}y\d?=[\"']?{NUMBER}[\"']?[^<>]{{0,200}}>"
)
_TAG_END = re.compile(r"</points?>")
_BOX = re.compile(
    rf"<\|box_start\|>\s{{0,4}}\({NUMBER}\s?,{NUMBER}\s?\)(?:\s?,\s?\({NUMBER}\s?,{NUMBER}\s?\))?\s{{0,4}}<\|box_end\|>"
)
#: The keys of boxes in JSON, in a pattern.
BOX_KEYS = r"bbox_2d|bbox|box_2d|box|bounding[_ ]box"
#: The label of a JSON object.
LABEL = re.compile(r"\"(?:label|name|object)\"\s?:\s?\"([^\"]{1,100})\"")
_KEYED = re.compile(
    rf"[\"']?({BOX_KEYS}|point_2d)[\"']?\s?[:=]?\s?"
    rf"\[{NUMBER}\s?,{NUMBER}(?:\s?,{NUMBER}\s?,{NUMBER})?\s?\]",
    re.I,
)
_PERCENT = re.compile(rf"[(\[]{NUMBER}\s?%\s?[,;]{NUMBER}\s?%\s?[)\]]")
_IS = (
    r"[\"']?[- ]?(?:coordinate|position)?\s{0,4}(?:is|[:=\u2248])?\s{0,4}"
    r"(?:(?:about|approximately|around) )?"
)
_NAMED = re.compile(
    rf"\b(?P<first>[xyuv])\b{_IS}{NUMBER}(?P<percent>\s?%)?\s{{0,4}}(?:,|;|and|,\s?and|\n|\s)"
    rf"\s{{0,4}}(?:the )?[\"']?\b(?P<second>[xyuv])\b{_IS}{NUMBER}(?P<also>\s?%)?",
    re.I,
)
#: The letters of the two axes, in the order of the text.
_AXES = {"xy": 1, "uv": 1, "yx": -1, "vu": -1}
#: With a separator, or as numpy prints a pair.
_PAIR = re.compile(rf"(?<![\w\])])[(\[]{NUMBER}(?:\s{{0,4}}[,;]|\s){NUMBER}\s{{0,4}}[)\]]")
#: Longest JSON object after a point, characters.
_OBJECT = 500
_BARE_PAIR = re.compile(rf"\s{{0,4}}{NUMBER}\s{{0,4}},{NUMBER}\s{{0,4}}\.?\s{{0,4}}")


class Points(NamedTuple):
    """The image points of a text, and the text without them.

    Attributes:
        contexts: of each point the JSON object around it, or the text since the point before: it
            can say what is there.
        other_scale: whether other pairs were left out.
    """

    points: tuple[tuple[float, float], ...]
    contexts: tuple[str, ...]
    rest: str
    other_scale: bool


def find_points(text: str, picture: tuple[int, int] | None = None) -> Points:
    """The image points of a text, in order. Never raises; linear time.

    Args:
        picture: (width, height) of the picture in whose pixels the model writes `bbox_2d` and
            `point_2d` (Qwen2.5-VL); None = it writes them in parts of 1000.
    """
    found: list[tuple[int, int, float, float]] = []
    whole = text
    state = {"other": False}

    def take(match: re.Match[str], values: list[float], scale: float | tuple[int, int]) -> str:
        width, height = scale if isinstance(scale, tuple) else (scale, scale)
        u = sum(values[::2]) / len(values[::2]) / width
        v = sum(values[1::2]) / len(values[1::2]) / height
        if max(values[::2]) <= width and max(values[1::2]) <= height:
            found.append((match.start(), match.end(), u, v))
        else:
            state["other"] = True
        return " " * (match.end() - match.start())  # the places of later points stay

    def tag(match: re.Match[str]) -> str:
        return take(match, numbers(match), 100.0)

    def box(match: re.Match[str]) -> str:
        values = numbers(match)
        return take(match, values, 1.0 if max(values) <= 1 else picture or 1000.0)

    def keyed(match: re.Match[str]) -> str:
        if match[1].lower() == "box_2d":
            values = numbers(match)  # y first
            values[::2], values[1::2] = values[1::2], values[::2]
            return take(match, values, 1.0 if max(values) <= 1 else 1000.0)
        return box(match)

    def percent(match: re.Match[str]) -> str:
        return take(match, numbers(match), 100.0)

    def named(match: re.Match[str]) -> str:
        way = _AXES.get((match["first"] + match["second"]).lower())
        if way is None:  # "x = 0.2, x = 0.4"
            return match[0]
        values = [float(match[2]), float(match[5])][::way]
        return take(match, values, 100.0 if match["percent"] and match["also"] else 1.0)

    def pair(match: re.Match[str]) -> str:
        return take(match, numbers(match), 1.0)

    for form, rule in (
        (_TAG, tag),
        (_BOX, box),
        (_KEYED, keyed),
        (_PERCENT, percent),
        (_NAMED, named),
        (_PAIR, pair),
    ):
        text = form.sub(rule, text)
    if not found and (bare := _BARE_PAIR.fullmatch(text)) and "." in text:
        text = pair(bare)
    context: dict[tuple[float, float], str] = {}
    end = 0
    for start, stop, u, v in sorted(found):
        context.setdefault((u, v), around(whole, end, start, stop))
        end = stop
    points = tuple(context)
    if len(points) > 1:  # a corner of the image beside a point explains the scale
        points = tuple(one for one in points if not set(one) <= {0.0, 1.0}) or points
    contexts = tuple(context[one] for one in points)
    return Points(points, contexts, _TAG_END.sub(" ", text), state["other"])


def around(text: str, before: int, start: int, stop: int) -> str:
    """The JSON object around text[start:stop], else the text from `before` to it."""
    opened = text.rfind("{", before, start)
    closed = text.find("}", stop, stop + _OBJECT)
    if opened >= 0 and closed >= 0 and "}" not in text[opened:start]:
        return text[opened:closed]
    return text[before:start]


def numbers(match: re.Match[str]) -> list[float]:
    """The numbers among the groups of a match."""
    groups = [group for group in match.groups() if group is not None]
    return [float(group) for group in groups if group[:1].isdigit() or group[:1] == "."]
