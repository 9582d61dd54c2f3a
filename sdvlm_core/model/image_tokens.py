"""Which pixels of a frame each image token shows, and sums over them.

A token shows a rectangle of the original image (`Boxes`, from a backbone); a pixel belongs to the
token whose rectangle holds its centre. Does not know depth values, models or colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

#: (N, 4) float64: x1, y1, x2, y2 of N rectangles in pixels of the original image (pixel i covers
#: i..i+1); NaN = the token shows no part of it.
Boxes = npt.NDArray[np.float64]
#: (U, pixels) float32: 1 where a pixel of a side belongs to an interval, else 0.
Membership = npt.NDArray[np.float32]
#: A pixel centre this close to an edge lies on it.
_EDGE = 1e-9


@dataclass(frozen=True)
class SquareCanvas:
    """A frame of `width` x `height` pixels centred on a square.

    An odd number of padding pixels puts the extra one right or below, as LLaVA does.
    """

    width: int
    height: int

    @property
    def side(self) -> int:
        """Side of the square, pixels."""
        return max(self.width, self.height)

    @property
    def left(self) -> int:
        """Padding columns left of the frame."""
        return (self.side - self.width) // 2

    @property
    def top(self) -> int:
        """Padding rows above the frame."""
        return (self.side - self.height) // 2


@dataclass(frozen=True, eq=False)
class TokenPixels:
    """The pixels of N tokens of an image with H x W pixels.

    The rectangles of tokens share their sides with others: of a grid of 24 x 24 there are 24
    intervals of rows and 24 of columns. Sums over all pairs of intervals are two matrix products.

    Attributes:
        rows: (U, H) the distinct intervals of rows.
        columns: (V, W) the distinct intervals of columns.
        row_of, column_of: (N,) the intervals of each token.
    """

    rows: Membership
    columns: Membership
    row_of: npt.NDArray[np.int64]
    column_of: npt.NDArray[np.int64]


def grid_boxes(
    columns: int, rows: int, left: float, top: float, right: float, bottom: float
) -> Boxes:
    """The cells of a regular grid over a rectangle, row by row: (rows x columns, 4)."""
    x = np.linspace(left, right, columns + 1)
    y = np.linspace(top, bottom, rows + 1)
    boxes = np.empty((rows, columns, 4))
    boxes[..., 0], boxes[..., 2] = x[:-1], x[1:]
    boxes[..., 1], boxes[..., 3] = y[:-1, None], y[1:, None]
    return boxes.reshape(-1, 4)


def padded_boxes(width: int, height: int, cells: int) -> Boxes:
    """The cells x cells tokens of a frame that is padded to a square (`SquareCanvas`)."""
    canvas = SquareCanvas(width, height)
    left, top = -canvas.left, -canvas.top
    return grid_boxes(cells, cells, left, top, left + canvas.side, top + canvas.side)


def truncated_boxes(width: int, height: int, cells: int) -> Boxes:
    """The cells x cells tokens of a frame without padding.

    Cut at truncated multiples of size / cells, as in SD-VLM's release for sensor depth.
    """
    boxes = np.empty((cells, cells, 4))
    x, y = (np.floor(np.arange(cells + 1) * (size / cells)) for size in (width, height))
    boxes[..., 0], boxes[..., 2] = x[:-1], x[1:]
    boxes[..., 1], boxes[..., 3] = y[:-1, None], y[1:, None]
    return boxes.reshape(-1, 4)


def pixels_of(boxes: Boxes, width: int, height: int) -> TokenPixels:
    """The pixels that belong to each box; a box without any, or NaN, has none."""
    rows, row_of = _intervals(boxes[:, 1], boxes[:, 3], height)
    columns, column_of = _intervals(boxes[:, 0], boxes[:, 2], width)
    return TokenPixels(rows, columns, row_of, column_of)


@lru_cache(maxsize=16)
def square_tokens(width: int, height: int, cells: int) -> TokenPixels:
    """`pixels_of` the `padded_boxes`."""
    return pixels_of(padded_boxes(width, height, cells), width, height)


def _intervals(
    starts: npt.NDArray[np.float64], ends: npt.NDArray[np.float64], size: int
) -> tuple[Membership, npt.NDArray[np.int64]]:
    """The distinct half-open intervals of pixels, and which of them each box has."""
    edges = np.stack([starts, ends], 1)
    known = np.isfinite(edges).all(1, keepdims=True)
    first = np.ceil(np.where(known, edges, 0.0) - 0.5 - _EDGE)
    clipped = np.clip(first, 0, size).astype(np.int64)
    distinct, of = np.unique(clipped, axis=0, return_inverse=True)
    pixels = np.arange(size)
    member = (pixels >= distinct[:, :1]) & (pixels < distinct[:, 1:])
    return member.astype(np.float32), of.reshape(-1)
