"""What all questions about a frame share, read once: the opening of the prompt with the image.

Does not know frames, questions or depth.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from sdvlm_core.model.backbones.contract import Backbone, ImageAttention
from sdvlm_core.model.coded_features import token_features
from sdvlm_core.model.generation import chunks
from sdvlm_core.model.generation_options import Limits


@dataclass(frozen=True, eq=False)
class Prefix:
    """The opening of a prompt.

    Attributes:
        ids: token ids with one image placeholder per image token.
        positions: (1, T) or (3, 1, T) their position ids.
        next_position: the position id of the token that follows.
        cache: the keys and values of these tokens; None = the image tokens attend to the question
            too, so that each question reads the opening anew.
        features: output of `coded_features`, where there is no cache.
    """

    ids: list[int]
    positions: torch.Tensor
    next_position: int
    cache: DynamicCache | None = None
    features: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def pads(self) -> bool:
        """Whether questions of different lengths may be read together.

        Shorter ones are then padded. Layers that attend to the last tokens only, or that carry a
        state from token to token, would count the padding.
        """
        return self.cache is not None and all(
            type(layer) is DynamicLayer for layer in self.cache.layers
        )


def read_prefix(
    model: Any,
    backbone: Backbone,
    ids: list[int],
    features: Any,
    size: tuple[int, int],
    limits: Limits,
) -> Prefix:
    """Read the opening of a prompt.

    Args:
        ids: token ids with one image placeholder per image token.
        features: output of `coded_features`; changed.
        size: height and width of the frame.
        limits: checked between two chunks of the prompt.
    """
    image_id, device = model.config.image_token_id, token_features(features).device
    is_image = np.array(ids) == image_id
    positions, following = backbone.positions(is_image, *size)
    positions = positions.to(device)
    if backbone.attention is ImageAttention.PROMPT:
        return Prefix(ids, positions, following, features=features)
    cache = DynamicCache(config=model.config.text_config)
    in_parts = backbone.attention is ImageAttention.CAUSAL
    encoded = 0
    for start, end in chunks(len(ids), device) if in_parts else [(0, len(ids))]:
        if start:
            limits.check(f"{start} of {len(ids)} tokens of the prompt")
        first, encoded = encoded, encoded + int(is_image[start:end].sum())
        part = _part(features, first, encoded) if in_parts else features
        images = torch.from_numpy(is_image[None, start:end].astype(np.int64)).to(device)
        model(
            input_ids=torch.tensor([ids[start:end]], device=device),
            mm_encoder_outputs={"image": part} if encoded > first else None,
            position_ids=positions[..., start:end],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **({} if in_parts else {"token_type_ids": images}),
        )
    return Prefix(ids, positions, following, cache)


def _part(features: Any, first: int, end: int) -> Any:
    """The features of some image tokens: transformers takes exactly those of the placeholders."""
    part, tokens = copy.copy(features), token_features(features)[first:end]
    # Some families take the features of an image as one tensor, others as a list of images.
    whole = isinstance(features.pooler_output, torch.Tensor)
    part.pooler_output = tokens[None] if whole else [tokens]
    deep = getattr(features, "deepstack_features", None)
    if deep is not None:
        # Of each layer, a list of images.
        part.deepstack_features = [[torch.cat(tuple(layer))[first:end]] for layer in deep]
    return part
