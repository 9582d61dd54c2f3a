"""Projected image features + depth code: the one point that all backbones share.

    features = coded_features(model, backbone.prepare(rgb, device), code)
    model(input_ids, mm_encoder_outputs={"image": features})

`get_image_features` of transformers returns the features of all image tokens, projected to the
language model's width, in `pooler_output`. Does not know depth maps or prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.depth_encoding import EncodingSettings
from sdvlm_core.model.own_settings import encoding_settings


def coded_features(
    model: Any, inputs: Mapping[str, torch.Tensor], code: torch.Tensor | None
) -> Any:
    """The image features of a model, with the depth code added (SD-VLM, section 3).

    Args:
        model: a transformers model for images and text.
        inputs: arguments of its `get_image_features`.
        code: (tokens of all images, channels), in the order of the features; None = none.

    Returns transformers' output object, as `forward(mm_encoder_outputs=...)` takes it.

    Raises:
        CheckpointError: the model makes another number of image tokens than the code has.
    """
    floats = {name: _as(model.dtype, value) for name, value in inputs.items()}
    outputs = model.get_image_features(**floats, return_dict=True)
    stored, count = outputs.pooler_output, len(token_features(outputs))
    if code is not None and len(code) != count:
        raise CheckpointError(
            f"the model makes {count} image tokens; its config describes {len(code)}"
        )
    if isinstance(stored, torch.Tensor):
        fused = fuse(stored.flatten(0, -2), code, encoding_settings(model.config))
        outputs.pooler_output = fused.view_as(stored)
    else:
        fused = fuse(torch.cat(tuple(stored)), code, encoding_settings(model.config))
        outputs.pooler_output = list(torch.split(fused, [len(one) for one in stored]))
    return outputs


def token_features(outputs: Any) -> torch.Tensor:
    """(tokens of all images, channels) of the result of `coded_features`."""
    stored = outputs.pooler_output
    return stored.flatten(0, -2) if isinstance(stored, torch.Tensor) else torch.cat(tuple(stored))


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


def _as(dtype: torch.dtype, value: torch.Tensor) -> torch.Tensor:
    return value.to(dtype) if value.is_floating_point() else value
