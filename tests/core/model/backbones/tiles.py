"""What the tests of tiled backbones share: a smooth picture, and the order test."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.image_processing_utils import get_patch_output_size
from transformers.image_utils import ChannelDimension

from sdvlm_core.model.backbones.contract import Backbone
from sdvlm_core.model.backbones.picture import Normalization

CPU = torch.device("cpu")


def smooth_picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    """A picture without hard edges: the order in which it is resized changes little."""
    y, x = np.mgrid[0:height, 0:width] / 97.0
    waves = [np.sin(3 * x + y), np.cos(2 * y - x), np.sin(x * y / 3 + 1)]
    return (127.5 + 127.5 * np.stack(waves, -1)).round().astype(np.uint8)


def grey_levels(ours: torch.Tensor, theirs: Any, of: Normalization) -> npt.NDArray[np.float64]:
    """The differences of two normalised pictures (..., 3, H, W) in grey levels."""
    std = 255 * np.array(of.std)[:, None, None]
    assert ours.shape == theirs.shape
    return np.abs(ours.numpy() - np.asarray(theirs)) * std


def make_local(model: Any, *projections: str) -> None:
    """Zero a tower's projections of attention: each token then depends on its patch alone."""
    for name, parameter in model.model.vision_tower.named_parameters():
        if any(f".{projection}." in f".{name}" for projection in projections):
            parameter.zero_()


def features(model: Any, backbone: Backbone, rgb: npt.NDArray[np.uint8]) -> torch.Tensor:
    """(N, C): the features of all image tokens, in the order of the prompt."""
    output = model.get_image_features(**backbone.prepare(rgb, CPU), return_dict=True).pooler_output
    parts = list(output) if isinstance(output, (list, tuple)) else list(output.flatten(0, 1)[None])
    return torch.cat(parts)


def check_order(
    model: Any, backbone: Backbone, height: int, width: int, reach: float, core: float = 1.0
) -> None:
    """Invert a few pixels: the tokens whose box holds them change, and no token far from them.

    Args:
        model: its tower is local.
        reach: how far the resizing carries a pixel, in pixels of the picture.
        core: the part of a box, around its middle, whose pixels must change the token.
    """
    rgb = smooth_picture(height, width)
    boxes, before = backbone.token_boxes(height, width), features(model, backbone, rgb)
    assert len(boxes) == len(before)
    x1, y1, x2, y2 = boxes.T
    margin_x, margin_y = (1 - core) / 2 * (x2 - x1), (1 - core) / 2 * (y2 - y1)
    shown = np.zeros(len(boxes), bool)
    for y in range(0, height, 7):
        for x in range(0, width, 7):
            other = rgb.copy()
            place = other[y : y + 2, x : x + 2]
            place[...] = 255 * (place < 128)
            bottom, right = y + place.shape[0], x + place.shape[1]
            changed = (features(model, backbone, other) != before).any(-1).numpy()
            inside = (x1 + margin_x <= x) & (right <= x2 - margin_x)
            inside &= (y1 + margin_y <= y) & (bottom <= y2 - margin_y)
            near = (x1 < right + reach) & (x - reach < x2)
            near &= (y1 < bottom + reach) & (y - reach < y2)
            assert not (inside & ~changed).any(), f"({x}, {y}) does not reach its token"
            assert not (changed & ~near).any(), f"({x}, {y}) reaches another token"
            shown |= changed
    hidden = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    assert (shown == ~(np.isnan(x1) | hidden)).all(), "a token that shows something never changed"


def library_boxes(
    library: ModuleType,
    pack: Callable[..., Any],
    config: Any,
    height: int,
    width: int,
) -> npt.NDArray[np.float64]:
    """(N, 4): what each token of an "anyres" picture shows, by transformers' own code.

    Every patch's "feature" is its rectangle in the tile or on the canvas; `pack_image_features`
    puts the tokens in order, cuts the padding off and interpolates. Then the rectangles go back to
    the picture as `get_patch_output_size` and the centred padding say.

    Args:
        library: the family's modeling module.
        pack: its `pack_image_features`, without the model.
    """
    side, patch = config.vision_config.image_size, config.vision_config.patch_size
    rows, columns = library.get_anyres_image_grid_shape(
        (height, width), config.image_grid_pinpoints, side
    )
    cells = torch.arange(side // patch, dtype=torch.float64) * patch
    y, x = torch.meshgrid(cells, cells, indexing="ij")
    tile = torch.stack([x, y, x + patch, y + patch], -1).reshape(-1, 4)
    corners = [(column * side, row * side) for row in range(rows) for column in range(columns)]
    views = torch.stack([tile, *(tile + torch.tensor(corner * 2) for corner in corners)])
    newline = torch.full((4,), torch.nan, dtype=torch.float64)
    sizes = torch.tensor([[height, width]])
    model = SimpleNamespace(config=config)
    boxes: npt.NDArray[np.float64] = pack(model, [views], sizes, newline)[0][0].numpy().copy()
    canvas = (rows * side, columns * side)
    empty = np.empty((3, height, width), np.uint8)
    fitted = get_patch_output_size(empty, canvas, ChannelDimension.FIRST)
    boxes[: len(tile)] *= np.array([width, height] * 2) / side
    top, left = ((canvas[axis] - fitted[axis]) // 2 for axis in (0, 1))
    boxes[len(tile) :] -= (left, top, left, top)
    boxes[len(tile) :] *= np.array([width / fitted[1], height / fitted[0]] * 2)
    return boxes
