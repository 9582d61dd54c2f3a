"""The losses of the language model's training: one forward pass over a batch, on any device.

With the loss on answers alone a small model stays at chance for hours, so training adds auxiliary
losses (their read-outs are not part of the model):
    align    a token's projected feature scores highest against its own colour and category words;
    look     two heads of an early layer attend from an object's name to the tokens that show it;
    facts    a linear read-out of the name's state gives the object's position and size;
    value    a linear read-out of a question's last token gives the number that is asked for;
    focal    a linear read-out of a question's first token gives the focal length.
No value is read by the host, so that a GPU never waits for it. Does not know optimisers, schedules
or how a batch is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

from sdvlm_core.model.coded_features import fuse
from sdvlm_core.model.depth_encoding import encode
from sdvlm_core.model.own_settings import encoding_settings
from training.nano.architecture import BOS
from training.nano.batches import KINDS, Batch
from training.nano.packed import Packed, packed_forward
from training.nano.precision import autocast, product_dtype
from training.nano.stage import StepLosses

LOOK_LAYER, LOOK_HEADS, FACTS_LAYER = 1, 2, 2
#: Later than LOOK_LAYER: a coordinate has to be read digit by digit first.
PLACE_LAYER = 3
#: A layer late enough to combine two facts and early enough to affect the answer.
VALUE_LAYER = 3
#: Weight of each loss in the sum; and in the sum without auxiliary losses.
WEIGHTS = {"answer": 1.0, "align": 0.3, "look": 0.3, "facts": 0.5, "value": 0.3, "focal": 0.2}
ANSWER_ONLY = {"answer": 1.0}


@dataclass(frozen=True, eq=False)
class DepthPrefix:
    """Embeddings (B, N, D) of the image and of what gives its depth, and the cells that each shows.

    shows: (B, N, 144) bool; None = N is 144, and each token shows its own cell.
    """

    embeddings: torch.Tensor
    shows: torch.Tensor | None = None


#: (model, features of the image tokens (B, 144, D), indices of the frames (B,)) -> the prefix.
GiveDepth = Callable[
    [LlavaForConditionalGeneration, torch.Tensor, npt.NDArray[np.int64]], DepthPrefix
]


class Readout(nn.Module):
    """Linear read-outs used in training only, and a row's own module, if it has one."""

    def __init__(self, width: int, extra: nn.Module | None = None) -> None:
        """`extra`: a module that is a `GiveDepth`; None = the model's own code."""
        super().__init__()
        self.extra = extra
        self.facts = nn.Linear(width, 11)
        self.focal = nn.Linear(width, 1)
        self.value = nn.Linear(width, 1)


@dataclass(frozen=True, eq=False)
class _Forward:
    """One forward pass: image features (B, 144, D) without a depth code, `packed`, the columns of
    the prefix that `DepthPrefix` has, and the cells that they show."""

    features: torch.Tensor
    packed: Packed
    image: slice
    shows: torch.Tensor | None


def losses_of(
    model: LlavaForConditionalGeneration,
    readout: Readout,
    batch: Batch,
    seen: torch.Tensor,
    words: Mapping[str, torch.Tensor],
) -> StepLosses:
    """Every loss of a batch, and what is only logged: attention mass, loss per question type.

    Args:
        batch: on the device of the model.
        seen: the tower's features (B, 144, D).
        words: token ids of the categories and of the colours.
    """
    embedding = model.model.language_model.embed_tokens.weight
    done = _forward(model, readout, batch, seen)
    answer, by_type = _answer_losses(done.packed, batch, embedding)
    losses = {"answer": answer}
    losses["align"] = _align_loss(done.features, embedding, batch, words)
    mass = _attention_mass(done, batch)
    losses["look"] = _mean(-(mass + 1e-4).log())
    losses |= _readout_losses(readout, done.packed, batch)
    with torch.no_grad():
        logged = {
            "mass": _mean(mass[batch.named_at]),
            "mass_by_place": _mean(mass[batch.placed_at]),
        }
    return StepLosses(losses, logged | by_type)


def _forward(
    model: LlavaForConditionalGeneration, readout: Readout, batch: Batch, seen: torch.Tensor
) -> _Forward:
    settings = encoding_settings(model.config)
    embedding = model.model.language_model.embed_tokens.weight
    count, device = len(batch.frames), embedding.device
    code = None
    if settings.kind != "none":  # "none" where `readout.extra` gives the depth
        valid = batch.valid & batch.shown.unsqueeze(1)
        code = encode(batch.coordinates, valid, settings, embedding.shape[1])
    with autocast(device):
        projected = model.model.multi_modal_projector(seen).float()
    given = DepthPrefix(fuse(projected, code, settings))
    if readout.extra is not None:
        given = readout.extra(model, given.embeddings, batch.frames)
    packed = packed_forward(
        model.model.language_model,
        torch.cat([embedding[BOS].expand(count, 1, -1), given.embeddings], dim=1),
        F.embedding(batch.ids, embedding),
        batch.places,
        batch.segments,
        product_dtype(device),
        hidden_of=(FACTS_LAYER, VALUE_LAYER),
        attention_of=(LOOK_LAYER, PLACE_LAYER),
    )
    # Prefix = beginning of sequence + image tokens + those of their depth.
    image = slice(1, 1 + given.embeddings.shape[1])
    return _Forward(fuse(projected, None, settings), packed, image, given.shows)


def _mean(values: torch.Tensor) -> torch.Tensor:
    """The mean; 0 of an empty tensor, since a batch may hold no question of a type."""
    return values.sum() / max(1, values.numel())


def _smooth_l1(predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return _mean(F.smooth_l1_loss(predicted, wanted, reduction="none", beta=0.1))


def _align_loss(
    features: torch.Tensor,
    embedding: torch.Tensor,
    batch: Batch,
    words: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """features (B, 144, D): normalised, unless the model's encoding does not normalise."""
    frame, cell = batch.owned_at.T
    own = features[frame, cell] / math.sqrt(features.shape[-1])
    losses = [
        F.cross_entropy(own @ embedding[words[name]].T * 4, wanted, reduction="none")
        for name, wanted in zip(("category", "colour"), batch.owned_as.T, strict=True)
    ]
    return _mean(losses[0]) + _mean(losses[1])


def _answer_losses(
    packed: Packed, batch: Batch, embedding: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The weighted cross-entropy of answer tokens, and its mean per question type for the log."""
    b, row, at = batch.answers_at.T
    logits = F.linear(packed.final[b, row, at].float(), embedding)
    per_token = F.cross_entropy(logits, batch.ids[b, row, at + 1], reduction="none")
    weighted = per_token * batch.weights[b, row, at + 1]
    with torch.no_grad():
        kind = batch.kinds[b, row, at + 1]
        sums, counts = torch.zeros(2, len(KINDS), dtype=torch.float64, device=kind.device)
        sums.index_add_(0, kind, weighted.double())
        counts.index_add_(0, kind, torch.ones_like(weighted, dtype=torch.float64))
        means = sums / counts  # NaN = no question of this type
    by_type = {f"answer/{name}": means[index] for index, name in enumerate(KINDS)}
    return weighted.sum() / batch.weights[:, :, 1:].sum(), by_type


def _attention_mass(done: _Forward, batch: Batch) -> torch.Tensor:
    """(M, heads): attention that each supervised token pays to the tokens that show its cells.

    Tokens of every kind count alike: image tokens, a depth picture's, words of distances.
    """
    b, row, at = batch.look_at.T
    wanted = batch.cells
    if done.shows is not None:
        wanted = (done.shows[b].float() @ batch.cells.float().unsqueeze(-1)).squeeze(-1) > 0
    masses = [
        (done.packed.attention[layer][b, :LOOK_HEADS, row, at, done.image] * wanted.unsqueeze(1))
        .float()
        .sum(-1)
        for layer in (LOOK_LAYER, PLACE_LAYER)
    ]
    return torch.where(batch.by_place.unsqueeze(1), masses[1], masses[0])


def _fact_targets(rows: torch.Tensor) -> torch.Tensor:
    """(M, 15) object rows -> (M, 11): u v, apparent sizes, X Y Z, sizes,
    near unit scale."""
    uv, apparent, xyz, sizes = rows[:, 2:4], rows[:, 6:9], rows[:, 9:12], rows[:, 12:15]
    return torch.cat([2 * uv - 1, (apparent + 1.5), xyz, (sizes + 1.2)], dim=1)


def _readout_losses(readout: Readout, packed: Packed, batch: Batch) -> dict[str, torch.Tensor]:
    """Losses of the linear read-outs: facts, value, focal."""
    state = packed.hidden[FACTS_LAYER]
    b, row, at = batch.look_at[batch.known_at].T
    facts = _smooth_l1(readout.facts(state[b, row, at]), _fact_targets(batch.facts[batch.known_at]))
    b, row, at = batch.ends.T
    value = readout.value(packed.hidden[VALUE_LAYER][b, row, at]).squeeze(-1)
    b, row, at = batch.firsts_at.T
    predicted = readout.focal(state[b, row, at]).squeeze(-1)
    return {
        "facts": facts,
        "value": _smooth_l1(value, batch.values),
        "focal": _smooth_l1(predicted, batch.focal.log()[b]),
    }
