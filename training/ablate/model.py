"""A row's model: nano's architecture, and the depth tokens that follow its image tokens.

Knows how arrays of `rows` become embeddings, in training (by index of a frame) and in answering.
Does not know losses, schedules or questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.coded_features import fuse
from sdvlm_core.model.depth_encoding import EncodingSettings, encode
from sdvlm_core.model.own_settings import encoding_settings
from sdvlm_core.model.prompt import TEMPLATES, question_ids
from training.ablate.data import RowData
from training.ablate.rows import WORDS, Row, cells_in_words, in_words
from training.evaluate.predict import decode
from training.loop.checkpoints import with_prefix
from training.nano.architecture import BOS, PAD, nano_config
from training.nano.losses import DepthPrefix

#: Tokens of the row `prompt`: the word, four for each distance, and room for a few beyond 10 m.
_PROMPT = 8 + 4 * WORDS * WORDS + 8


class OwnDepth(nn.Module):
    """Gives a row's depth otherwise than by a code of the model itself (`losses.GiveDepth`)."""

    def __init__(self, row: Row, tokenizer: PreTrainedTokenizerFast, width: int) -> None:
        super().__init__()
        self._row, self._tokenizer = row, tokenizer
        self._data: RowData | None = None
        self.own = nn.Linear(width, width) if row.extra == "token" else None
        if row.extra == "projected":
            # Without a bias: a token without a reading gets nothing.
            self.own = nn.Linear(width, width, bias=False)
            nn.init.zeros_(self.own.weight)

    def set_data(self, data: RowData) -> None:
        """Set the frames that indices refer to."""
        self._data = data

    def forward(
        self,
        model: LlavaForConditionalGeneration,
        image: torch.Tensor,
        chosen: npt.NDArray[np.int64],
    ) -> DepthPrefix:
        """The image tokens (B, 144, D) of the frames of these indices, and their depth."""
        data, row = self._data, self._row
        assert data is not None
        cells = torch.eye(image.shape[1], dtype=torch.bool, device=image.device)
        cells = cells.expand(len(chosen), -1, -1)
        if row.extra == "prompt":
            words, shows = self._words(model, data, chosen)
            return DepthPrefix(torch.cat([image, words], dim=1), torch.cat([cells, shows], dim=1))
        if row.extra == "image":
            assert data.pictures is not None
            seen = data.pictures[chosen].to(image.device).float()
            projected = model.model.multi_modal_projector(seen)
            own = fuse(projected, None, encoding_settings(model.config))
        else:
            assert self.own is not None
            own = self.own(_code(data, row.encoding, chosen, image))
            if row.extra == "projected":
                return DepthPrefix(image + own)
        return DepthPrefix(torch.cat([image, own], dim=1), torch.cat([cells, cells], dim=1))

    def _words(
        self,
        model: LlavaForConditionalGeneration,
        data: RowData,
        chosen: npt.NDArray[np.int64],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (B, E, D) of the distances in words, and the cells (B, E, 144) of each."""
        assert data.metres is not None
        embedding = model.model.language_model.embed_tokens.weight
        texts = [in_words(metres) for metres in data.metres[chosen]]
        encoded = self._tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        # A missing reading takes two tokens, a number four: pad to one length.
        rows = [(one.ids + [PAD] * _PROMPT)[:_PROMPT] for one in encoded]
        shows = np.stack(
            [
                cells_in_words(text, one.offsets, _PROMPT)
                for text, one in zip(texts, encoded, strict=True)
            ]
        )
        ids = torch.tensor(rows, device=embedding.device)
        return F.embedding(ids, embedding), torch.from_numpy(shows).to(embedding.device)


def _code(
    data: RowData, settings: EncodingSettings, chosen: npt.NDArray[np.int64], like: torch.Tensor
) -> torch.Tensor:
    """The depth code (B, 144, D) of frames, on the device and with the width of `like`."""
    coordinates = torch.from_numpy(data.frames.coordinates[chosen]).to(like.device)
    valid = torch.from_numpy(data.frames.valid[chosen]).to(like.device)
    return encode(coordinates, valid, settings, like.shape[-1])


def new_model(
    row: Row, vocabulary: int, seed: int, normalize: bool = True
) -> LlavaForConditionalGeneration:
    """Random weights; without an encoding if the row's depth is given by `OwnDepth`."""
    torch.manual_seed(seed)
    config = nano_config(vocabulary)
    config.depth_encoding = row.model_encoding(normalize).to_mapping()
    return LlavaForConditionalGeneration(config)


@dataclass(frozen=True, eq=False)
class Trained:
    """A row's model, and the module that gives its depth, if it has one."""

    row: Row
    model: LlavaForConditionalGeneration
    extra: OwnDepth | None
    tokenizer: PreTrainedTokenizerFast

    def weights(self) -> dict[str, torch.Tensor]:
        """The trained weights, in half precision on the CPU: 8 MB. The tower is nano's."""
        tensors = {
            key: value
            for key, value in self.model.state_dict().items()
            if "vision_tower" not in key and key != "lm_head.weight"  # the word embedding's
        }
        if self.extra is not None:
            tensors |= {f"extra.{key}": value for key, value in self.extra.state_dict().items()}
        return {key: value.detach().cpu().half() for key, value in tensors.items()}

    def set_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Load what `weights` gave, of this row or of one without a module of its own.

        Raises:
            ValueError: there are weights that the model does not have, or it lacks some.
        """
        own = {key: value for key, value in weights.items() if not key.startswith("extra.")}
        found = self.model.load_state_dict(own, strict=False)
        missing = [k for k in found.missing_keys if "vision_tower" not in k and "lm_head" not in k]
        if missing or found.unexpected_keys:
            raise ValueError(f"weights differ: {missing} missing, {found.unexpected_keys} unknown")
        extra = with_prefix(weights, "extra.")
        if self.extra is not None and extra:
            self.extra.load_state_dict(extra)


def untrained(row: Row, seed: int, normalize: bool, device: torch.device) -> Trained:
    """A row with random weights."""
    tokenizer = load("nano", "cpu").tokenizer
    model = new_model(row, len(tokenizer), seed, normalize)
    extra = None
    if row.extra:
        extra = OwnDepth(row, tokenizer, model.config.text_config.hidden_size).to(device)
    return Trained(row, model.to(device).eval(), extra, tokenizer)


def prefix_of(
    model: LlavaForConditionalGeneration,
    data: RowData,
    extra: nn.Module | None,
    chosen: npt.NDArray[np.int64],
) -> torch.Tensor:
    """Embeddings (B, P, D) before every question about frames; `chosen` (B,) are their indices."""
    settings = encoding_settings(model.config)
    embedding = model.model.language_model.embed_tokens.weight
    projected = model.model.multi_modal_projector(data.features[chosen].to(model.device).float())
    code = None if settings.kind == "none" else _code(data, settings, chosen, projected)
    given = DepthPrefix(fuse(projected, code, settings))
    if extra is not None:
        given = extra(model, given.embeddings, chosen)
    return torch.cat([embedding[BOS].expand(len(chosen), 1, -1), given.embeddings], dim=1)


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
    cache.batch_select_indices(torch.tensor(owner, device=model.device))
    form = TEMPLATES[model.config.prompt_template]
    ids = [question_ids(tokenizer, form, question) for asked in questions for question in asked]
    decoded = iter(decode(model, tokenizer, form, cache, prefix.shape[1], ids, model.device))
    return [[next(decoded).text for _ in asked] for asked in questions]
