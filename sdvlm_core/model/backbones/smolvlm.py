"""SmolVLM2, and Idefics3 before it: the picture as tiles, row by row, then as a whole.

The picture is stretched to whole tiles, so no token shows padding. Does not know depth or videos,
and does not take pictures without tiles in another shape than a square: the model's pixel shuffle
cannot. SmolVLM (Marafioti et al. 2025); transformers' SmolVLMImageProcessor and SmolVLMProcessor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import transformers

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.backbones.contract import Backbone, Boxes
from sdvlm_core.model.backbones.picture import HALF, Normalization, normalized, resized
from sdvlm_core.model.backbones.settings import PixelRule, part, pixel_rule, whole
from sdvlm_core.model.backbones.views import View, boxes_of

#: No picture is resized to a longer side, whatever the preprocessor states; the library's bound.
_LONGEST_PX = 4096
#: Published checkpoints have up to 5 tiles along a side, and up to 4,394 image tokens.
_MAX_TILE_PX, _MAX_SIDE_TILES, _MAX_TOKENS = 1024, 8, 1 << 15
_AROUND = "<fake_token_around_image>"
# Smallest normal number of float16.
_TINY = 2.0**-14
#: transformers before takes the image tokens of `smolvlm` in groups of a patch's side only: not
#: those of SmolVLM2-2.2B, and no part of a prompt.
_FIRST_VERSION = (5, 21)


def is_supported() -> bool:
    """Whether the installed transformers runs `smolvlm`."""
    major, minor = transformers.__version__.split(".")[:2]
    return (int(major), int(minor)) >= _FIRST_VERSION


@dataclass(frozen=True)
class SmolVLM(Backbone):
    """SmolVLM2 (`smolvlm`) and Idefics3 and SmolVLM (`idefics3`).

    Attributes:
        edge: longer side of the picture before it is stretched to whole tiles, pixels.
        tile: side of a tile, and of the picture as a whole, pixels.
        patch: side of a patch of the tower, pixels.
        merge: patches along the side of a token (pixel shuffle).
        rule: resampling filter and normalisation.
    """

    template: ClassVar[str] = "smolvlm"
    dialect: ClassVar[str] = "chat"
    boxes: ClassVar[str] = "fraction"
    lora_targets: ClassVar[str] = r".*text_model.*\.(q|k|v|o|gate|up|down)_proj"
    projector: ClassVar[tuple[str, ...]] = ("connector",)

    edge: int
    tile: int
    patch: int
    merge: int
    rule: PixelRule

    @classmethod
    def of(cls, config: Any, preprocessor: Mapping[str, Any]) -> SmolVLM:
        """From a model's config and its preprocessor_config.json.

        Without `max_image_size` a tile has the tower's size, and without `size` the longer side has
        four tiles, as in the published SmolVLM2.

        Raises:
            CheckpointError: an impossible value, stated with its key; a picture without tiles; or
                more tiles or tokens than any published model has; or transformers is too old.
        """
        if config.model_type == "smolvlm" and not is_supported():
            raise CheckpointError(
                "smolvlm needs transformers 5.21, which needs Python 3.11; installed is "
                f"{transformers.__version__}"
            )
        vision = config.vision_config
        side = whole("vision_config.image_size", vision.image_size, 1, _MAX_TILE_PX)
        tile = whole(*_longest_edge("max_image_size", preprocessor, side), 1, _MAX_TILE_PX)
        edge = whole(*_longest_edge("size", preprocessor, 4 * tile), 1, 1 << 16)
        patch = whole("vision_config.patch_size", vision.patch_size, 1, tile)
        merge = whole("scale_factor", config.scale_factor, 1, 64)
        if preprocessor.get("do_image_splitting") not in (None, True):
            raise CheckpointError(
                "do_image_splitting is false; the model takes pictures cut into square tiles only"
            )
        if tile // patch % merge:
            raise CheckpointError(
                f"scale_factor is {merge}; it must divide the {tile // patch} patches along a tile"
            )
        backbone = cls(edge, tile, patch, merge, pixel_rule(preprocessor, "lanczos", HALF))
        _check_counts(*backbone.grid(_LONGEST_PX, _LONGEST_PX), backbone.tile_tokens)
        return backbone

    @property
    def tile_tokens(self) -> int:
        """Image tokens of a tile, and of the picture as a whole."""
        return (self.tile // (self.patch * self.merge)) ** 2

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tiles; (1, 1) = the picture is seen as a whole only."""
        rows, columns = self._stretched(*self._fitted(height, width))
        return rows // self.tile, columns // self.tile

    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """`pixel_values` (1, tiles, 3, tile, tile).

        Resized up to three times, and rounded to bytes each time, as published.
        """
        kind = self.rule.filter
        fitted = self._fitted(*rgb.shape[:2])
        picture = resized(
            resized(rgb, *fitted, kind, device), *self._stretched(*fitted), kind, device
        )
        rows, columns = (length // self.tile for length in picture.shape[1:])
        tiles = picture.reshape(3, rows, self.tile, columns, self.tile)
        tiles = tiles.permute(1, 3, 0, 2, 4).flatten(0, 1)
        if len(tiles) > 1:
            complete = resized(picture, self.tile, self.tile, kind, device)
            tiles = torch.cat([tiles, complete[None]])
        return {"pixel_values": _normalized(tiles, self.rule.normalization)[None]}

    def batched(self, inputs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The tiles of all pictures as those of one: the tower reads each tile alone."""
        return {"pixel_values": torch.cat([one["pixel_values"] for one in inputs], 1)}

    def token_boxes(self, height: int, width: int) -> Boxes:
        """Tiles row by row, then the whole picture; the tokens of each row by row."""
        rows, columns = self.grid(height, width)
        views = [View(0, 0, width, height)]
        if rows * columns > 1:
            x, y = (np.arange(n + 1) * size / n for n, size in ((columns, width), (rows, height)))
            views[:0] = [
                View(x[column], y[row], x[column + 1], y[row + 1])
                for row in range(rows)
                for column in range(columns)
            ]
        cell = self.patch * self.merge
        return np.concatenate([boxes_of(view, self.tile, cell) for view in views])

    def image_pieces(self, height: int, width: int) -> Sequence[str | int]:
        """Each tile after its row and column, and a line break after each row of tiles.

        Older checkpoints have no tokens for rows and columns and read them as text; it stands
        between control tokens, so its ids are the same in pieces as in one string.
        """
        rows, columns = self.grid(height, width)
        pieces: list[str | int] = []
        line = ""
        for row in range(rows if rows * columns > 1 else 0):
            for column in range(columns):
                pieces += [f"{line}{_AROUND}<row_{row + 1}_col_{column + 1}>", self.tile_tokens]
                line = ""
            line = "\n"
        return [*pieces, f"{line * 2}{_AROUND}<global-img>", self.tile_tokens, _AROUND]

    def _fitted(self, height: int, width: int) -> tuple[int, int]:
        """Height and width with the longer side at `edge`; the shorter side is even.

        In this order of floating-point operations: another one rounds to other sizes.
        """
        edge, aspect = self.edge, width / height
        if width >= height:
            shorter = int(edge / aspect)
            height, width = max(shorter + shorter % 2, 1), edge
        else:
            shorter = int(edge * aspect)
            height, width = edge, max(shorter + shorter % 2, 1)
        aspect = width / height
        if width >= height and width > _LONGEST_PX:
            height, width = int(_LONGEST_PX / aspect), _LONGEST_PX
        elif height > width and height > _LONGEST_PX:
            height, width = _LONGEST_PX, int(_LONGEST_PX * aspect)
        return max(height, 1), max(width, 1)

    def _stretched(self, height: int, width: int) -> tuple[int, int]:
        """The longer side rounded up to whole tiles, the other one with it, and up again."""
        tile, aspect = self.tile, width / height
        if width >= height:
            width = math.ceil(width / tile) * tile
            height = int(width / aspect)
        else:
            height = math.ceil(height / tile) * tile
            width = int(height * aspect)
        return math.ceil(height / tile) * tile, math.ceil(width / tile) * tile


def _longest_edge(key: str, preprocessor: Mapping[str, Any], default: int) -> tuple[str, Any]:
    """The name and the value of a size in a preprocessor, or the default."""
    size = part(key, preprocessor)
    return f"{key}.longest_edge", size.get("longest_edge") if size else default


def _check_counts(rows: int, columns: int, tile_tokens: int) -> None:
    """Raise CheckpointError if the largest picture has too many tiles or image tokens."""
    tokens = (rows * columns + 1) * tile_tokens
    if max(rows, columns) > _MAX_SIDE_TILES or tokens > _MAX_TOKENS:
        raise CheckpointError(
            f"size.longest_edge and max_image_size.longest_edge make {rows} rows of tiles and "
            f"{tokens} image tokens; at most {_MAX_SIDE_TILES} and {_MAX_TOKENS} are supported"
        )


def _normalized(tiles: torch.Tensor, to: Normalization) -> torch.Tensor:
    """(N, 3, S, S) uint8 -> float32, no tile of which is all zeros.

    The model takes a tile of zeros for padding and drops it: its tokens would be missing. A tile of
    a colour that is normalised to zero gets one value that is zero in no floating-point type. The
    published mean of 0.5 is 127.5 and no grey level; then nothing is searched.
    """
    pixels = normalized(tiles, to)
    levels = normalized(torch.arange(256, dtype=torch.uint8).expand(3, 1, 256), to)
    if (levels.abs() < _TINY).any(-1).all():
        blank = (pixels.abs() < _TINY).flatten(1).all(1)
        pixels[:, 0, 0, 0] = torch.where(blank, _TINY, pixels[:, 0, 0, 0])
    return pixels
