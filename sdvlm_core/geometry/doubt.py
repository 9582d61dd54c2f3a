"""Doubt: by how much the plausible extents of one object differ.

Another extent is plausible if another hypothesis of the object's pixels has it, if the region's box
reaches further than the object's pixels, if only the box ends them, or if colour leaves it open.
Does not know how the hypotheses were found, and no other source of error (`uncertainty`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sdvlm_core.geometry.flat_extent import MAX_LYING_FRACTION
from sdvlm_core.geometry.object_pixels import ObjectPixels
from sdvlm_core.geometry.upright_box import UprightBox

#: Extents that differ by more are not the same answer (the rule of MSMU-Bench).
MAX_RATIO = 1.25
#: Height of a lying thing over its length; more is another thing on it or beside it.
_MAX_LYING_RATIO = 0.18
#: Cosine of the angle between the length of a thing that lies behind another and the view.
_MIN_AWAY_COSINE = 0.9
#: Pixels that reach less of their box say nothing about the rest of it.
_MIN_EXTENT = 0.1


@dataclass(frozen=True)
class Doubt:
    """Half the differences between the best and the other plausible extents, metres.

    Attributes:
        sizes: of length, width and height.
        position: of the centre.
        ambiguous: another plausible size differs by more than MAX_RATIO.
    """

    sizes: tuple[float, float, float] = (0.0, 0.0, 0.0)
    position: float = 0.0
    ambiguous: bool = False

    def with_underside(self, underside: float) -> Doubt:
        """With an unseen underside, metres: another plausible height."""
        length, width, height = self.sizes
        sizes = (length, width, max(height, underside))
        return replace(self, sizes=sizes, position=max(self.position, underside / 2))

    def by_key(self) -> dict[str, float]:
        """The halves by `STD_DEV_KEYS`."""
        length, width, height = self.sizes
        return {
            "position_m": self.position,
            "camera_distance_m": self.position,
            "length_m": length,
            "width_m": width,
            "height_m": height,
        }


def _may_stand(box: UprightBox) -> bool:
    """Whether a flat object's box may be that of a standing one with a clear upper part.

    What is seen through the upper part of a bottle lies behind it on the support, away from the
    camera; depth shows its lower part.
    """
    up = box.axes[2]
    view = box.centre - (box.centre @ up) * up
    away = abs(float(box.axes[0] @ view)) > _MIN_AWAY_COSINE * float(np.linalg.norm(view))
    high = float(box.size[2]) > MAX_LYING_FRACTION * float(np.linalg.norm(box.centre))
    return away and high


def doubt_about(box: UprightBox, pixels: ObjectPixels, others: Sequence[UprightBox]) -> Doubt:
    """The doubt about an object's box, given the boxes of its other hypotheses."""
    sizes, position = np.zeros(3), 0.0
    # What the pixels do not reach across the image is horizontal; down the image it may be any.
    across, down = (1 / max(share, _MIN_EXTENT) for share in pixels.extents)
    short = np.array([max(across, down), max(across, down), down])
    ambiguous = bool(short.max() > MAX_RATIO)
    if ambiguous:
        sizes = box.size * (short - 1) / 2
        position = float(sizes.max()) / 2
    if not pixels.bounded:  # turned things in a row: the box of one encloses corners of the next
        ambiguous = True
        sizes = np.maximum(sizes, box.size * (1 - 1 / MAX_RATIO) / 2)
    if pixels.flat is not None:
        flat = pixels.flat.found
        ambiguous |= flat.spread > MAX_RATIO
        sizes = np.maximum(sizes, (flat.spread - 1) / 2 * box.size * (1, 1, 0))
        sizes[2] = max(sizes[2], flat.height_std_dev_m)
        if _may_stand(box):
            ambiguous = True
            sizes = np.maximum(sizes, (*(box.size[:2] / 2), float(box.size[2]) - flat.height_m))
            position = max(position, float(box.size[0]) / 2)
        if box.size[2] > _MAX_LYING_RATIO * box.size[0]:
            ambiguous = True
            sizes[2] = max(sizes[2], float(box.size[2]) - flat.height_m)
    for other in others:
        low, high = np.minimum(box.size, other.size), np.maximum(box.size, other.size)
        if (high > MAX_RATIO * low).any():
            ambiguous = True
            sizes = np.maximum(sizes, (high - low) / 2)
            position = max(position, float(np.linalg.norm(other.centre - box.centre)) / 2)
    length, width, height = (float(size) for size in sizes)
    return Doubt((length, width, height), position, ambiguous)
