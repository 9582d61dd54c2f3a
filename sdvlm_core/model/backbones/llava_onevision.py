"""LLaVA-OneVision: a SigLIP tower over the whole picture and over tiles of it.

transformers' `LlavaOnevisionForConditionalGeneration`. A grid of many more tokens than the limit of
"anyres_max_9" is interpolated to fewer: a token then shows the rectangle of its part of the grid.
A tile of 384 pixels has 27 patches of 14: no token shows its last 6 rows and columns. Does not know
weights, videos, or several pictures in one prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from sdvlm_core.model.backbones.anyres import Anyres
from sdvlm_core.model.backbones.contract import Backbone, Boxes
from sdvlm_core.model.backbones.picture import HALF
from sdvlm_core.model.backbones.tiles import refused


@dataclass(frozen=True)
class LlavaOneVision(Backbone):
    """LLaVA-OneVision with Qwen2."""

    template: ClassVar[str] = "llava_onevision"
    dialect: ClassVar[str] = "chat"
    boxes: ClassVar[str] = "fraction"

    anyres: Anyres

    @classmethod
    def of(cls, config: Any, preprocessor: Mapping[str, Any]) -> LlavaOneVision:
        """From transformers' LlavaOnevisionConfig."""
        tower, strategy = config.vision_config.model_type, config.vision_feature_select_strategy
        if tower != "siglip_vision_model":
            raise refused("vision_config.model_type", tower, "'siglip_vision_model'")
        if strategy != "full":
            raise refused("vision_feature_select_strategy", strategy, "'full'")
        stated = config.vision_aspect_ratio
        limit = (
            re.fullmatch(r"anyres_max_([1-9][0-9]?)", stated) if isinstance(stated, str) else None
        )
        if limit is None:
            raise refused("vision_aspect_ratio", stated, "anyres_max_N, N from 1 to 99")
        return cls(Anyres.of(config, preprocessor, HALF, int(limit[1])))

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
