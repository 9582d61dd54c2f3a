"""LLaVA-1.5: a square CLIP picture, one grid of tokens. SD-VLM and nano are of this family.

Pictures are padded to a square as in LLaVA's training; transformers' own processor crops them. Does
not know depth or weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.backbones.clip_image import clip_pixels_on
from sdvlm_core.model.backbones.contract import Backbone
from sdvlm_core.model.backbones.picture import CLIP
from sdvlm_core.model.backbones.settings import PixelRule, pixel_rule
from sdvlm_core.model.backbones.tiles import refused
from sdvlm_core.model.image_tokens import Boxes, padded_boxes


@dataclass(frozen=True)
class Llava(Backbone):
    """See `contract.Backbone`.

    Attributes:
        size: side of the tower's input, pixels.
        cells: tokens along one side.
    """

    size: int
    cells: int

    template = "vicuna_v1"
    dialect = "msmu"
    boxes = "fraction"

    @classmethod
    def of(cls, config: Any, preprocessor: Mapping[str, Any]) -> Llava:
        """The backbone of a LlavaConfig.

        The preprocessor's `size` and `crop_size` do not count: it would crop the picture. Its
        pixels must be CLIP's.

        Raises:
            CheckpointError: another vision tower, other tokens or pixels, or an impossible size.
        """
        tower, strategy = config.vision_config.model_type, config.vision_feature_select_strategy
        if tower != "clip_vision_model":
            raise refused("vision_config.model_type", tower, "'clip_vision_model'")
        if strategy != "default":
            raise refused("vision_feature_select_strategy", strategy, "'default'")
        if pixel_rule(preprocessor, "bicubic", CLIP) != PixelRule("bicubic", CLIP):
            raise CheckpointError(
                "resample, image_mean and image_std of the preprocessor are not those of CLIP"
            )
        size, patch = config.vision_config.image_size, config.vision_config.patch_size
        if not 0 < patch <= size:
            raise CheckpointError(
                f"config.json: vision_config.patch_size is {patch}; it must be from 1 to the "
                f"image_size, {size}"
            )
        return cls(size, size // patch)

    def prepare(self, rgb: npt.NDArray[np.uint8], device: torch.device) -> dict[str, torch.Tensor]:
        """pixel_values (1, 3, size, size) float32."""
        return {"pixel_values": clip_pixels_on(device, rgb, self.size)[None]}

    def token_boxes(self, height: int, width: int) -> Boxes:
        """The cells of the padded square, row by row."""
        return padded_boxes(width, height, self.cells)

    def image_pieces(self, height: int, width: int) -> Sequence[str | int]:
        """The image tokens alone."""
        return [self.cells**2]
