"""DepthEncodedLlava: transformers' LLaVA with a depth code added to its projected image features.

One method is overridden and no parameter is added, so every LLaVA checkpoint loads unchanged.
Does not know frames, questions, or the source of weights.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, LlavaConfig, LlavaForConditionalGeneration

from sdvlm_core.model.confidence import Calibration
from sdvlm_core.model.depth_encoding import EncodingSettings
from sdvlm_core.model.generation import prefill
from sdvlm_core.model.generation_options import Limits


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


def context_tokens(config: LlavaConfig) -> int | None:
    """Length of the language model's context in tokens; None = not stated."""
    stated = getattr(config.text_config, "max_position_embeddings", None)
    return None if stated is None else int(stated)


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


def prefix_cache(
    model: DepthEncodedLlava,
    ids: list[int],
    features: Any,
    device: torch.device,
    limits: Limits,
) -> DynamicCache:
    """The key/value cache of a prompt with one image.

    Args:
        ids: token ids with one image placeholder per image token.
        features: output of `get_image_features`; changed.
        limits: checked between two chunks of the prompt.
    """
    image, image_id = features.pooler_output[0], model.config.image_token_id
    cache = DynamicCache(config=model.config.text_config)
    encoded = 0

    def step(chunk: list[int]) -> torch.Tensor:
        nonlocal encoded
        start, encoded = encoded, encoded + chunk.count(image_id)
        # transformers takes exactly the features of the placeholders in `input_ids`.
        features.pooler_output = [image[start:encoded]]
        logits: torch.Tensor = model(
            input_ids=torch.tensor([chunk], device=device),
            mm_encoder_outputs={"image": features} if encoded > start else None,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits

    prefill(step, ids, limits, device)
    return cache


def cut_cache(cache: DynamicCache, length: int) -> None:
    """Keep the first `length` tokens of a key/value cache; their entries never change."""
    # Cut each tensor by its own length, because a failed forward pass (for example, out of memory)
    # has extended only the first layers, and possibly the keys of a layer without its values.
    for layer in cache.layers:
        layer.keys = layer.keys[..., :length, :]
        layer.values = layer.values[..., :length, :]
        layer.crop(0)  # a sliding window must count its tokens again
