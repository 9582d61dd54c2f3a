"""Registration evidence: by how many pixels the edges of depth are shifted from those of colour.

Where depth jumps there is usually an edge of colour too, so the correlation of the two edge images
has a peak at the shift between them. Finds a clear constant shift of several pixels. Does not find
a change of scale, and says nothing (None) without a clear peak: that does not prove registration.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

# Images are examined at about this width, pixels.
_WORKING_WIDTH = 320
# Largest shift that is searched, as a fraction of the width.
_MAX_SHIFT = 0.08
# Shifts up to this fraction of the width (5 px at 640) occur in registered data.
_TOLERATED_SHIFT = 0.008
# A relative jump of depth between neighbouring pixels that is an edge; table tops slope less.
_JUMP = 0.04
_MIN_EDGE_PX = 150
# The peak must exceed every tolerated shift by the first factor and every other shift by the
# second: the accidental peaks of registered frames (3 of 28 real ones) exceed others by 1.28.
_ABOVE_TOLERATED = 1.3
_ABOVE_OTHERS = 1.4
# Half the width of a peak in the correlation, steps.
_PEAK_STEPS = 5


def edge_shift(
    rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32]
) -> tuple[int, int] | None:
    """(columns, rows) by which depth lies right of and below colour; None = no clear shift.

    Args:
        rgb: (H, W, 3).
        depth: (H, W) metres, NaN = no reading.
    """
    found = _correlation(rgb, depth)
    if found is None:
        return None
    scores, step = found
    reach = scores.shape[0] // 2
    peak = float(scores.max())
    row, column = (int(at) for at in np.unravel_index(int(scores.argmax()), scores.shape))
    shift = (column - reach, row - reach)
    tolerated = math.ceil(_TOLERATED_SHIFT * rgb.shape[1] / step)
    farthest = max(map(abs, shift))
    if farthest <= tolerated or farthest == reach:  # at the border there may be a higher one beyond
        return None
    if peak < _ABOVE_TOLERATED * float(_window(scores, reach, reach, tolerated).max()):
        return None
    others = scores.copy()
    _window(others, row, column, _PEAK_STEPS)[:] = -np.inf
    if peak < _ABOVE_OTHERS * float(others.max()):
        return None
    return shift[0] * step, shift[1] * step


def _window(
    scores: npt.NDArray[np.float32], row: int, column: int, half: int
) -> npt.NDArray[np.float32]:
    """A view of the scores around one of them."""
    return scores[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]


def _correlation(
    rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], int] | None:
    """Mean strength of colour's edges under depth's edges, per shift (rows, columns), and the step.

    The shifts are -reach to +reach steps of `step` pixels. None = depth has too few edges.
    """
    import cv2

    step = max(1, round(rgb.shape[1] / _WORKING_WIDTH))
    grey = cv2.cvtColor(np.ascontiguousarray(rgb[::step, ::step]), cv2.COLOR_RGB2GRAY)
    edges = _depth_edges(depth[::step, ::step])
    reach = math.ceil(_MAX_SHIFT * rgb.shape[1] / step)
    inner = edges[reach:-reach, reach:-reach]
    if not inner.size or int(inner.sum()) < _MIN_EDGE_PX:
        return None
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = np.minimum(cv2.magnitude(across, down), 200.0)  # glints must not decide
    strength -= cv2.blur(strength, (31, 31))  # texture all around is no edge
    scores = cv2.matchTemplate(strength, inner.astype(np.float32), cv2.TM_CCORR)
    # The template starts `reach` inside, and depth's shift is opposite to the template's.
    return scores[::-1, ::-1] / float(inner.sum()), step


def _depth_edges(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Pixels next to a jump of depth."""
    edges = np.zeros(depth.shape, bool)
    with np.errstate(invalid="ignore"):  # NaN compares false: the rim of a hole is no edge
        right = np.abs(np.diff(depth, axis=1)) > _JUMP * depth[:, 1:]
        below = np.abs(np.diff(depth, axis=0)) > _JUMP * depth[1:]
    edges[:, 1:] |= right
    edges[1:] |= below
    return edges
