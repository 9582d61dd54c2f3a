"""Concave creases of a depth image: where one thing stands on, or leans against, another.

Two convex bodies in contact meet in a valley, even where there is no step in depth (Stein et al.,
"Object Partitioning using Local Convexity", CVPR 2014). Inverse depth is linear in pixels on a
plane, so a surface is concave where its inverse depth lies below the chord of its neighbours. Uses
depth alone; does not know segments or objects.
"""

from __future__ import annotations

import cv2
import numpy as np

from sdvlm_core.geometry.point_cloud import Cloud, DepthImage, Mask

# Set on the development frames of benchmarks/real_frames.py.
#: Half length of the chord and side of the smoothing window, pixels of the crop.
_REACH_PX, _WINDOW_PX = 6, 5
#: Half width of the band of pixels that a crease occupies.
CREASE_PX = _REACH_PX // 2
#: Depth below the chord of a crease: at least this fraction of the chord's half length (tangent of
#: half the bend), of the distance, and this many standard deviations of a reading.
_MIN_BEND, _MIN_DEPTH_FRACTION, _NOISE_SIGMAS = 0.35, 0.0025, 2.0
#: Gaps of this size between two creases are closed.
_CORNER = np.ones((7, 7), np.uint8)
#: Fraction of the smoothing window that must have readings.
_MIN_READINGS = 0.5


def concave_creases(cloud: Cloud, depth: DepthImage, step: int) -> Mask:
    """Pixels (h, w) in a valley of the surface, along rows or columns.

    Args:
        depth: (h, w) metres, 0 = no reading; every `step`-th pixel of the cloud.
    """
    valid = (depth > 0).astype(np.float32)
    window = (_WINDOW_PX, _WINDOW_PX)
    share = cv2.boxFilter(valid, -1, window)
    inverse = np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)
    smooth = cv2.boxFilter(inverse, -1, window) / np.maximum(share, np.float32(1e-6))
    known = share > _MIN_READINGS
    pixel_m = np.float32(cloud.pixel_angle * step) * depth
    limit = np.maximum(
        np.float32(_MIN_BEND * _REACH_PX) * pixel_m, np.float32(_MIN_DEPTH_FRACTION) * depth
    )
    limit += np.float32(_NOISE_SIGMAS) * cloud.scatter(depth)
    # dz = z^2 d(1/z)
    limit /= np.maximum(depth * depth, np.float32(1e-12))
    found = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        length = depth.shape[axis]
        if length <= 2 * _REACH_PX:
            continue
        before, middle, after = (
            _slices(axis, start, length - 2 * _REACH_PX + start)
            for start in (0, _REACH_PX, 2 * _REACH_PX)
        )
        chord = (smooth[before] + smooth[after]) / 2
        sunk = chord - smooth[middle] > limit[middle]
        found[middle] |= sunk & known[before] & known[middle] & known[after]
    # A crease turns from one direction to the other in a corner, where neither chord crosses it.
    closed = cv2.morphologyEx(found.view(np.uint8), cv2.MORPH_CLOSE, _CORNER)
    return closed.view(np.bool_)


def _slices(axis: int, start: int, stop: int) -> tuple[slice, slice]:
    part = slice(start, stop)
    return (part, slice(None)) if axis == 0 else (slice(None), part)
