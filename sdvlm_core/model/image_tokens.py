"""Maps image tokens to the pixels of a frame, for vision towers with a square grid of tokens.

LLaVA pads a frame to a square before CLIP resizes it. The CLIP input, the depth grid and everything
else that must line up with image tokens use this geometry. Does not know depth values, models or
colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Membership = npt.NDArray[np.float32]


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


def padded_windows(width: int, height: int, cells: int) -> tuple[Membership, Membership]:
    """Rows (cells, height) and columns (cells, width) of each cell of the square canvas.

    1 where a pixel belongs to the cell, else 0. A pixel belongs to the cell that holds its centre.
    """
    canvas = SquareCanvas(width, height)

    def windows(size: int, offset: int) -> Membership:
        edges = np.ceil(np.arange(cells + 1) * (canvas.side / cells) - 0.5 - offset - 1e-9)
        return _membership(edges, size)

    return windows(height, canvas.top), windows(width, canvas.left)


def truncated_windows(width: int, height: int, cells: int) -> tuple[Membership, Membership]:
    """As `padded_windows`, for the frame without padding.

    Cells are cut at truncated multiples of size / cells, as in SD-VLM's release for sensor depth.
    """

    def windows(size: int) -> Membership:
        return _membership((np.arange(cells + 1) * (size / cells)).astype(np.int64), size)

    return windows(height), windows(width)


def _membership(edges: npt.NDArray[np.float64] | npt.NDArray[np.int64], size: int) -> Membership:
    """(cells, size): 1 where a pixel is in the half-open window between two edges."""
    pixels = np.arange(size)
    starts, ends = edges[:-1, None], edges[1:, None]
    return ((pixels >= starts) & (pixels < ends)).astype(np.float32)
