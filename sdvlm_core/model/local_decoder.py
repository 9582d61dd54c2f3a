"""Questions about one opened frame, decoded by the model in this process.

Chooses how many questions are decoded together, and in which cache. Does not know frames or what an
answer means.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

import torch

from sdvlm_core.model.checkpoint import Checkpoint
from sdvlm_core.model.devices import free_bytes
from sdvlm_core.model.generation import Progress, Prompt, Rows, generate
from sdvlm_core.model.own_settings import bytes_per_token
from sdvlm_core.model.prefix import Prefix
from sdvlm_core.model.rows import CachedRows
from sdvlm_core.model.slots import Slot, SlotRows

#: Of the free memory, what the caches of questions that are decoded together may take.
_MEMORY_SHARE = 0.5


class LocalDecoder:
    """See `generation.Decoder`.

    Args:
        prefix: what all questions share, read.
        slot: where decoding is captured; None = nowhere.
    """

    def __init__(self, checkpoint: Checkpoint, prefix: Prefix, slot: Slot | None = None) -> None:
        self.prefix = prefix
        self._checkpoint, self._slot = checkpoint, slot

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens that all questions share."""
        return len(self.prefix)

    def together(self, prompts: Sequence[Prompt], most: int) -> list[int]:
        """The indices of the prompts to decode now: as many as memory allows, at least one."""
        length = len(prompts[0].ids)
        fitting = [
            index
            for index, prompt in enumerate(prompts)
            if self.prefix.pads or len(prompt.ids) == length
        ]
        return fitting[: self._row_limit([prompts[index] for index in fitting], most)]

    def decode(self, prompts: Sequence[Prompt]) -> Generator[Progress, None, None]:
        """Generate all answers together; see `generation.generate`."""
        rows = self._rows(len(prompts), max(_tokens(prompt) for prompt in prompts))
        with closing(rows), closing(generate(rows, prompts, self._checkpoint.device)) as steps:
            yield from steps

    def next_token_logits(self, ids: list[int]) -> torch.Tensor:
        """Logits (vocabulary,) float32 of the token after a question."""
        with torch.inference_mode(), closing(self._rows(1, len(ids))) as rows:
            *_, (_, logits) = rows.prefill([ids])
        return logits[0]

    def _rows(self, count: int, tokens: int) -> Rows:
        """Rows for questions with at most this many tokens, their answers included."""
        slot, checkpoint = self._slot, self._checkpoint
        if slot is not None and slot.fits(count, len(self.prefix) + tokens):
            return SlotRows(slot, self.prefix)
        words = len(checkpoint.tokenizer)
        return CachedRows(checkpoint.model, self.prefix, words, checkpoint.device)

    def _row_limit(self, waiting: Sequence[Prompt], most: int) -> int:
        rows = min(len(waiting), most)
        if rows < 2:
            return 1
        longest = max(_tokens(prompt) for prompt in waiting[:rows])
        slot = self._slot
        if slot is not None and slot.fits(1, len(self.prefix) + longest):
            return min(rows, slot.max_rows)
        # A growing cache is copied: for a moment a layer has its old and its new tensors.
        row = 2 * (len(self.prefix) + longest) * bytes_per_token(self._checkpoint.model)
        free = free_bytes(self._checkpoint.device)
        return max(1, min(rows, int(_MEMORY_SHARE * free) // row))


def _tokens(prompt: Prompt) -> int:
    """The most tokens that a question and its answer take."""
    return len(prompt.ids) + prompt.options.max_new_tokens
