"""What may be denied, and what may be counted, in one view: the rule of absence.

A category is absent only if nothing in view could be it: no object whose label names it, alone or
in the plural, nor one that may be called so, or be mistaken for it, or cover one in its annotation,
nor a surface without a label, or with a label that nobody reviewed, that is large enough. A number
of objects is stated under the same condition for everything that is not counted. Sizes only ever
free a category from things that are too small for it.

Pure: knows labels and sizes of scene-graph entries. Does not know images or questions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from training.build.labels import UNLABELLED, Category, categories, meaning, table
from training.build.scene import Entry

#: A partly scanned object is at least this fraction of the smallest one of its category.
_SCANNED = 0.5
#: The largest disc within an unlabelled surface, as a fraction of the longest side of an object
#: that it may be part of: a slimmer one is the seam between two annotations.
_DISC = 0.25


def could_be(entry: Entry, category: str) -> bool:
    """Whether what an entry shows may be an object of a category, or may hide one.

    Args:
        entry: `label`, and of what has no known label the size: `length_m` and `height_m`, or of
            unlabelled surfaces the keys of `labels_unlabelled`. A missing size is unknown.
    """
    found = meaning(entry["label"])
    named = found.category or found.several
    if category == named or category in found.also:
        return True
    if named:
        known = table()[named]
        return category in known.confused or category in known.holds
    return found.anything and _large_enough(entry, table()[category])


def _large_enough(entry: Entry, category: Category) -> bool:
    if meaning(entry["label"]).reason == UNLABELLED:
        disc = _metres(entry, "disc_m")
        if category.flat:
            disc = max(disc, _metres(entry, "floor_disc_m"))
        return disc >= _DISC * category.smallest
    longest = max(_metres(entry, "length_m"), _metres(entry, "height_m"))
    return longest >= _SCANNED * category.smallest


def _metres(entry: dict[str, Any], key: str) -> float:
    return float(entry.get(key, float("inf")))


def absent(objects: Sequence[Entry], among: Collection[str] | None = None) -> tuple[str, ...]:
    """The categories that may be denied of a view that shows these objects, sorted.

    Args:
        objects: every visible entry of the scene graph, also those that are not asked about.
        among: only these categories; None = all of categories.yaml.
    """
    return tuple(
        category
        for category in sorted(categories() if among is None else among)
        if not any(could_be(entry, category) for entry in objects)
    )


def countable(objects: Sequence[Entry], category: str) -> bool:
    """Whether the objects of a category can be counted: nothing else in view could be one."""
    return not any(
        could_be(entry, category)
        for entry in objects
        if meaning(entry["label"]).category != category
    )
