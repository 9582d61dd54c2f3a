"""Square views of a picture: the rectangles of the original that their image tokens show.

A view is a rectangle of the picture, resized to the square that the vision tower takes; a model
sees one or several. Does not know how a family chooses its views.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sdvlm_core.model.backbones.contract import Boxes


class View(NamedTuple):
    """A rectangle of the original picture, pixels."""

    left: float
    top: float
    right: float
    bottom: float


def boxes_of(view: View, side: int, cell: int) -> Boxes:
    """What the tokens of a view show, row by row: (N, 4) in pixels of the original.

    A remainder at the right and the bottom edge that fills no cell is in no token: a convolution
    leaves it out.

    Args:
        side: side of the view as the tower takes it, pixels.
        cell: side of a token there, pixels.
    """
    edges = np.arange(side // cell + 1) * cell
    x = view.left + edges * (view.right - view.left) / side
    y = view.top + edges * (view.bottom - view.top) / side
    boxes = np.empty((len(edges) - 1, len(edges) - 1, 4))
    boxes[..., 0], boxes[..., 2] = x[:-1], x[1:]
    boxes[..., 1], boxes[..., 3] = y[:-1, None], y[1:, None]
    return boxes.reshape(-1, 4)
