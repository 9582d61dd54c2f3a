"""DepthEncodedLlava: transformers' LLaVA with a depth code added to its projected image features.

One method is overridden and no parameter is added, so every LLaVA checkpoint loads unchanged.
Does not know frames, questions, or the source of weights.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from sdvlm_core.model.confidence import Calibration
from sdvlm_core.model.depth_encoding import EncodingSettings


def encoding_settings(config: LlavaConfig) -> EncodingSettings:
    """The depth encoding in a model's config; a config without one has kind `none`."""
    stored = getattr(config, "depth_encoding", None)
    return EncodingSettings.from_mapping(stored) if stored else EncodingSettings(kind="none")


def calibration(config: LlavaConfig) -> Calibration:
    """The calibration of the model's confidence; without one, raw values are kept."""
    return Calibration.from_mapping(getattr(config, "calibration", None) or {})


def grid_cells(config: LlavaConfig) -> int:
    """Image tokens along one side: image size / patch size of the vision tower."""
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
