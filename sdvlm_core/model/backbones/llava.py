"""DepthEncodedLlava: transformers' LLaVA whose projected image features carry a depth code.

One method is overridden and no parameter is added, so every LLaVA checkpoint loads unchanged.
Does not know frames, questions or where weights come from.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from sdvlm_core.model.confidence import Calibration
from sdvlm_core.model.depth_encoding import EncodingSettings


def encoding_settings(config: LlavaConfig) -> EncodingSettings:
    """The model's depth encoding; a LLaVA that names none has none."""
    stored = getattr(config, "depth_encoding", None)
    return EncodingSettings.from_mapping(stored) if stored else EncodingSettings(kind="none")


def calibration(config: LlavaConfig) -> Calibration:
    """What the model's confidence is worth; without a calibration it is taken as it is."""
    return Calibration.from_mapping(getattr(config, "calibration", None) or {})


def grid_cells(config: LlavaConfig) -> int:
    """Image tokens along one side: the tower's picture over its patch."""
    vision = config.vision_config
    return int(vision.image_size // vision.patch_size)


def fuse(
    features: torch.Tensor, code: torch.Tensor | None, settings: EncodingSettings
) -> torch.Tensor:
    """Projected features (..., tokens, channels) + gain x code of the same shape.

    The sum is taken in float32 and rounded once to the features' type.
    """
    fused = features.float()
    if settings.normalize_features:
        fused = torch.nn.functional.layer_norm(fused, fused.shape[-1:])
    if code is not None:
        fused = fused + settings.gain * code.to(fused.device)
    return fused.to(features.dtype)


class DepthEncodedLlava(LlavaForConditionalGeneration):
    """LLaVA with a Depth Positional Encoding added after the projector (SD-VLM, section 3).

    features = model.get_image_features(pixel_values, depth_code=code)
    model(input_ids, mm_encoder_outputs={"image": features})
    """

    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        depth_code: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Projected features of (B, 3, S, S) pixels plus depth_code (B, tokens, channels).

        Returns transformers' output object; its `pooler_output` is a list of B tensors
        (tokens, channels), as `forward(mm_encoder_outputs=...)` takes it.
        """
        outputs = super().get_image_features(pixel_values, **kwargs)
        features = torch.stack(tuple(outputs.pooler_output))
        outputs.pooler_output = list(fuse(features, depth_code, encoding_settings(self.config)))
        return outputs
