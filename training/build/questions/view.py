"""What can be asked about one view: visible objects with unambiguous names, and counts.

Selects from scene-graph entries (`training.build.graph`). Does not know how questions are worded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sdvlm_core.answer import Quantity
from training.build.labels_absence import absent, countable
from training.build.phrasing import Rng, Style, without_zeros
from training.build.questions.question import Number
from training.build.scene import Entry

#: An object is asked about if it covers this fraction of the image, ...
MIN_AREA = 0.004
#: ... and this fraction of it is visible.
MIN_VISIBLE_FRACTION = 0.7
#: A category is counted if each of its objects covers this fraction of the image.
MIN_COUNTED_AREA = 0.002


@dataclass(frozen=True, eq=False)
class View:
    """What may be asked about one view.

    Attributes:
        objects: every visible object.
        named: (name, object) of those that may be asked about; each name is unique in the view.
        counts: category -> number of its objects, if that number is unambiguous.
        colours: colours for near-miss names of absent objects; () = absent objects are named by
            category.
        categories: categories that absent objects may have.
    """

    objects: list[Entry]
    named: list[tuple[str, Entry]]
    counts: dict[str, int]
    colours: Sequence[str]
    categories: Sequence[str]


def make_view(
    objects: list[Entry],
    image_pixels: int,
    colours: Sequence[str],
    categories: Sequence[str],
) -> View:
    """The view of a simulated frame: every object is named by its colour and category.

    An object may be asked about if that name is unique among all visible objects, if it covers
    `MIN_AREA` of the image, if `MIN_VISIBLE_FRACTION` of it is visible, and if the image's border
    does not cut it.
    """
    visible = [item for item in objects if item["visible_pixels"] > 0]
    names = [f"{item['colour']} {item['category']}" for item in visible]
    named = [
        (name, item)
        for name, item in zip(names, visible, strict=True)
        if names.count(name) == 1
        and item["visible_pixels"] >= MIN_AREA * image_pixels
        and item["visible_fraction"] >= MIN_VISIBLE_FRACTION
        and not item["truncated"]
    ]
    counts = _counts(visible, MIN_COUNTED_AREA * image_pixels)
    return View(visible, named, counts, colours, categories)


def named_view(objects: list[Entry], min_pixels: int, categories: Sequence[str]) -> View:
    """The view of entries from `selection.select`; entries without a name are only counted.

    Only what `labels_absence` allows is counted, or denied, and only of these categories.
    """
    named = [(item["name"], item) for item in objects if item["name"]]
    counts = {
        category: number
        for category, number in _counts(objects, min_pixels).items()
        if category in categories and countable(objects, category)
    }
    return View(objects, named, counts, (), absent(objects, categories))


def _counts(objects: list[Entry], min_pixels: float) -> dict[str, int]:
    """Objects per category; a category with a barely visible object is left out.

    A person may or may not count a sliver.
    """
    counts: dict[str, int] = {}
    for category in {item["category"] for item in objects if item["category"]}:
        sizes = [item["visible_pixels"] for item in objects if item["category"] == category]
        if all(size >= min_pixels for size in sizes):
            counts[category] = len(sizes)
    return counts


#: What is asked of one or two objects -> its quantity.
QUANTITIES = {
    "height": Quantity.HEIGHT,
    "width": Quantity.WIDTH,
    "length": Quantity.LENGTH,
    "size": Quantity.SIZE,
    "distance": Quantity.DISTANCE,
    "gap": Quantity.GAP,
    "camera distance": Quantity.CAMERA_DISTANCE,
    "coordinate": Quantity.POSITION,
}
#: Words of a comparison -> the relation of `Asked`.
RELATION_OF = {
    **dict.fromkeys(("taller", "tallest"), "taller"),
    **dict.fromkeys(("shorter", "shortest"), "shorter"),
    **dict.fromkeys(("higher", "highest", "higher than"), "higher"),
    **dict.fromkeys(("lower", "lowest", "lower than"), "lower"),
    **dict.fromkeys(("wider", "widest"), "wider"),
    **dict.fromkeys(("narrower", "narrowest"), "narrower"),
    **dict.fromkeys(("longer", "longest"), "longer"),
    **dict.fromkeys(("larger", "largest", "bigger", "biggest"), "larger"),
    **dict.fromkeys(("smaller", "smallest"), "smaller"),
    **dict.fromkeys(
        ("closer", "closer than", "nearer than", "closer to the camera than"), "closer"
    ),
    **dict.fromkeys(("farther", "farther than", "further away than"), "farther"),
    **dict.fromkeys(("left", "to the left of", "left of", "on the left of"), "left"),
    **dict.fromkeys(("right", "to the right of", "right of", "on the right of"), "right"),
    **{word: word for word in ("above", "below")},
}


def choose(view: View, count: int, rng: Rng) -> list[tuple[str, Entry]]:
    """`count` different named objects at random; [] if the view has fewer."""
    if len(view.named) < count:
        return []
    return [view.named[i] for i in rng.permutation(len(view.named))[:count]]


def sides_m(item: Entry) -> tuple[float, float, float]:
    """(length, width, height), metres."""
    return (item["length_m"], item["width_m"], item["height_m"])


def measure(what: str, item: Entry) -> Number:
    """The height, width or length of an object, or for "size" its three sides; metres."""
    return sides_m(item) if what == "size" else float(item[f"{what}_m"])


def measure_text(what: str, item: Entry, style: Style, rng: Rng) -> str:
    """`measure` as text."""
    if what == "size":
        return " x ".join(style.length(side, rng) for side in sides_m(item))
    return style.length(item[f"{what}_m"], rng)


def coordinate_text(item: Entry, style: Style) -> str:
    """The centre of the visible 2-D box, in fractions of the image."""
    u, v = item["centre_uv"]
    return f"({u:.2f},{v:.2f})" if style.zeros else f"({without_zeros(u)},{without_zeros(v)})"


def distance_m(a: Entry, b: Entry) -> float:
    """Between the centres of two boxes, metres."""
    return math.dist(a["centre_camera_m"], b["centre_camera_m"])


def camera_distance_m(item: Entry) -> float:
    """From the camera to the centre of the box, metres."""
    return math.hypot(*item["centre_camera_m"])


def gap_m(a: Entry, b: Entry) -> float | None:
    """Between the nearest surfaces of two objects, metres; None = the scene graph has no gaps."""
    gap = a.get("gaps_m", {}).get(str(b["instance"]))
    return None if gap is None else float(gap)
