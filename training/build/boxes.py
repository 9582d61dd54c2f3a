"""Points -> the smallest upright box around them; z is up. Does not know objects or scans."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from training.build.scene import UprightBox, Vector

_MAX_TILT_RAD = math.radians(10)


def upright_box(points: Vector) -> UprightBox:
    """The box of minimum volume with vertical sides around points (N, 3), metres.

    One side of the minimum-area rectangle around a convex polygon lies on an edge of the polygon
    (Freeman and Shapira 1975), so every edge of the hull is tried.

    Raises:
        ValueError: there are no points.
    """
    if len(points) == 0:
        raise ValueError("a box needs points")
    low, high = float(points[:, 2].min()), float(points[:, 2].max())
    horizontal = points[:, :2]
    try:
        corners = horizontal[ConvexHull(horizontal).vertices]
    except QhullError:  # collinear, or too few points
        corners = horizontal
    edges = np.roll(corners, -1, axis=0) - corners
    angles = np.unique(np.round(np.arctan2(edges[:, 1], edges[:, 0]) % (math.pi / 2), 12))
    cosine, sine = np.cos(angles), np.sin(angles)
    along = np.stack([cosine, sine], axis=1) @ corners.T
    across = np.stack([-sine, cosine], axis=1) @ corners.T
    sides = np.stack([np.ptp(along, axis=1), np.ptp(across, axis=1)], axis=1)
    best = int(np.argmin(sides.prod(axis=1) + 1e-9 * sides.sum(axis=1)))
    middle = np.array(
        [
            (along[best].min() + along[best].max()) / 2,
            (across[best].min() + across[best].max()) / 2,
        ]
    )
    rotation = np.array([[cosine[best], -sine[best]], [sine[best], cosine[best]]])
    first, second = (float(side) for side in sides[best])
    yaw = float(angles[best])
    if second > first:
        first, second, yaw = second, first, yaw + math.pi / 2
    centre = np.array([*(rotation @ middle), (low + high) / 2])
    return UprightBox(centre, first, second, high - low, yaw)


def annotated_box(centroid: Vector, lengths: Vector, axes: Vector) -> UprightBox | None:
    """An annotated oriented box (axes in rows) as an upright box; None if it is tilted too far."""
    upright = int(np.argmax(np.abs(axes[:, 2])))
    if abs(axes[upright, 2]) < math.cos(_MAX_TILT_RAD):
        return None
    horizontal = [index for index in range(3) if index != upright]
    longer, shorter = sorted(horizontal, key=lambda index: -lengths[index])
    yaw = math.atan2(axes[longer, 1], axes[longer, 0]) % math.pi
    length, width, height = (float(lengths[i]) for i in (longer, shorter, upright))
    return UprightBox(np.asarray(centroid, float), length, width, height, yaw)
