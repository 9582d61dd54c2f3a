"""LLaVA's "anyres" pictures, and the backbones that read them: the whole in one tile, then tiles.

The canvas is the one of a list that keeps most of the picture's pixels; the picture is fitted into
it and centred on black. A tower reads each tile alone. The tiles' tokens are put together to one
grid, rows of mere padding are cut off, and a separator (the "newline") ends each row. A tile whose
side is no multiple of the patch has a strip at its right and lower edge that no token shows.
Does not know weights, or the words around an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad

from sdvlm_core.model.backbones.contract import Backbone, Boxes
from sdvlm_core.model.backbones.picture import Normalization, filled, normalized, resized
from sdvlm_core.model.backbones.settings import PixelRule, pixel_rule, whole
from sdvlm_core.model.backbones.tiles import MAX_SIDE, cut, rectangles, refused, tile_of

#: Largest number of image tokens; LLaVA-OneVision's largest canvas has 27,135 before it is reduced.
_MAX_TOKENS = 1 << 16
#: A grid above this ratio of the limit is reduced (LLaVA-OneVision).
_TOLERANCE = 1.1


@dataclass(frozen=True)
class Anyres:
    """How a family cuts pictures into tiles and tokens.

    Attributes:
        tile: side of a tile, pixels.
        patch: side of a token's patch, pixels of a tile.
        canvases: (height, width) of the canvases, multiples of `tile`; the first best one is taken.
        rule: how a picture is resized and normalised.
        max_tiles: a grid of many more tokens than so many tiles have is reduced; None = never.
    """

    tile: int
    patch: int
    canvases: tuple[tuple[int, int], ...]
    rule: PixelRule
    max_tiles: int | None = None

    @classmethod
    def of(
        cls,
        config: Any,
        preprocessor: Mapping[str, Any],
        published: Normalization,
        max_tiles: int | None = None,
    ) -> Anyres:
        """From the model's config; the preprocessor must describe the same tiles."""
        tile, patch = tile_of(config, preprocessor)
        name = "image_grid_pinpoints"
        stated, canvases = preprocessor.get(name), _canvases(getattr(config, name), tile, patch)
        if stated is not None and _canvases(stated, tile, patch) != canvases:
            raise refused(f"{name} of the preprocessor", stated, "those of the model's config")
        rule = pixel_rule(preprocessor, "bicubic", published)
        return cls(tile, patch, canvases, rule, max_tiles)

    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """(H, W, 3) uint8 -> `pixel_values` (1, tiles, 3, S, S), `image_sizes` (1, 2) H, W."""
        height, width = rgb.shape[:2]
        canvas = self._canvas(height, width)
        fitted = _fitted(height, width, canvas)
        top, left = ((canvas[axis] - fitted[axis]) // 2 for axis in (0, 1))
        padded = filled(*canvas, (0, 0, 0), device)
        padded[:, top : top + fitted[0], left : left + fitted[1]] = resized(
            rgb, *fitted, self.rule.filter, device
        )
        base = resized(rgb, self.tile, self.tile, self.rule.filter, device)
        pixels = torch.cat([base[None], cut(padded, self.tile)])
        return {
            "pixel_values": normalized(pixels, self.rule.normalization)[None],
            # transformers reads the sizes on the host.
            "image_sizes": torch.tensor([[height, width]]),
        }

    def batched(self, inputs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Results of `prepare` together; tiles of zeros, which the model leaves out, fill up."""
        most = max(one["pixel_values"].shape[1] for one in inputs)
        tiles = []
        for one in inputs:
            missing = most - one["pixel_values"].shape[1]
            tiles.append(pad(one["pixel_values"], (0, 0, 0, 0, 0, 0, 0, missing)))
        sizes = torch.cat([one["image_sizes"] for one in inputs])
        return {"pixel_values": torch.cat(tiles), "image_sizes": sizes}

    def tokens(self, height: int, width: int) -> int:
        """Image tokens of a picture."""
        rows, columns = self._reduced(*self._kept(height, width))
        return self._cells**2 + rows * (columns + 1)

    def token_boxes(self, height: int, width: int) -> Boxes:
        """What each token shows: of the base tile, then of the grid, row by row."""
        canvas = self._canvas(height, width)
        fitted = _fitted(height, width, canvas)
        kept = self._kept(height, width)
        whole = range(self._cells)
        base, grid = [], []
        for axis, size in enumerate((height, width)):
            base.append(self._spans(whole, self._cells) * (size / self.tile))
            spans = self._spans(kept[axis], self._reduced(*kept)[axis])
            grid.append((spans - (canvas[axis] - fitted[axis]) // 2) * (size / fitted[axis]))
        shown = np.full((len(grid[0]), len(grid[1]) + 1, 4), np.nan)
        shown[:, :-1] = rectangles(*grid)
        outside = (shown[..., :2] >= (width, height)) | (shown[..., 2:] <= 0)
        shown[outside.any(-1)] = np.nan
        return np.concatenate([rectangles(*base).reshape(-1, 4), shown.reshape(-1, 4)])

    @property
    def _cells(self) -> int:
        """Tokens along one side of a tile."""
        return self.tile // self.patch

    def _canvas(self, height: int, width: int) -> tuple[int, int]:
        """The canvas that keeps most pixels of the picture, then the one with the least rest."""

        def kept(canvas: tuple[int, int]) -> tuple[int, int]:
            scale = min(canvas[1] / width, canvas[0] / height)
            pixels = min(int(width * scale) * int(height * scale), width * height)
            return pixels, pixels - canvas[0] * canvas[1]

        return max(self.canvases, key=kept)

    def _kept(self, height: int, width: int) -> tuple[range, range]:
        """Rows and columns of the canvas' grid that stay when the padding is cut off.

        transformers' `unpad_image`: the padding is rounded down to whole cells after the picture
        is, so that up to half a row of cells with picture is lost on either side.
        """
        rows, columns = (side // self.tile * self._cells for side in self._canvas(height, width))
        cut_rows = cut_columns = 0
        if width / height > columns / rows:
            cut_rows = (rows - int(round(height * (columns / width), 7))) // 2
        else:
            cut_columns = (columns - int(round(width * (rows / height), 7))) // 2
        return range(cut_rows, rows - cut_rows), range(cut_columns, columns - cut_columns)

    def _reduced(self, rows: range, columns: range) -> tuple[int, int]:
        """Rows and columns of the grid after it is interpolated."""
        if self.max_tiles is None:
            return len(rows), len(columns)
        ratio = math.sqrt(len(rows) * len(columns) / (self.max_tiles * self._cells**2))
        if ratio <= _TOLERANCE:
            return len(rows), len(columns)
        return int(len(rows) // ratio), int(len(columns) // ratio)

    def _spans(self, cells: range, count: int) -> npt.NDArray[np.float64]:
        """(count, 2): start and end, in pixels of the canvas, of equal parts of a row of cells.

        With integers up to the last division: an edge between two tiles lies on the right side of
        the strip between them.
        """
        edges = cells.start * count + np.arange(count + 1) * len(cells)
        ends = np.stack([edges[:-1], edges[1:]], -1)
        # The cell that a part starts in, and the one it ends in.
        cell = (ends - (0, 1)) // max(count, 1)
        start = cell // self._cells * self.tile + cell % self._cells * self.patch
        return start + (ends - cell * count) / max(count, 1) * self.patch


def _canvases(stated: Any, tile: int, patch: int) -> tuple[tuple[int, int], ...]:
    """`image_grid_pinpoints`, checked: (height, width) of the canvases."""
    name = "image_grid_pinpoints"
    if not isinstance(stated, (list, tuple)) or not 0 < len(stated) <= 256:
        raise refused(name, stated, "a list of 1 to 256 canvases")
    for canvas in stated:
        if not isinstance(canvas, (list, tuple)) or len(canvas) != 2:
            raise refused(name, canvas, "[height, width]")
        for side in canvas:
            if whole(name, side, tile, MAX_SIDE) % tile:
                raise refused(name, side, f"a multiple of {tile}, the side of a tile")
        tiles = 1 + canvas[0] // tile * (canvas[1] // tile)
        if tiles * (tile // patch) * (tile // patch + 1) > _MAX_TOKENS:
            limit = f"a canvas of at most {_MAX_TOKENS} image tokens with the patch_size {patch}"
            raise refused(name, canvas, limit)
    return tuple((canvas[0], canvas[1]) for canvas in stated)


def _fitted(height: int, width: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a picture that is enlarged or reduced to fit into a canvas."""
    scale_x, scale_y = canvas[1] / width, canvas[0] / height
    if scale_x < scale_y:
        return min(math.ceil(height * scale_x), canvas[0]), canvas[1]
    return canvas[0], min(math.ceil(width * scale_y), canvas[1])


@dataclass(frozen=True)
class AnyresBackbone(Backbone):
    """A backbone whose pictures are "anyres"; a family states which configs are its own."""

    dialect: ClassVar[str] = "chat"
    boxes: ClassVar[str] = "fraction"

    anyres: Anyres

    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """(H, W, 3) uint8 -> `pixel_values` (1, tiles, 3, S, S) and `image_sizes` (1, 2)."""
        return self.anyres.prepare(rgb, device)

    def batched(self, inputs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """As many tiles for each picture."""
        return self.anyres.batched(inputs)

    def token_boxes(self, height: int, width: int) -> Boxes:
        """What each image token of a picture of this size shows."""
        return self.anyres.token_boxes(height, width)

    def image_pieces(self, height: int, width: int) -> Sequence[str | int]:
        """The image in a prompt: its tokens alone."""
        return [self.anyres.tokens(height, width)]
