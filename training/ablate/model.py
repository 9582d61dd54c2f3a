"""A row's model: nano's architecture, and the depth tokens that follow its image tokens.

Knows how arrays of `rows` become embeddings, in training (by index of a frame) and in answering.
Does not know losses, schedules or questions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from sdvlm_core.model.coded_features import fuse
from sdvlm_core.model.depth_encoding import encode
from sdvlm_core.model.own_settings import encoding_settings
from sdvlm_core.model.prompt import TEMPLATES, question_ids
from training.ablate.data import RowData
from training.ablate.rows import WORDS, Row, in_words
from training.evaluate.predict import decode
from training.nano.architecture import BOS, PAD, nano_config

#: Tokens of the row `prompt`: the word, four for each distance, and room for a few beyond 10 m.
_PROMPT = 8 + 4 * WORDS * WORDS + 8


class DepthTokens(nn.Module):
    """The depth tokens after a row's image tokens: (model, indices) -> (B, E, D)."""

    def __init__(self, row: Row, tokenizer: PreTrainedTokenizerFast, width: int) -> None:
        super().__init__()
        self._row, self._tokenizer = row, tokenizer
        self._data: RowData | None = None
        self.own = nn.Linear(width, width) if row.extra == "token" else None

    def set_data(self, data: RowData) -> None:
        """Set the frames that indices refer to."""
        self._data = data

    def forward(
        self, model: LlavaForConditionalGeneration, chosen: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        """Embeddings (B, E, D) of the frames of these indices."""
        data = self._data
        assert data is not None
        embedding = model.model.language_model.embed_tokens.weight
        if self._row.extra == "image":
            assert data.pictures is not None
            projected = model.model.multi_modal_projector(data.pictures[chosen].float())
            return fuse(projected, None, encoding_settings(model.config))
        if self._row.extra == "prompt":
            assert data.metres is not None
            texts = [in_words(metres) for metres in data.metres[chosen]]
            ids = self._tokenizer(texts, add_special_tokens=False, padding=False)["input_ids"]
            # A missing reading takes two tokens, a number four: pad to one length.
            rows = [(row + [PAD] * _PROMPT)[:_PROMPT] for row in ids]
            return F.embedding(torch.tensor(rows), embedding)
        assert self.own is not None
        code = encode(
            torch.from_numpy(data.frames.coordinates[chosen]),
            torch.from_numpy(data.frames.valid[chosen]),
            self._row.encoding,
            embedding.shape[1],
        )
        return self.own(code)


def new_model(row: Row, vocabulary: int, seed: int) -> LlavaForConditionalGeneration:
    """Random weights; without an encoding if the row's depth is in tokens of its own."""
    torch.manual_seed(seed)
    config = nano_config(vocabulary)
    settings = row.encoding.to_mapping()
    config.depth_encoding = settings | ({"kind": "none"} if row.extra else {})
    return LlavaForConditionalGeneration(config)


def prefix_of(
    model: LlavaForConditionalGeneration,
    data: RowData,
    extra: nn.Module | None,
    chosen: npt.NDArray[np.int64],
) -> torch.Tensor:
    """Embeddings (B, P, D) before every question about frames; `chosen` (B,) are their indices."""
    settings = encoding_settings(model.config)
    embedding = model.model.language_model.embed_tokens.weight
    code = None
    if settings.kind != "none":
        code = encode(
            torch.from_numpy(data.frames.coordinates[chosen]),
            torch.from_numpy(data.frames.valid[chosen]),
            settings,
            embedding.shape[1],
        )
    projected = model.model.multi_modal_projector(data.features[chosen].float())
    parts = [embedding[BOS].expand(len(chosen), 1, -1), fuse(projected, code, settings)]
    if extra is not None:
        parts.append(extra(model, chosen))
    return torch.cat(parts, dim=1)


@torch.inference_mode()
def answer(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    prefix: torch.Tensor,
    questions: list[list[str]],
) -> list[list[str]]:
    """Greedy answers to the questions about each frame of a prefix (B, P, D), decoded together."""
    cache = DynamicCache(config=model.config.text_config)
    model.model.language_model(inputs_embeds=prefix, past_key_values=cache, use_cache=True)
    owner = [at for at, asked in enumerate(questions) for _ in asked]
    cache.batch_select_indices(torch.tensor(owner))
    form = TEMPLATES[model.config.prompt_template]
    ids = [question_ids(tokenizer, form, question) for asked in questions for question in asked]
    decoded = iter(decode(model, tokenizer, form, cache, prefix.shape[1], ids, torch.device("cpu")))
    return [[next(decoded).text for _ in asked] for asked in questions]
