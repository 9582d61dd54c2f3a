"""InternVL3 and InternVL3.5 in transformers' layout ("-HF"): tiles, then the whole picture.

transformers' `InternVLForConditionalGeneration`. A picture is stretched to a grid of tiles of about
its aspect ratio and cut; the whole picture, in one more tile, comes last. A picture of one tile is
the whole picture. Blocks of patches are joined to one token ("pixel shuffle"), in raster order.
Does not know weights, videos, or InternVL's own code.

Sources: transformers' `GotOcr2ImageProcessor`; the chat template of the published models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from sdvlm_core.model.backbones.contract import Backbone, Boxes
from sdvlm_core.model.backbones.picture import IMAGENET, normalized, resized
from sdvlm_core.model.backbones.settings import PixelRule, pixel_rule, whole
from sdvlm_core.model.backbones.tiles import cut, rectangles, refused, tile_of

#: Largest number of tiles without the whole picture, and of image tokens; published: 12 and 3328.
_MAX_TILES, _MAX_TOKENS = 64, 1 << 15


@dataclass(frozen=True)
class InternVL(Backbone):
    """InternVL3 and 3.5.

    Attributes:
        tile: side of a tile, pixels.
        cells: image tokens along the side of a tile.
        min_tiles, max_tiles: tiles of a picture, without the whole one.
        rule: how a picture is resized and normalised.
    """

    template: ClassVar[str] = "internvl"
    dialect: ClassVar[str] = "chat"
    boxes: ClassVar[str] = "thousand"

    tile: int
    cells: int
    min_tiles: int
    max_tiles: int
    rule: PixelRule

    @classmethod
    def of(cls, config: Any, preprocessor: Mapping[str, Any]) -> InternVL:
        """From transformers' InternVLConfig.

        The published files state `crop_to_patches: false`, which transformers' InternVLProcessor
        overrides: pictures are cut into tiles whatever they state.
        """
        tile, patch = tile_of(config, preprocessor)
        strategy, ratio = config.vision_feature_select_strategy, config.downsample_ratio
        if strategy != "default":
            raise refused("vision_feature_select_strategy", strategy, "'default'")
        merge = round(1 / ratio) if type(ratio) in (int, float) and 1 / 64 <= ratio <= 1 else 0
        if tile % patch:
            raise refused("vision_config.patch_size", patch, f"a divisor of {tile} pixels, a tile")
        if not merge or 1 / merge != ratio or tile // patch % merge:
            wanted = f"1/N with an N that divides the {tile // patch} patches of a tile's side"
            raise refused("downsample_ratio", ratio, wanted)
        cells = tile // patch // merge
        most = whole("max_patches", _stated(preprocessor, "max_patches", 12), 1, _MAX_TILES)
        least = whole("min_patches", _stated(preprocessor, "min_patches", 1), 1, most)
        if (most + 1) * cells**2 > _MAX_TOKENS:
            raise refused("max_patches", most, f"for at most {_MAX_TOKENS} image tokens")
        rule = pixel_rule(preprocessor, "bicubic", IMAGENET)
        return cls(tile, cells, least, most, rule)

    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """(H, W, 3) uint8 -> `pixel_values` (tiles, 3, S, S)."""
        rows, columns = self.grid(*rgb.shape[:2])
        size = (rows * self.tile, columns * self.tile)
        tiles = cut(resized(rgb, *size, self.rule.filter, device), self.tile)
        if rows * columns > 1:
            picture = resized(rgb, self.tile, self.tile, self.rule.filter, device)
            tiles = torch.cat([tiles, picture[None]])
        return {"pixel_values": normalized(tiles, self.rule.normalization)}

    def token_boxes(self, height: int, width: int) -> Boxes:
        """What each image token shows: tile by tile, row by row in each, the whole picture last."""
        rows, columns = self.grid(height, width)
        grid = _cells(rows * self.cells, columns * self.cells, height, width)
        tiles = grid.reshape(rows, self.cells, columns, self.cells, 4).swapaxes(1, 2).reshape(-1, 4)
        if rows * columns == 1:
            return tiles
        return np.concatenate([tiles, _cells(self.cells, self.cells, height, width).reshape(-1, 4)])

    def image_pieces(self, height: int, width: int) -> Sequence[str | int]:
        """The image in a prompt: one run of tokens for all tiles."""
        rows, columns = self.grid(height, width)
        tiles = rows * columns + (rows * columns > 1)
        return ["<img>", tiles * self.cells**2, "</img>"]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tiles: of the aspect ratio closest to the picture's.

        Of equal ones the larger is taken, as long as the picture has more than half of its pixels.
        """
        best, least = (1, 1), float("inf")
        for rows, columns in _grids(self.min_tiles, self.max_tiles):
            difference = abs(width / height - columns / rows)
            filled = width * height > 0.5 * self.tile**2 * rows * columns
            if difference < least or (difference == least and filled):
                best, least = (rows, columns), difference
        return best


@lru_cache(maxsize=16)
def _grids(low: int, high: int) -> list[tuple[int, int]]:
    """Rows and columns of all grids of low..high tiles: by tiles, then from narrow to wide."""
    sides = range(1, high + 1)
    grids = [
        (rows, columns) for columns in sides for rows in sides if low <= rows * columns <= high
    ]
    return sorted(grids, key=lambda grid: grid[0] * grid[1])


def _stated(preprocessor: Mapping[str, Any], key: str, published: Any) -> Any:
    value = preprocessor.get(key)
    return published if value is None else value


def _cells(rows: int, columns: int, height: int, width: int) -> npt.NDArray[np.float64]:
    """(rows, columns, 4): a picture in equal rectangles."""
    edges = [np.arange(n + 1) * size / n for n, size in ((rows, height), (columns, width))]
    return rectangles(*(np.stack([one[:-1], one[1:]], -1) for one in edges))
