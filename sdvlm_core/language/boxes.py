"""Asks a model for the box of an object, and reads its text: fractions of the image.

Each family of models has a form: its scale, the order of the coordinates, and its notation.
Precision before recall: one box that is certainly the asked object's, or none and the reason. A
value beyond the scale makes the whole text doubtful. Does not know frames, sessions or what is in a
box; points are read by `points`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from sdvlm_core.errors import shown
from sdvlm_core.language.denials import denies
from sdvlm_core.language.markup import plain_lines
from sdvlm_core.language.mentions import means
from sdvlm_core.language.points import BOX_KEYS, LABEL, NUMBER, around, numbers
from sdvlm_core.language.reading import MAX_TEXT
from sdvlm_core.language.tokens import vocabulary


class Form(str, Enum):
    """How a family of models writes boxes."""

    FRACTION = "fraction"  # points in fractions of the image, no boxes: SD-VLM and nano
    THOUSAND = "thousand"  # x1, y1, x2, y2 in parts of 1000: Qwen3-VL, InternVL, Qwen2-VL
    THOUSAND_YX = "thousand_yx"  # y1, x1, y2, x2 in parts of 1000: Gemma
    PIXELS = "pixels"  # x1, y1, x2, y2 in pixels of the picture as the model saw it: Qwen2.5-VL
    LOC = "loc"  # <loc0123> in parts of 1024, y first, then the label: PaliGemma


class Box(NamedTuple):
    """A box in fractions of the image's width and height.

    Attributes:
        label: as the text has it; "" = the text gives none.
        x1, y1, x2, y2: in [0, 1], x1 < x2 and y1 < y2.
    """

    label: str
    x1: float
    y1: float
    x2: float
    y2: float


class Located(NamedTuple):
    """The box of the asked object, or None and why there is none."""

    box: Box | None
    why_none: str = ""


_NOTATIONS = {
    Form.THOUSAND: '[{{"bbox_2d": [x1, y1, x2, y2], "label": {}}}]',
    Form.THOUSAND_YX: '[{{"box_2d": [y1, x1, y2, x2], "label": {}}}], in parts of 1000',
    Form.PIXELS: '[{{"bbox_2d": [x1, y1, x2, y2], "label": {}}}]',
}


def ask_for(label: str, form: str) -> str:
    """The words that ask a model for the box of one object.

    Raises:
        ValueError: models of this form write no boxes.
    """
    kind = Form(form)
    if kind is Form.FRACTION:
        raise ValueError("a model of the form 'fraction' is asked for a point, not for a box")
    if kind is Form.LOC:
        return f"detect {label}"
    notation = _NOTATIONS[kind].format(json.dumps(label, ensure_ascii=False))
    return (
        f"Locate the {label} in the image. Report its bounding box in JSON: {notation}. "
        "If it is not in the image, answer []."
    )


class _Found(NamedTuple):
    """A box of a text.

    `why`: why its values are no box, "" = they are one; `context`: the text that belongs to it.
    """

    box: Box
    why: str
    context: str


_BEYOND = "the text has values beyond the scale of the model's boxes"
_EMPTY = "the box is empty or inverted"
_OTHER_FORM = "the text has a box in another model's notation"
_LOC = re.compile(
    r"(?<!\d{4}>)" + r"<loc(\d{4})>" * 4 + r"(?!<loc)(?:<seg\d{3}>){0,16}\s{0,4}([^<;\n]{0,200})"
)
_COMMA = r"\s{0,4},"
_FOUR = re.compile(
    rf"\[{_COMMA.join([NUMBER] * 4)}\s{{0,4}}\]"
    rf"|\({NUMBER}{_COMMA}{NUMBER}\s{{0,4}}\){_COMMA}\s{{0,4}}\({NUMBER}{_COMMA}{NUMBER}\s{{0,4}}\)"
)
#: What precedes a box: its key in JSON, or the label in InternVL's and Qwen2's tags. Characters.
_BEFORE = 140
_KEY = re.compile(r"[\"']([^\"']{1,100})[\"']\s{0,4}:\s{0,8}\[?\s{0,8}$")
_REFERENCE = re.compile(
    r"(?:<ref>|<\|object_ref_start\|>)([^<]{1,100})(?:</ref>|<\|object_ref_end\|>)[^\w\"']{0,8}"
    r"(?:<box>|<\|box_start\|>)?[^\w\"']{0,8}$"
)
_IS_BOX_KEY = re.compile(rf"(?:{BOX_KEYS})(?:es)?", re.I)
_BETWEEN = re.compile(r"[\s,\[\]()]{0,40}")
#: The words of a text about one box that name nothing.
_SAYS_NOTHING = vocabulary(
    "a an the this that it its is are was as at in of for on here sure okay json bbox box bounding "
    "coordinate coordinates object image picture located location found detected requested follows "
    "following result answer output can be i have has with to xyxy bbox_2d box_2d label x1 y1 x2 y2"
)
_WORD = re.compile(r"\w{1,40}")


def read_boxes(text: str, form: str, picture: tuple[int, int]) -> tuple[Box, ...]:
    """The boxes of a text in order; () if one is beyond the scale or in another notation.

    Never raises; linear time.

    Args:
        form: how the model writes boxes, a value of `Form`.
        picture: (width, height) of the picture as the model saw it, pixels.
    """
    found = _find(text, Form(form), picture)
    if any(one.why in (_BEYOND, _OTHER_FORM) for one in found):
        return ()
    return tuple(one.box for one in found if not one.why)


def locate(label: str, text: str, form: str, picture: tuple[int, int]) -> Located:
    """The box that a text gives to one asked object; arguments and properties as `read_boxes`."""
    found = _find(text, Form(form), picture)
    doubt = next((one.why for one in found if one.why in (_BEYOND, _OTHER_FORM)), "")
    if doubt:
        return Located(None, doubt)
    if denies(plain_lines(_FOUR.sub(" ", text[:MAX_TEXT])), (label,)):
        return Located(None, "the text denies that it is there")
    own = _of_object(label, found)
    if not own:
        labels = ", ".join(dict.fromkeys(f"'{shown(one.box.label, 40)}'" for one in found[:5]))
        why = f"the text has boxes of other things: {labels}" if found else "the text has no box"
        return Located(None, why)
    if len({one.box[1:] for one in own}) > 1:
        return Located(None, f"the text has {len(own)} boxes for it")
    one = own[0]
    return Located(None, one.why) if one.why else Located(one.box)


def _of_object(label: str, found: Sequence[_Found]) -> list[_Found]:
    """The boxes with exactly the object's label, else a form of it, else those without a label."""
    wanted = label.strip().casefold()
    labelled = [one for one in found if one.box.label and means(one.box.label, label)]
    exact = [one for one in labelled if one.box.label.strip().casefold() == wanted]
    if labelled:
        return exact or labelled
    return [one for one in found if not one.box.label and _may_be_of(label, one.context)]


def _may_be_of(label: str, context: str) -> bool:
    """Whether the text before a box without a label names the object, or nothing."""
    context = context.casefold()
    if label.casefold() in context:
        return True
    words = {*_WORD.findall(context)} - _SAYS_NOTHING
    return all(word.isdecimal() for word in words)


def _find(text: str, form: Form, picture: tuple[int, int]) -> list[_Found]:
    """Every box of a text, usable or not."""
    text = text[:MAX_TEXT].rpartition("</think>")[2]
    if form is Form.FRACTION:
        return []
    if form is Form.LOC:
        found = (
            ([float(value) for value in m.groups()[:4]], m[5].strip()) for m in _LOC.finditer(text)
        )
        return [
            _checked(label, (x1, y1, x2, y2), (1024, 1024), "") for (y1, x1, y2, x2), label in found
        ]
    return list(_bracketed(text, form, picture))


def _bracketed(text: str, form: Form, picture: tuple[int, int]) -> Iterator[_Found]:
    """The boxes of JSON, of InternVL's and Qwen2's tags, and of prose."""
    end, label, key = 0, "", ""
    for match in _FOUR.finditer(text):
        context = around(text, end, match.start(), match.end())
        if not (end and _BETWEEN.fullmatch(text, end, match.start())):  # not of the same list
            label, key = _label(text, max(end, match.start() - _BEFORE), match.start(), context)
        end = match.end()
        values = numbers(match)
        first, second, third, fourth = values
        scale = picture if form is Form.PIXELS else (1000, 1000)
        if max(values) <= 1:  # fractions: no box is smaller than a pixel
            scale = (1, 1)
        if form is Form.THOUSAND_YX:
            first, second, third, fourth = second, first, fourth, third
        found = _checked(label, (first, second, third, fourth), scale, context)
        if key == ("bbox_2d" if form is Form.THOUSAND_YX else "box_2d"):
            found = found._replace(why=_OTHER_FORM)
        yield found


def _label(text: str, low: int, start: int, context: str) -> tuple[str, str]:
    """The label of a box that begins at `start`, and its key in JSON; "" = it has none."""
    before = text[low:start]
    key = found[1] if (found := _KEY.search(before)) else ""
    if key and not _IS_BOX_KEY.fullmatch(key):
        return key, ""  # {"red mug": [...]}
    if reference := _REFERENCE.search(before):
        return reference[1].strip(), key
    labelled = LABEL.search(context)
    return (labelled[1] if labelled else ""), key.lower()


def _checked(label: str, values: tuple[float, ...], scale: tuple[int, int], context: str) -> _Found:
    x1, y1, x2, y2 = (value / scale[at % 2] for at, value in enumerate(values))
    why = _BEYOND if max(x1, y1, x2, y2) > 1 else "" if x1 < x2 and y1 < y2 else _EMPTY
    return _Found(Box(label, x1, y1, x2, y2), why, context)
