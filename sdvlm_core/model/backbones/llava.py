"""DepthEncodedLlava: transformers' LLaVA with a depth code added to its projected image features.

One method is overridden and no parameter is added, so every LLaVA checkpoint loads unchanged.
Does not know frames, questions, or the source of weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, LlavaConfig, LlavaForConditionalGeneration
from transformers.cache_utils import DynamicLayer

from sdvlm_core.model.confidence import Calibration
from sdvlm_core.model.depth_encoding import EncodingSettings
from sdvlm_core.model.generation import chunks, mask_non_text
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
    for start, end in chunks(len(ids), device):
        if start:
            limits.check(f"{start} of {len(ids)} tokens of the prompt")
        chunk = ids[start:end]
        first, encoded = encoded, encoded + chunk.count(image_id)
        # transformers takes exactly the features of the placeholders in `input_ids`.
        features.pooler_output = [image[first:encoded]]
        model(
            input_ids=torch.tensor([chunk], device=device),
            mm_encoder_outputs={"image": features} if encoded > first else None,
            position_ids=torch.arange(start, end, device=device)[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return cache


class CachedRows:
    """Questions that follow one cached prefix, one row each; see `generation.Rows`.

    The prefix is copied and never changed: what a failed pass leaves behind goes with the rows, and
    layers whose state cannot be cut back (recurrent ones) need no rule of their own. Shorter
    questions have padding between the prefix and themselves, which no token attends to.

    Args:
        prefix: the cache of the shared tokens, one row of `length` tokens.
        vocabulary: number of the tokenizer's words; larger ids are never chosen.
    """

    def __init__(
        self,
        model: DepthEncodedLlava,
        prefix: DynamicCache,
        length: int,
        vocabulary: int,
        device: torch.device,
    ) -> None:
        self._model, self._length = model, length
        self._vocabulary, self._device = vocabulary, device
        self._prefix: DynamicCache | None = prefix
        self._cache: DynamicCache
        self._mask: torch.Tensor | None = None  # (rows, tokens so far); None = no padding
        self._next = torch.empty(0)  # (rows,) position of the next token

    def prefill(self, prompts: Sequence[list[int]]) -> Iterator[tuple[int, torch.Tensor]]:
        """Read the prompts, in parts: the tokens read so far, and the logits after them."""
        assert self._prefix is not None
        self._cache = _copied(self._prefix)
        self._prefix = None
        rows, longest = len(prompts), max(map(len, prompts))
        if rows > 1:
            self._cache.batch_repeat_interleave(rows)
        padding = torch.tensor([longest - len(ids) for ids in prompts], device=self._device)
        padded = [[ids[0]] * (longest - len(ids)) + ids for ids in prompts]
        ids = torch.tensor(padded, device=self._device)
        columns = torch.arange(longest, device=self._device)
        positions = self._length + (columns - padding[:, None]).clamp(min=0)
        self._next = self._length + longest - padding
        if any(len(ids) < longest for ids in prompts):
            read = torch.ones(rows, self._length, dtype=torch.bool, device=self._device)
            self._mask = torch.cat([read, columns >= padding[:, None]], 1)
        for start, end in chunks(longest, self._device):
            mask = None if self._mask is None else self._mask[:, : self._length + end]
            yield end, self._forward(ids[:, start:end], positions[:, start:end], mask)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token (rows,) to each row; the logits of the next ones."""
        if self._mask is not None:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        positions, self._next = self._next[:, None], self._next + 1
        return self._forward(tokens[:, None], positions, self._mask)

    def keep(self, rows: list[int]) -> None:
        """Keep only these rows, in this order."""
        index = torch.tensor(rows, device=self._device)
        self._cache.batch_select_indices(index)
        self._mask = None if self._mask is None else self._mask[index]
        self._next = self._next[index]

    def close(self) -> None:
        """Nothing is held beyond the rows themselves."""

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        logits: torch.Tensor = self._model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        image_id = self._model.config.image_token_id
        return mask_non_text(logits.float().to(self._device), image_id, self._vocabulary)


def _copied(cache: DynamicCache) -> DynamicCache:
    """A cache that may be extended while the other one stays as it is."""
    copied = copy.copy(cache)
    # A growing layer makes new tensors, it changes none; other kinds may write in place.
    copied.layers = [
        copy.copy(layer) if type(layer) is DynamicLayer else copy.deepcopy(layer)
        for layer in cache.layers
    ]
    return copied


def bytes_per_token(cache: DynamicCache, length: int) -> int:
    """Memory of one token of one row, from a cache of `length` tokens in one row."""
    tensors = (one for layer in cache.layers for one in (layer.keys, layer.values))
    return sum(one.numel() * one.element_size() for one in tensors) // length
