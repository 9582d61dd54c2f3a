"""Questions that follow one prefix, one row of a key/value cache each; see `generation.Rows`.

The prefix is copied and never changed: what a failed pass leaves behind goes with the rows, and
layers whose state cannot be cut back (recurrent ones) need no rule of their own. Does not know
frames, or how a token is chosen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from sdvlm_core.model.generation import chunks, mask_non_text
from sdvlm_core.model.prefix import Prefix


class CachedRows:
    """Rows with growing caches.

    Shorter questions have padding between the prefix and themselves, which no token attends to.

    Args:
        vocabulary: number of the tokenizer's words; larger ids are never chosen.
    """

    def __init__(self, model: Any, prefix: Prefix, vocabulary: int, device: torch.device) -> None:
        self._model, self._prefix = model, prefix
        self._vocabulary, self._device = vocabulary, device
        self._cache: DynamicCache
        self._mask: torch.Tensor | None = None  # (rows, tokens so far); None = no padding
        self._next = torch.empty(0)  # (rows,) position of the next token

    def prefill(self, prompts: Sequence[list[int]]) -> Iterator[tuple[int, torch.Tensor]]:
        """Read the prompts, in parts: the tokens read so far, and the logits after them."""
        prefix, rows, longest = self._prefix, len(prompts), max(map(len, prompts))
        padding = torch.tensor([longest - len(ids) for ids in prompts], device=self._device)
        padded = [[ids[0]] * (longest - len(ids)) + ids for ids in prompts]
        ids = torch.tensor(padded, device=self._device)
        columns = torch.arange(longest, device=self._device)
        positions = prefix.next_position + (columns - padding[:, None]).clamp(min=0)
        self._next = prefix.next_position + longest - padding
        if prefix.cache is None:
            yield longest, self._read_whole(ids, positions)
            return
        self._cache = _copied(prefix.cache)
        if rows > 1:
            # Also for layers with a state, which have no other way to be repeated.
            self._cache.reorder_cache(torch.zeros(rows, dtype=torch.long, device=self._device))
        if any(len(one) < longest for one in prompts):
            read = torch.ones(rows, len(prefix), dtype=torch.bool, device=self._device)
            self._mask = torch.cat([read, columns >= padding[:, None]], 1)
        for start, end in chunks(longest, self._device):
            mask = None if self._mask is None else self._mask[:, : len(prefix) + end]
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
        self._cache.reorder_cache(index)
        self._mask = None if self._mask is None else self._mask[index]
        self._next = self._next[index]

    def close(self) -> None:
        """Nothing is held beyond the rows themselves."""

    def _read_whole(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Read prefix and questions (rows, tokens) in one pass: all attend to all."""
        prefix, rows = self._prefix, len(ids)
        self._cache = DynamicCache(config=self._model.config.text_config)
        opening = torch.tensor([prefix.ids], device=self._device).expand(rows, -1)
        whole = torch.cat([opening, ids], 1)
        features = copy.copy(prefix.features)
        features.pooler_output = features.pooler_output.repeat(rows, 1, 1)
        return self._forward(
            whole,
            torch.cat([prefix.positions.expand(rows, -1), positions], 1),
            None,
            mm_encoder_outputs={"image": features},
            token_type_ids=torch.zeros_like(whole),
        )

    def _forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        **more: Any,
    ) -> torch.Tensor:
        logits: torch.Tensor = self._model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            **more,
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
