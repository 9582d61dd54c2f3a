"""PaliGemma 1 and 2: the picture as a square, and a prompt that is read in both directions.

The picture is resized to the tower's square whatever its shape, so a token shows a rectangle of the
picture's own shape. Image tokens see the question, so nothing of a prompt can be shared between
questions. Does not know depth, or several images in one prompt.

Sources: transformers' `SiglipImageProcessor`, `PaliGemmaProcessor` (the prompt) and
`PaliGemmaModel` (positions from 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sdvlm_core.errors import CheckpointError, shown
from sdvlm_core.model.backbones.contract import Backbone, Boxes, ImageAttention
from sdvlm_core.model.backbones.picture import HALF, normalized, resized
from sdvlm_core.model.backbones.settings import PixelRule, agreeing, part, pixel_rule, whole
from sdvlm_core.model.image_tokens import grid_boxes

#: Patches along one side; the largest published model has 64.
_MAX_CELLS = 128


@dataclass(frozen=True)
class PaliGemma(Backbone):
    """PaliGemma 1 and 2, which differ in the language model alone.

    Args:
        side: of the tower's picture, pixels.
        patch: side of a patch, pixels; every patch is one image token.
        rule: how a picture is resized and normalised.
    """

    side: int
    patch: int
    rule: PixelRule

    template = "paligemma"
    dialect = "chat"
    boxes = "loc"
    attention = ImageAttention.PROMPT

    @classmethod
    def of(cls, config: Any, preprocessor: Mapping[str, Any]) -> PaliGemma:
        """The backbone of a model's config and preprocessor_config.json ({} = as published).

        Raises:
            CheckpointError: a value is impossible; names key and value.
        """
        if config.model_type != "paligemma":
            raise CheckpointError(f"model_type {shown(repr(config.model_type))} is no PaliGemma")
        vision = config.vision_config
        whole("vision_config.num_channels", vision.num_channels, 3, 3)
        patch = whole("vision_config.patch_size", vision.patch_size, 1, 128)
        side = whole("vision_config.image_size", vision.image_size, patch, _MAX_CELLS * patch)
        size = part("size", preprocessor)
        for edge in ("height", "width"):
            agreeing(edge, size, side)
        agreeing("image_seq_length", preprocessor, (side // patch) ** 2)
        return cls(side, patch, pixel_rule(preprocessor, "bicubic", HALF))

    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """(H, W, 3) uint8 -> `pixel_values` (1, 3, side, side)."""
        picture = resized(rgb, self.side, self.side, self.rule.filter, device)
        return {"pixel_values": normalized(picture, self.rule.normalization)[None]}

    def token_boxes(self, height: int, width: int) -> Boxes:
        """The patches of the resized picture, in raster order.

        Where the side is no multiple of the patch, the tower does not see the last pixels.
        """
        cells = self.side // self.patch
        seen = cells * self.patch
        return grid_boxes(cells, cells, 0, 0, width * seen / self.side, height * seen / self.side)

    def image_pieces(self, height: int, width: int) -> Sequence[str | int]:
        """The image tokens come first, and the beginning of the sequence follows them."""
        return [(self.side // self.patch) ** 2, "<bos>"]

    def positions(
        self, is_image: npt.NDArray[np.bool_], height: int, width: int
    ) -> tuple[torch.Tensor, int]:
        """The positions (1, T) of a prompt count from 1."""
        return torch.arange(1, len(is_image) + 1)[None], len(is_image) + 1
