"""Selects the images and objects that are asked about, and names the objects.

The rules of the paper (functional indoor objects; none that is small, cut off, occluded or
ambiguous), with our own thresholds where it gives none. Knows scene graphs and pixels. Does not
know questions. Every object that is left out is counted by its reason.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training.build.labels import UNLABELLED, meaning
from training.build.labels import categories as categories
from training.build.scene import Entry, Vector


@dataclass(frozen=True)
class Rules:
    """Thresholds of the selection.

    Attributes:
        min_pixels: minimum number of visible pixels of an object (SD-VLM, section 4: 50).
        min_visible: minimum visible fraction; below it an object is occluded.
        min_shift, min_turn: from the previous image to the next one; metres, radians. One of them
            must be reached.
        min_sharpness: variance of the Laplacian of the grey image, at 640 pixels of width.
    """

    min_pixels: int = 50
    min_visible: float = 0.7
    min_shift: float = 0.4
    min_turn: float = math.radians(20)
    min_sharpness: float = 15.0


class KeyFrames:
    """Images far enough apart: call `wanted` before decoding an image, `keep` when it is used."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._last: Vector | None = None

    def wanted(self, camera_to_world: Vector) -> bool:
        """Whether the camera has moved or turned enough since the last kept image."""
        if self._last is None:
            return True
        shift = float(np.linalg.norm(camera_to_world[:3, 3] - self._last[:3, 3]))
        turn = self._last[:3, :3].T @ camera_to_world[:3, :3]
        angle = math.acos(float(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
        return shift >= self._rules.min_shift or angle >= self._rules.min_turn

    def keep(self, camera_to_world: Vector) -> None:
        """Compare the next images with this one."""
        self._last = camera_to_world


def sharpness(rgb: npt.NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of (H, W, 3), at 640 pixels of width: motion blur lowers it."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if grey.shape[1] > 640:
        size = (640, round(grey.shape[0] * 640 / grey.shape[1]))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def select(
    objects: list[Entry], rgb: npt.NDArray[np.uint8], rules: Rules, dropped: Counter[str]
) -> list[Entry]:
    """The entries of a view with `category`, `colour`, `name`, and the reason if `unnamed`.

    An object without a name is not asked about. It stays in the list, because it is counted and
    may make the name of another object ambiguous. `dropped` counts the reasons.

    The name is the label if it fits no other visible object; else colour and label if all objects
    that it fits have another clear colour; else there is none. The entry of unlabelled surfaces
    (`labels_unlabelled`) stays as it is, for the rule of absence.
    """
    known = [
        entry | {"category": meaning(entry["label"]).category, "colour": _colour(entry, rgb)}
        for entry in objects
    ]
    named = []
    for entry in known:
        unnamed = _unfit(entry, rules)
        name = "" if unnamed else _name(entry, known)
        if not name:
            unnamed = unnamed or "ambiguous"
            if unnamed != UNLABELLED:
                dropped[unnamed] += 1
        named.append(entry | {"name": name, "unnamed": unnamed})
    return named


def _unfit(entry: Entry, rules: Rules) -> str:
    """The reason for not asking about an object; "" = none."""
    if not entry["category"]:
        reason = meaning(entry["label"]).reason
        return reason if reason == UNLABELLED else f"category: {reason}"
    if entry["visible_pixels"] < rules.min_pixels:
        return "small"
    if entry["truncated"]:
        return "truncated"
    if entry["visible_fraction"] < rules.min_visible:
        return "occluded"
    return ""


def _name(entry: Entry, visible: list[Entry]) -> str:
    """A name that fits no other visible object; "" = there is none."""
    rivals = [other for other in visible if other is not entry and _mistakable(entry, other)]
    if not rivals:
        return str(entry["label"])
    colour = entry["colour"]
    if colour and all(_colour_if_single(rival) not in ("", colour) for rival in rivals):
        return f"{colour} {entry['label']}"
    return ""


def _colour_if_single(entry: Entry) -> str:
    """The colour of an object; "" of several, whose colours may differ."""
    return "" if meaning(entry["label"]).several else str(entry["colour"])


def _mistakable(one: Entry, other: Entry) -> bool:
    """Whether the label of one fits the other too, as "chair" an "office chair" or "chairs"."""
    a, b = one["label"], other["label"]
    if a == b or a.endswith(f" {b}") or b.endswith(f" {a}"):
        return True
    if meaning(b).several == one["category"]:
        return True
    same = one["category"] == other["category"] != ""
    return same and one["category"] in (a, b)


_COLOURS = (
    "black",
    "white",
    "gray",
    "beige",
    "pink",
    "brown",
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
)
#: Fraction of the pixels that must have the same colour.
_MIN_MAJORITY = 0.6


def _colour(entry: Entry, rgb: npt.NDArray[np.uint8]) -> str:
    """The colour of most pixels in the middle of an object; "" without a clear majority."""
    if entry.get("colour"):
        return str(entry["colour"])
    if not entry["label"]:
        return ""
    x1, y1, x2, y2 = entry["box_xyxy"]
    dx, dy = (x2 - x1) // 4, (y2 - y1) // 4
    patch = rgb[y1 + dy : y2 - dy, x1 + dx : x2 - dx]
    if patch.size == 0:
        return ""
    small = cv2.resize(patch, (16, 16), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    votes = np.bincount(_colour_numbers(lab), minlength=len(_COLOURS)) / len(lab)
    best = int(votes.argmax())
    return _COLOURS[best] if votes[best] >= _MIN_MAJORITY else ""


def _colour_numbers(lab: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """CIELAB (N, 3) -> index in `_COLOURS` (N,): by hue, and by lightness at low chroma.

    The thresholds follow common colour names: brown is dark or dull orange, pink is light red.
    """
    light, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    hue = np.degrees(np.arctan2(lab[:, 2], lab[:, 1])) % 360
    reddish, warm = (hue >= 345) | (hue < 50), (hue >= 50) & (hue < 80)
    yellowish = (hue >= 80) & (hue < 112)
    rules = {
        "black": (light < 18) & (chroma < 25),
        "white": (chroma < 12) & (light > 80),
        "gray": chroma < 12,
        "beige": (warm | yellowish) & (chroma < 24) & (light > 55),
        "pink": reddish & (light > 62),
        "brown": (warm & ((light < 50) | (chroma < 42)))
        | (yellowish & (light < 55))
        | (reddish & (chroma < 30)),
        "red": reddish,
        "orange": warm,
        "yellow": yellowish,
        "green": hue < 190,
        "blue": hue < 308,
    }
    choices = [_COLOURS.index(name) for name in rules]
    return np.select(list(rules.values()), choices, default=_COLOURS.index("purple"))
