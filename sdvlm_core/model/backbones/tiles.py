"""Square tiles of a picture: their config, their pixels, and the rectangles of their cells.

For the backbones that read a picture in tiles of one size. Does not know how many tiles a picture
gets, nor in which order their tokens come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sdvlm_core.errors import CheckpointError, shown
from sdvlm_core.model.backbones.settings import agreeing, part, whole

#: Largest side of a tile, or of a canvas of tiles, pixels.
MAX_SIDE = 4096


def refused(name: str, value: Any, wanted: str) -> CheckpointError:
    """The error of a value that a checkpoint cannot have."""
    return CheckpointError(f"{name} is {shown(repr(value), 60)}; it must be {wanted}")


def side(name: str, value: Any, high: int) -> int:
    """The side of a square, which configs state as one integer or as [height, width]."""
    pair = value if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2 or pair[0] != pair[1]:
        raise refused(name, value, "one side or two equal ones")
    return whole(name, pair[0], 1, high)


def tile_of(config: Any, preprocessor: Mapping[str, Any]) -> tuple[int, int]:
    """Side of a tile and of a patch, pixels; the preprocessor must cut the tiles that are read."""
    vision = config.vision_config
    tile = side("vision_config.image_size", vision.image_size, MAX_SIDE)
    for key in ("size", "crop_size"):
        stated = part(key, preprocessor)
        for name in ("height", "width", "shortest_edge"):
            agreeing(name, stated, tile)
    return tile, side("vision_config.patch_size", vision.patch_size, tile)


def cut(canvas: torch.Tensor, tile: int) -> torch.Tensor:
    """(3, R x tile, C x tile) -> (R x C, 3, tile, tile), row by row."""
    channels, height, width = canvas.shape
    grid = canvas.view(channels, height // tile, tile, width // tile, tile)
    return grid.permute(1, 3, 0, 2, 4).reshape(-1, channels, tile, tile)


def rectangles(
    rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Spans (R, 2) in y and (C, 2) in x -> (R, C, 4) rectangles x1, y1, x2, y2."""
    boxes = np.empty((len(rows), len(columns), 4))
    boxes[..., 0::2] = columns[None]
    boxes[..., 1::2] = rows[:, None]
    return boxes
