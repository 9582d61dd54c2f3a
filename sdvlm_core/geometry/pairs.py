"""Two measured objects -> the distance between their centres and the gap between their surfaces.

Does not know pixels, depth images or what the objects are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sdvlm_core.cautions import Caution
from sdvlm_core.geometry.measured import Measured
from sdvlm_core.geometry.point_cloud import Points
from sdvlm_core.geometry.uncertainty import interval_90

#: Number of points of each surface for the gap: in the first search, and in the local search.
_COARSE_POINTS, _FINE_POINTS = 200, 4000


@dataclass(frozen=True)
class Pair:
    """Distance between the centres of two regions' objects, and the gap between their surfaces.

    Attributes:
        a, b: labels of the regions.
        distance_m, gap_m: metres; NaN = unknown.
        distance_std_dev_m, gap_std_dev_m: 1 sigma, metres.
        distance_interval_90_m, gap_interval_90_m: (low, high) that contains the true value with a
            probability of 90 %, metres.
        warnings: what makes the values doubtful: those of both regions that concern the pair, and
            the pair's own.
    """

    a: str
    b: str
    distance_m: float
    gap_m: float
    distance_std_dev_m: float
    gap_std_dev_m: float
    distance_interval_90_m: tuple[float, float]
    gap_interval_90_m: tuple[float, float]
    warnings: tuple[Caution, ...]


def measure_pair(a: Measured, b: Measured) -> Pair:
    """Distance between the centres and smallest gap between the surfaces of two objects.

    The surfaces include the far sides that were inferred. NaN if one object was not measured.
    """
    warnings = tuple(dict.fromkeys((*a.warnings, *b.warnings)))
    if a.box is None or b.box is None:
        nan, unknown = math.nan, (math.nan, math.nan)
        return Pair(a.label, b.label, nan, nan, nan, nan, unknown, unknown, warnings)
    distance = float(np.linalg.norm(a.box.centre - b.box.centre))
    gap = smallest_gap(a.box.surface, b.box.surface)
    spread = math.hypot(a.std_dev["position_m"], b.std_dev["position_m"])
    return Pair(
        a=a.label,
        b=b.label,
        distance_m=distance,
        gap_m=gap,
        distance_std_dev_m=spread,
        gap_std_dev_m=spread,
        distance_interval_90_m=interval_90(distance, spread),
        gap_interval_90_m=interval_90(gap, spread),
        warnings=warnings,
    )


def smallest_gap(a: Points, b: Points) -> float:
    """Distance between the nearest parts of two surfaces (N, 3) and (M, 3), metres.

    First searches a few points of each surface, then all points close to the nearest ones.
    """
    origin = a[0]  # near both surfaces, so that squares lose no digits
    coarse_a, coarse_b = _thinned(a, _COARSE_POINTS) - origin, _thinned(b, _COARSE_POINTS) - origin
    squares = _squared_distances(coarse_a, coarse_b)
    nearest_a, nearest_b = np.unravel_index(int(np.argmin(squares)), squares.shape)
    a = _closest(_thinned(a, _FINE_POINTS) - origin, coarse_b[nearest_b])
    b = _closest(_thinned(b, _FINE_POINTS) - origin, coarse_a[nearest_a])
    nearest = np.sort(_squared_distances(a, b).min(axis=0))
    # Mean of three, because the nearest reading is the noisiest.
    return float(np.sqrt(np.maximum(nearest[:3], 0.0)).mean())


def _thinned(points: Points, count: int) -> Points:
    return points[:: max(1, len(points) // count)]


def _closest(points: Points, to: Points) -> Points:
    if len(points) <= _COARSE_POINTS:
        return points
    distances = _squared_distances(points, to[None])[:, 0]
    return points[np.argpartition(distances, _COARSE_POINTS)[:_COARSE_POINTS]]


def _squared_distances(a: Points, b: Points) -> Points:
    """(N, M) between points (N, 3) and (M, 3); for so few, a product is faster than a tree."""
    squares: Points = a @ (-2 * b.T)
    squares += np.einsum("ij,ij->i", a, a)[:, None]
    squares += np.einsum("ij,ij->i", b, b)
    return squares
