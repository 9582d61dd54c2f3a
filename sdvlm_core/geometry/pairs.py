"""Two measured objects -> the distance between their centres and the gap between their surfaces.

The gap is between the nearest parts of the surfaces, the inferred far sides included. Its error
depends on which parts these are: an outline, which a depth camera shows too wide or too narrow, a
face that it sees, or a side that the object itself or another thing hides. Does not know depth
images or what the objects are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sdvlm_core.cautions import OF_SIZES, Caution
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.object_pixels import Outline
from sdvlm_core.geometry.point_cloud import Points
from sdvlm_core.geometry.uncertainty import (
    DISTANCE,
    GAP,
    UNKNOWN,
    Spread,
    calibrated,
    centre_std_dev,
    doubts,
    horizontal_view,
)

#: Number of points of each surface for the gap: in the first search, and in the local search.
_COARSE_POINTS, _FINE_POINTS = 200, 4000
#: Cosine of 60 degrees: the sector of an outline that faces another object, and the angle from the
#: ray within which a surface faces the camera, so that no outline is there.
_FACING_COSINE = 0.5
#: A side is covered if a nearer thing covers more than this fraction of its outline.
_COVERED_SIDE_FRACTION = 0.3
#: 1 sigma of the extent that a covered side hides, as a fraction of the object's visible width.
_COVERED_STD_DEV = 0.3
#: 1 sigma of unseen extents, as a fraction of the gap, above which there is a warning.
_UNSEEN_FRACTION = 0.25
#: Warnings of a region that a pair has only if the distance or the gap itself is doubtful.
_JUDGED_AGAIN = OF_SIZES | {Caution.AMBIGUOUS_EXTENT}


@dataclass(frozen=True)
class Pair:
    """Distance between the centres of two regions' objects, and the gap between their surfaces.

    Attributes:
        a, b: labels of the regions.
        distance_m, gap_m: metres; NaN = unknown.
        distance_spread, gap_spread: their errors.
        warnings: what makes the values doubtful: those of both regions that do not concern their
            sizes only, and the pair's own.
        distance_warnings: those of them that concern the distance.
    """

    a: str
    b: str
    distance_m: float
    gap_m: float
    distance_spread: Spread
    gap_spread: Spread
    warnings: tuple[Caution, ...]
    distance_warnings: tuple[Caution, ...]

    @property
    def distance_std_dev_m(self) -> float:
        """1 sigma of distance_m, metres."""
        return self.distance_spread.std_dev

    @property
    def gap_std_dev_m(self) -> float:
        """1 sigma of gap_m, metres."""
        return self.gap_spread.std_dev

    @property
    def distance_interval_90_m(self) -> tuple[float, float]:
        """(low, high) that contains the true distance with a probability of 90 %, metres."""
        return self.distance_spread.interval_90(self.distance_m)

    @property
    def gap_interval_90_m(self) -> tuple[float, float]:
        """(low, high) that contains the true gap with a probability of 90 %, metres."""
        return self.gap_spread.interval_90(self.gap_m)


def measure_pair(a: Measured, b: Measured) -> Pair:
    """Distance between the centres and smallest gap between the surfaces of two objects.

    NaN if one object was not measured.
    """
    if a.box is None or b.box is None or a.sources is None or b.sources is None:
        nan, both = math.nan, tuple(dict.fromkeys((*a.warnings, *b.warnings)))
        return Pair(a.label, b.label, nan, nan, UNKNOWN, UNKNOWN, both, both)
    situation = a.situation.worse(b.situation)
    apart = b.box.centre - a.box.centre
    distance = float(np.linalg.norm(apart))
    distance_physical = math.hypot(
        centre_std_dev(a.box, a.sources),
        centre_std_dev(b.box, b.sources),
        a.sources.scale * distance,
    )
    gap, at_a, at_b = _nearest(a.box.surface, b.box.surface)
    towards_b = _direction(at_b - at_a, apart)
    side_a = _side(a, at_a, towards_b, apart)
    side_b = _side(b, at_b, -towards_b, -apart)
    lost = side_a.outline * a.sources.edge_lost + side_b.outline * b.sources.edge_lost
    gap = max(0.0, gap - lost)
    gap_physical = math.hypot(side_a.std_dev, side_b.std_dev, a.sources.scale * gap)
    kind = a.sources.depth_kind
    distance_spread = calibrated(
        distance_physical, DISTANCE, kind, situation, _alternative(a, b, ("position_m",))
    )
    gap_spread = calibrated(
        gap_physical, GAP, kind, situation, _alternative(a, b, ("length_m", "width_m"))
    )
    both = (*a.warnings, *b.warnings)
    shared = [code for code in both if code not in _JUDGED_AGAIN]
    of_distance = dict.fromkeys((*shared, *doubts(distance, distance_spread)))
    of_gap = doubts(gap, gap_spread)
    if Caution.EXTENT_FROM_COLOUR in both:
        of_gap = (Caution.EXTENT_FROM_COLOUR, *of_gap)
    if math.hypot(side_a.unseen, side_b.unseen) > _UNSEEN_FRACTION * gap:
        of_gap = (Caution.UNSEEN_EXTENT, *of_gap)
    return Pair(
        a=a.label,
        b=b.label,
        distance_m=distance,
        gap_m=gap,
        distance_spread=distance_spread,
        gap_spread=gap_spread,
        warnings=tuple(dict.fromkeys((*of_distance, *of_gap))),
        distance_warnings=tuple(of_distance),
    )


@dataclass(frozen=True)
class _Side:
    """The side of one object that faces another.

    Attributes:
        outline: 1 = its nearest part is on the object's outline in the image, 0 = on a face.
        std_dev: 1 sigma of the nearest part's place towards the other object, metres.
        unseen: the part of std_dev that comes from an extent without readings, metres.
    """

    outline: float
    std_dev: float
    unseen: float


def _side(one: Measured, at: Points, outward: Points, apart: Points) -> _Side:
    """The side of an object at its nearest part (3,).

    Args:
        outward: (3,) unit vector from that part to the other object.
        apart: (3,) from the object's centre to that of the other one.
    """
    assert one.box is not None
    assert one.pixels is not None
    assert one.sources is not None
    sources = one.sources
    away = float(outward @ at) / float(np.linalg.norm(at))  # -1 = it faces the camera
    outline = math.sqrt(max(0.0, 1 - away**2)) * max(0.0, min(1.0, 1 + away / _FACING_COSINE))
    far_side = sources.hidden * max(0.0, float(outward @ horizontal_view(one.box)))
    # One object continues behind the other by an unknown extent where their outlines meet.
    covered = max(
        _covered_fraction(one.pixels.outline, at, outward),
        _covered_fraction(one.pixels.outline, one.box.centre, _direction(apart, outward)),
    )
    behind = 0.0
    if covered > _COVERED_SIDE_FRACTION:
        behind = _COVERED_STD_DEV * one.box.visible_width * covered
    unseen = math.hypot(far_side, behind)
    return _Side(
        outline=outline,
        std_dev=math.hypot(outline * sources.edge, sources.reading, unseen),
        unseen=unseen,
    )


def _covered_fraction(outline: Outline, at: Points, outward: Points) -> float:
    """The fraction of the outline on one side that a nearer thing covers; 0 if none is.

    The side is that of a direction (3,) at a point (3,) of the object, as the image shows it. A
    side that faces the camera, or away from it, has no part of the outline.
    """
    if outline.covered_fraction == 0:
        return 0.0
    in_image = outward[:2] - outward[2] / at[2] * at[:2]  # (x, y) = (column, row)
    length = float(np.linalg.norm(in_image))
    if length < _FACING_COSINE:
        return 0.0
    around = np.stack([outline.columns, outline.rows], axis=1).astype(np.float64)
    around -= (around.min(axis=0) + around.max(axis=0)) / 2
    along = around @ (in_image / length)
    facing = along > _FACING_COSINE * np.linalg.norm(around, axis=1)
    return float(outline.covered[facing].mean()) if facing.any() else 0.0


def _alternative(a: Measured, b: Measured, keys: tuple[str, ...]) -> float:
    """Half the difference between plausible values of two objects, metres: the larger key's."""
    return math.hypot(*(max(one.spreads[key].alternative for key in keys) for one in (a, b)))


def _direction(vector: Points, otherwise: Points) -> Points:
    """The unit vector (3,) along a vector; along another one if it is zero."""
    for candidate in (vector, otherwise):
        length = float(np.linalg.norm(candidate))
        if length > 0:
            return candidate / length
    return np.array([1.0, 0.0, 0.0])


def smallest_gap(a: Points, b: Points) -> float:
    """Distance between the nearest parts of two surfaces (N, 3) and (M, 3), metres."""
    return _nearest(a, b)[0]


def _nearest(a: Points, b: Points) -> tuple[float, Points, Points]:
    """The smallest gap between two surfaces (N, 3) and (M, 3), and the nearest point (3,) of each.

    First searches a few points of each surface, then all points close to the nearest ones.
    """
    origin = a[0]  # near both surfaces, so that squares lose few digits
    coarse_a, coarse_b = _thinned(a, _COARSE_POINTS) - origin, _thinned(b, _COARSE_POINTS) - origin
    squares = _squares(coarse_a, coarse_b)
    nearest_a, nearest_b = np.unravel_index(int(np.argmin(squares)), squares.shape)
    a = _closest(_thinned(a, _FINE_POINTS) - origin, coarse_b[nearest_b])
    b = _closest(_thinned(b, _FINE_POINTS) - origin, coarse_a[nearest_a])
    squares = _squares(a, b)
    # The nearest three of each, because the nearest reading is the noisiest.
    of_a, of_b = (np.argsort(squares.min(axis=axis))[:3] for axis in (1, 0))
    ends_a = np.concatenate([a[of_a], a[squares[:, of_b].argmin(axis=0)]])
    ends_b = np.concatenate([b[squares[of_a].argmin(axis=1)], b[of_b]])
    gap = float(np.sqrt(((ends_a - ends_b) ** 2).sum(axis=1)).mean())
    return gap, ends_a.mean(axis=0) + origin, ends_b.mean(axis=0) + origin


def _squares(a: Points, b: Points) -> Points:
    """Squared distances (N, M) between points (N, 3) and (M, 3), to find the nearest ones.

    For so few points, one product is faster than a tree. In double precision, so that a turned
    image has the same nearest points.
    """
    left, right = np.ones((len(a), 5)), np.ones((len(b), 5))
    left[:, :3], right[:, :3] = a, -2 * b
    left[:, 3], right[:, 4] = np.einsum("ij,ij->i", a, a), np.einsum("ij,ij->i", b, b)
    return left @ right.T


def _thinned(points: Points, count: int) -> Points:
    return points[:: max(1, len(points) // count)]


def _closest(points: Points, to: Points) -> Points:
    """The points (K, 3) that are closest to a point (3,)."""
    if len(points) <= _COARSE_POINTS:
        return points
    squares = np.einsum("ij,ij->i", points, points) - points @ (2 * to)  # plus that of `to`
    return points[np.argpartition(squares, _COARSE_POINTS)[:_COARSE_POINTS]]
