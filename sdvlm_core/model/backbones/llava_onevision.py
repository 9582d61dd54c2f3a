"""LLaVA-OneVision: a SigLIP tower over the whole picture and over tiles of it.

transformers' `LlavaOnevisionForConditionalGeneration`. A grid of many more tokens than the limit of
"anyres_max_9" is interpolated to fewer: a token then shows the rectangle of its part of the grid.
A tile of 384 pixels has 27 patches of 14: no token shows its last 6 rows and columns. Does not know
weights, videos, or several pictures in one prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sdvlm_core.model.backbones.anyres import Anyres, AnyresBackbone
from sdvlm_core.model.backbones.picture import HALF
from sdvlm_core.model.backbones.tiles import refused


@dataclass(frozen=True)
class LlavaOneVision(AnyresBackbone):
    """LLaVA-OneVision with Qwen2."""

    template: ClassVar[str] = "llava_onevision"

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
