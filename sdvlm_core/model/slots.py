"""Decoding in place: static key/value buffers, and on a GPU the decode step as a CUDA graph.

Launched kernel by kernel, a decode step of a 7B model takes 19 ms on an H200, of which reading the
weights takes 3.1. A captured step is one launch over buffers that never move (6.9 ms). A slot has
the buffers for some rows, and a graph for a few numbers of rows, which share the buffers. Each row
writes at its own positions, and a token attends to the positions up to its own: rows of different
lengths need no padding between them. Only for language models whose layers all attend to every
token.

Without a GPU the same step runs eagerly, which is how it is tested; `rows.CachedRows` is faster
there.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from sdvlm_core.model.backbones.contract import ImageAttention
from sdvlm_core.model.checkpoint import Checkpoint
from sdvlm_core.model.devices import free_bytes
from sdvlm_core.model.generation import chunks, mask_non_text
from sdvlm_core.model.own_settings import bytes_per_token, cache_shape
from sdvlm_core.model.prefix import Prefix

#: Numbers of rows with a graph of their own; a batch takes the next larger one.
ROW_COUNTS = (1, 4, 8, 16)
#: Tokens of a question and its answer that a slot has room for; its length is rounded up.
_ROOM, _ROUNDED = 352, 64
#: Of the free memory, what the buffers may take.
_MEMORY_SHARE = 0.5
#: Compiled steps; torch's own default is in /tmp, which a restart of the machine empties.
_COMPILED = Path("~/.cache/sdvlm/compiled")
#: Passes before a capture: libraries choose their kernels and allocate in the first ones.
_WARM_UP_STEPS = 3


class _SlotLayer(CacheLayerMixin):
    """Keys and values of one layer: (rows, heads, tokens, channels), written in given columns."""

    is_compileable = True
    is_sliding = False
    is_croppable = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, columns: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values, self._columns = keys, values, columns
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """The buffers exist already."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write (rows, heads, new tokens, channels); returns the whole buffers."""
        index = self._columns[:, None, :, None]
        self.keys.scatter_(2, index.expand_as(key_states), key_states)
        self.values.scatter_(2, index.expand_as(value_states), value_states)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """0: positions and mask are explicit."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the buffers."""
        return self.keys.shape[-2], 0

    def get_max_length(self) -> int:
        """Tokens of the buffers."""
        return self.keys.shape[-2]

    def get_max_cache_shape(self) -> int:
        """The older name of `get_max_length`."""
        return self.keys.shape[-2]


@dataclass(eq=False)
class _Step:
    """The captured decode step for a number of rows; its inputs and its output are static."""

    tokens: torch.Tensor  # (rows, 1)
    columns: torch.Tensor  # (rows, 1)
    logits: torch.Tensor  # (rows, vocabulary) float32
    graph: torch.cuda.CUDAGraph


class Slot:
    """Buffers for the questions of one batch at a time.

    Args:
        tokens: largest number of prefix, question and answer together.
        max_rows: largest number of questions.
        vocabulary: number of the tokenizer's words; larger ids are never chosen.
        compiled: compile the step before it is captured; takes minutes the first time.

    Attributes:
        in_use: whether a batch is being decoded.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        device: torch.device,
        tokens: int,
        max_rows: int,
        vocabulary: int,
        compiled: bool = False,
    ) -> None:
        self.tokens, self.max_rows, self.device = tokens, max_rows, device
        self.in_use = False
        self._model, self._vocabulary = model, vocabulary
        self._language = self._decoder = model.get_decoder()
        if compiled:  # the step only: every length of a prompt would be compiled anew
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_COMPILED.expanduser()))
            self._decoder = torch.compile(self._language, dynamic=False)
        layers, heads, channels = cache_shape(model.config.text_config)
        shape = (2, layers, max_rows, heads, tokens, channels)
        self._buffers = torch.zeros(shape, dtype=model.dtype, device=device)
        self._columns = torch.arange(tokens, device=device)
        self._steps: dict[int, _Step] = {}
        self._prefix: weakref.ref[Prefix] | None = None  # what the first rows begin with
        self._prefix_rows = 0
        # A token's position id less its column: an image takes fewer positions than columns where
        # they are counted in rows and columns of the picture.
        self._shift = torch.zeros(1, 1, dtype=torch.long, device=device)

    def capture(self) -> None:
        """Capture the step for every number of rows that fits. On a CUDA device only."""
        with torch.inference_mode():
            for rows in ROW_COUNTS:
                if rows <= self.max_rows:
                    self._steps[rows] = self._captured(rows)

    def fits(self, rows: int, tokens: int) -> bool:
        """Whether a batch can be decoded now.

        Args:
            tokens: of the prefix, and of the longest question with its answer.
        """
        # A row that has ended goes on behind its last token while others are decoded.
        return not self.in_use and rows <= self.max_rows and tokens < self.tokens

    def rows_for(self, count: int) -> int:
        """The rows of the graph that decodes `count` questions."""
        return next((rows for rows in self._steps if rows >= count), count)

    def load(self, prefix: Prefix, rows: int) -> None:
        """Copy a prefix into the first rows, unless they have it."""
        if self._prefix is not None and self._prefix() is prefix and self._prefix_rows >= rows:
            return
        self._prefix = None
        assert prefix.cache is not None
        for number, layer in enumerate(prefix.cache.layers):
            self._buffers[0, number, :rows, :, : len(prefix)] = layer.keys
            self._buffers[1, number, :rows, :, : len(prefix)] = layer.values
        self._shift.fill_(prefix.next_position - len(prefix))
        self._prefix, self._prefix_rows = weakref.ref(prefix), rows

    def forward(
        self,
        ids: torch.Tensor,
        columns: torch.Tensor,
        last: torch.Tensor | None = None,
        language: Any = None,
    ) -> torch.Tensor:
        """Append tokens (rows, new) in columns; logits (rows, vocabulary) float32.

        Args:
            last: (rows,) which of the new tokens the logits follow; None = the last one.
            language: the language model, compiled or not; None = not.
        """
        rows = len(ids)
        layers = [
            _SlotLayer(keys[:rows], values[:rows], columns)
            for keys, values in zip(*self._buffers, strict=True)
        ]
        seen = self._columns <= columns[:, None, :, None]  # (rows, 1, new, tokens)
        dtype = self._model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=self.device)
        mask.masked_fill_(~seen, torch.finfo(dtype).min)
        hidden = (language or self._language)(
            inputs_embeds=self._model.get_input_embeddings()(ids),
            position_ids=columns + self._shift,
            attention_mask=mask,
            past_key_values=Cache(layers=layers),
            use_cache=True,
        ).last_hidden_state
        if last is None:
            hidden = hidden[:, -1]
        else:
            hidden = hidden[torch.arange(rows, device=self.device), last]
        logits = self._model.lm_head(hidden).float()
        return mask_non_text(logits, self._model.config.image_token_id, self._vocabulary)

    def step(self, tokens: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """One token (rows,) for each row, in its column (rows,). The graph's own tensor."""
        captured = self._steps.get(len(tokens))
        if captured is None:
            return self.forward(tokens[:, None], columns[:, None])
        captured.tokens.copy_(tokens[:, None])
        captured.columns.copy_(columns[:, None])
        captured.graph.replay()
        return captured.logits

    def _captured(self, rows: int) -> _Step:
        tokens = torch.ones((rows, 1), dtype=torch.long, device=self.device)
        columns = torch.full((rows, 1), self.tokens - 1, device=self.device)
        side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_STEPS):
                self.forward(tokens, columns, language=self._decoder)
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self.forward(tokens, columns, language=self._decoder)
        return _Step(tokens, columns, logits, graph)


def made_for(checkpoint: Checkpoint, prefix_tokens: int, compiled: bool = False) -> Slot | None:
    """A slot that the device's free memory allows; None where decoding cannot be captured.

    It can on one CUDA device, with weights that are not quantized, and where every layer attends to
    all tokens.
    """
    model, device = checkpoint.model, checkpoint.device
    config = model.config.text_config
    partial = getattr(config, "sliding_window", None) or any(
        kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()
    )
    spread = len({parameter.device for parameter in model.parameters()}) > 1
    quantized = getattr(model, "hf_quantizer", None) is not None
    shared = checkpoint.backbone.attention is not ImageAttention.PROMPT
    if device.type != "cuda" or partial or spread or quantized or not shared:
        return None
    tokens = -(-(prefix_tokens + _ROOM) // _ROUNDED) * _ROUNDED
    row = bytes_per_token(model) * tokens
    allowed = int(_MEMORY_SHARE * free_bytes(device)) // row
    rows = max((count for count in ROW_COUNTS if count <= allowed), default=0)
    words = len(checkpoint.tokenizer)
    return Slot(model, device, tokens, rows, words, compiled) if rows else None


class SlotRows:
    """Questions that follow one cached prefix, decoded in a slot; see `generation.Rows`.

    The slot is in use until `close`.
    """

    def __init__(self, slot: Slot, prefix: Prefix) -> None:
        self._slot, self._prefix = slot, prefix
        self._rows = torch.empty(0)  # the row of the slot that each question has
        self._columns = torch.empty(0)  # (rows of the slot,) of the next token
        slot.in_use = True

    def close(self) -> None:
        """Free the slot."""
        self._slot.in_use = False

    def prefill(self, prompts: Sequence[list[int]]) -> Iterator[tuple[int, torch.Tensor]]:
        """Read the prompts, in parts: the tokens read so far, and the logits after them."""
        slot, longest = self._slot, max(map(len, prompts))
        self._rows = torch.arange(len(prompts), device=slot.device)
        rows = slot.rows_for(len(prompts))
        slot.load(self._prefix, rows)
        padded = [ids + ids[-1:] * (longest - len(ids)) for ids in prompts]
        ids = torch.tensor(padded, device=slot.device)
        lengths = torch.tensor([len(one) for one in prompts], device=slot.device)
        # Rows without a question repeat a token behind the prefix; nobody reads them.
        self._columns = torch.full((rows,), len(self._prefix), device=slot.device)
        self._columns[: len(prompts)] += lengths
        columns = torch.arange(longest, device=slot.device)
        # What follows a shorter prompt is written where its answer will overwrite it.
        placed = (len(self._prefix) + columns).expand(len(prompts), longest)
        logits: torch.Tensor | None = None
        for start, end in chunks(longest, slot.device):
            last = (lengths - 1 - start).clamp(0, end - start - 1)
            part = slot.forward(ids[:, start:end], placed[:, start:end], last)
            ends = (lengths > start)[:, None]
            logits = part if logits is None else torch.where(ends, part, logits)
            yield end, logits

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token (rows,) to each row; the logits of the next ones."""
        placed = torch.ones(len(self._columns), dtype=torch.long, device=tokens.device)
        placed[self._rows] = tokens
        logits = self._slot.step(placed, self._columns)
        self._columns = (self._columns + 1).clamp(max=self._slot.tokens - 1)
        return logits[self._rows]

    def keep(self, rows: list[int]) -> None:
        """Keep only these rows, in this order."""
        self._rows = self._rows[torch.tensor(rows, device=self._rows.device)]
