"""How near two surfaces come to each other, from points on them.

A search over a few points of each, then over all that are close to what was found. Knows points;
does not know objects or how sure they are.
"""

from __future__ import annotations

import numpy as np

from sdvlm_core.geometry.point_cloud import Points

_COARSE, _FINE = 200, 4000  # points of a surface, between which the gap is sought


def smallest_gap(a: Points, b: Points) -> float:
    """Distance between the nearest parts of two surfaces (N, 3) and (M, 3), metres.

    Found between a few points of each first, then between all that are close to those.
    """
    middle = a[0]  # near both, so that squares lose no digits
    some_a, some_b = _thinned(a, _COARSE) - middle, _thinned(b, _COARSE) - middle
    apart = _squared_distances(some_a, some_b)
    nearest_a, nearest_b = np.unravel_index(int(np.argmin(apart)), apart.shape)
    a = _closest(_thinned(a, _FINE) - middle, some_b[nearest_b])
    b = _closest(_thinned(b, _FINE) - middle, some_a[nearest_a])
    nearest = np.sort(_squared_distances(a, b).min(axis=0))
    # The very nearest two readings are the noisiest.
    return float(np.sqrt(np.maximum(nearest[:3], 0.0)).mean())


def _thinned(points: Points, most: int) -> Points:
    return points[:: max(1, len(points) // most)]


def _closest(points: Points, to: Points) -> Points:
    if len(points) <= _COARSE:
        return points
    distances = _squared_distances(points, to[None])[:, 0]
    return points[np.argpartition(distances, _COARSE)[:_COARSE]]


def _squared_distances(a: Points, b: Points) -> Points:
    """(N, M) between points (N, 3) and (M, 3); for so few, a product beats any tree."""
    squares: Points = a @ (-2 * b.T)
    squares += np.einsum("ij,ij->i", a, a)[:, None]
    squares += np.einsum("ij,ij->i", b, b)
    return squares
