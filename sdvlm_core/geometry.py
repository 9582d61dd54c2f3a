"""Frame + pixel -> point: where in front of the camera a place of the image is.

Reads the sensor's own depth, robustly. Does not know what is at that place, nor what a model
said about it. Affine-invariant depth (`estimated_relative`) has no metres and gives no point.
"""

from __future__ import annotations

import numpy as np

from sdvlm_core.answer import Position
from sdvlm_core.frame import RgbdFrame

# Half the window's side, as a part of the image's width, with a floor in pixels: at 640 pixels
# 13 x 13. Large enough to bridge the holes of a depth camera, small enough for a mug at 2 m.
_WINDOW = 0.01
_LEAST_HALF = 2
_LEAST_VALID = 3  # pixels; one or two readings in a hole are noise


def point_at(frame: RgbdFrame, u: float, v: float) -> Position | None:
    """The unnamed point seen at pixel (u, v) of the colour image, metres in the optical frame.

    Its z is the median of the valid depth readings in a small square window around the pixel, so
    that holes and flying pixels do not decide; on a depth edge it is the depth of the majority.

    Returns:
        None where nothing can be said: no metric depth, no intrinsics, a pixel outside the
        image, or fewer than 3 valid readings in the window.
    """
    if frame.depth is None or frame.intrinsics is None:
        return None
    if frame.depth_source == "estimated_relative":
        return None
    # also refuses NaN
    if not (-0.5 <= u <= frame.width - 0.5 and -0.5 <= v <= frame.height - 0.5):
        return None
    half = max(_LEAST_HALF, round(_WINDOW * frame.width))
    column, row = round(u), round(v)
    top, left = max(0, row - half), max(0, column - half)
    window = frame.depth[top : row + half + 1, left : column + half + 1]
    valid = window[np.isfinite(window) & (window > 0)]
    if valid.size < _LEAST_VALID:
        return None
    x, y, z = frame.intrinsics.back_project(u, v, float(np.median(valid)))
    return Position("", float(x), float(y), float(z))
